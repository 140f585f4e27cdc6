"""What facts about requests do to the core's memory: arrivals, answers, hang-ups; no decision is taken here."""

from dataclasses import replace

from scheduler.core import history, learned, naming, rhythm, sizes, turns
from scheduler.core.messages import (
    AnswerProbe,
    Arrived,
    Ended,
    Forward,
    Left,
    Look,
    Order,
    Refuse,
    Returned,
)
from scheduler.core.refusals import RETRY_AFTER, not_found, paused, refusal, seconds_left
from scheduler.core.state import CoreState, ModelState, Request
from scheduler.core.view import Sets

SENDS = 2  # an untouched request is sent again once


def arrived(state: CoreState, sets: Sets, fact: Arrived) -> list[Order]:
    """Take the request in, or refuse it for a reason known now."""
    state.keep_alive_ignored += fact.keep_alive
    name = fact.model if fact.kind == "replace" else naming.known_as(state, fact.model)
    named = fact.model if name != fact.model else ""
    if named:
        fact = replace(fact, model=name, alias=fact.alias or named)
    if not state.passthrough and (refused := refusal(state, sets, fact)) is not None:
        return [refused]
    model = known(state, fact.model)
    state.seq += 1
    cls = fact.cls if fact.cls in model.queues else "interactive"
    request = Request(
        fact.id, state.seq, fact.model, cls, fact.kind, fact.at, fact.alias, fact.dialect, fact.client, fact.session
    )
    request.body_bytes, request.named, request.key = fact.body_bytes, named, fact.key
    history.arrived(state, request)
    if state.passthrough:
        state.requests[request.id] = request
        return [_lease(state, model, request, f"everything passes through: {state.passthrough} said so")]
    if fact.kind == "probe":
        return _probe(state, model, request)
    if fact.kind == "unload":
        return []  # a wish, which the machine answers at once
    state.requests[request.id] = request
    turns.enqueue(state, model, request)
    rhythm.arrived(state, request)
    return []


def let_through(state: CoreState) -> list[Order]:
    """Everything that waits is forwarded as it is."""
    orders: list[Order] = []
    for request in [request for request in state.requests.values() if request.place == "waiting"]:
        model = state.models[request.model]
        turns.dequeue(state, model, request)
        orders.append(_lease(state, model, request, f"everything passes through: {state.passthrough} said so"))
    return orders


def replace_now(state: CoreState, request: Request, because: str) -> Order:
    """Forward what deletes or overwrites a model; until it has ended the model is neither served nor loaded."""
    request.place = "running"
    request.started = state.at
    request.sent += 1
    return Forward(request.id, request.model, 0, because)


def left(state: CoreState, fact: Left) -> list[Order]:
    """The client is gone: a waiting request leaves its queue, a running one keeps its slot until it has ended."""
    request = state.requests.get(fact.id)
    if request is None:
        return []
    if request.place == "waiting":
        _drop(state, request)
    elif not request.abandoned:
        request.abandoned = True
        history.dropped(state, request)
        if _is_work(request):
            model = state.models[request.model]
            model.unwanted += 1
            model.last_used = fact.at
            state.revision += 1
            _note_quiet(state)
    return []


def returned(state: CoreState, fact: Returned) -> list[Order]:
    """Forwarding failed before a byte: back to its place, once, and what is resident is looked at first."""
    request = state.requests.get(fact.id)
    if request is None or request.place == "waiting":
        return []
    model = state.models[request.model]
    recalled = request.place == "recalled"
    _free_slot(state, model, request)
    orders: list[Order] = []
    if not recalled and not state.passthrough:
        orders += look(state, f"{request.id} came back: {fact.error}")
    if request.kind == "replace":
        _replaced(state, model, fact.at)
    if request.abandoned or (request.kind == "probe" and not request.cancelled):
        _drop(state, request)
        if not request.abandoned:
            orders.append(AnswerProbe(request.id, "its model went away under it"))
    elif (refused := _not_again(state, request, fact)) is not None:
        orders.append(refused)
    else:
        turns.enqueue(state, model, request)
        orders += let_through(state) if state.passthrough else refuse_missing(state, model)
    return orders


def _not_again(state: CoreState, request: Request, fact: Returned) -> Refuse | None:
    """The refusal of one that came back and has no place to take; None for one that may be sent again."""
    if request.cancelled:
        return refuse(state, request, 403, f"cancelled by {request.cancelled}", "cancelled")
    if request.kind == "replace":  # it may have been done: sent again, a deletion that was would be answered with 404
        message = f"Ollama did not say what became of it: {fact.error}"
        return refuse(state, request, 502, message, "not sent again")
    if state.stopping:
        return refuse(state, request, 503, "shutting down", "the daemon is stopping", RETRY_AFTER)
    if state.paused is not None and state.paused.others == "refuse":
        retry = seconds_left(state, state.paused.until)
        return refuse(state, request, 503, paused(state, state.paused), "paused", retry)
    if request.sent < SENDS:
        return None
    if state.passthrough:
        message = f"ollama is not reachable: {fact.error}"
        return refuse(state, request, 503, message, "sent again once already", RETRY_AFTER)
    message = f"model runner failed twice before answering: {fact.error}"
    return refuse(state, request, 500, message, "sent again once already")


def ended(state: CoreState, fact: Ended) -> list[Order]:
    """A slot is free again; learn from how it went."""
    request = state.requests.get(fact.id)
    if request is None or request.place == "waiting":
        return []
    model = state.models[request.model]
    stray = request.id in state.strays
    _free_slot(state, model, request)
    _forget(state, request)
    history.ended(state, request, fact)
    if request.kind == "replace":  # what is there now is another model, if any
        _replaced(state, model, fact.at)
    elif _is_work(request) and not request.abandoned:
        model.last_used = fact.at
    if fact.cut:
        model.last_cut = fact.at
    elif fact.outcome == "answered":
        model.last_cut = None
    ours = not (stray or state.passthrough)  # else Ollama may have loaded its model inside it
    if ours and fact.outcome == "answered" and request.kind == "request" and (fact.status or 200) < 400:
        learned.answered(state, model, request, fact)
        sizes.refresh(state, model)
    troubled = fact.outcome == "failed" or bool(fact.error) or (fact.status or 0) >= 500
    if state.passthrough or not (troubled or stray or request.kind == "replace"):
        return []
    if stray:  # Ollama may have loaded its model meanwhile
        return look(state, f"{request.id}, which was let through, has ended")
    why = f"{request.id} failed: {fact.error or fact.status}" if troubled else f"{model.name} was replaced or deleted"
    return look(state, why)


def _replaced(state: CoreState, model: ModelState, at: float) -> None:
    """Nothing that was known of `model` holds until what is installed has been read again."""
    naming.part(state, model)
    model.replaced_at = at
    model.digest = model.blob = ""
    model.measured = model.unaided = 0
    sizes.refresh(state, model)


def look(state: CoreState, because: str) -> list[Order]:
    """Change nothing more until what is resident has been read, and asked from now on."""
    state.look_since = state.at
    if state.looking:
        return []
    state.looking = True
    return [Look(because)]


def serve(state: CoreState, request: Request, because: str) -> Order:
    """Lease a slot of its model to `request`; the caller has checked the law."""
    model = state.models[request.model]
    turns.dequeue(state, model, request)
    return _lease(state, model, request, because)


def granted(state: CoreState, request: Request) -> None:
    """A preload is done with: its model is there."""
    _forget(state, request)


def refuse(
    state: CoreState, request: Request, status: int, message: str, because: str, retry_after: int | None = None
) -> Refuse:
    """Take `request` out, with an error of its dialect."""
    _drop(state, request)
    return Refuse(request.id, status, message, because, retry_after)


def refuse_waiting(
    state: CoreState, model: ModelState, status: int, message: str, because: str, retry: int | None = None
) -> list[Order]:
    """Refuse everybody who waits for `model`; a 503 says after how many seconds to come again."""
    everybody = [*model.requests(), *model.preloads.values()]
    if status == 503 and retry is None:
        retry = RETRY_AFTER
    return [refuse(state, request, status, message, because, retry) for request in everybody]


def refuse_all(state: CoreState, status: int, message: str, because: str) -> list[Order]:
    """Refuse everybody who waits, for whatever it is."""
    everybody = [request for request in state.requests.values() if request.place == "waiting"]
    return [refuse(state, request, status, message, because, RETRY_AFTER) for request in everybody]


def refuse_missing(state: CoreState, model: ModelState) -> list[Order]:
    """Tell those who wait for `model` that it is not installed any more, once it is not in memory either."""
    if state.listed is None or model.installed or model.state != "absent":
        return []
    orders: list[Order] = []
    for request in [*model.requests(), *model.preloads.values()]:
        message = not_found(request.dialect, request.alias or request.model)
        orders.append(refuse(state, request, 404, message, "not installed"))
    return orders


def known(state: CoreState, name: str) -> ModelState:
    """What is kept of the model `name`; a place is made for one never heard of."""
    model = state.models.get(name)
    if model is None:
        model = ModelState(name, parallel=state.config.num_parallel, since=state.at, away_since=state.at)
        state.models[name] = model
        sizes.refresh(state, model)
    return model


def _is_work(request: Request) -> bool:
    """Whether it is asked of a model at all: a health check, a wish or a replacement is not."""
    return request.kind == "request"


def _probe(state: CoreState, model: ModelState, request: Request) -> list[Order]:
    """A probe takes a free slot that nobody else wants, or gets its canned success (P5)."""
    free = model.usable and model.running < model.parallel and not model.waiting
    calm = state.transition is None and state.paused is None
    if free and calm and state.ollama == "up" and not state.looking:
        state.requests[request.id] = request
        return [_lease(state, model, request, "a health check on a free slot")]
    return [AnswerProbe(request.id, "a health check never loads or waits")]


def _lease(state: CoreState, model: ModelState, request: Request, because: str) -> Order:
    state.revision += 1
    request.place = "running"
    request.started = state.at
    request.sent += 1
    model.running_ids[request.id] = None
    if _is_work(request):
        learned.forwarded(model, request)
        model.last_used = state.at
    else:
        model.unwanted += 1
    if state.passthrough:
        return Forward(request.id, request.model, 0, because)
    # Ollama makes an embedding model's batch from the context asked for, not from the shorter one the model has: naming
    # the runner's own would reload it (routes.go, WithDefaultEmbeddingNumBatch; seen on 0.32)
    context = 0 if model.embedding else model.context
    return Forward(request.id, request.model, context, because, naming.runners_name(state, model, request))


def _free_slot(state: CoreState, model: ModelState, request: Request) -> None:
    state.revision += 1
    state.strays.pop(request.id, None)
    if request.id in model.replacements:
        del model.replacements[request.id]
        return
    del model.running_ids[request.id]
    model.idle_engine_since = None
    if request.abandoned or not _is_work(request):
        model.unwanted -= 1
    else:
        _note_quiet(state)


def _forget(state: CoreState, request: Request) -> None:
    model = state.models[request.model]
    if request.place == "waiting":
        turns.dequeue(state, model, request)
    del state.requests[request.id]
    if request.kind in ("request", "preload") and not request.abandoned:
        _note_quiet(state)


def _drop(state: CoreState, request: Request) -> None:
    _forget(state, request)
    history.dropped(state, request)


def _note_quiet(state: CoreState) -> None:
    if not state.demanded and not any(state.models[name].serving for name in state.present):
        state.quiet_since = state.at

"""What facts about requests do to the core's memory: arrivals, answers, hang-ups; no decision is taken here."""

from dataclasses import replace

from scheduler.core import sizes, turns
from scheduler.core.messages import (
    AnswerProbe,
    AnswerWish,
    Arrived,
    Ended,
    Forward,
    Left,
    Look,
    Order,
    Refuse,
    Returned,
)
from scheduler.core.state import CoreState, ModelState, Request
from scheduler.core.view import Sets

BUSY = "server busy, please try again.  maximum pending requests exceeded"  # Ollama's words, two spaces and all
RETRY_AFTER = 5  # seconds told to clients that a moment's wait may help
SENDS = 2  # an untouched request is sent again once


def arrived(state: CoreState, sets: Sets, fact: Arrived) -> list[Order]:
    """Take the request in, or refuse it for a reason known now."""
    name = known_as(state, fact.model)
    if name != fact.model:
        fact = replace(fact, model=name, alias=fact.alias or fact.model)
    refusal = _refusal(state, sets, fact)
    if refusal is not None:
        return [refusal]
    model = state.models[fact.model] if fact.model in state.models else _unheard_of(state, fact.model)
    state.seq += 1
    cls = fact.cls if fact.cls in model.queues else "interactive"
    request = Request(
        fact.id, state.seq, fact.model, cls, fact.kind, fact.at, fact.alias, fact.dialect, fact.client, fact.session
    )
    request.body_bytes = fact.body_bytes
    if fact.kind == "probe":
        return _probe(state, model, request)
    if fact.kind == "unload":
        return [AnswerWish(fact.id, "an unload is a wish: answered at once")]
    state.requests[request.id] = request
    turns.enqueue(state, model, request)
    return []


def known_as(state: CoreState, name: str) -> str:
    """The name that `name` is kept under: its own, or that of another name for the same manifest."""
    model = state.models.get(name)
    return model.same_as or name if model is not None else name


def left(state: CoreState, fact: Left) -> list[Order]:
    """The client is gone: a waiting request leaves its queue, a running one keeps its slot until it has ended."""
    request = state.requests.get(fact.id)
    if request is None:
        return []
    if request.place == "waiting":
        _forget(state, request)
    elif not request.abandoned:
        request.abandoned = True
        if request.kind != "probe":
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
    if not recalled:
        orders += look(state, f"{request.id} came back: {fact.error}")
    if request.abandoned or request.kind == "probe":
        _forget(state, request)
        if request.kind == "probe" and not request.abandoned:
            orders.append(AnswerProbe(request.id, "its model went away under it"))
    elif state.stopping:
        orders.append(refuse(state, request, 503, "shutting down", "the daemon is stopping", RETRY_AFTER))
    elif request.sent >= SENDS:
        message = f"model runner failed twice before answering: {fact.error}"
        orders.append(refuse(state, request, 500, message, "sent again once already"))
    else:
        turns.enqueue(state, model, request)
        orders += refuse_missing(state, model)
    return orders


def ended(state: CoreState, fact: Ended) -> list[Order]:
    """A slot is free again; learn from how it went."""
    request = state.requests.get(fact.id)
    if request is None or request.place == "waiting":
        return []
    model = state.models[request.model]
    _free_slot(state, model, request)
    _forget(state, request)
    if request.kind != "probe" and not request.abandoned:
        model.last_used = fact.at
    if fact.cut:
        model.last_cut = fact.at
    elif fact.outcome == "answered":
        model.last_cut = None
    if fact.outcome == "answered" and request.kind != "probe" and (fact.status or 200) < 400:
        _learn(state, model, request, fact)
    troubled = fact.outcome == "failed" or (fact.status or 0) >= 500
    return look(state, f"{request.id} failed: {fact.error or fact.status}") if troubled else []


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
    _forget(state, request)
    return Refuse(request.id, status, message, because, retry_after)


def refuse_waiting(state: CoreState, model: ModelState, status: int, message: str, because: str) -> list[Order]:
    """Refuse everybody who waits for `model`."""
    everybody = [*model.requests(), *model.preloads.values()]
    retry = RETRY_AFTER if status == 503 else None
    return [refuse(state, request, status, message, because, retry) for request in everybody]


def refuse_missing(state: CoreState, model: ModelState) -> list[Order]:
    """Tell those who wait for `model` that it is not installed any more, once it is not in memory either."""
    if state.listed is None or model.installed or model.state != "absent":
        return []
    orders: list[Order] = []
    for request in [*model.requests(), *model.preloads.values()]:
        message = not_found(request.dialect, request.alias or request.model)
        orders.append(refuse(state, request, 404, message, "not installed"))
    return orders


def excluded(state: CoreState, sets: Sets, model: str) -> str | None:
    """Why the present phase excludes `model`; None if it does not."""
    if sets.of(model):
        return None
    names = ", ".join(sets.names_of(model))
    return f"model '{model}' is not served in phase '{state.phase}': it is only in set {names}"


def too_large(state: CoreState, sets: Sets, model: str) -> str | None:
    """Why no allowed set of `model` can ever be held; None if one can (or the budget is not known yet)."""
    here = state.models.get(model)
    if state.budget is None or not sets.of(model) or (here is not None and here.usable):
        return None  # one that grew, or was adopted, above the budget serves as long as it is there
    needs = [sum(state.models[m].size for m in members if m in state.models) for members in sets.of(model)]
    least = min(needs)
    if least <= state.budget:
        return None
    return (
        f"model '{model}' requires more memory ({least / 1e9:.1f} GB with its set) "
        f"than is available ({state.budget / 1e9:.1f} GB)"
    )


def _refusal(state: CoreState, sets: Sets, fact: Arrived) -> Refuse | None:
    if state.stopping:
        return Refuse(fact.id, 503, "shutting down", "the daemon is stopping", RETRY_AFTER)
    if not _installed(state, fact.model):
        return Refuse(fact.id, 404, not_found(fact.dialect, fact.alias or fact.model), "not installed")
    if fact.kind == "probe":
        if state.ollama == "down":
            return Refuse(fact.id, 503, f"ollama is not reachable: {state.ollama_error}", "Ollama is away", RETRY_AFTER)
        return None
    if fact.kind == "unload":
        return None
    reason = excluded(state, sets, fact.model)
    if reason is not None:
        return Refuse(fact.id, 503, reason, "the phase excludes it", RETRY_AFTER)
    reason = too_large(state, sets, fact.model)
    if reason is not None:
        return Refuse(fact.id, 500, reason, "it can never fit")
    if turns.waiting_count(state) >= state.config.queue_limit:
        return Refuse(fact.id, 503, BUSY, "the queue is full", RETRY_AFTER)
    return None


def not_found(dialect: str, name: str) -> str:
    """Ollama's words for a model it does not have."""
    if dialect in ("embed", "embeddings", "openai-embeddings"):
        return f'model "{name}" not found, try pulling it first'
    return f"model '{name}' not found"


def _installed(state: CoreState, name: str) -> bool:
    """Whether Ollama has the model; before it was ever heard, everything may be there."""
    if state.listed is None:
        return True
    model = state.models.get(name)
    return model is not None and (model.installed or model.state != "absent")


def _unheard_of(state: CoreState, name: str) -> ModelState:
    model = ModelState(name, parallel=state.config.num_parallel, since=state.at, away_since=state.at)
    state.models[name] = model
    sizes.refresh(state, model)
    return model


def _probe(state: CoreState, model: ModelState, request: Request) -> list[Order]:
    """A probe takes a free slot that nobody else wants, or gets its canned success (P5)."""
    free = model.usable and model.running < model.parallel and not model.waiting
    if free and state.transition is None and state.ollama == "up" and not state.looking:
        state.requests[request.id] = request
        return [_lease(state, model, request, "a health check on a free slot")]
    return [AnswerProbe(request.id, "a health check never loads or waits")]


def _lease(state: CoreState, model: ModelState, request: Request, because: str) -> Order:
    state.revision += 1
    request.place = "running"
    request.started = state.at
    request.sent += 1
    model.running_ids[request.id] = None
    if request.kind == "probe":
        model.unwanted += 1
    else:
        model.last_used = state.at
    return Forward(request.id, request.model, model.context, because)


def _free_slot(state: CoreState, model: ModelState, request: Request) -> None:
    state.revision += 1
    del model.running_ids[request.id]
    model.idle_engine_since = None
    if request.kind == "probe" or request.abandoned:
        model.unwanted -= 1
    else:
        _note_quiet(state)


def _forget(state: CoreState, request: Request) -> None:
    model = state.models[request.model]
    if request.place == "waiting":
        turns.dequeue(state, model, request)
    del state.requests[request.id]
    if request.kind != "probe" and not request.abandoned:
        _note_quiet(state)


def _note_quiet(state: CoreState) -> None:
    if not state.demanded and not any(state.models[name].serving for name in state.present):
        state.quiet_since = state.at


def _learn(state: CoreState, model: ModelState, request: Request, fact: Ended) -> None:
    """Mean service seconds, and the slowest first byte known per prompt byte, of this model."""
    model.service_learned = sizes.mean(model.service_learned, fact.service)
    if fact.first_byte is not None and request.body_bytes:
        model.first_byte_per_byte = max(model.first_byte_per_byte or 0.0, fact.first_byte / request.body_bytes)
    sizes.refresh(state, model)

"""Stalled or working: when a runner that serves us is believed wedged, and how it is healed (by a transition).

Ollama can keep a slot for good after a cancelled stream, with every ping green (ollama#17131); unloading heals it.
Where the engine can be asked, only an idle engine with a request outstanding is a wedge; a busy one never is.
"""

from policies.verdict import Change
from scheduler.core import transition
from scheduler.core.messages import EngineSeen, Order, Recall, Record
from scheduler.core.state import CoreState, ModelState

IDLE_SECONDS = 5.0  # an engine idle this long under an outstanding request is wedged
SLOWEST = 5.0  # times the slowest first byte known


def engine_seen(state: CoreState, fact: EngineSeen) -> list[Order]:
    """Judge one look at the runner; orders the recall of what it holds if it is stalled."""
    model = state.models.get(fact.model)
    if model is None or model.state not in ("ready", "draining") or not model.running:
        return []
    if model.stalled:  # one slot was found wedged, and those beside it are done by now
        over = fact.busy is False and len(fact.quiet) >= model.running
        if fact.busy is None:  # it does not even tell any more
            over = fact.silent >= silence_limit(state, model, fact.outstanding)
        return _recall(state, model) if over else []
    if fact.busy:
        model.idle_engine_since = None
        return _one_slot(state, model, fact)
    model.short_since = None
    if fact.busy is None:
        limit = silence_limit(state, model, fact.outstanding)
        if fact.silent < limit:
            return []
        return _heal(state, model, f"no byte for {fact.silent:.0f} s (limit {limit:.0f} s)")
    if model.idle_engine_since is None or fact.silent < fact.at - model.idle_engine_since:
        model.idle_engine_since = fact.at  # the first idle look, or a byte has come since
        return []
    idle = fact.at - model.idle_engine_since
    if idle < IDLE_SECONDS:
        return []
    return _heal(state, model, f"{model.running} outstanding, engine idle for {idle:.0f} s")


def _one_slot(state: CoreState, model: ModelState, fact: EngineSeen) -> list[Order]:
    """A slot of several that answers nobody while others work: after as long as silence may last, nobody more is sent
    there, so that the others get done and the model can be loaded anew."""
    answered = model.running - len(fact.quiet)
    enough = model.parallel < 2 or not fact.working or len(fact.quiet) <= fact.working - answered
    if enough:
        model.short_since = None
        return []
    if model.short_since is None:
        model.short_since = fact.at
    silent = fact.at - model.short_since
    if silent < silence_limit(state, model, fact.outstanding):
        return []
    return _stalled(state, model, f"{fact.working} of its slots work for {model.running} requests since {silent:.0f} s")


def died(state: CoreState, model: ModelState) -> list[Order]:
    """The runner's process is gone while /api/ps lists it: Ollama 0.32 notices that only when it pings the runner for
    the next request, and loads it anew inside that. So nobody is sent to it until a transition of ours has been."""
    return [] if model.stalled else _heal(state, model, "its runner died")


def silence_limit(state: CoreState, model: ModelState, body_bytes: int) -> float:
    """Seconds without a byte after which a runner that cannot be asked is believed stalled."""
    expected = (model.first_byte_per_byte or 0.0) * body_bytes
    config = state.config
    least = config.stall_after_cut if model.last_cut is not None else config.stall_silence
    return max(least, SLOWEST * expected)


def repair(state: CoreState) -> list[Order]:
    """Begin the transition that heals a stalled runner, once nothing else is under way and it holds nobody."""
    if state.transition is not None:
        return []
    for name in list(state.present):
        model = state.models[name]
        if model.stalled and model.state == "ready" and not model.running and model.stays_until <= state.at:
            state.healed += 1
            wanted = (model.waiting or model.wishes) and state.paused is None  # in a pause nothing is loaded
            again = (name,) if wanted else ()
            change = Change((name,), again, f"stalled: {model.last_error}", cause="repair")
            return [Record(name, "transition begun", change.because), *transition.begin(state, change)]
    return []


def _heal(state: CoreState, model: ModelState, because: str) -> list[Order]:
    return _stalled(state, model, because) + _recall(state, model)


def _stalled(state: CoreState, model: ModelState, because: str) -> list[Order]:
    state.revision += 1
    model.stalled = True
    model.short_since = None
    model.away_since = state.at
    model.last_error = because
    return [Record(model.name, "stalled", because)]


def _recall(state: CoreState, model: ModelState) -> list[Order]:
    orders: list[Order] = []
    for request_id in model.running_ids:
        if state.requests[request_id].place == "running":
            state.requests[request_id].place = "recalled"
            orders.append(Recall(request_id, f"stalled: {model.last_error}"))
    return orders

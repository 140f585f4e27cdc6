"""Why a request is refused before it may wait, or while it does: each reason in the words its client reads."""

from scheduler.core import turns
from scheduler.core.messages import Arrived, Refuse
from scheduler.core.state import CoreState, Pause, Pin
from scheduler.core.view import Sets

BUSY = "server busy, please try again.  maximum pending requests exceeded"  # Ollama's words, two spaces and all
RETRY_AFTER = 5  # seconds told to clients that a moment's wait may help


def refusal(state: CoreState, sets: Sets, fact: Arrived) -> Refuse | None:
    """What is known against this arrival at once; None if it may wait."""
    if state.stopping:
        return Refuse(fact.id, 503, "shutting down", "the daemon is stopping", RETRY_AFTER)
    if fact.kind == "replace":
        return _keeps(state, fact)
    if not installed(state, fact.model):
        return Refuse(fact.id, 404, not_found(fact.dialect, fact.alias or fact.model), "not installed")
    if fact.kind == "unload" or (fact.kind == "probe" and state.ollama != "down"):
        return None
    if fact.kind == "probe":
        return Refuse(fact.id, 503, f"ollama is not reachable: {state.ollama_error}", "Ollama is away", RETRY_AFTER)
    return _against_waiting(state, sets, fact)


def _against_waiting(state: CoreState, sets: Sets, fact: Arrived) -> Refuse | None:
    reason = excluded(state, sets, fact.model)
    if reason is not None:
        return Refuse(fact.id, 503, reason, "the phase excludes it", RETRY_AFTER)
    reason = too_large(state, sets, fact.model)
    if reason is not None:
        return Refuse(fact.id, 500, reason, "it can never fit")
    if state.paused is not None and state.paused.others == "refuse":
        return Refuse(fact.id, 503, paused(state, state.paused), "paused", seconds_left(state, state.paused.until))
    if turns.waiting_count(state) >= state.config.queue_limit:
        return Refuse(fact.id, 503, BUSY, "the queue is full", RETRY_AFTER)
    return None


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
    known = [[m for m in members if m in state.models] for members in sets.of(model)]
    least, members = min((sum(state.models[m].size for m in each), len(each)) for each in known)
    if least <= max(state.budget, state.whole):  # under pressure they wait for its end
        return None
    company = " with its set" if members > 1 else ""
    return (
        f"model '{model}' requires more memory ({least / 1e9:.1f} GB{company}) "
        f"than is available ({max(state.budget, state.whole) / 1e9:.1f} GB)"
    )


def paused(state: CoreState, pause: Pause) -> str:
    """The scheduler's pause in words."""
    return f"paused by {pause.owner}{_for(state, pause.until)}"


def pinned(state: CoreState, pin: Pin) -> str:
    """A pin in words: what, who and for how long."""
    return f"model '{pin.model}' is pinned by {pin.owner}{_for(state, pin.until)}"


def kept_out(state: CoreState, pin: Pin, model: str) -> str:
    """Why `model` cannot be loaded while that pin lasts."""
    return f"model '{model}' cannot be loaded: {pinned(state, pin)}"


def seconds_left(state: CoreState, until: float | None) -> int:
    """Whole seconds until then, for a `Retry-After`; a moment where there is no end."""
    return RETRY_AFTER if until is None else max(1, -int(-(until - state.at) // 1))


def not_found(dialect: str, name: str) -> str:
    """Ollama's words for a model it does not have."""
    if dialect in ("embed", "embeddings", "openai-embeddings"):
        return f'model "{name}" not found, try pulling it first'
    return f"model '{name}' not found"


def installed(state: CoreState, name: str) -> bool:
    """Whether Ollama has the model; before it was ever heard, everything may be there."""
    if state.listed is None:
        return True
    model = state.models.get(name)
    return model is not None and (model.installed or bool(model.same_as) or model.state != "absent")


def _keeps(state: CoreState, fact: Arrived) -> Refuse | None:
    """A pinned model is neither deleted nor overwritten."""
    pin = state.pins.get(fact.model)
    if pin is None:
        return None
    return Refuse(fact.id, 503, pinned(state, pin), "pinned", seconds_left(state, pin.until))


def _for(state: CoreState, until: float | None) -> str:
    return "" if until is None else f" for another {seconds_left(state, until)} s"

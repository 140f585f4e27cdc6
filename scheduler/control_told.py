"""What a command did and what comes of it, in sentences; read from the core's state alone, before and after it."""

from scheduler.core import commands as c
from scheduler.core.state import CoreState
from scheduler.outlook import expected, short, waits_for
from scheduler.units import format_duration

ON = "PASSTHROUGH is on: every request is forwarded unscheduled; promises P1, P2, P4, P5, P6 and P8 are suspended."
OFF = "Passthrough is off: what is resident is read, adopted and scheduled again."
SHOWN = 5  # models named in one sentence; the rest are counted


def span(seconds: float) -> str:
    """A length of time for people: whole seconds."""
    return format_duration(float(max(0, round(seconds))))


def refused(state: CoreState, fact: c.Command, objection: str) -> str:
    """Why it is refused: the core's `objection`, and first of all the absence of Ollama that is behind it."""
    if not isinstance(fact, c.LoadAsked | c.Pinned) or (state.listed is not None and state.budget is not None):
        return objection
    match state.ollama:
        case "down":
            return f"Ollama does not answer ({state.ollama_error}): {objection}"
        case "unknown":
            return f"Ollama has not answered yet: {objection}"
    return objection


def before(state: CoreState, fact: c.Command) -> str:
    """What of the state that `fact` finds its sentence needs."""
    match fact:
        case c.Unpinned():
            pin = state.pins.get(fact.model)
            return f" that {pin.owner} had set" if pin and pin.owner != fact.by else ""
        case c.Cancelled() if (request := state.requests.get(fact.id)) is not None:
            place = "waiting" if request.place == "waiting" else "running"
            return f", a request for {short(request.model)} that was {place},"
        case c.PhaseSet():
            return f" after {state.phase}" if state.phase != fact.phase else " anew"
    return ""


def done(fact: c.Command, context: str) -> str:
    """What was done; `context` is what `before` said."""
    match fact:
        case c.PhaseSet():
            return f"Phase {fact.phase} is entered{context}."
        case c.Unpinned():
            return f"The pin of {short(fact.model)}{context} is over."
        case c.LoadAsked():
            return f"{short(fact.model)} is to be loaded."
        case c.UnloadAsked():
            return f"{short(fact.model) if fact.model else 'Everything'} is to be unloaded."
        case c.Resumed():
            return "Resumed: requests are served again."
        case c.Cancelled():
            return f"{fact.id}{context} is cancelled."
        case c.Pinned() | c.Paused():
            return _kept_out(fact)
        case c.PassthroughSet():
            return ON if fact.on else OFF
        case c.QuietSet():
            return "Quiet: nothing is loaded unasked." if fact.on else "Quiet is over: home may come back."


def _kept_out(fact: c.Pinned | c.Paused) -> str:
    if isinstance(fact, c.Pinned):
        others = "wait, where it ends within their patience" if fact.others == "wait" else "are refused"
        length = span(fact.until - fact.at)
        return f"{short(fact.model)} is pinned for {length} by {fact.by}; those it keeps out {others}."
    others = "wait for its end" if fact.others == "wait" else "are refused"
    until = "until `resume`" if fact.until is None else f"for {span(fact.until - fact.at)}"
    return f"Paused {until} by {fact.by}; requests {others}."


def then(state: CoreState, fact: c.Command, now: float) -> list[str]:
    """What happens next."""
    match fact:
        case c.Pinned():
            left = span(fact.until - now)
            return [*_brought_in(state, fact.model, now), f"The pin ends by itself in {left}, or with `unpin`."]
        case c.LoadAsked():
            return _brought_in(state, fact.model, now)
        case c.UnloadAsked():
            return _sent_out(state, [fact.model] if fact.model else list(state.present))
        case c.Paused():
            return _sent_out(state, list(state.present))
        case c.Cancelled():
            request = state.requests.get(fact.id)
            return ["Its slot is free once Ollama has ended."] if request else ["Its client was told."]
        case c.PassthroughSet() if fact.on:
            return ["`ollama-scheduler passthrough off` ends it."]
    return settled(state, now)


def settled(state: CoreState, now: float) -> list[str]:
    """What is under way, or that nothing is."""
    nothing = "In memory nothing changes now"  # which may come right after a list of settings that did
    return _change(state) or [f"{nothing}: {state.verdict}." if state.verdict else f"{nothing}."]


def _change(state: CoreState) -> list[str]:
    transition = state.transition
    if transition is None:
        return []
    steps = [f"unload {short(name)}" for name in transition.leave] + [f"load {short(name)}" for name in transition.load]
    if not steps:
        return []
    least, most = expected(state, transition)
    return [f"Under way: {', '.join(steps)}, in {least:.0f} to {most:.0f} s ({transition.because})."]


def _brought_in(state: CoreState, name: str, now: float) -> list[str]:
    model = state.models.get(name)
    if model is None:
        return []
    if model.same_as:
        return [f"{short(name)} is another name of {short(model.same_as)}.", *_brought_in(state, model.same_as, now)]
    if model.usable:
        return [f"{short(name)} is in memory."]
    change = _change(state) if state.transition is not None and name in state.transition.load else []
    return change or [f"{short(name)} waits for {waits_for(state, model, now)}."]


def _sent_out(state: CoreState, names: list[str]) -> list[str]:
    present = [state.models[name] for name in names if name in state.present]
    if not present:
        return ["Nothing of it is in memory."]
    loading = [model.name for model in present if model.state == "loading"]
    if loading:
        return [f"{_listed(loading)} {'is' if len(loading) == 1 else 'are'} still being loaded: that ends first."]
    busy = [model for model in present if model.running]
    if not busy:
        return [f"{_listed([model.name for model in present])} {_verb(len(present))} now."]
    running = sum(model.running for model in busy)
    names_busy = _listed([model.name for model in busy])
    return [f"{running} running on {names_busy}: {'it ends' if running == 1 else 'they end'} first, then it leaves."]


def _verb(count: int) -> str:
    return "leaves" if count == 1 else "leave"


def _listed(names: list[str]) -> str:
    shown = " and ".join(map(short, names[:SHOWN]))
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown

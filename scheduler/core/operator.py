"""What a person tells the scheduler: what is objected to, what it changes, and what comes of it step by step."""

from collections.abc import Iterator
from typing import assert_never

from policies import fit
from policies.verdict import Change
from scheduler.core import pins, refusals, requests, switches, transition
from scheduler.core.commands import (
    Cancelled,
    Command,
    LoadAsked,
    PassthroughSet,
    Paused,
    PhaseSet,
    Pinned,
    QuietSet,
    Resumed,
    UnloadAsked,
    Unpinned,
)
from scheduler.core.messages import Order, Recall, Record
from scheduler.core.state import CoreState, ModelState, Pause, Pin
from scheduler.core.view import WorldView

LONGEST_PIN = 86400.0  # seconds


def objection(state: CoreState, world: WorldView, fact: Command) -> str | None:  # noqa: C901 - one arm per command
    """Why `fact` cannot be taken now, in a sentence for the person; None if it can."""
    match fact:
        case PhaseSet():
            phases = [phase.name for phase in state.config.phases]
            return None if fact.phase in phases else f"there is no phase '{fact.phase}': there are {', '.join(phases)}"
        case Pinned():
            if not fact.at < fact.until <= fact.at + LONGEST_PIN:  # the last fact may be long ago
                return "a pin lasts more than nothing and at most 24 hours"
            return _cannot_load(state, world, fact.model, "pinned")
        case Unpinned():
            return None if fact.model in state.pins else f"'{fact.model}' is not pinned"
        case LoadAsked():
            return _cannot_load(state, world, fact.model, "loaded")
        case UnloadAsked():
            return _cannot_unload(state, fact.model)
        case Paused():
            return "a pause ends in the future" if fact.until is not None and fact.until <= state.at else _open(state)
        case Resumed():
            return None if state.paused is not None else "nothing is paused"
        case Cancelled():
            return None if fact.id in state.requests else f"no request '{fact.id}' waits or runs"
        case PassthroughSet():
            return (
                None if fact.on != bool(state.passthrough) else f"passthrough is {'on' if fact.on else 'off'} already"
            )
        case QuietSet():
            return None if fact.on != bool(state.quiet) else f"quiet is {'on' if fact.on else 'off'} already"
        case _:
            assert_never(fact)


def record(state: CoreState, world: WorldView, fact: Command) -> list[Order]:  # noqa: C901 - one arm per command
    """What a command that nothing is said against changes at once. A phase is the machine's own affair."""
    state.revision += 1
    match fact:
        case Pinned():
            model = requests.known(state, fact.model)
            state.pins[fact.model] = Pin(fact.model, fact.until, fact.by, fact.others)
            model.pinned, model.sent_away = True, False
            state.asked_out.pop(fact.model, None)
            pinned = Record(fact.model, "pinned", f"by {fact.by} for {fact.until - state.at:.0f} s")
            return [pinned, *_make_way(state, world, fact)]
        case Unpinned():
            return pins.unpin(state, fact.model, f"by {fact.by}")
        case LoadAsked():
            requests.known(state, fact.model)
            state.asked[fact.model] = fact.by
            state.asked_out.pop(fact.model, None)
            return [Record(fact.model, "load asked for", f"by {fact.by}")]
        case UnloadAsked():
            return _ask_out(state, fact)
        case Paused():
            state.paused = Pause(fact.at, fact.until, fact.by, fact.others)
            state.asked.clear()
            given_up = transition.abort(state, f"paused by {fact.by}")
            return [Record("", "paused", refusals.paused(state, state.paused)), *given_up, *_tell_paused(state)]
        case Resumed():
            state.paused = None
            return [Record("", "resumed", f"by {fact.by}")]
        case Cancelled():
            return _cancel(state, fact)
        case PassthroughSet():
            return switches.pass_through(state, fact)
        case QuietSet():
            return switches.quiet(state, fact)
        case PhaseSet():
            return []
        case _:
            assert_never(fact)


def expire(state: CoreState) -> list[Order]:
    """End the pins and the pause whose time is over."""
    orders: list[Order] = []
    for pin in [pin for pin in state.pins.values() if pin.until <= state.at]:
        orders += pins.unpin(state, pin.model, "its time is over")
    if state.paused is not None and state.paused.until is not None and state.paused.until <= state.at:
        state.paused = None
        state.revision += 1
        orders.append(Record("", "resumed", "its time is over"))
    return orders


def next_due(state: CoreState) -> Iterator[float]:
    """The times at which `expire` or `advance` has something to do."""
    yield from (pin.until for pin in state.pins.values())
    if state.paused is not None and state.paused.until is not None:
        yield state.paused.until
    pauses = (state.models[name].not_before for name in (*state.asked, *state.pins))
    yield from (when for when in pauses if when > state.at)


def advance(state: CoreState, world: WorldView) -> list[Order]:
    """Begin the change that a person waits for, once none is under way."""
    if state.transition is not None or state.stopping:
        return []
    orders = _drop_vain_loads(state, world)
    change = _clearing(state) if state.paused is not None else _unloading(state) or _loading(state, world)
    if change is None:
        return orders
    if set(change.leave) & set(world.home):
        state.home_due = True
    first = Record((change.load or change.leave)[0], "transition begun", change.because)
    return [*orders, first, *transition.begin(state, change)]


def forward_replacements(state: CoreState, world: WorldView) -> list[Order]:
    """What deletes or overwrites a model goes out once the model is out of memory."""
    if not world.healthy:
        return []
    waiting = [
        request
        for model in state.models.values()
        if model.replacements and model.state == "absent"
        for request in model.replacements.values()
        if request.place == "waiting"
    ]
    waiting.sort(key=lambda request: request.seq)
    return [requests.replace_now(state, request, "its model is out of memory") for request in waiting]


def _open(state: CoreState) -> str | None:
    return "everything passes through: switch passthrough off first" if state.passthrough else None


def _cannot_load(state: CoreState, world: WorldView, name: str, what: str) -> str | None:
    if (closed := _open(state)) is not None:
        return closed
    if state.paused is not None:
        return f"{refusals.paused(state, state.paused)}: resume first"
    if state.listed is None:
        return "what is installed is not known yet: ask again in a moment"
    if not refusals.installed(state, name):
        return f"model '{name}' is not installed"
    if not world.sets_of(name):
        return f"phase '{state.phase}' excludes '{name}': enter another one first"
    return _cannot_hold(state, world, name, what)


def _cannot_hold(state: CoreState, world: WorldView, name: str, what: str) -> str | None:
    if state.budget is None:
        return "how much memory there is, is not known yet: ask again in a moment"
    model = state.models.get(name)
    if model is not None and model.replacing:
        return f"'{name}' is being deleted or overwritten"
    if model is None or model.usable:
        others: list[Pin] = []
    else:
        if not fit.holdable(world, [model]):
            return f"'{name}' needs {model.size / 1e9:.1f} GB and the budget is {state.budget / 1e9:.1f} GB"
        others = [pin for pin in state.pins.values() if pin.model != name]
    if model is not None and others and not pins.together(world, model, [state.models[pin.model] for pin in others]):
        names = "; ".join(refusals.pinned(state, pin) for pin in others)
        return f"'{name}' cannot be {what} beside what is pinned: {names}"
    return None


def _cannot_unload(state: CoreState, name: str) -> str | None:
    held = [pin for pin in state.pins.values() if name in ("", pin.model)]
    if held:
        return f"{'; '.join(refusals.pinned(state, pin) for pin in held)}: unpin first"
    if name and name not in state.present and name not in state.asked:
        return f"'{name}' is not in memory"
    return _open(state)


def _make_way(state: CoreState, world: WorldView, fact: Pinned) -> list[Order]:
    """A change that would still send the pinned model away is given up, and so are loads it keeps out."""
    orders: list[Order] = []
    if state.models[fact.model].state == "draining":
        orders += transition.abort(state, f"{fact.model} is pinned by {fact.by}")
    for name in [name for name in state.asked if pins.kept_out(state, world, name) is not None]:
        del state.asked[name]
        orders.append(Record(name, "load given up", f"{fact.model} is pinned by {fact.by}"))
    return orders


def _ask_out(state: CoreState, fact: UnloadAsked) -> list[Order]:
    names = [fact.model] if fact.model else list(dict.fromkeys((*state.present, *state.asked)))
    for name in names:
        state.asked.pop(name, None)
        if name in state.present:
            state.asked_out[name] = fact.by
    asked = [Record(name, "unload asked for", f"by {fact.by}") for name in names]
    return [*asked, *(order for name in names for order in pins.take_back(state, name, f"{fact.by} unloads it"))]


def _tell_paused(state: CoreState) -> list[Order]:
    pause = state.paused
    if pause is None or pause.others == "wait":
        return []
    text, retry = refusals.paused(state, pause), refusals.seconds_left(state, pause.until)
    models = [state.models[name] for name in state.demanded]
    return [order for model in models for order in requests.refuse_waiting(state, model, 503, text, "paused", retry)]


def _cancel(state: CoreState, fact: Cancelled) -> list[Order]:
    """End a request because a person said so: one that waits is refused, one that runs is recalled."""
    request = state.requests[fact.id]
    request.cancelled = fact.by
    if request.place == "waiting":
        return [requests.refuse(state, request, 403, f"cancelled by {fact.by}", "cancelled")]
    if request.place == "recalled" or request.abandoned:
        return []
    request.place = "recalled"
    return [Recall(request.id, f"cancelled by {fact.by}", "cancelled")]


def _clearing(state: CoreState) -> Change | None:
    """A pause sends away what was there when it began, and what was then being loaded."""
    pause = state.paused
    if pause is None:
        return None
    models = [state.models[name] for name in state.present]
    there = (m for m in models if m.load_because != "adopted" or (m.loaded_at or 0.0) <= pause.since)
    leave = [model.name for model in there if _can_leave(state, model)]
    return Change(tuple(leave), (), f"paused by {pause.owner}", cause="asked") if leave else None


def _unloading(state: CoreState) -> Change | None:
    for name in [name for name in state.asked_out if state.models[name].state == "absent"]:
        del state.asked_out[name]
    leave = tuple(name for name in state.asked_out if _can_leave(state, state.models[name]))
    if leave:
        for name in leave:
            state.models[name].sent_away = True
        by = ", ".join(dict.fromkeys(state.asked_out[name] for name in leave))
        return Change(leave, (), f"unload asked for by {by}", cause="asked")
    unwanted = [model for name in state.present if (model := state.models[name]).replacements]
    replaced = tuple(model.name for model in unwanted if _is_in_the_way(state, model))
    return Change(replaced, (), "it is to be replaced or deleted", cause="asked") if replaced else None


def _is_in_the_way(state: CoreState, model: ModelState) -> bool:
    """Whether something that would delete or overwrite the model waits for it to leave."""
    return any(r.place == "waiting" for r in model.replacements.values()) and _can_leave(state, model)


def _can_leave(state: CoreState, model: ModelState) -> bool:
    return model.state == "ready" and model.stays_until <= state.at


def _drop_vain_loads(state: CoreState, world: WorldView) -> list[Order]:
    """A load that a person asked for is given up where its model was deleted or the phase excludes it by now."""
    orders: list[Order] = []
    for name in list(state.asked):
        gone = not refusals.installed(state, name)
        if gone or not world.sets_of(name):
            del state.asked[name]
            because = "it is not installed any more" if gone else f"phase '{state.phase}' excludes it"
            orders.append(Record(name, "load given up", because))
    return orders


def _loading(state: CoreState, world: WorldView) -> Change | None:
    """The first load that a person asked for, or pinned model that is away, for which there is a plan."""
    if not state.asked and not state.pins:
        return None
    for name in [name for name in state.asked if state.models[name].usable]:
        del state.asked[name]
    for name in dict.fromkeys((*state.asked, *state.pins)):
        model = state.models[name]
        if model.usable or model.not_before > state.at or not model.installed or not world.sets_of(name):
            continue
        plan = world.plan(model)
        if plan is not None and plan.load:
            by = state.asked.get(name)
            because = f"load asked for by {by}" if by else f"pinned by {state.pins[name].owner}"
            return Change(plan.leave, plan.load, because, cause="asked")
    return None

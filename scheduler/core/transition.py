"""The one change of residency under way: drain, unload, seen gone, load, seen there; or called off while it can be."""

from policies import fit
from policies.verdict import Change
from scheduler.core import learned, sizes
from scheduler.core.lifecycle import IllegalMove, move
from scheduler.core.messages import AnswerProbe, Load, Order, Record, Unload
from scheduler.core.state import CoreState, ModelState, TransitionState
from scheduler.core.view import WorldView


def begin(state: CoreState, change: Change) -> list[Order]:
    """Book `change` at the moment it is decided. Raises IllegalMove where the law forbids it."""
    if state.transition is not None:
        raise IllegalMove("a transition is under way already")
    for name in change.leave:
        if state.models[name].state != "ready":
            raise IllegalMove(f"{name} cannot leave: it is {state.models[name].state}")
    for name in change.load:
        if state.models[name].state != "absent" and name not in change.leave:
            raise IllegalMove(f"{name} cannot be loaded: it is {state.models[name].state}")
    orders: list[Order] = []
    for name in change.leave:
        model = state.models[name]
        if change.cause in ("demand", "home") and set(change.load) - {name}:  # another comes in its place
            learned.stayed(model, state.at - model.since)
        move(state, model, "draining", state.at)
        model.left_because = change.because
        orders += _free_of_probes(state, model, change.because)
    state.transition = TransitionState(
        list(change.leave),
        list(change.load),
        change.because,
        change.cause,
        change.forced,
        state.at,
        planned=change.load,
        left=change.leave,
    )
    return orders


def advance(state: CoreState, world: WorldView) -> list[Order]:
    """Take the next steps that are due; an empty list if the transition waits for a fact or there is none."""
    transition = state.transition
    if transition is None or not world.healthy:
        return []
    if not transition.leave and not transition.load:
        state.transition = None
        return []
    if transition.cause in ("demand", "repair") and not _wanted(state, transition):
        if transition.cause == "demand":
            return _call_off(state, transition, "nobody waits for it any more")
        transition.load = [name for name in transition.load if state.models[name].state == "loading"]
    orders = _unload_drained(state, transition)
    if transition.leave or orders:
        return orders
    transition.stage = "loading"
    if not transition.load:
        state.transition = None
        return []
    if any(state.models[name].state in ("loading", "leaving") for name in state.present):
        return []  # one at a time, what an earlier transition left behind included
    return _load_next(state, world, transition)


def abort(state: CoreState, because: str) -> list[Order]:
    """Give the transition up where it stands; what was ordered still reports, what only drained stays."""
    transition = state.transition
    if transition is None:
        return []
    for name in transition.leave:
        if state.models[name].state == "draining":
            move(state, state.models[name], "ready", state.at)
    state.transition = None
    subject = transition.planned or transition.left
    return [Record(subject[0] if subject else "", "transition given up", because)]


def gone(state: CoreState, name: str) -> None:
    """Note that `name` has left memory."""
    if state.transition is not None and name in state.transition.leave:
        state.transition.leave.remove(name)


def come(state: CoreState, name: str) -> None:
    """Note that `name` is loaded."""
    if state.transition is not None and name in state.transition.load:
        state.transition.load.remove(name)


def _wanted(state: CoreState, transition: TransitionState) -> bool:
    models = [state.models[name] for name in transition.planned]
    return any(m.waiting or m.wishes or m.serving for m in models)


def _call_off(state: CoreState, transition: TransitionState, because: str) -> list[Order]:
    """Stop where nothing is in flight: drained models stay, loads not yet ordered are dropped."""
    for name in list(transition.leave):
        if state.models[name].state == "draining":
            move(state, state.models[name], "ready", state.at)
            state.models[name].left_because = ""
            transition.leave.remove(name)
    transition.load = [name for name in transition.load if state.models[name].state == "loading"]
    if transition.leave or transition.load:
        return []
    state.transition = None
    subject = transition.planned or transition.left
    return [Record(subject[0], "transition called off", because)]


def _unload_drained(state: CoreState, transition: TransitionState) -> list[Order]:
    orders: list[Order] = []
    for name in transition.leave:
        model = state.models[name]
        if model.state == "draining" and not model.running:
            move(state, model, "leaving", state.at)
            orders.append(Unload(name, transition.because))
            transition.stage = "unloading"
            if transition.first_order is None:
                transition.first_order = state.at
    return orders


def _load_next(state: CoreState, world: WorldView, transition: TransitionState) -> list[Order]:
    model = state.models[transition.load[0]]
    if model.state == "loading":
        return []
    if model.state != "absent" or model.replacing:  # what is being overwritten is planned for anew afterwards
        return _without_first(state, world, transition)
    if transition.cause == "demand" and (other := _kept_waiting(state, world, transition, model)) is not None:
        transition.planned = tuple(name for name in transition.planned if name != model.name)
        dropped = Record(model.name, "load dropped", f"nobody waits for it, and somebody does for {other}")
        return [dropped, *_without_first(state, world, transition)]
    if not fit.admits(world, model, fit.beside(world, world.present)):
        model.not_before = state.at + 1.0  # what changed underneath is looked at again before another plan
        return abort(state, f"{model.name} does not fit any more")
    move(state, model, "loading", state.at)
    model.held = model.size
    model.free_after = sizes.free(state)  # what leaves while it loads, Ollama may not have seen go
    model.load_because = transition.because
    if transition.first_order is None:
        transition.first_order = state.at
    return [Load(model.name, transition.because)]


def _without_first(state: CoreState, world: WorldView, transition: TransitionState) -> list[Order]:
    """Go on with the next load, or end the transition where there is none."""
    transition.load.pop(0)
    if transition.load:
        return _load_next(state, world, transition)
    state.transition = None
    return []


def _kept_waiting(state: CoreState, world: WorldView, transition: TransitionState, model: ModelState) -> str | None:
    """Whom the load of `model`, which only rides along, would keep waiting for nothing: somebody waits for that one, it
    is away, not in this transition, and could come, but not beside `model`. None where there is nobody, or `model` is
    needed. What a person ordered, home and guesses of what comes next have causes of their own and are seen through.
    """
    if fit.needed(world, model) or model.name in state.asked:
        return None
    there = fit.beside(world, world.present).joined(world, model)
    for other in world.demanded:
        away = other.waiting and not other.usable and other.not_before <= state.at
        if away and other.name not in transition.load and not fit.admits(world, other, there) and world.plan(other):
            return other.name
    return None


def _free_of_probes(state: CoreState, model: ModelState, because: str) -> list[Order]:
    """A probe gives its slot back when a drain begins (P5)."""
    probes = [i for i in model.running_ids if state.requests[i].kind == "probe" and not state.requests[i].abandoned]
    return [AnswerProbe(i, f"{model.name} is to leave: {because}") for i in probes]

"""Pins: what a person keeps in memory, and what becomes of those whom that keeps out."""

from collections.abc import Sequence

from policies import fit
from scheduler.core import naming, refusals, requests, transition
from scheduler.core.messages import Arrived, Order, Record, Refuse
from scheduler.core.state import CoreState, ModelState, Pin, Request
from scheduler.core.view import WorldView


def kept_out(state: CoreState, world: WorldView, name: str) -> Pin | None:
    """The pin that must end before `name` can be held beside the pinned; None if none must, or it serves."""
    model = state.models[name]
    if not state.pins or model.usable:
        return None
    pins = sorted((p for p in state.pins.values() if p.model != name), key=lambda p: (p.until, p.model))
    stays = [state.models[pin.model] for pin in pins]
    for gone, pin in enumerate(pins):
        if together(world, model, stays[gone:]):
            return pins[gone - 1] if gone else None
        if gone + 1 == len(pins):
            return pin
    return None


def tell_kept_out(state: CoreState, world: WorldView) -> list[Order]:
    """Refuse those whom a pin keeps out for longer than their patience, or at once where it says so."""
    orders: list[Order] = []
    for name in list(state.demanded) if state.pins and state.budget is not None else ():
        pin = kept_out(state, world, name)
        if pin is None:
            continue
        model = state.models[name]
        for request in [*model.requests(), *model.preloads.values()]:
            if _too_long(state, world, pin, request):
                because = refusals.kept_out(state, pin, name)
                retry = refusals.seconds_left(state, pin.until)
                orders.append(requests.refuse(state, request, 503, because, "a pin keeps it out", retry))
    return orders


def refuse_kept_out(state: CoreState, world: WorldView, fact: Arrived) -> list[Order]:
    """The same for one that arrives."""
    name = naming.known_as(state, fact.model)
    if not state.pins or fact.kind not in ("request", "preload") or name not in state.models:
        return []
    if not refusals.installed(state, name):
        return []
    pin = kept_out(state, world, name)
    if pin is None or not _too_long(state, world, pin, fact):
        return []
    because, retry = refusals.kept_out(state, pin, name), refusals.seconds_left(state, pin.until)
    return [Refuse(fact.id, 503, because, "a pin keeps it out", retry)]


def _too_long(state: CoreState, world: WorldView, pin: Pin, waits: Request | Arrived) -> bool:
    """Whether the pin lasts longer than its patience, or lets nobody wait."""
    arrived = waits.arrived if isinstance(waits, Request) else waits.at
    patience = state.config.give_up if waits.kind == "preload" else world.patience.get(waits.cls, 0.0)
    return pin.others == "refuse" or pin.until > arrived + patience


def together(world: WorldView, model: ModelState, pinned: Sequence[ModelState]) -> bool:
    """Whether an empty memory can hold the pinned and, of `model`, a set or it alone."""
    for members in (*world.sets_of(model.name), (model.name,)):
        names = dict.fromkeys([*members, *(other.name for other in pinned)])
        if fit.holdable(world, [world.models[name] for name in names if name in world.models]):
            return True
    return False


def unpin(state: CoreState, name: str, because: str) -> list[Order]:
    """The pin of `name` is over."""
    del state.pins[name]
    state.models[name].pinned = False
    state.revision += 1
    return [Record(name, "unpinned", because), *take_back(state, name, f"unpinned: {because}")]


def take_back(state: CoreState, name: str, because: str) -> list[Order]:
    """Give up the change that a person asked for to bring `name` in, if it has not come to that yet."""
    change = state.transition
    asked = change is not None and change.cause == "asked" and name in change.load
    return transition.abort(state, because) if asked and state.models[name].state == "absent" else []

"""A configured idle limit: a model that nobody has used for so long, and that nothing keeps, is unloaded."""

from collections.abc import Iterator

from policies.verdict import Change
from scheduler.core import transition
from scheduler.core.messages import Order, Record
from scheduler.core.state import CoreState, ModelState
from scheduler.core.view import WorldView


def unload(state: CoreState, world: WorldView) -> list[Order]:
    """Begin to unload what has been idle for its limit, once nothing else is under way."""
    if state.transition is not None or state.stopping or not _any_limit(state):
        return []
    limits = {
        model.name: limit for model in world.present if (limit := state.config.idle_limit_of(model.name)) is not None
    }
    home = world.home
    leave = tuple(
        name
        for name, limit in limits.items()
        if name not in home and _may_leave(model := state.models[name], state.at) and _since(model) + limit <= state.at
    )
    if not leave:
        return []
    longest = max(limits[name] for name in leave)
    because = f"nobody has used it for {longest:.0f} s, its idle limit"
    return [
        Record(leave[0], "transition begun", because),
        *transition.begin(state, Change(leave, (), because, cause="idle")),
    ]


def next_due(state: CoreState) -> Iterator[float]:
    """The times at which a model will have been idle for its limit."""
    for name in state.present if _any_limit(state) else ():
        model = state.models[name]
        limit = state.config.idle_limit_of(model.name)
        if limit is not None and not model.running and _since(model) + limit > state.at:
            yield _since(model) + limit


def _any_limit(state: CoreState) -> bool:
    return state.config.idle_limit is not None or bool(state.config.idle_limits)


def _since(model: ModelState) -> float:
    """Since when nobody has used it; a health check is no use (promise 5)."""
    return max(model.last_used, model.loaded_at or 0.0)


def _may_leave(model: ModelState, at: float) -> bool:
    busy = model.running or model.waiting or model.wishes or model.replacing
    return model.state == "ready" and not (busy or model.pinned or model.keep) and model.stays_until <= at

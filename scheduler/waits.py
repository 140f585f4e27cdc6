"""How long a request will wait for its answer to begin, as a range from what was measured, or nothing where it was not.

A few hundred outcomes are drawn from the seconds that loads, unloads and answers really took, always by the same
chances; a tenth of them lies below the range and a tenth above. What comes later and goes first is not foreseen.
"""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass

from policies.bound import floor, lead
from scheduler.core.state import CoreState, ModelState, Request
from scheduler.core.view import Sets, WorldView
from scheduler.measured import Measured

DRAWS = 300
FEWEST = 30  # draws, where many run before it and each draw costs
STEPS = 15_000  # answers drawn in all, about
LATELY = 200  # answers of a model that are drawn from
AROUND = (0.7, 1.5)  # shares of a mean that was learned in an earlier life, where single loads are not known

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Change:
    """What leaves, and what is loaded up to the model that is wanted, in order; `begun`: it is under way."""

    leave: Sequence[ModelState]
    load: Sequence[ModelState]
    begun: bool


class _Unknown(Exception):
    """Something that was never measured."""


class _Chances:
    """Seconds drawn from what was measured. Raises _Unknown."""

    def __init__(self, state: CoreState, measured: Measured) -> None:
        self._random = random.Random(1)
        self._measured = measured
        self._services: dict[str, list[float]] = {}
        for past in state.history.values():
            if past.service is not None:
                self._services.setdefault(past.model, []).append(past.service)

    def load(self, model: ModelState, elapsed: float = 0.0) -> float:
        """What is left of a load that has taken `elapsed` seconds."""
        known: Sequence[float] = self._measured.loads.get(model.name, ())
        if not known:
            if model.load_learned is None:
                raise _Unknown(model.name)
            known = [share * model.load_learned for share in AROUND]
        return self._left(known, elapsed)

    def unload(self, model: ModelState) -> float:
        known: Sequence[float] = self._measured.unloads.get(model.name, ())
        return self._left(known, 0.0) if known else model.unload_seconds  # a moment, whoever it is

    def service(self, model: ModelState, elapsed: float = 0.0) -> float:
        """What is left of an answer that has taken `elapsed` seconds."""
        known = self._services.get(model.name, ())[-LATELY:]
        if not known:
            raise _Unknown(model.name)
        return self._left(known, elapsed)

    def _left(self, known: Sequence[float], elapsed: float) -> float:
        """Drawn from those that took longer; beyond all of them it may take as long again."""
        longer = [seconds for seconds in known if seconds > elapsed]
        return self._random.choice(longer) - elapsed if longer else self._random.random() * elapsed


def wait_of(state: CoreState, measured: Measured, name: str, ahead: int, due: float | None, now: float) -> Range | None:
    """Seconds until a request for model `name`, with `ahead` that run before it, gets its slot: the tenth and the
    ninetieth per cent of what may come; None where something it depends on was never measured, no change would bring
    its model in now, or a person has stopped it. `due` is when the change to it is forced at the latest, if it has not
    begun."""
    if _stopped(state):
        return None
    chances = _Chances(state, measured)
    model = state.models[name]
    draws = max(FEWEST, min(DRAWS, STEPS // max(1, ahead)))
    try:
        change = _change_to(state, model)
        soonest = sorted(_draw(state, chances, model, change, ahead, now, now) for _ in range(draws))
        latest = soonest
        if due is not None and due > now and change is not None and not change.begun:
            latest = sorted(_draw(state, chances, model, change, ahead, now, due) for _ in range(draws))
    except _Unknown:
        return None
    return round(soonest[draws // 10], 1), round(latest[draws * 9 // 10], 1)


def _stopped(state: CoreState) -> bool:
    """Whether it is for a person to say when anybody is served again."""
    return state.paused is not None or bool(state.passthrough)


def ahead_of(model: ModelState, cls: str, seq: float) -> int:
    """How many of those who wait for `model` run before a request of class `cls` that arrived as number `seq`: earlier
    ones of its class, and all of a higher one."""
    count = 0
    for other, queue in model.queues.items():  # highest class first
        if other == cls:
            return count + sum(request.seq < seq for request in queue.values())
        count += len(queue)
    return count


def due_of(state: CoreState, model: ModelState, cls: str, arrived: float) -> float | None:
    """When the policy forces the change to `model` for such a request, as `policies.default` reckons it; None where it
    states no bound, or while a person has stopped its clock."""
    if _stopped(state):
        return None
    if state.config.policy != "default" or cls not in dict(state.config.patience):
        return None
    world = WorldView(state, Sets(state.config, state.phase))
    return max(arrived, model.away_since) + max(world.patience[cls], floor(world)) - lead(world, model)


def _change_to(state: CoreState, model: ModelState) -> _Change | None:
    """The change that brings `model` in, under way or as it would be planned now; None where it is usable. Raises
    _Unknown where none would."""
    if model.usable:
        return None
    under_way = state.transition
    if under_way is not None and model.name in under_way.load:
        leave, load = list(under_way.leave), list(under_way.load)
    else:
        plan = WorldView(state, Sets(state.config, state.phase)).plan(model)
        if plan is None or under_way is not None:
            raise _Unknown(model.name)
        leave, load = list(plan.leave), list(plan.load)
    load = load[: load.index(model.name) + 1]
    return _Change([state.models[n] for n in leave], [state.models[n] for n in load], under_way is not None)


def _draw(
    state: CoreState,
    chances: _Chances,
    model: ModelState,
    change: _Change | None,
    ahead: int,
    now: float,
    begins: float,
) -> float:
    """One outcome: seconds until the slot is there, if a change that has not begun begins at `begins`."""
    if change is None:
        taken = [chances.service(model, now - at) for at in _started(state, model)]
        slots = taken + [0.0] * (model.parallel - len(taken))
    else:
        slots = [_brought_in(state, chances, change, now, begins - now)] * model.parallel
    heapq.heapify(slots)
    for _ in range(ahead):
        heapq.heapreplace(slots, slots[0] + chances.service(model))
    return slots[0]


def _brought_in(state: CoreState, chances: _Chances, change: _Change, now: float, after: float) -> float:
    """Seconds until everything is loaded that comes before the model, and it; the change begins `after` seconds."""
    drains = [chances.service(other, now - at) - after for other in change.leave for at in _started(state, other)]
    seconds = after + max([0.0, *drains]) + sum(chances.unload(other) for other in change.leave)
    for other in change.load:
        seconds += chances.load(other, now - other.since if other.state == "loading" else 0.0)
    return seconds


def _started(state: CoreState, model: ModelState) -> list[float]:
    running: list[Request] = [state.requests[each] for each in model.running_ids if each in state.requests]
    return [request.started for request in running if request.started is not None]

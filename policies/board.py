"""Plays a few groups of requests on the host to the best end: what a choice made now costs if all goes well after it.

It knows what the guess needs and no more: who is in memory, how long changes and requests take, who waits. Groups are
served as they come, each in one go; between them every change that could help is tried, the worse cut off early.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policies.hold import WEIGHT
from policies.world import World

NOW = -1  # the group that came last
CALLS = 1000  # steps of all searches of one comparison: a few milliseconds; the workloads here need less


@dataclass(frozen=True, slots=True)
class Next:
    """What comes: models with what a second of their waiting costs, and when: seconds from now, or, for a session that
    asks again once it was answered, `when` seconds after the end of what it asked with the group `after`."""

    when: float
    weights: Mapping[str, float]
    after: int | None = None

    @property
    def top(self) -> str:
        """What is waited for."""
        return max(self.weights, key=self.weights.__getitem__)


Future = Sequence[Next]
Waits = tuple[tuple[float, str, float, int | None], ...]
"""Who waits: since when (seconds from now), for what, what a second costs, and the group whose session waits for it."""

Ends = Mapping[int, float]
"""When what the session of a group waited for was answered, seconds from now."""


class Board:
    """The host as the guess needs it: who is there, how long changes take, who waits now."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._there = frozenset(model.name for model in world.present if model.usable)
        last = world.groups[-1]
        answered = world.answered(last)
        self._ends: Ends = {} if answered is None else {NOW: answered - world.at}
        waits: list[tuple[float, str, float, int | None]] = [
            (arrived - world.at, model.name, WEIGHT[cls] * number, None)
            for model in world.demanded
            for cls, number, arrived in model.tally()
        ]
        if answered is None:  # the session of the last group goes on once what it waits for is served
            for i, (when, name, weight, _) in enumerate(waits):
                if name == last.top:
                    waits[i] = (when, name, weight, NOW)
                    break
        self._waits: Waits = tuple(waits)
        self._moves: dict[tuple[frozenset[str], str], tuple[frozenset[str], float, float]] = {}
        self._limit = math.inf
        self._left = CALLS

    def begin(self) -> None:
        """Another comparison, with steps of its own."""
        self._left = CALLS

    def when(self, future: Future) -> float | None:
        """Seconds until the first group of `future` comes; None where something else must end before."""
        return _when(future, 0, self._ends)

    def takes(self, name: str) -> float:
        """Seconds that bringing `name` in takes."""
        return self._move(self._there, name)[1]

    @property
    def exhausted(self) -> bool:
        """Whether a search was cut off, so that what it found says nothing."""
        return self._left < 0

    def best(self, future: Future, first: str) -> float:
        """What it costs at least, in weighted seconds waited and seconds loaded, with this choice now ("stay", or a
        model to bring in), as far as CALLS steps in all show."""
        self._limit = math.inf
        if first != "stay":
            self._go(future, 0, 0.0, self._there, self._waits, self._ends, 0.0, first)
        elif not self._next(future, 0, 0.0, self._there, self._waits, self._ends, 0.0):
            self._choose(future, 0, 0.0, self._there, self._waits, self._ends, 0.0)
        return self._limit

    def _choose(
        self,
        future: Future,
        i: int,
        at: float,
        there: frozenset[str],
        waits: Waits,
        ends: Ends,
        cost: float,
        idle: bool = False,
    ) -> None:
        """Every choice at `at`, with what came before `i` waiting or served; `idle`: a change was just made that sent
        somebody away, served nobody and during which nobody came, so that another one right after it makes no sense."""
        self._left -= 1
        if cost >= self._limit or self._left < 0:
            return
        if not waits and (i >= len(future) - 1 or _when(future, i, ends) is None):  # who goes on then, nobody knows
            self._limit = min(self._limit, cost + self._stranded(future, i, at, there, ends))
            return
        self._next(future, i, at, there, waits, ends, cost)
        if idle:
            return
        soon = dict.fromkeys(name for _, name, _, _ in waits)
        if i < len(future):
            soon.update(dict.fromkeys(name for name in future[i].weights if name not in there))
        for name in soon:
            self._go(future, i, at, there, waits, ends, cost, name)

    def _stranded(self, future: Future, i: int, at: float, there: frozenset[str], ends: Ends) -> float:
        """What it costs that the last group does not find what it waits for most: nothing after it is known, so that
        without this whatever is put off to the end would seem to be free."""
        if i == len(future) or (top := future[i].top) in there:
            return 0.0
        when = _when(future, i, ends)
        _, seconds, load = self._move(there, top)
        late = 0.0 if when is None else max(0.0, at + seconds - when)
        return load + future[i].weights[top] * late

    def _next(
        self, future: Future, i: int, at: float, there: frozenset[str], waits: Waits, ends: Ends, cost: float
    ) -> bool:
        """Stay until the next group has come and who of it can be is served; False if it cannot come before."""
        when = _when(future, i, ends)
        if when is None:
            return False
        start = max(at, when)
        cost, end, left, ends = self._come(future[i], i, when, start, there, ends, cost)
        self._choose(future, i + 1, end, there, waits + left, ends, cost)
        return True

    def _go(
        self, future: Future, i: int, at: float, there: frozenset[str], waits: Waits, ends: Ends, cost: float, name: str
    ) -> None:
        """Bring `name` in, and serve who waits for what is there then."""
        after, seconds, load = self._move(there, name)
        at += seconds
        cost += load
        end = at
        left: Waits = ()
        for wait in waits:
            when, wanted, weight, group = wait
            if wanted not in after:
                left = (*left, wait)
                continue
            cost += weight * (at - when)
            over = at + self._world.models[wanted].service_seconds
            end = max(end, over)
            if group is not None:
                ends = {**ends, group: over}
        heard = len(left) < len(waits)
        while (came := _when(future, i, ends)) is not None and came <= at:  # who came meanwhile
            cost, over, more, ends = self._come(future[i], i, came, at, after, ends, cost)
            left, end = left + more, max(end, over)
            heard = True
            i += 1
        self._choose(future, i, end, after, left, ends, cost, idle=not heard and not there <= after)

    def _come(
        self, group: Next, i: int, when: float, start: float, there: frozenset[str], ends: Ends, cost: float
    ) -> tuple[float, float, Waits, Ends]:
        """The group `i` came at `when` and is served from `start` on, as far as it can be: the cost, when that is over,
        who waits, and the ends."""
        end, top = start, group.top
        left: Waits = ()
        for name, weight in group.weights.items():
            if name not in there:
                left = (*left, (when, name, weight, i if name == top else None))
                continue
            cost += weight * (start - when)
            over = start + self._world.models[name].service_seconds
            end = max(end, over)
            if name == top:
                ends = {**ends, i: over}
        return cost, end, left, ends

    def _move(self, there: frozenset[str], name: str) -> tuple[frozenset[str], float, float]:
        """Who is there once `name` was brought in, the seconds it takes, and what it costs: loading, and reading again
        what the warm prompt caches of who leaves held."""
        known = self._moves.get((there, name))
        if known is None:
            models = self._world.models
            mates = {mate for members in self._world.sets_of(name) for mate in members}
            stay = sorted(there, key=lambda other: (other not in mates, models[other].size, other))
            room = self._world.budget - models[name].size
            after = {name}
            for other in stay:
                if models[other].size <= room:
                    room -= models[other].size
                    after.add(other)
            gone = [models[other] for other in sorted(there - after)]
            load = models[name].load_seconds
            cost = load + sum(model.reprompt for model in gone)
            known = (frozenset(after), load + sum(model.unload_seconds for model in gone), cost)
            self._moves[there, name] = known
        return known


def _when(future: Future, i: int, ends: Ends) -> float | None:
    """When the group `i` comes; None if nobody knows before another was served, or there is none."""
    if i >= len(future):
        return None
    group = future[i]
    if group.after is None:
        return group.when
    ended = ends.get(group.after)
    return None if ended is None else max(0.0, ended + group.when)

"""Says what the requests that are left cost at the least, so that a plan that cannot be the best is dropped early."""

from collections.abc import Sequence
from heapq import heapreplace
from math import inf

from scheduler.simulator.optimum_problem import Lane, Place


class Floor:
    """The least that the rest of a lane costs: as if its model were there for good from a time on, with all slots."""

    def __init__(self, lane: Lane, slots: int, grain: float) -> None:
        self._lane = lane
        self._slots = slots
        self._grain = grain
        self._known: list[dict[int, float]] = [{} for _ in range(len(lane.arrivals) + 1)]
        self._alone = [0.0] * (len(lane.arrivals) + 1)
        for which in range(len(lane.arrivals) - 1, -1, -1):
            self._alone[which] = self._from(which, lane.arrivals[which])

    def __call__(self, served: int, ready: float) -> float:
        """Weighted waiting of those after the first `served`; `ready`, seconds, is rounded down to the grain."""
        if served == len(self._lane.arrivals) or ready <= self._lane.arrivals[served]:
            return self._alone[served]
        step = int(ready / self._grain)
        known = self._known[served]
        if step not in known:
            known[step] = self._from(served, step * self._grain)
        return known[step]

    def _from(self, served: int, ready: float) -> float:
        arrivals, services = self._lane.arrivals, self._lane.services
        free = [ready] * self._slots
        cost, busy = 0.0, ready
        for which in range(served, len(arrivals)):
            arrival = arrivals[which]
            if busy <= arrival and which > served:
                return cost * self._lane.weight + self._alone[which]
            start = free[0] if free[0] > arrival else arrival
            cost += start - arrival
            end = start + services[which]
            heapreplace(free, end)
            if end > busy:
                busy = end
        return cost * self._lane.weight


class Rest:
    """The floors of all models of all groups, asked for by how many of each lane have been served."""

    def __init__(self, groups: Sequence[Sequence[Place]], grain: float) -> None:
        self._rows: list[tuple[int, float, float, list[tuple[int, int, Floor]]]] = []
        lane = 0
        for group, places in enumerate(groups):
            for place in places:
                shortest = min(min(line.services) for line in place.lanes)
                away = place.model.load + shortest + place.model.unload
                floors = []
                for line in place.lanes:
                    floors.append((lane, len(line.arrivals), Floor(line, place.model.parallel, grain)))
                    lane += 1
                self._rows.append((group, place.model.load, away, floors))

    def remains(self, place: int, counts: Sequence[int]) -> bool:
        """Whether anybody is left for a model (by its number over all groups)."""
        return any(counts[lane] < size for lane, size, _ in self._rows[place][3])

    def least(self, counts: Sequence[int], gone: float, last: int) -> float:
        """What all who are left cost once nothing is resident from `gone` on: each model alone with its slots, and its
        load once more; those of the group that left `last` come back after a visit to another, and infinity is said
        where there is no other to visit (a longer visit would have been better)."""
        absent, away = inf, 0.0
        for group, _, visit, floors in self._rows:
            if group != last and visit < absent and any(counts[lane] < size for lane, size, _ in floors):
                absent = visit
        cost = 0.0
        for group, load, _, floors in self._rows:
            away = absent if group == last else 0.0
            ready, left = gone + away + load, False
            for lane, size, floor in floors:
                if counts[lane] < size:
                    left = True
                    if away == inf:
                        return inf
                    cost += floor(counts[lane], ready)
            if left:
                cost += load
        return cost

    def elsewhere(self, counts: Sequence[int], until: float, here: int) -> float | None:
        """What those who wait for other groups than `here` cost if none of these is loaded before `until`; None: nobody
        is left there."""
        cost: float | None = None
        for group, load, _, floors in self._rows:
            if group != here:
                waited = [floor(counts[lane], until + load) for lane, size, floor in floors if counts[lane] < size]
                if waited:
                    cost = (cost or 0.0) + load + sum(waited)
        return cost

    def own(self, counts: Sequence[int], here: int) -> float:
        """What those who wait for `here` cost if its models have always been there."""
        rows = [floors for group, _, _, floors in self._rows if group == here]
        return sum(floor(counts[lane], 0.0) for floors in rows for lane, _, floor in floors)

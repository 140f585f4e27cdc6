"""Serves the requests of one model in its slots: what stays of different lengths cost, and whom they serve."""

from collections.abc import Sequence
from heapq import heapreplace
from typing import NamedTuple

from scheduler.simulator.optimum_problem import Lane, Place


class TooMuch(Exception):
    """The search has done as much as it may."""


class Outcome(NamedTuple):
    """A stay: seconds at which the model has gone again, weighted waiting of those served, how many were, by lane."""

    gone: float
    cost: float
    served: tuple[int, ...]


def stays(place: Place, served: Sequence[int], ready: float, until: float) -> list[Outcome]:
    """What a stay of `place`, with one lane, can be: ready at `ready`, gone by `until`, after `served` had been served.

    Requests start in order of arrival as slots are free: with the order fixed, no later start helps anybody. Of stays
    that end at one time only that which serves most counts. Shortest first.
    """
    lane, model = place.lanes[0], place.model
    arrivals, services = lane.arrivals, lane.services
    free = [ready] * model.parallel
    cost, drained = 0.0, ready
    found: list[Outcome] = []
    latest = until - model.unload
    for which in range(served[0], len(arrivals)):
        start = free[0] if free[0] > arrivals[which] else arrivals[which]
        end = start + services[which]
        if end > latest:
            break
        cost += start - arrivals[which]
        heapreplace(free, end)
        if end <= drained and found:
            found.pop()
        drained = max(drained, end)
        found.append(Outcome(drained + model.unload, cost * lane.weight, (which + 1,)))
    return found


def mixed(place: Place, served: Sequence[int], ready: float, until: float, most: int) -> list[Outcome]:
    """The same of a place with several lanes, whose requests may start in any order between the lanes.

    Kept is, for each number served by lane, whatever is not worse in cost and in every slot's end than something else.
    Shortest first. Raises TooMuch where that is more than `most`.
    """
    model = place.model
    latest = until - model.unload
    fronts: dict[tuple[int, ...], list[_Slots]] = {tuple(served): [(0.0, (ready,) * model.parallel)]}
    found: list[Outcome] = []
    while fronts:
        longer: dict[tuple[int, ...], list[_Slots]] = {}
        for counts, front in fronts.items():
            for lane, line in enumerate(place.lanes):
                which = counts[lane]
                if which < len(line.arrivals):
                    after = longer.setdefault((*counts[:lane], which + 1, *counts[lane + 1 :]), [])
                    for slots in front:
                        _keep(after, _next(slots, line, which), latest)
        for counts, front in longer.items():
            found.extend(Outcome(free[-1] + model.unload, cost, counts) for cost, free in front)
        if len(found) > most:
            raise TooMuch(f"{len(found)} orders of the requests for {model.name}")
        fronts = {counts: front for counts, front in longer.items() if front}
    found.sort()
    return found


def merged(place: Place, served: Sequence[int], ready: float, until: float) -> list[Outcome]:
    """One good order of a place with several lanes: the heaviest of those that are there. Shortest first."""
    counts, slots = list(served), (0.0, (ready,) * place.model.parallel)
    found: list[Outcome] = []
    while True:
        left = [lane for lane, line in enumerate(place.lanes) if counts[lane] < len(line.arrivals)]
        if not left:
            return found
        now = max(slots[1][0], min(place.lanes[lane].arrivals[counts[lane]] for lane in left))
        lane = next(lane for lane in left if place.lanes[lane].arrivals[counts[lane]] <= now)
        slots = _next(slots, place.lanes[lane], counts[lane])
        gone = slots[1][-1] + place.model.unload
        if gone > until:
            return found
        counts[lane] += 1
        if found and found[-1].gone >= gone:
            found.pop()
        found.append(Outcome(gone, slots[0], tuple(counts)))


_Slots = tuple[float, tuple[float, ...]]
"""Weighted waiting so far, and when each slot is free, earliest first."""


def _next(slots: _Slots, lane: Lane, which: int) -> _Slots:
    cost, free = slots
    start = max(free[0], lane.arrivals[which])
    waited = lane.weight * (start - lane.arrivals[which])
    return cost + waited, tuple(sorted((*free[1:], start + lane.services[which])))


def _keep(front: list[_Slots], slots: _Slots, latest: float) -> None:
    """Add to `front` what ends by `latest` and is in nothing worse than another; drop what it makes useless."""
    cost, free = slots
    if free[-1] > latest or any(cost >= one and _no_sooner(free, ends) for one, ends in front):
        return
    front[:] = [other for other in front if other[0] < cost or not _no_sooner(other[1], free)]
    front.append(slots)


def _no_sooner(free: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(mine >= theirs for mine, theirs in zip(free, other, strict=True))

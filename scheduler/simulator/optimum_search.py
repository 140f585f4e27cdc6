"""Finds the cheapest plan of visits: exactly, by labels none of which is worse than another, or the best of a beam."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import combinations, product
from math import inf
from operator import itemgetter
from typing import Any

from scheduler.simulator.optimum_lanes import Outcome, TooMuch, merged, mixed, stays
from scheduler.simulator.optimum_problem import Place, Problem
from scheduler.simulator.optimum_rest import Rest

Counts = tuple[int, ...]
Label = tuple[float, float, Counts, int, Any, float]
"""Nothing is resident from this second on; the cost so far; served by lane; the group that left last; the label before;
the least that any plan costs which goes on from here."""

ORDERS = 20_000
"""Ways to begin the requests of a model with several lanes, in one visit, that the exact search looks at."""
SAME = 5
"""Labels with the same requests served that a beam keeps."""


@dataclass(frozen=True, slots=True)
class Found:
    """The cheapest plan found: its cost, after how many outcomes of stays, and whether none can be cheaper.

    `visits`: of each, which group, its models that were loaded, and how many requests of each lane had been served
    when it was over; lanes stand in the order of groups, models and weights.
    """

    cost: float
    exact: bool
    work: int
    visits: tuple[tuple[int, tuple[str, ...], Counts], ...]


def exact(problem: Problem, above: float, work: int) -> Found:
    """The cheapest plan, where one that costs `above` is known. Raises TooMuch after `work` outcomes.

    Labels are followed by the number of requests served, which every visit raises, so that when a label is followed
    everything that could be better than it is known. With the same served, one that is neither sooner nor cheaper is
    dropped: whatever follows it could follow the other. So is one whose cost and floor exceed `above`.
    """
    return _Search(problem, 2.0, above * (1 + 1e-9) + 1e-6, None, work).run()


def beam(problem: Problem, width: int, spread: float = inf) -> Found:
    """A good plan: of the labels with equally many served the `width` best by cost and floor are followed, and no visit
    is prolonged once that costs those who wait elsewhere `spread` more than to leave at once."""
    return _Search(problem, 8.0, inf, (width, spread), None).run()


class _Search:
    def __init__(
        self, problem: Problem, grain: float, above: float, beam: tuple[int, float] | None, work: int | None
    ) -> None:
        self._problem = problem
        self._beam = beam
        self._work, self._most = 0, work
        self._places = [place for group in problem.groups for place in group]
        self._group = [which for which, group in enumerate(problem.groups) for _ in group]
        self._first: list[int] = []
        self._sizes: list[int] = []
        for place in self._places:
            self._first.append(len(self._sizes))
            self._sizes.extend(len(lane.arrivals) for lane in place.lanes)
        self._rest = Rest(problem.groups, grain)
        self._end = max(
            (lane.arrivals[-1] + sum(lane.services) for place in self._places for lane in place.lanes), default=0.0
        )
        self._beside = sum(self._alone(place) for place in problem.free)
        self._above = above - self._beside

    def run(self) -> Found:
        """Follow labels until all are served."""
        requests = sum(self._sizes)
        levels: list[dict[Counts, list[Label]]] = [{} for _ in range(requests + 1)]
        start: Label = (0.0, 0.0, (0,) * len(self._sizes), -1, None, 0.0)
        levels[0][start[2]] = [start]
        for level in range(requests):
            for label in self._followed(levels[level]):
                for further in self._visits(label):
                    insert(levels[sum(further[2])], further)
            levels[level] = {}
        last = [label for front in levels[requests].values() for label in front]
        if not last:
            raise TooMuch("no plan is cheaper than the one known")
        best = min(last, key=itemgetter(1))
        proven = self._beam is None and not self._problem.relaxed
        return Found(best[1] + self._beside, proven, self._work, self._plan(best))

    def _followed(self, fronts: dict[Counts, list[Label]]) -> list[Label]:
        labels = [label for front in fronts.values() for label in front]
        if self._beam is None:
            return labels
        if len(labels) <= self._beam[0]:
            return labels
        kept = [label for front in fronts.values() for label in nsmallest(SAME, front, itemgetter(5))]
        return nsmallest(self._beam[0], kept, itemgetter(5))

    def _alone(self, place: Place) -> float:
        """What a model that fits beside anything costs: loaded at once and for good."""
        if len(place.lanes) == 1:
            found = stays(place, (0,), place.model.load, inf)
        else:
            found = self._mixed(place, (0,) * len(place.lanes), place.model.load, inf)
        requests = sum(len(lane.arrivals) for lane in place.lanes)
        return place.model.load + min(stay.cost for stay in found if sum(stay.served) == requests)

    def _stays(self, which: int, label: Label, until: float) -> list[Outcome]:
        place, first = self._places[which], self._first[which]
        served = label[2][first : first + len(place.lanes)]
        ready = label[0] + place.model.load
        if len(place.lanes) == 1:
            return stays(place, served, ready, until)
        return self._mixed(place, served, ready, until)

    def _mixed(self, place: Place, served: Counts, ready: float, until: float) -> list[Outcome]:
        if self._beam is not None:
            return merged(place, served, ready, until)
        return mixed(place, served, ready, until, ORDERS)

    def _visits(self, label: Label) -> Iterator[Label]:
        """Every visit that may follow, and what is the case after it."""
        for group in range(len(self._problem.groups)):
            wanted = [
                which for which, mine in enumerate(self._group) if mine == group and self._rest.remains(which, label[2])
            ]
            if group == label[3] or not wanted:
                continue
            until = self._until(label, group)
            for many in range(1, len(wanted) + 1):
                for used in combinations(wanted, many):
                    yield from self._visit(label, group, used, until)

    def _visit(self, label: Label, group: int, used: tuple[int, ...], until: float) -> Iterator[Label]:
        each = [self._stays(which, label, until) for which in used]
        spent = label[1] + sum(self._places[which].model.load for which in used)
        for together in _together(each):
            self._work += 1
            counts = list(label[2])
            cost, gone = spent, 0.0
            for which, stay in zip(used, together, strict=True):
                first = self._first[which]
                counts[first : first + len(stay.served)] = stay.served
                cost += stay.cost
                gone = max(gone, stay.gone)
            served = tuple(counts)
            promise = cost + self._rest.least(served, gone, group)
            if promise <= self._above:
                yield gone, cost, served, group, label, promise
        if self._most is not None and self._work > self._most:
            raise TooMuch(f"{self._work} outcomes")

    def _until(self, label: Label, group: int) -> float:
        """How long a visit to `group` may last: after that even those who wait elsewhere alone cost too much."""
        gone, spent, counts = label[0], label[1], label[2]
        elsewhere = self._rest.elsewhere
        if elsewhere(counts, gone, group) is None:
            return inf

        def waited(until: float) -> float:
            return elsewhere(counts, until, group) or 0.0

        limit = self._above - spent - self._rest.own(counts, group)
        if self._beam is not None:
            limit = min(limit, waited(gone) + self._beam[1])
        low, step = gone, 32.0
        while waited(low + step) <= limit:
            low, step = low + step, step * 2
            if low > self._end:
                return inf
        high = low + step
        while high - low > 8.0:
            middle = (low + high) / 2
            low, high = (middle, high) if waited(middle) <= limit else (low, middle)
        return high

    def _plan(self, label: Label) -> tuple[tuple[int, tuple[str, ...], Counts], ...]:
        visits = []
        while label[4] is not None:
            before: Label = label[4]
            used = tuple(
                place.model.name
                for which, place in enumerate(self._places)
                if self._changed(which, before[2], label[2])
            )
            visits.append((label[3], used, label[2]))
            label = before
        return tuple(reversed(visits))

    def _changed(self, which: int, before: Counts, after: Counts) -> bool:
        first = self._first[which]
        lanes = len(self._places[which].lanes)
        return before[first : first + lanes] != after[first : first + lanes]


def _together(each: Sequence[list[Outcome]]) -> Iterator[tuple[Outcome, ...]]:
    """Stays of the models of one visit that can be of use together: one of them is the last to be gone, and each other
    has served what it can by then, since what is served sooner costs less."""
    if len(each) == 1:
        yield from zip(each[0])
        return
    for last, outcomes in enumerate(each):
        for stay in outcomes:
            choices = [[stay] if which == last else _by(other, stay.gone) for which, other in enumerate(each)]
            yield from product(*choices)


def _by(outcomes: list[Outcome], until: float) -> list[Outcome]:
    """Those that are gone by `until`; where one of them serves as much in every lane as the others, it alone."""
    there = outcomes[: bisect_right(outcomes, until, key=itemgetter(0))]
    if there and len(there[-1].served) == 1:
        return there[-1:]
    return there


def insert(fronts: dict[Counts, list[Label]], label: Label) -> None:
    """Add a label unless one with the same served is no later and no dearer; drop those that it makes useless."""
    front = fronts.setdefault(label[2], [])
    place = bisect_right(front, label[0], key=itemgetter(0))
    if place and front[place - 1][1] <= label[1]:
        return
    end = place
    while end < len(front) and front[end][1] >= label[1]:
        end += 1
    if place and front[place - 1][0] == label[0]:
        place -= 1
    front[place:end] = [label]

"""The baseline `proposal`: drained-exhaustive service, a hold before each change, and a deadline on being away.

It is the policy that a study proposed (its rules, its constants), written anew; where the rules leave a choice open
(how rates are estimated, what is filled in, when home is worth it), what is here comes closest to the study's figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

from scheduler.simulator.baselines_rates import Outstanding, Rates
from scheduler.simulator.baselines_sets import allowed_sets
from scheduler.simulator.baselines_stage import ABSENT, LOADING, READY, UNLOADING, Asked, Place, Stage
from scheduler.simulator.measures import WEIGHTS

PATIENCE = {"interactive": 150.0, "agent": 300.0, "helper": 60.0, "batch": 1800.0}
"""D of each class, seconds; a probe has none and never triggers a change."""
PRIORITY = {"interactive": 0, "agent": 1, "helper": 2, "batch": 3}

KAPPA, BETA = 2.0, 0.2  # what a change costs: its seconds, and what it takes from those it sends away
GAMMA, CAP, PHI = 1.5, 0.85, 0.4  # the floor under every deadline
RESIDENCY, QUANTUM = 5.0, 0.5  # seconds, and share of the floor, that a forced-out model has had at least
QUIET, BETTER = 45.0, 4.0  # seconds without any request before home is thought of, and by how much it must be better
USED = 600.0  # seconds since its last request in which an absent model is worth filling free memory with


@dataclass(slots=True)
class _Plan:
    """A change under way: who must go, and who comes."""

    victims: tuple[Place, ...]
    target: Place


class Proposal:
    """Leave a model only when it is drained and enough wait for another, or when somebody has waited too long."""

    def __init__(self, stage: Stage, deadline: bool = True) -> None:
        self._stage = stage
        self._deadline = deadline
        self._sets = allowed_sets(stage.host)
        self._queues: dict[str, list[Asked]] = {name: [] for name in stage.places}
        self._rates = {name: Rates() for name in stage.places}
        self._outstanding = Outstanding()
        self._plan: _Plan | None = None
        self._left = dict.fromkeys(stage.places, 0.0)  # when it was last in memory, seconds
        self._last = -math.inf  # when a request last came or ended, seconds

    def arrived(self, asked: Asked) -> None:
        place = self._stage.places[asked.job.model]
        if asked.job.cls == "probe":
            self._probe(place, asked)
            return
        now = self._stage.now
        quiet = 0.0 if self._outstanding.now else now - self._last
        self._rates[place.name].arrived(asked.job, now, quiet)
        self._count(+1)
        self._queues[place.name].append(asked)
        self._decide()

    def ended(self, place: Place, asked: Asked) -> None:
        if asked.job.cls != "probe":
            self._rates[place.name].served(asked.job.service)
            self._count(-1)
        self._decide()

    def loaded(self, place: Place) -> None:
        self._plan = None
        self._decide()

    def unloaded(self, place: Place) -> None:
        self._left[place.name] = self._stage.now
        self._decide()

    def woken(self) -> None:
        self._decide()

    def _count(self, by: int) -> None:
        self._last = self._stage.now
        self._outstanding.change(by, self._stage.now)

    def _probe(self, place: Place, asked: Asked) -> None:
        leaving = self._plan is not None and place in self._plan.victims
        if place.ready and place.free and not leaving and not self._queues[place.name]:
            self._stage.admit(place, asked)
        else:
            self._stage.answer(asked)

    def _decide(self) -> None:
        self._dispatch()
        if self._plan is None and not any(one.state in (LOADING, UNLOADING) for one in self._stage.places.values()):
            self._plan = self._swap() or self._fill() or self._home()
        if self._plan is not None:
            self._carry_on(self._plan)

    def _dispatch(self) -> None:
        leaving = self._plan.victims if self._plan else ()
        for name, queue in self._queues.items():
            place = self._stage.places[name]
            if not queue or not place.ready or place in leaving:
                continue
            queue.sort(key=lambda asked: (PRIORITY[asked.job.cls], asked.arrived))
            while queue and place.free > 0:
                self._stage.admit(place, queue.pop(0))

    def _carry_on(self, plan: _Plan) -> None:
        for victim in plan.victims:
            if victim.state == READY and not victim.busy:
                self._stage.unload(victim)
        if plan.target.state == ABSENT and all(victim.state == ABSENT for victim in plan.victims):
            self._stage.load(plan.target)

    def _swap(self) -> _Plan | None:
        """The most urgent change that is due; if none is, ask to be woken when the first may be."""
        best: tuple[float, float] | None = None
        chosen: _Plan | None = None
        wake = math.inf
        for name, queue in self._queues.items():
            place = self._stage.places[name]
            if not queue or place.state != ABSENT:
                continue
            victims = self._victims(place)
            rank, at = self._urgency(place, victims, queue)
            wake = min(wake, at)
            if rank is not None and (best is None or rank < best):
                best, chosen = rank, _Plan(victims, place)
        if chosen is None and wake < math.inf:
            self._stage.wake(max(wake, self._stage.now + 1e-6))
        return chosen

    def _urgency(
        self, place: Place, victims: tuple[Place, ...], queue: list[Asked]
    ) -> tuple[tuple[float, float] | None, float]:
        """How urgent a change to the model is (smaller first; None: not now), and when to look again."""
        if not victims:
            return (0.0, -sum(WEIGHTS[asked.job.cls] for asked in queue) / max(place.model.load, 1e-9)), math.inf
        now, at = self._stage.now, math.inf
        switch = place.model.load + max(victim.model.unload for victim in victims)
        if self._deadline:
            slack, free = self._slack(place, victims, queue, switch)
            if slack <= 1e-9 and now >= free - 1e-9:
                return (1.0, slack), math.inf
            at = max(now + slack, free)
        if any(victim.busy or self._queues[victim.name] for victim in victims):
            return None, at
        weight = sum(WEIGHTS[asked.job.cls] for asked in queue)
        rent = sum(WEIGHTS[asked.job.cls] * self._spent(place, asked) for asked in queue)
        price = self._price(place, victims, queue, switch)
        if len(queue) >= max(1, round(self._enough(place, price, weight / len(queue)))) or rent >= price - 1e-9:
            return (2.0, -rent / price), math.inf
        return None, min(at, now + (price - rent) / weight)

    def _spent(self, place: Place, asked: Asked) -> float:
        """Seconds that a request has waited with its model away."""
        return self._stage.now - max(asked.arrived, self._left[place.name])

    def _price(self, place: Place, victims: tuple[Place, ...], queue: list[Asked], switch: float) -> float:
        back = max(victim.model.load for victim in victims) + place.model.unload
        work = self._rates[place.name].service * math.ceil(len(queue) / place.model.parallel)
        out = sum(self._rate(victim, running=False) for victim in victims)
        return KAPPA * switch + BETA / 2 * out * (switch + work + back) ** 2

    def _enough(self, place: Place, price: float, weight: float) -> float:
        """N*: how many must wait before a change pays; none more can be hoped for at the peak."""
        if self._outstanding.now >= self._outstanding.peak(self._stage.now):
            return 0.0
        return math.sqrt(2 * self._rate(place, running=True) * price / weight)

    def _rate(self, place: Place, running: bool) -> float:
        """Arrivals a second for the model, of whoever does not wait already (nor runs, if so said)."""
        asked = [one for queue in self._queues.values() for one in queue]
        if running:
            asked += [one for other in self._stage.places.values() for one in other.running]
        sessions = {one.job.session for one in asked if one.job.session}
        return self._rates[place.name].without(sessions, self._stage.now)

    def _slack(
        self, place: Place, victims: tuple[Place, ...], queue: list[Asked], switch: float
    ) -> tuple[float, float]:
        """Seconds until the most pressing request is overdue, and from when on residents may be forced out."""
        floor = self._floor()
        # the rule adds an estimate of the drain; the study's longest waits are those of a policy that expects none
        slack = min(max(PATIENCE[one.job.cls], floor) - self._spent(place, one) for one in queue) - switch
        residency = RESIDENCY
        if any(self._queues[victim.name] for victim in victims):
            residency = max(residency, QUANTUM * floor / max(1, len(self._contended())))
        return slack, max(victim.since for victim in victims) + residency

    def _contended(self) -> list[Place]:
        places, budget = list(self._stage.places.values()), self._stage.host.budget
        return [
            one
            for one in places
            if any(one is not other and one.model.size + other.model.size > budget for other in places)
        ]

    def _floor(self) -> float:
        total = rho = 0.0
        for place in self._contended():
            rates = self._rates[place.name]
            total += place.model.load + place.model.unload + rates.service
            rho += rates.open.at(self._stage.now) * rates.service / place.model.parallel
        return max(GAMMA * total / (1 - min(rho, CAP)), total / PHI)

    def _victims(self, place: Place) -> tuple[Place, ...]:
        """Whom the most valuable set that holds the model leaves out: waiting and running weight, then reloads."""
        present = [one for one in self._stage.places.values() if one.ready]
        room = self._stage.host.budget - place.model.size
        best: tuple[float, float, int] | None = None
        chosen: tuple[Place, ...] = ()
        for size in range(len(present) + 1):
            for kept in combinations(present, size):
                if sum(one.model.size for one in kept) > room:
                    continue
                weight = sum(WEIGHTS[a.job.cls] for one in kept for a in (*one.running, *self._queues[one.name]))
                reloads = sum(self._rates[one.name].open.at(self._stage.now) * one.model.load for one in kept)
                if best is None or (weight, reloads, size) > best:
                    best = (weight, reloads, size)
                    chosen = tuple(one for one in present if one not in kept)
        return chosen

    def _fill(self) -> _Plan | None:
        """Free memory takes a model that was asked for of late."""
        for name, rates in self._rates.items():
            place = self._stage.places[name]
            if place.state == ABSENT and self._stage.fits(place) and self._stage.now - rates.last < USED:
                return _Plan((), place)
        return None

    def _home(self) -> _Plan | None:
        """After a while of quiet, the set that avoids so many times more loading seconds when the next burst begins."""
        stage = self._stage
        if self._outstanding.now or self._last < 0:
            return None
        if stage.now < self._last + QUIET:
            stage.wake(self._last + QUIET)
            return None
        worth = {name: self._rates[name].bursts.at(stage.now) * one.model.load for name, one in stage.places.items()}
        best = max(self._sets, key=lambda one: sum(worth[name] for name in one))
        missed = sum(worth[name] for name, one in stage.places.items() if not one.ready)
        left = sum(value for name, value in worth.items() if name not in best)
        wanted = [name for name in best if worth[name] > 0 and not stage.places[name].ready]
        if not wanted or missed <= BETTER * left:
            return None
        target = stage.places[max(wanted, key=lambda name: worth[name])]
        return _Plan(self._victims(target), target)

"""The optimum of a handful of requests by trying everything: slow, plain, knowing nothing of visits and labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from scheduler.simulator.host import Host, HostModel
from scheduler.simulator.measures import WEIGHTS
from scheduler.simulator.workload import Job

ABSENT, LOADING, READY, UNLOADING = range(4)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class _Moment:
    """The host at a time: of each model its state, when that ends, and when each running request ends; how many of each
    line have been served."""

    now: float
    states: tuple[int, ...]
    until: tuple[float, ...]
    running: tuple[tuple[float, ...], ...]
    served: tuple[int, ...]


def brute(jobs: Sequence[Job], host: Host, above: float = inf) -> float:
    """The least J over every order of loading, unloading, starting and waiting for something to happen; infinity if
    none is less than `above`, which spares it much.

    Memory is counted in bytes from the start of a load to the end of an unload. Requests of one model and weight start
    in order of arrival; all have a time of their own. Fit for some seven requests of three models.
    """
    return _Brute(jobs, host, above).least()


class _Brute:
    def __init__(self, jobs: Sequence[Job], host: Host, above: float) -> None:
        self._models: list[HostModel] = list(host.models)
        self._budget = host.budget
        index = {model.name: which for which, model in enumerate(self._models)}
        lines: dict[tuple[int, float], list[tuple[float, float]]] = {}
        for job in sorted(jobs, key=lambda job: job.t or 0.0):
            if WEIGHTS[job.cls]:
                lines.setdefault((index[job.model], WEIGHTS[job.cls]), []).append((job.t or 0.0, job.service))
        self._keys = list(lines)
        self._lines = [lines[key] for key in self._keys]
        self._best = self._above = above
        self._seen: dict[_Moment, float] = {}

    def least(self) -> float:
        """Try everything from an empty host on."""
        many = len(self._models)
        nothing: tuple[tuple[float, ...], ...] = ((),) * many
        self._try(_Moment(0.0, (ABSENT,) * many, (inf,) * many, nothing, (0,) * len(self._lines)), 0.0)
        return self._best if self._best < self._above else inf

    def _try(self, moment: _Moment, cost: float) -> None:
        if cost + self._owed(moment) >= self._best or self._seen.get(moment, inf) <= cost:
            return
        self._seen[moment] = cost
        if all(served == len(line) for served, line in zip(moment.served, self._lines, strict=True)):
            self._best = cost
            return
        for after, spent in self._choices(moment):
            self._try(after, cost + spent)

    def _owed(self, moment: _Moment) -> float:
        """What everybody left will have waited for at the least, and one load of each absent model they need."""
        owed, absent = 0.0, set()
        for (which, weight), line, served in zip(self._keys, self._lines, moment.served, strict=True):
            if served < len(line):
                soonest = self._soonest(moment, which)
                owed += sum(weight * (soonest - arrival) for arrival, _ in line[served:] if arrival < soonest)
                if moment.states[which] in (ABSENT, UNLOADING):
                    absent.add(which)
        return owed + sum(self._models[which].load for which in absent)

    def _soonest(self, moment: _Moment, which: int) -> float:
        """Before this time the model starts nobody."""
        state, model = moment.states[which], self._models[which]
        if state == ABSENT:
            return moment.now + model.load
        if state == READY:
            running = moment.running[which]
            return moment.now if len(running) < model.parallel else running[0]
        return moment.until[which] + (model.load if state == UNLOADING else 0.0)

    def _choices(self, moment: _Moment) -> list[tuple[_Moment, float]]:
        choices = [self._started(moment, line) for line in range(len(self._lines)) if self._may_start(moment, line)]
        for which, model in enumerate(self._models):
            state = moment.states[which]
            if state == ABSENT and self._held(moment) + model.size <= self._budget and self._wanted(moment, which):
                choices.append((self._turned(moment, which, LOADING, moment.now + model.load), model.load))
            if state == READY and not moment.running[which] and self._crowded(moment):
                choices.append((self._turned(moment, which, UNLOADING, moment.now + model.unload), 0.0))
        later = self._later(moment)
        return choices if later is None else [*choices, (later, 0.0)]

    def _held(self, moment: _Moment) -> int:
        return sum(model.size for model, state in zip(self._models, moment.states, strict=True) if state != ABSENT)

    def _wanted(self, moment: _Moment, which: int) -> bool:
        return any(
            key[0] == which and served < len(line)
            for key, line, served in zip(self._keys, self._lines, moment.served, strict=True)
        )

    def _crowded(self, moment: _Moment) -> bool:
        """Whether somebody wants a model that has no room: nobody else gains by an unload."""
        room = self._budget - self._held(moment)
        return any(
            moment.states[which] in (ABSENT, UNLOADING) and model.size > room and self._wanted(moment, which)
            for which, model in enumerate(self._models)
        )

    def _may_start(self, moment: _Moment, line: int) -> bool:
        which, served = self._keys[line][0], moment.served[line]
        if served == len(self._lines[line]) or self._lines[line][served][0] > moment.now:
            return False
        return moment.states[which] == READY and len(moment.running[which]) < self._models[which].parallel

    def _started(self, moment: _Moment, line: int) -> tuple[_Moment, float]:
        which, weight = self._keys[line]
        arrival, service = self._lines[line][moment.served[line]]
        running = (*moment.running[which], moment.now + service)
        served = _with(moment.served, line, moment.served[line] + 1)
        all_running = _with(moment.running, which, tuple(sorted(running)))
        after = _Moment(moment.now, moment.states, moment.until, all_running, served)
        return after, weight * (moment.now - arrival)

    def _turned(self, moment: _Moment, which: int, state: int, until: float) -> _Moment:
        states = _with(moment.states, which, state)
        return _Moment(moment.now, states, _with(moment.until, which, until), moment.running, moment.served)

    def _later(self, moment: _Moment) -> _Moment | None:
        """The next time at which anything happens by itself; None if nothing will."""
        coming = [arrival for line in self._lines for arrival, _ in line if arrival > moment.now]
        ends = [end for running in moment.running for end in running]
        now = min([*coming, *ends, *(until for until in moment.until if until < inf)], default=inf)
        if now == inf:
            return None
        states, until = list(moment.states), list(moment.until)
        for which, time in enumerate(until):
            if time <= now:
                states[which] = READY if states[which] == LOADING else ABSENT
                until[which] = inf
        running = tuple(tuple(end for end in ends if end > now) for ends in moment.running)
        return _Moment(now, tuple(states), tuple(until), running, moment.served)


def _with(values: tuple[Value, ...], place: int, value: Value) -> tuple[Value, ...]:
    return (*values[:place], value, *values[place + 1 :])

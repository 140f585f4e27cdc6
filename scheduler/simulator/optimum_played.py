"""Plays plans on the stage of the baselines, which knows nothing of how they were found: do they cost what is said?"""

from collections import deque
from collections.abc import Sequence

from scheduler.simulator.baselines_stage import Asked, Place, Stage
from scheduler.simulator.host import Host
from scheduler.simulator.measures import Result
from scheduler.simulator.optimum_problem import Problem
from scheduler.simulator.optimum_search import Found
from scheduler.simulator.workload import Job


def play(found: Found, problem: Problem, host: Host, jobs: Sequence[Job]) -> Result:
    """What `jobs`, which arrive at times of their own, cost under a plan for them. ValueError for a problem in which a
    model has several lanes, whose order a plan does not say."""
    places = [*problem.free, *(place for group in problem.groups for place in group)]
    if any(len(place.lanes) > 1 for place in places):
        raise ValueError("a plan does not say in which order the lanes of one model are served")
    stage = Stage(host)
    return stage.play("optimum", Plan(found, problem, stage), list(jobs))


class Plan:
    """A rule for the stage: visit after visit; models that fit beside anything are loaded first and stay."""

    def __init__(self, found: Found, problem: Problem, stage: Stage) -> None:
        self._stage = stage
        self._free = [place.model.name for place in problem.free]
        self._names = [place.model.name for group in problem.groups for place in group]
        self._visits = deque(found.visits)
        self._waiting: dict[str, deque[Asked]] = {name: deque() for name in (*self._names, *self._free)}
        self._left: dict[str, int] = {}
        self._served = dict.fromkeys(self._names, 0)
        stage.wake(0.0)

    def arrived(self, asked: Asked) -> None:
        """A request joins the line of its model."""
        self._waiting[asked.job.model].append(asked)
        self._serve()

    def ended(self, place: Place, asked: Asked) -> None:
        """A slot is free, or the visit of the model is over."""
        self._serve()
        if place.name in self._left and not self._left[place.name] and not place.busy:
            self._stage.unload(place)

    def loaded(self, place: Place) -> None:
        """Its line can be served."""
        self._serve()

    def unloaded(self, place: Place) -> None:
        """Once all of a visit are gone the next begins."""
        del self._left[place.name]
        self._visit()

    def woken(self) -> None:
        """Time 0: what fits beside anything is loaded, and the first visit begins."""
        for name in self._free:
            self._stage.load(self._stage.places[name])
        self._visit()

    def _visit(self) -> None:
        if self._left or not self._visits:
            return
        _, used, counts = self._visits.popleft()
        served = dict(zip(self._names, counts, strict=True))
        for name in used:
            self._left[name] = served[name] - self._served[name]
            self._stage.load(self._stage.places[name])
        self._served = served

    def _serve(self) -> None:
        for name, line in self._waiting.items():
            place = self._stage.places[name]
            while line and place.ready and place.free and self._left.get(name, 1 if name in self._free else 0):
                if name in self._left:
                    self._left[name] -= 1
                self._stage.admit(place, line.popleft())


class Open:
    """A rule for the stage of a host on which everything fits: what is asked for is loaded, and everybody served."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._waiting: dict[str, list[Asked]] = {}

    def arrived(self, asked: Asked) -> None:
        """Served at once, or once its model is there."""
        place = self._stage.places[asked.job.model]
        if place.ready:
            self._stage.admit(place, asked)
            return
        if place.name not in self._waiting:
            self._stage.load(place)
        self._waiting.setdefault(place.name, []).append(asked)

    def loaded(self, place: Place) -> None:
        """Everybody who has waited for it is served."""
        for asked in self._waiting.pop(place.name, ()):
            self._stage.admit(place, asked)

    def ended(self, place: Place, asked: Asked) -> None:
        """The stage itself serves the next of a model's line."""

    def unloaded(self, place: Place) -> None:
        """Never asked for."""

    def woken(self) -> None:
        """Never asked for."""

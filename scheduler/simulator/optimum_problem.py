"""Says what a clairvoyant has to decide: which requests stand in which line, and which models keep each other out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scheduler.simulator.host import Host, HostModel
from scheduler.simulator.measures import WEIGHTS
from scheduler.simulator.workload import Job


@dataclass(frozen=True, slots=True)
class Lane:
    """Requests for one model of one weight, served in order of arrival; arrivals and services in seconds."""

    model: str
    weight: float
    arrivals: tuple[float, ...]
    services: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A model that somebody asks for, and its lanes, the heaviest first."""

    model: HostModel
    lanes: tuple[Lane, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """`groups`: of two models in different ones no two fit together, all of one do. `free` fit beside anything.

    `relaxed` says that the host is not of that kind, and that all its models are therefore taken to fit together: what
    is found is then no more than a lower bound.
    """

    groups: tuple[tuple[Place, ...], ...]
    free: tuple[Place, ...]
    relaxed: bool = False

    @property
    def requests(self) -> int:
        """How many there are to be served."""
        places = [*self.free, *(place for group in self.groups for place in group)]
        return sum(len(lane.arrivals) for place in places for lane in place.lanes)


def problem(jobs: Sequence[Job], host: Host, arrivals: Mapping[str, float] | None = None) -> Problem:
    """What is to be decided for `jobs` on `host`.

    With `arrivals` (seconds by id: those of a run) jobs arrive then, and those that are not there never. What weighs
    nothing (probes) or is for a model that the host lacks or has no room for is left out. KeyError for a job that
    arrives after others, without `arrivals`.
    """
    lines: dict[tuple[str, float], list[tuple[float, int, float]]] = {}
    known = {model.name for model in host.models if model.size <= host.budget}
    for place, job in enumerate(jobs):
        weight = WEIGHTS[job.cls]
        if weight and job.model in known and (arrivals is None or job.id in arrivals):
            time = _given(job) if arrivals is None else arrivals[job.id]
            lines.setdefault((job.model, weight), []).append((time, place, job.service))
    places = [_place(model, lines) for model in host.models if any(name == model.name for name, _ in lines)]
    return _parted(places, host.budget)


def _given(job: Job) -> float:
    if job.t is None:
        raise KeyError(f"{job.id} arrives after others: give the arrivals of a run")
    return job.t


def _place(model: HostModel, lines: Mapping[tuple[str, float], list[tuple[float, int, float]]]) -> Place:
    lanes = []
    for name, weight in sorted(lines, reverse=True):
        if name == model.name:
            line = sorted(lines[name, weight])
            lanes.append(Lane(name, weight, tuple(row[0] for row in line), tuple(row[2] for row in line)))
    return Place(model, tuple(lanes))


def _parted(places: list[Place], budget: int) -> Problem:
    """Models that fit beside anything are free; the others must fall into groups that keep each other out wholly."""
    beside = {
        place.model.name: {
            other.model.name for other in places if other is place or place.model.size + other.model.size <= budget
        }
        for place in places
    }
    everybody = set(beside)
    free = [place for place in places if beside[place.model.name] == everybody]
    contended = [place for place in places if beside[place.model.name] != everybody]
    names = {place.model.name for place in contended}
    groups: dict[frozenset[str], list[Place]] = {}
    for place in contended:
        groups.setdefault(frozenset(beside[place.model.name] & names), []).append(place)
    sizes = [[place.model.size for place in group] for group in groups.values()] or [[]]
    least = sum(place.model.size for place in free)
    clean = all({place.model.name for place in group} == set(key) for key, group in groups.items())
    if not clean or any(sum(group) + least > budget for group in sizes):
        return Problem((), tuple(places), relaxed=True)
    return Problem(tuple(tuple(group) for group in groups.values()), tuple(free))

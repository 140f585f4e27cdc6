"""Turns what journals recorded into a workload that can be played again, nameless, and into the result it had."""

from collections.abc import Iterable
from dataclasses import replace
from statistics import fmean

from scheduler.recorded import Asked, LoadSeen, Recorded
from scheduler.simulator.host import HostModel
from scheduler.simulator.measures import Result, Served
from scheduler.simulator.workload import Job

THINK = 300.0  # seconds after the end of its session's last request within which one is taken to be its consequence
TOGETHER = 3.0  # seconds after the end of a request within which another of its session is still beside it
BESIDE = ("helper", "batch")  # classes that run beside the real work: the session goes on without them
AS_IT_WAS = "as it was"


def jobs_of(recorded: Recorded) -> list[Job]:
    """The requests as jobs, with the services they had. One that came within THINK seconds of the end of an earlier one
    of its session follows it again; any other comes at its own time. Of several beside one another it follows the one
    that ended last, but none that ran beside the real work. Ids and sessions are only counted."""
    asked = sorted(recorded.served, key=lambda each: each.arrived)
    names = {each.id: str(number) for number, each in enumerate(asked, 1)}
    sessions: dict[str, _Session] = {}
    jobs = []
    for each in asked:
        if not each.session:
            number, last = "", None
        else:
            session = sessions.setdefault(each.session, _Session(f"s{len(sessions) + 1}"))
            number, last = session.number, None if each.cls == "probe" else session.went_on(each)
        job = Job(names[each.id], each.model, each.service, each.cls, number, each.arrived - recorded.begin)
        if last is not None:
            job = replace(job, t=None, after=(names[last.id],), think=each.arrived - last.ended)
        jobs.append(job)
    return jobs


class _Session:
    """One session's requests, in the order in which they arrived."""

    def __init__(self, number: str) -> None:
        self.number = number
        self._under_way: list[Asked] = []
        self._lately: list[Asked] = []  # that are over: the one that ended last, and those beside it

    def went_on(self, asked: Asked) -> Asked | None:
        """The request that this one is taken to follow, if its end is not too long ago."""
        over = [*self._lately, *(each for each in self._under_way if each.ended <= asked.arrived)]
        self._under_way = [*(each for each in self._under_way if each.ended > asked.arrived), asked]
        if not over:
            return None
        last = max(over, key=_end)
        self._lately = [each for each in over if each.ended >= last.arrived - TOGETHER]
        waited_for = last
        if asked.cls not in BESIDE:  # it did not wait for those, however long they took
            waited_for = max((each for each in self._lately if each.cls not in BESIDE), key=_end, default=last)
        return waited_for if asked.arrived - waited_for.ended <= THINK else None


def _end(asked: Asked) -> float:
    return asked.ended


def as_it_was(recorded: Recorded) -> Result:
    """What the journals say came of them."""
    begin = recorded.begin
    served = [
        Served(
            Job(a.id, a.model, a.service, a.cls), a.arrived - begin, (a.started or a.arrived) - begin, a.ended - begin
        )
        for a in recorded.served
    ]
    result = Result(AS_IT_WAS, served)
    loads = counted(recorded)
    result.loads = len(loads)
    result.load_seconds = sum(load.took for load in loads)
    result.loaded_bytes = sum(load.size for load in loads)
    result.makespan = max((each.ended for each in served if each.job.cls != "probe"), default=0.0)
    return result


def counted(recorded: Recorded) -> list[LoadSeen]:
    """The loads that were not over when the first request came: what was there by then is there in a simulation too."""
    return [load for load in recorded.loads if load.at + load.took > recorded.begin]


def measured(recorded: Recorded) -> dict[str, HostModel]:
    """Each model that was asked for or resident, as it was measured: mean seconds of its loads in that time, else what
    the daemon had learned or reckoned."""
    needed = {each.model for each in recorded.served} | {load.model for load in recorded.loads} | set(recorded.resident)
    needed |= {member for _, members in recorded.config.sets for member in members}
    found = {}
    for name in sorted(needed & recorded.models.keys()):
        state = recorded.models[name]
        load = _mean((load.took for load in recorded.loads if load.model == name and load.size), state.load_seconds)
        unload = _mean((took for model, took in recorded.unloads if model == name), state.unload_seconds)
        size = max([state.size, *(load.size for load in recorded.loads if load.model == name)])
        found[name] = HostModel(name, size, load, unload, state.parallel)
    return found


def _mean(values: Iterable[float], otherwise: float) -> float:
    known = list(values)
    return fmean(known) if known else otherwise

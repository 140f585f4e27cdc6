"""Turns what journals recorded into a workload that can be played again, nameless, and into the result it had."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean

from scheduler.recorded import Asked, Recorded
from scheduler.simulator.host import HostModel
from scheduler.simulator.measures import Result, Served
from scheduler.simulator.workload import Job

THINK = 300.0  # seconds after the end of its session's last request within which one is taken to be its consequence
AS_IT_WAS = "as it was"


def jobs_of(recorded: Recorded) -> list[Job]:
    """The requests as jobs, with the services they had. One that came within THINK seconds of the end of an earlier one
    of its session follows it again; any other comes at its own time. Ids and sessions are only counted."""
    asked = sorted(recorded.served, key=lambda each: each.arrived)
    names = {each.id: str(number) for number, each in enumerate(asked, 1)}
    sessions: dict[str, str] = {"": ""}
    ended: dict[str, list[Asked]] = defaultdict(list)
    jobs = []
    for each in asked:
        session = sessions.setdefault(each.session, f"s{len(sessions)}")
        last = _last(ended[session], each.arrived) if session and each.cls != "probe" else None
        job = Job(names[each.id], each.model, each.service, each.cls, session, t=each.arrived - recorded.begin)
        if last is not None:
            job = Job(
                job.id, job.model, job.service, job.cls, session, None, (names[last.id],), each.arrived - last.ended
            )
        if each.cls != "probe":
            ended[session].append(each)
        jobs.append(job)
    return jobs


def _last(earlier: Sequence[Asked], arrived: float) -> Asked | None:
    """The earlier request that had ended last when this one came, if that is not too long ago."""
    over = [each for each in earlier if each.ended <= arrived]
    last = max(over, key=lambda each: each.ended, default=None)
    return last if last is not None and arrived - last.ended <= THINK else None


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
    result.loads = len(recorded.loads)
    result.load_seconds = sum(load.took for load in recorded.loads)
    result.loaded_bytes = sum(load.size for load in recorded.loads)
    result.makespan = max((each.ended for each in served if each.job.cls != "probe"), default=0.0)
    return result


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

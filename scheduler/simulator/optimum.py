"""The clairvoyant optimum of a workload: what J could have been for one who knew every arrival and every duration.

It is the least J of all ways to load, unload and start that keep to memory and slots, serve the requests of one model
and one weight in order of arrival, and end none early. No policy does better that does not choose by duration; Ollama's
gates and the sets of the configuration are not minded, so it stands below policies that mind them too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from scheduler.simulator.baselines_stage import Stage
from scheduler.simulator.host import Host
from scheduler.simulator.measures import Result
from scheduler.simulator.optimum_lanes import TooMuch
from scheduler.simulator.optimum_played import Open
from scheduler.simulator.optimum_problem import Problem, problem
from scheduler.simulator.optimum_search import Found, beam, exact
from scheduler.simulator.workload import Job

WORK = 300_000
"""Outcomes of stays after which the exact search is given up: some ten seconds."""
WIDTH = 10
NARROW = 3
MANY = 30_000
"""The product of width and requests beyond which a beam is made narrower, down to NARROW: some half a minute."""
SPREADS = (32_000.0, 128_000.0, inf)


@dataclass(frozen=True, slots=True)
class Bound:
    """The optimum as far as it was found: `exact`, or else as `note` says; and the loads of the plan it stands for."""

    j: float
    exact: bool
    note: str
    loads: int


def bound(
    jobs: Sequence[Job],
    host: Host,
    run: Result | None = None,
    *,
    work: int = WORK,
    width: int = WIDTH,
) -> Bound:
    """The least J for `jobs` on `host`, exactly if `work` outcomes suffice, else the best plan of a beam of `width`, or
    less where requests are very many.

    Where jobs arrive after others, a plan would change who arrives when. What is bounded then is the same requests at
    the times at which they arrived in `run`; without a run, at those they would have if no model had to be loaded.
    """
    arrivals: Mapping[str, float] | None = None
    notes = []
    if any(job.t is None for job in jobs):
        arrivals = arrived(run) if run is not None else unhindered(jobs, host)
        notes.append(f"arrivals as {f'under {run.policy}' if run is not None else 'if no model had to be loaded'}")
    wanted = problem(jobs, host, arrivals)
    found = search(wanted, work, width)
    if wanted.relaxed:
        notes.insert(0, "lower bound: all models taken to fit together, since those that do not are no plain groups")
    elif found.exact:
        notes.insert(0, "exact")
    else:
        notes.insert(0, f"best plan of a beam of {_width(wanted, width)}; the optimum may be lower")
    loads = len(wanted.free) + sum(len(models) for _, models, _ in found.visits)
    return Bound(found.cost, found.exact, "; ".join(notes), loads)


def search(wanted: Problem, work: int = WORK, width: int = WIDTH) -> Found:
    """The cheapest plan found, exact if `work` outcomes suffice; a beam first says what is too dear."""
    known = _beam(wanted, _width(wanted, width))
    try:
        return exact(wanted, known.cost, work)
    except TooMuch:
        return known


def _width(wanted: Problem, width: int) -> int:
    return max(min(width, NARROW), min(width, MANY // max(1, wanted.requests)))


def _beam(wanted: Problem, width: int) -> Found:
    """The plan of a beam of the least spread that comes to the end of the requests."""
    for spread in SPREADS:
        try:
            return beam(wanted, width, spread)
        except TooMuch:
            continue
    raise AssertionError("a beam that leaves nothing out has found no plan")


def arrived(run: Result) -> dict[str, float]:
    """When the requests of a run arrived, seconds by id."""
    return {served.job.id: served.arrived for served in run.served}


def unhindered(jobs: Sequence[Job], host: Host) -> dict[str, float]:
    """When `jobs` would arrive if every model fitted and loaded at once: only slots make anybody wait."""
    models = [replace(model, load=0.0, unload=0.0) for model in host.models]
    roomy = replace(host, models=tuple(models), budget=sum(model.size for model in models))
    stage = Stage(roomy)
    return arrived(stage.play("unhindered", Open(stage), list(jobs)))

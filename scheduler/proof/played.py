"""One workload played by one policy, as a task: the few figures that rows judge by."""

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.proof.frame import Finding
from scheduler.simulator import baselines
from scheduler.simulator.host import Host
from scheduler.simulator.measures import Result
from scheduler.simulator.run import simulate
from scheduler.simulator.watch_bound import BoundWatch
from scheduler.simulator.workload import Job

OURS = "default"


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of a run: J, seconds of waiting (mean, 99 %, longest), loads, who was never served, and how many of
    our requests waited past the bound B."""

    j: float
    mean: float
    p99: float
    longest: float
    loads: int
    unserved: int = 0
    broken: int = 0


def figures(result: Result, broken: int = 0) -> Figures:
    """The figures of `result`."""
    return Figures(result.j, result.mean, result.p(0.99), result.max, result.loads, result.unserved, broken)


def play(policy: str, jobs: Sequence[Job], host: Host) -> Figures:
    """Play `jobs` by our default policy, watching over its bound, or by the baseline of that name."""
    if policy != OURS:
        return figures(baselines.run(policy, jobs, host))
    watch = BoundWatch()
    result = simulate(jobs, host, policy, witness=watch)
    return figures(result, len(watch.broken))


def kept(played: Sequence[Figures]) -> Finding:
    """Whether nobody waited past the bound B, and everybody was served, in any of these runs of ours."""
    broken, unserved = sum(each.broken for each in played), sum(each.unserved for each in played)
    measured = f"{broken} waits past it, {unserved} never served, in {len(played)} runs"
    return Finding("bound B", measured, "none", not broken and not unserved)

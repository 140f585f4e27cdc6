"""One workload played by one policy, as a task: the few figures that rows judge by."""

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.simulator import baselines
from scheduler.simulator.host import Host
from scheduler.simulator.measures import Result
from scheduler.simulator.run import simulate
from scheduler.simulator.workload import Job

OURS = "default"


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of a run: J, seconds of waiting (mean, 99 %, longest), loads and who was never served."""

    j: float
    mean: float
    p99: float
    longest: float
    loads: int
    unserved: int = 0


def figures(result: Result) -> Figures:
    """The figures of `result`."""
    return Figures(result.j, result.mean, result.p(0.99), result.max, result.loads, result.unserved)


def run(policy: str, jobs: Sequence[Job], host: Host) -> Result:
    """Play `jobs` by one of our policies, or by a baseline of that name (`ollama` is the baseline fifo)."""
    if policy == OURS:
        return simulate(jobs, host, policy)
    return baselines.run(policy, jobs, host)


def play(policy: str, jobs: Sequence[Job], host: Host) -> Figures:
    """`run`, in figures."""
    return figures(run(policy, jobs, host))

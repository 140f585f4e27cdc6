"""What came of a simulation: how long requests waited, what was loaded, and J, the cost that policies are judged by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from scheduler.simulator.workload import Job

WEIGHTS = {"interactive": 3.0, "agent": 1.0, "helper": 1.0, "batch": 0.5, "probe": 0.0}
"""What one second of waiting costs, by class."""


@dataclass(frozen=True, slots=True)
class Served:
    """One job that was served; seconds of the virtual clock. It waited from `arrived` to `started` (in a slot)."""

    job: Job
    arrived: float
    started: float
    ended: float

    @property
    def wait(self) -> float:
        """Seconds."""
        return self.started - self.arrived


@dataclass(slots=True)
class Result:
    """One run of one policy; probes are left out of everything but `unserved`."""

    policy: str
    served: list[Served]
    unserved: int = 0
    loads: int = 0
    load_seconds: float = 0.0
    loaded_bytes: int = 0
    makespan: float = 0.0  # seconds until the last request had ended
    notes: list[str] = field(default_factory=list)
    past_bound: list[str] | None = None  # each wait past the stated bound B, in a sentence; None: no bound was watched

    @property
    def waits(self) -> list[float]:
        """Seconds that each request waited, shortest first."""
        return sorted(each.wait for each in self.served if each.job.cls != "probe")

    @property
    def j(self) -> float:
        """The sum of weight x wait, and the seconds spent loading."""
        return sum(WEIGHTS[each.job.cls] * each.wait for each in self.served) + self.load_seconds

    @property
    def mean(self) -> float:
        """Mean wait, seconds."""
        waits = self.waits
        return sum(waits) / len(waits) if waits else 0.0

    @property
    def max(self) -> float:
        """Longest wait, seconds."""
        return max(self.waits, default=0.0)

    def p(self, share: float) -> float:
        """The wait that this share (0-1) of the requests did not exceed, seconds."""
        return quantile(self.waits, share)

    def of_class(self, cls: str) -> "Result":
        """The same, of one class alone; loads stay those of all."""
        served = [each for each in self.served if each.job.cls == cls]
        return Result(self.policy, served, 0, self.loads, self.load_seconds, self.loaded_bytes, self.makespan)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The least value that `share` (0-1) of the ordered values do not exceed; 0 of none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0

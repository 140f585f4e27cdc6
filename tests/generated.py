"""Generated workloads beside the traces of the same name, seeds 0 to 4: `python -m tests.generated` prints them."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from scheduler.simulator.generate import make
from scheduler.simulator.workload import Job, read
from tests.orientation import TRACES

CHANCE = (
    "bursts-14-agents",
    "orchestra",
    "starvation",
    "few-agents",
    "pairs",
    "bursts-and-probes-60s",
    *(f"poisson-{rho}" for rho in (0.1, 0.2, 0.4, 0.6, 0.8, 0.9)),
)
"""Families with chance in them, of which five traces are there."""
SEEDS = range(5)


@dataclass(frozen=True)
class Kind:
    """What the requests of one class for one model look like; seconds, and counts a workload."""

    count: float
    service: float
    spread: float  # of the services, standard deviation over mean
    think: float
    gap: float  # between those that arrive at a time of their own; long pauses (bursts) left out


def traces(name: str) -> list[list[Job]]:
    """The five traces of a family."""
    return [read(TRACES / f"{name}.{seed}.jsonl.gz") for seed in SEEDS]


def generated(name: str) -> list[list[Job]]:
    """Five generated workloads of a family."""
    return [make(name, seed) for seed in SEEDS]


def kinds(workloads: list[list[Job]]) -> dict[tuple[str, str], Kind]:
    """What each model and class looks like, over several workloads of one family."""
    found: dict[tuple[str, str], list[Job]] = {}
    for jobs in workloads:
        for job in jobs:
            found.setdefault((job.model.partition(":")[0], job.cls), []).append(job)
    table: dict[tuple[str, str], Kind] = {}
    for (model, cls), jobs in sorted(found.items()):
        services = [job.service for job in jobs]
        gaps = [gap for one in workloads for gap in _gaps(one, model, cls)]
        table[model, cls] = Kind(
            len(jobs) / len(workloads),
            statistics.mean(services),
            statistics.pstdev(services) / statistics.mean(services),
            _mean([job.think for job in jobs if job.after]),
            _mean(gaps),
        )
    return table


def _gaps(jobs: list[Job], model: str, cls: str) -> Iterator[float]:
    times = sorted(j.t for j in jobs if j.t is not None and j.model.partition(":")[0] == model and j.cls == cls)
    yield from (gap for one, two in pairwise(times) if (gap := two - one) < 600)


def _mean(values: list[float]) -> float:
    return statistics.mean(values) if values else 0.0


def lines(names: Iterable[str]) -> Iterator[str]:
    """A line for each model and class of each family: the traces' figures / the generated ones."""
    yield f"{'':46}     requests      service s       spread        think s          gap s"
    for name in names:
        theirs, ours = kinds(traces(name)), kinds(generated(name))
        for key in theirs:
            a, b = theirs[key], ours[key]
            pairs = (
                (a.count, b.count),
                (a.service, b.service),
                (a.spread, b.spread),
                (a.think, b.think),
                (a.gap, b.gap),
            )
            yield f"{name:21} {key[0]:17} {key[1]:12}" + "".join(f" {one:6.2f}/{two:6.2f}" for one, two in pairs)


if __name__ == "__main__":
    for line in lines(sys.argv[1:] or CHANCE):
        sys.stdout.write(line + "\n")

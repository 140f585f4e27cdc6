"""What looking ahead costs: processor milliseconds of each look and each guess, over a few simulated workloads.

A *look* tries on what may come whether a change now, or none, serves it better (`foresee.best`, `foresee.stays`); a
*guess* says what is asked for next (`foresee.expected`), once for each new group of arrivals. Policies read no clock:
they are timed from outside.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from policies import foresee
from scheduler.bench.report import NOTHING, Row, milliseconds
from scheduler.simulator.generate import host_for, make
from scheduler.simulator.run import simulate

WORKLOADS = ("alternate-40s", "office", "few-agents", "poisson-0.4")  # two with a rhythm, sessions, and none of both
SEED = 1000
LOOKS = ("best", "stays")
GUESSES = ("expected",)


@dataclass(slots=True)
class Timed:
    """Seconds of the processor in each call, by the name of the function in `foresee`."""

    took: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in LOOKS + GUESSES})

    def of(self, names: tuple[str, ...]) -> list[float]:
        """Those of all these functions."""
        return [seconds for name in names for seconds in self.took[name]]

    @property
    def total(self) -> float:
        """Seconds of all looks and guesses."""
        return sum(self.of(LOOKS + GUESSES))


@contextmanager
def timed() -> Iterator[Timed]:
    """Time every look and guess of this process until the end of the block."""
    seen = Timed()
    before = {name: getattr(foresee, name) for name in LOOKS + GUESSES}
    try:
        for name, function in before.items():
            setattr(foresee, name, _clocked(function, seen.took[name]))
        yield seen
    finally:
        for name, function in before.items():
            setattr(foresee, name, function)


def _clocked(function: Callable[..., Any], took: list[float]) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        began = time.process_time()  # what else runs on the machine is not its own
        try:
            return function(*given)
        finally:
            took.append(time.process_time() - began)

    return call


def measure(rounds: int) -> list[Row]:
    """Medians of `rounds` runs of each workload under the default policy: two rows each, of looks and of guesses."""
    return [row for name in WORKLOADS for row in _rows(name, rounds)]


def _rows(name: str, rounds: int) -> Iterator[Row]:
    jobs, host = make(name, SEED), host_for(name)
    seen = []
    for _ in range(rounds):
        with timed() as each:
            simulate(jobs, host)
        seen.append(each)
    for kind, names in (("a look", LOOKS), ("a guess", GUESSES)):
        calls = len(seen[-1].of(names))
        counts = ", ".join(f"{len(seen[-1].took[each])} {each}" for each in names)
        note = f"of the processor; {calls / len(jobs):.2f} calls a request ({counts}; {len(jobs)} requests)"
        yield Row(f"looking ahead, {name}: {kind}, median, longest", through=_shown(seen, names), note=note)


def _shown(seen: list[Timed], names: tuple[str, ...]) -> str:
    """The median call and the longest: of each the median of all rounds."""
    rounds = [took for each in seen if (took := each.of(names))]
    if not rounds:
        return NOTHING
    middle, longest = median(map(median, rounds)), median(map(max, rounds))
    return f"{milliseconds(middle)}, {milliseconds(longest)}"

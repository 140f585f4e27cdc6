"""Our baselines beside the published figures on the same traces: `python -m tests.orientation [NAME ...]` prints it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scheduler.simulator import baselines
from scheduler.simulator.host import GB, Host, documented, pairs_host
from scheduler.simulator.workload import read

TRACES = Path(__file__).parent / "data" / "workloads"
THEIRS = {
    "lru": "lru",
    "sets": "sets (llama-swap matrix, no limit)",
    "fifo": "fifo (Ollama)",
    "proposal": "proposed",
    "proposal-no-deadline": "proposed, no deadline",
}
"""A baseline's name, and what orientation.json calls it."""


@dataclass(frozen=True)
class Pair:
    """One baseline on one trace at one budget: our J and loads, and the published ones."""

    name: str
    entry: str
    j: float
    loads: int
    longest: float
    their_j: float
    their_loads: int
    their_longest: float

    @property
    def close(self) -> bool:
        """Whether J and loads are both within 5 %."""
        return abs(self.j - self.their_j) <= 0.05 * self.their_j and abs(self.loads - self.their_loads) <= (
            0.05 * self.their_loads
        )

    @property
    def equal(self) -> bool:
        """Whether they agree to the digit that is published."""
        return abs(self.j - self.their_j) < 0.06 and self.loads == self.their_loads


def host_of(entry: str) -> Host:
    """The host that an entry of orientation.json ran on."""
    trace, _, gigabytes = entry.partition("|")
    return pairs_host() if trace.startswith("pairs") else documented(int(gigabytes) * GB)


def pairs(names: Iterable[str], which: Callable[[str], bool] = lambda entry: True) -> Iterator[Pair]:
    """Run the named baselines over the entries of orientation.json, or those of them that `which` is true of."""
    entries = json.loads((TRACES / "orientation.json").read_text())
    chosen = tuple(names)
    for entry, theirs in entries.items():
        if not which(entry):
            continue
        jobs = read(TRACES / f"{entry.partition('|')[0]}.jsonl.gz")
        for name in chosen:
            ours, row = baselines.run(name, jobs, host_of(entry)), theirs[THEIRS[name]]
            yield Pair(name, entry, ours.j, ours.loads, ours.max, row["J"], row["loads"], row["max"])


def table(names: Iterable[str]) -> Iterator[str]:
    """Each entry that is not equal, then the count of each baseline."""
    found = list(pairs(names))
    for one in found:
        if not one.equal:
            yield (
                f"{one.name:21} {one.entry:26} J {one.j:11.1f} / {one.their_j:11.1f} = {one.j / one.their_j:.3f}"
                f"   loads {one.loads:4} / {one.their_loads:4}   max {one.longest:8.1f} / {one.their_longest:8.1f}"
                f"{'' if one.close else '   beyond 5 %'}"
            )
    for name in dict.fromkeys(one.name for one in found):
        mine = [one for one in found if one.name == name]
        close, equal = sum(one.close for one in mine), sum(one.equal for one in mine)
        yield f"{name}: {close} of {len(mine)} within 5 % in J and loads, {equal} equal to the digit"


if __name__ == "__main__":
    for line in table(sys.argv[1:] or ["lru", "sets", "fifo"]):
        sys.stdout.write(line + "\n")

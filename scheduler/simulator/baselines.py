"""Runs a baseline by name: what Ollama, llama-swap or a plain cache would make of the same jobs on the same host."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from scheduler.simulator.baselines_fifo import Fifo
from scheduler.simulator.baselines_lru import Lru
from scheduler.simulator.baselines_proposal import Proposal
from scheduler.simulator.baselines_sets import Sets
from scheduler.simulator.baselines_stage import Rule, Stage
from scheduler.simulator.host import Host
from scheduler.simulator.measures import Result
from scheduler.simulator.workload import Job

_RULES: dict[str, Callable[[Stage], Rule]] = {
    "lru": Lru,
    "sets": Sets,
    "fifo": Fifo,
    "proposal": Proposal,
    "proposal-no-deadline": lambda stage: Proposal(stage, deadline=False),
}
NAMES = tuple(_RULES)


def run(name: str, jobs: Iterable[Job], host: Host) -> Result:
    """Play `jobs` on `host` under the baseline `name` (one of NAMES; KeyError otherwise)."""
    stage = Stage(host)
    return stage.play(name, _RULES[name](stage), list(jobs))

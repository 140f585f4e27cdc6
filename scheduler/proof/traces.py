"""The workloads given as files (tests/data/workloads), with the figures that others measured on them."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from scheduler.proof.played import Figures, play
from scheduler.simulator.host import GB, Host, documented, pairs_host
from scheduler.simulator.workload import Job, read

FOLDER = Path(__file__).parents[2] / "tests" / "data" / "workloads"
BASELINES = {"lru": "lru", "sets": "sets (llama-swap matrix, no limit)", "fifo": "fifo (Ollama)"}
"""Our names of the baselines and those in orientation.json."""
PROPOSED = "proposed"


@cache
def orientation() -> dict[str, dict[str, Any]]:
    """By `name.seed|budget in GB`: by policy, the figures."""
    content: dict[str, dict[str, Any]] = json.loads((FOLDER / "orientation.json").read_text("utf-8"))
    return content


def family(entry: str) -> str:
    """The workload that an entry is one seed of, and its budget: `poisson-0.4 38 GB`."""
    name, _, budget = entry.partition("|")
    return f"{name.rpartition('.')[0]} {budget} GB"


def host_of(entry: str) -> Host:
    """The machine an entry was measured on."""
    if entry.startswith("pairs."):
        return pairs_host()
    return documented(int(entry.partition("|")[2]) * GB)


def jobs_of(entry: str) -> list[Job]:
    """The jobs of an entry's trace."""
    return read(FOLDER / f"{entry.partition('|')[0]}.jsonl.gz")


def play_entry(entry: str, policy: str) -> Figures:
    """The trace of `entry` under `policy`."""
    return play(policy, jobs_of(entry), host_of(entry))


def play_nameless(entry: str, policy: str, peer: str) -> Figures:
    """The same where nobody says who he is: every session is `peer`, as behind a proxy ("": there is not even one)."""
    return play(policy, [replace(job, session=peer) for job in jobs_of(entry)], host_of(entry))

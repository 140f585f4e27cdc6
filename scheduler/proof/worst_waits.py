"""Rows on the longest wait: against the proposal, without any identity, and on an idle host that is only probed."""

from collections.abc import Iterator, Sequence
from typing import Any

from scheduler.proof.frame import Finding, Form, Row, Task, at_most
from scheduler.proof.played import OURS, kept, play
from scheduler.proof.statistics import ratio
from scheduler.proof.traces import PROPOSED, family, orientation, play_entry, play_nameless
from scheduler.simulator.host import GB, documented
from scheduler.simulator.workload import Job

CONTENDED = ("starvation", "bursts-14-agents", "poisson-0.9")
PEERS = ("", "proxy")
NAMELESS_LIMIT = 300.0  # seconds
EXACT = 1e-9


def _of(names: Sequence[str]) -> list[str]:
    return [entry for entry in sorted(orientation()) if entry.partition("|")[0].rpartition(".")[0] in names]


# --- against the proposal ---------------------------------------------------------------------------------------------


def _longest_tasks(form: Form) -> list[Task]:
    return [Task(play_entry, (entry, OURS)) for entry in _of(CONTENDED)]


def _longest(form: Form, values: Sequence[Any]) -> list[Finding]:
    by_family: dict[str, list[tuple[Any, dict[str, Any]]]] = {}
    for entry, ours in zip(_of(CONTENDED), values, strict=True):
        by_family.setdefault(family(entry), []).append((ours, orientation()[entry][PROPOSED]))
    return [*(finding for name, pairs in by_family.items() for finding in _both(name, pairs)), kept(values)]


def _both(name: str, pairs: Sequence[tuple[Any, dict[str, Any]]]) -> Iterator[Finding]:
    longest = ratio([ours.longest for ours, _ in pairs], [theirs["max"] for _, theirs in pairs])
    most, their_most = max(ours.longest for ours, _ in pairs), max(theirs["max"] for _, theirs in pairs)
    yield at_most(f"{name}, longest wait", longest.value, 1 + EXACT, f"{longest}, {most:.0f} s for {their_most:.0f} s")
    j = ratio([ours.j for ours, _ in pairs], [theirs["J"] for _, theirs in pairs])
    yield at_most(f"{name}, J", j.value, 1 + EXACT, str(j))


# --- without identity -------------------------------------------------------------------------------------------------


def _nameless_tasks(form: Form) -> list[Task]:
    return [Task(play_nameless, (entry, OURS, peer)) for peer in PEERS for entry in _of(("starvation",))]


def _nameless(form: Form, values: Sequence[Any]) -> list[Finding]:
    entries = _of(("starvation",))
    findings = []
    for number, peer in enumerate(PEERS):
        played = dict(zip(entries, values[number * len(entries) : (number + 1) * len(entries)], strict=True))
        for budget in sorted({family(entry) for entry in entries}):
            longest = max(figures.longest for entry, figures in played.items() if family(entry) == budget)
            who = "everybody one peer" if peer else "nobody named"
            findings.append(at_most(f"{budget}, {who}", longest, NAMELESS_LIMIT, f"{longest:.0f} s"))
    return [*findings, kept(values)]


# --- an idle host -----------------------------------------------------------------------------------------------------


def _idle_tasks(form: Form) -> list[Task]:
    return [Task(_only_probes, (budget,)) for budget in (38, 48)]


def _only_probes(budget: int) -> int:
    """Loads in an hour in which all models are probed each minute and nobody asks for anything."""
    host = documented(budget * GB)
    jobs = [
        Job(f"{minute}-{number}", model.name, 0.3, "probe", "", 60.0 * minute + 0.1 * number)
        for minute in range(60)
        for number, model in enumerate(host.models)
    ]
    return play(OURS, jobs, host).loads


def _idle(form: Form, values: Sequence[Any]) -> list[Finding]:
    return [at_most(f"{budget} GB", loads, 0, f"{loads} loads") for budget, loads in zip((38, 48), values, strict=True)]


WORST = Row(
    "worst",
    "the longest wait against the proposal's, mean of the paired ratios, at no more J",
    _longest_tasks,
    _longest,
)
NAMELESS = Row(
    "nameless",
    "starvation where nobody says who he is: the longest wait (the proposal: 522 s)",
    _nameless_tasks,
    _nameless,
)
IDLE = Row("idle", "an idle host, every model probed each 60 s for an hour", _idle_tasks, _idle)

"""The row on one who knows the future: J against the clairvoyant optimum, printed for every workload."""

from collections.abc import Sequence
from typing import Any

from scheduler.proof.frame import Finding, Form, Row, Task
from scheduler.proof.played import OURS
from scheduler.proof.statistics import ratio
from scheduler.proof.traces import family, host_of, jobs_of, orientation
from scheduler.simulator.optimum import bound
from scheduler.simulator.run import simulate

SHORT = ("few-agents.0|38", "poisson-0.1.0|48", "alternate-20s.0|38")
SHORT_WORK = 50_000  # outcomes of stays after which an exact search gives up


def play_bound(entry: str, work: int | None) -> tuple[float, float, bool, bool]:
    """J of ours, the least J, whether that is exact, and whether it is only a lower bound of the optimum."""
    jobs, host = jobs_of(entry), host_of(entry)
    result = simulate(jobs, host, OURS)
    least = bound(jobs, host, result) if work is None else bound(jobs, host, result, work=work)
    return result.j, least.j, least.exact, "lower bound" in least.note


def _entries(form: Form) -> Sequence[str]:
    return SHORT if form.short else sorted(orientation())


def _tasks(form: Form) -> list[Task]:
    return [Task(play_bound, (entry, SHORT_WORK if form.short else None)) for entry in _entries(form)]


def _judge(form: Form, values: Sequence[Any]) -> list[Finding]:
    by_family: dict[str, list[tuple[float, float, bool, bool]]] = {}
    for entry, value in zip(_entries(form), values, strict=True):
        by_family.setdefault(family(entry), []).append(value)
    findings = []
    for name, played in by_family.items():
        paired = ratio([ours for ours, *_ in played], [least for _, least, *_ in played])
        exact = sum(is_exact for _, _, is_exact, _ in played)
        relaxed = sum(is_relaxed for *_, is_relaxed in played)
        told = f"exact for {exact} of {len(played)}" + (f", a lower bound for {relaxed}" if relaxed else "")
        findings.append(Finding(name, f"{paired}  {told}{'' if exact + relaxed == len(played) else ', else a beam'}"))
    below = sum(ours < least - 1e-6 for ours, least, is_exact, _ in values if is_exact)
    return [*findings, Finding("better than the exact optimum", f"{below} times", "never", not below)]


OPTIMUM = Row(
    "optimum",
    "J against one who knows the future (closed loops: at the times at which they asked under ours)",
    _tasks,
    _judge,
)

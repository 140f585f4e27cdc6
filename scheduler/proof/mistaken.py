"""The row on a daemon that is mistaken about the world: loads, sizes, slots, sessions and the clock."""

from collections.abc import Sequence
from typing import Any

from scheduler.proof.frame import Finding, Form, Row, Task, at_most
from scheduler.proof.statistics import ratio_of_means
from scheduler.simulator.generate import host_for, make
from scheduler.simulator.robust import ERRORS, beside

WORKLOADS = ("few-agents", "poisson-0.4", "bursts-14-agents", "starvation")
SHORT_WORKLOADS = ("few-agents",)
BUDGET = 48  # GB: what is believed a fifth larger still fits
SEEDS, SHORT_SEEDS = 5, 2
LIMIT = 1.25
EXACT = 1e-9


def play_mistaken(error: str, name: str, seed: int) -> tuple[float, float, int]:
    """J of the mistaken one and of the one with right values, and how often either broke the bound or served nobody."""
    both = beside(error, make(name, seed), host_for(name, BUDGET))
    return both.mistaken.j, both.right.j, len(both.broken) + both.mistaken.unserved + both.right.unserved


def _workloads(form: Form) -> Sequence[str]:
    return SHORT_WORKLOADS if form.short else WORKLOADS


def _seeds(form: Form) -> Sequence[int]:
    return form.seeds[: SHORT_SEEDS if form.short else SEEDS]


def _tasks(form: Form) -> list[Task]:
    return [
        Task(play_mistaken, (error, name, seed))
        for error in ERRORS
        for name in _workloads(form)
        for seed in _seeds(form)
    ]


def _judge(form: Form, values: Sequence[Any]) -> list[Finding]:
    rest, findings, broken = list(values), [], 0
    for error in ERRORS:
        for name in _workloads(form):
            played = [rest.pop(0) for _ in _seeds(form)]
            broken += sum(times for _, _, times in played)
            paired = ratio_of_means([mistaken for mistaken, _, _ in played], [right for _, right, _ in played])
            findings.append(at_most(f"{error}, {name}", paired.value, LIMIT + EXACT, str(paired)))
    return [
        *findings,
        at_most("bound B", broken, 0, f"{broken} waits past it or never served, in {2 * len(values)} runs"),
    ]


MISTAKEN = Row(
    "wrong", f"J of a daemon that is mistaken against its own with right values, {BUDGET} GB", _tasks, _judge
)

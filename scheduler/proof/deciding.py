"""The row on what a decision costs: microseconds of the core with a thousand waiting."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from scheduler.bench.core_bench import MANY, Stage
from scheduler.proof.frame import Finding, Form, Row, Task, at_most
from scheduler.proof.played import OURS

STEPS, SHORT_STEPS = 20_000, 4_000
LIMIT = 100.0  # µs


def decide(steps: int) -> float:
    """Mean microseconds of the processor for a step of the core."""
    stage = Stage(OURS, MANY)
    stage.run(steps, MANY.waiting)
    return fmean(stage.took) * 1e6


def _tasks(form: Form) -> list[Task]:
    return [Task(decide, (SHORT_STEPS if form.short else STEPS,))]


def _judge(form: Form, values: Sequence[Any]) -> list[Finding]:
    shown = f"{values[0]:.0f} µs (of the processor; what else runs on the machine slows it)"
    finding = at_most("mean of a step", values[0], LIMIT, shown)
    return [Finding(finding.subject, shown, finding.target) if form.short else finding]


DECIDING = Row("time", f"a decision with {MANY.waiting} waiting for {len(MANY.sizes)} models", _tasks, _judge)

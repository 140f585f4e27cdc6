"""The row on what a decision costs: microseconds of the policy, and of a step of the core, with a thousand waiting."""

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from scheduler.bench.core_bench import MANY, Stage
from scheduler.proof.frame import Finding, Form, Row, Task, at_most
from scheduler.proof.played import OURS

TIMES, SHORT_TIMES = 2_000, 400
STEPS = 10  # between two decisions that are timed
LIMIT = 100.0  # µs


def decide(times: int) -> tuple[float, float]:
    """Microseconds of the processor: the median of a decision, and the mean of a step of the core. A step takes down
    what happened, with what was expected next (`foresee`), asks the policy until it has nothing more to do, and orders.
    """
    stage = Stage(OURS, MANY)
    decisions, steps = [], []
    for _ in range(times):
        stage.run(STEPS, MANY.waiting)
        steps.append(fmean(stage.took))
        decisions.append(stage.decide())
    return median(decisions) * 1e6, fmean(steps) * 1e6


def _tasks(form: Form) -> list[Task]:
    return [Task(decide, (SHORT_TIMES if form.short else TIMES,))]


def _judge(form: Form, values: Sequence[Any]) -> list[Finding]:
    decision, step = values[0]
    shown = f"{decision:.0f} µs (of the processor; what else runs on the machine slows it)"
    finding = at_most("median, nothing remembered", decision, LIMIT, shown)
    return [
        Finding(finding.subject, shown, finding.target) if form.short else finding,
        Finding("mean of a whole step", f"{step:.0f} µs (with looking ahead, and up to a few decisions)"),
    ]


DECIDING = Row("time", f"a decision with {MANY.waiting} waiting for {len(MANY.sizes)} models", _tasks, _judge)

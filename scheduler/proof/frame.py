"""What a row of the proof is: tasks that can run anywhere, and a judgement over what they answer."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Form:
    """How much is run. Seeds for judging begin at 1000: those below are for tuning."""

    seeds: tuple[int, ...] = tuple(range(1000, 1020))
    short: bool = False  # the form that CI plays


SHORT = Form(seeds=(1000, 1001, 1002, 1003), short=True)


@dataclass(frozen=True, slots=True)
class Task:
    """A call that another process can make: a function of a module, and plain arguments."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a task answered, and the seconds it took."""

    value: Any
    seconds: float


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure beside its target. `holds` is None where nothing is demanded: the figure is printed for itself."""

    subject: str
    measured: str
    target: str = ""
    holds: bool | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the proof. `tasks` says what is to be run, `judge` gets their values in the same order."""

    name: str
    claim: str
    tasks: Callable[[Form], Sequence[Task]]
    judge: Callable[[Form, Sequence[Any]], list[Finding]]


def carry_out(task: Task) -> Answer:
    """Make the call."""
    began = time.perf_counter()
    value = task.function(*task.arguments)
    return Answer(value, time.perf_counter() - began)


def at_most(subject: str, value: float, limit: float, shown: str = "") -> Finding:
    """`value` has to be at most `limit`."""
    return Finding(subject, shown or f"{value:.3f}", f"<= {limit:g}", value <= limit)


def at_least(subject: str, value: float, limit: float, shown: str = "") -> Finding:
    """`value` has to be at least `limit`."""
    return Finding(subject, shown or f"{value:.3f}", f">= {limit:g}", value >= limit)

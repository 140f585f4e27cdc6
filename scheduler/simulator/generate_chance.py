"""Draws that the generators share, and the list that a workload is written into while it is drawn."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

from scheduler.simulator.host import CODER, FAST, QUALITY
from scheduler.simulator.workload import Job

CLASS = {QUALITY: "interactive", CODER: "agent", FAST: "helper"}
"""Who asks for a model where nothing else is said."""


def lognormal(chance: random.Random, mean: float, cv: float) -> float:
    """A positive draw with this mean and coefficient of variation."""
    variance = math.log(1 + cv * cv)
    return chance.lognormvariate(math.log(mean) - variance / 2, math.sqrt(variance))


class Draft:
    """Jobs as they are drawn; ids are their numbers. Times and services are rounded to milliseconds."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def at(self, t: float, model: str, service: float, session: str = "", cls: str = "") -> str:
        """A job that arrives at a time (seconds); its id."""
        return self._add(model, service, session, cls, t=round(t, 3))

    def after(
        self, others: Iterable[str], think: float, model: str, service: float, session: str = "", cls: str = ""
    ) -> str:
        """A job that arrives `think` seconds after the last of the others has ended; its id."""
        return self._add(model, service, session, cls, after=tuple(others), think=round(think, 3))

    def next(
        self, before: str, think: float, model: str, service: float, session: str = "", t: float = 0.0, cls: str = ""
    ) -> str:
        """A step of a closed loop: `think` seconds after the step before, or at `t` if there is none; its id."""
        if before:
            return self.after((before,), think, model, service, session, cls)
        return self.at(t, model, service, session, cls)

    def _add(
        self,
        model: str,
        service: float,
        session: str,
        cls: str,
        *,
        t: float | None = None,
        after: tuple[str, ...] = (),
        think: float = 0.0,
    ) -> str:
        ident = str(len(self.jobs))
        cls = cls or CLASS.get(model, "agent")
        self.jobs.append(Job(ident, model, max(round(service, 3), 0.001), cls, session, t, after, think))
        return ident

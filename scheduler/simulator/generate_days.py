"""Workloads of whole days: an office whose appointments come back every day."""

from __future__ import annotations

import random

from scheduler.simulator.generate_chance import Draft, lognormal
from scheduler.simulator.host import CODER, QUALITY
from scheduler.simulator.workload import Job

DAY = 86400.0
HOUR = 3600.0

APPOINTMENTS = (
    (8.5, QUALITY, "interactive", 4),  # what came in over night
    (10.0, CODER, "interactive", 6),  # the first piece of work
    (13.0, QUALITY, "interactive", 4),  # after lunch: a text
    (15.0, CODER, "interactive", 6),  # the second piece of work
    (17.5, QUALITY, "interactive", 3),  # the day's report
    (22.0, CODER, "batch", 5),  # tests written over night
)
"""Hour of the day, model, class, and how many prompts such an appointment has on average."""


def office(seed: int, days: int = 14, scatter: float = 240.0, missed: float = 0.1) -> list[Job]:
    """Days in an office: each appointment within `scatter` seconds of its time, a tenth of them missed, one more a day
    at any hour between eight and six. Second zero is midnight."""
    chance, draft = random.Random(seed), Draft()
    for day in range(days):
        for number, (hour, model, cls, prompts) in enumerate(APPOINTMENTS):
            if chance.random() >= missed:
                start = day * DAY + hour * HOUR + chance.uniform(-scatter, scatter)
                _sitting(draft, chance, start, model, cls, prompts, f"desk{number}")
        start = day * DAY + chance.uniform(8, 18) * HOUR
        _sitting(draft, chance, start, chance.choice((QUALITY, CODER)), "interactive", 2, "visitor")
    return draft.jobs


def _sitting(
    draft: Draft, chance: random.Random, start: float, model: str, cls: str, prompts: int, session: str
) -> None:
    before = ""
    for _ in range(max(1, prompts + chance.randint(-2, 2))):
        think = chance.expovariate(1 / 60)
        service = lognormal(chance, 22.0 if model == QUALITY else 11.0, 0.7)
        before = draft.next(before, think, model, service, session, start, cls)

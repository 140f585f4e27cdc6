"""Workloads whose arrivals wait for nobody: Poisson mixes, strict alternation, health checks, a quiet conversation."""

from __future__ import annotations

import random

from scheduler.simulator.generate_chance import Draft, lognormal
from scheduler.simulator.host import CODER, FAST, QUALITY
from scheduler.simulator.workload import Job

_MEAN = {QUALITY: 22.0, CODER: 11.0, FAST: 1.5}  # seconds of service
_SLOTS = {QUALITY: 2, CODER: 4, FAST: 4}
_PROBE = 0.8  # seconds


def poisson(rho: float, seed: int, seconds: float = 7200.0) -> list[Job]:
    """Anonymous requests at random; rho is the slot load of quality and coder if changes were free.

    Shares 0.3 / 0.5 / 0.2 of quality, coder and fast; services lognormal with cv 0.7.
    """
    chance, draft = random.Random(seed), Draft()
    shares = {QUALITY: 0.3, CODER: 0.5, FAST: 0.2}
    rate = rho / sum(shares[model] * _MEAN[model] / _SLOTS[model] for model in (QUALITY, CODER))
    t = chance.expovariate(rate)
    while t < seconds:
        model = chance.choices(list(shares), list(shares.values()))[0]
        draft.at(t, model, lognormal(chance, _MEAN[model], 0.7))
        t += chance.expovariate(rate)
    return draft.jobs


def alternate(every: float, count: int = 120) -> list[Job]:
    """Quality and coder in turn, one every so many seconds, 4 s each; no chance in it."""
    draft = Draft()
    for number in range(count):
        draft.at(number * every, CODER if number % 2 else QUALITY, 4.0, cls="agent")
    return draft.jobs


def alternate_closed(count: int = 60) -> list[Job]:
    """One client asks quality and coder in turn, 8 s each, a second after each answer; no chance in it."""
    draft, before = Draft(), ""
    for number in range(count):
        before = draft.next(before, 1.0, CODER if number % 2 else QUALITY, 8.0, "arch", t=1.0, cls="agent")
    return draft.jobs


def with_probes(jobs: list[Job], every: float = 60.0, seconds: float = 3600.0, first: float = 7.0) -> list[Job]:
    """The same jobs, and a health check of all three models every so many seconds."""
    draft = Draft()
    draft.jobs = list(jobs)
    for number in range(int((seconds - first) // every) + 1):
        for model in (QUALITY, CODER, FAST):
            draft.at(first + number * every, model, _PROBE, cls="probe")
    return draft.jobs


def idle(seed: int, seconds: float = 3600.0) -> list[Job]:
    """A quiet conversation with quality, about 16 prompts an hour, and a probe of every model each minute."""
    chance, draft = random.Random(seed), Draft()
    t = chance.expovariate(1 / 220)
    while t < seconds:
        draft.at(t, QUALITY, lognormal(chance, 22.0, 0.7))
        t += chance.expovariate(1 / 220)
    return with_probes(draft.jobs, seconds=seconds)

"""Workloads of people and agents who ask again after an answer: bursts, an orchestra, starvation, pairs."""

from __future__ import annotations

import random

from scheduler.simulator.generate_chance import Draft, lognormal
from scheduler.simulator.host import CODER, FAST, QUALITY, Host, HostModel
from scheduler.simulator.workload import Job

THREE = ("three-a:latest", "three-b:latest", "three-c:latest")


def three_way_host(budget: int = 38_000_000_000) -> Host:
    """Three models of 20 GB of which no two fit together."""
    models = tuple(HostModel(name, 20_000_000_000, 12.0, 1.5, 4) for name in THREE)
    return Host(models, budget, tuple((name,) for name in THREE))


def bursts(seed: int, agents: int = 14, seconds: float = 3600.0) -> list[Job]:
    """Two people talk to quality, three bursts of agents work on coder, and fast is called now and then."""
    chance, draft = random.Random(seed), Draft()
    for number in range(2):
        _person(draft, chance, f"user{number}", chance.uniform(15, 85), seconds, 55.0)
    for burst in range(3):
        start = chance.uniform(400, 640) + 1200 * burst
        for agent in range(agents):
            before = ""
            arrives = start + chance.uniform(0, 17)
            for _ in range(chance.randint(5, 10)):
                think, service = lognormal(chance, 4.0, 0.9), lognormal(chance, 11.0, 0.7)
                before = draft.next(before, think, CODER, service, f"b{burst}a{agent}", arrives)
    _calls(draft, chance, seconds, 37.5)
    return draft.jobs


def few_agents(seed: int, agents: int = 2, seconds: float = 2400.0) -> list[Job]:
    """A few agents on coder who pause now and then, one person on quality, and fast is called now and then."""
    chance, draft = random.Random(seed), Draft()
    for number in range(agents):
        before, t = "", chance.uniform(0, 60)
        first = t
        while t < seconds:
            pause = chance.random() < 0.04
            think = chance.uniform(60, 180) if pause else lognormal(chance, 6.0, 1.0)
            service = lognormal(chance, 11.0, 0.7)
            before = draft.next(before, think, CODER, service, f"ag{number}", first)
            t += think + service
    _person(draft, chance, "us0", chance.expovariate(1 / 80), seconds, 65.0)
    _calls(draft, chance, seconds, 62.0)
    return draft.jobs


def orchestra(seed: int) -> list[Job]:
    """Five planning calls, ten coding agents with three bursts of fast calls, then three reviewers."""
    chance, draft = random.Random(seed), Draft()
    plan = ""
    for _ in range(5):
        plan = draft.next(plan, 2.0, QUALITY, lognormal(chance, 31.0, 0.35), "plan", 2.0, "agent")
    last = [_coder(draft, chance, plan, f"cod{number}") for number in range(10)]
    for burst in range(3):
        for number in range(10):
            think = 30.0 + 90.0 * burst + chance.uniform(0, 3)
            draft.after((plan,), think, FAST, lognormal(chance, 1.4, 0.3), f"cred{burst}-{number}")
    for number in range(3):
        step = draft.after(
            last, lognormal(chance, 2.7, 0.4), QUALITY, lognormal(chance, 30, 0.45), f"rev{number}", "agent"
        )
        for _ in range(4):
            think, service = lognormal(chance, 2.7, 0.4), lognormal(chance, 30.0, 0.45)
            step = draft.after((step,), think, QUALITY, service, f"rev{number}", "agent")
    return draft.jobs


def starvation(seed: int, clients: int = 6, steps: int = 60) -> list[Job]:
    """Clients of coder that leave no gap; four questions to quality come in, two minutes apart."""
    chance, draft = random.Random(seed), Draft()
    for client in range(clients):
        before, first = "", chance.uniform(0.5, 3.0)
        for _ in range(steps):
            before = draft.next(before, 0.2, CODER, lognormal(chance, 10.0, 0.6), f"c{client}", first)
    for number in range(4):
        draft.at(60.0 + 120.0 * number, QUALITY, 20.0, f"ask{number}")
    return draft.jobs


def pairs(seed: int, prompts: int = 40) -> list[Job]:
    """Each prompt of a person on quality brings a small request to fast within a second, of the same session."""
    chance, draft = random.Random(seed), Draft()
    before, first = "", chance.uniform(20, 80)
    for _ in range(prompts):
        think, apart = chance.uniform(16, 90), chance.uniform(-0.3, 0.8)
        service, small = lognormal(chance, 14.5, 0.6), chance.uniform(0.6, 1.5)
        prompt = draft.next(before, think, QUALITY, service, "cc", first)
        draft.next(before, think + apart, FAST, small, "cc", first + apart)
        before = prompt
    return draft.jobs


def three_way(seed: int, clients: int = 4, steps: int = 25) -> list[Job]:
    """Three models that exclude each other, each kept busy by clients of its own that hardly pause."""
    chance, draft = random.Random(seed), Draft()
    for number, model in enumerate(THREE):
        for client in range(clients):
            before, first = "", chance.uniform(0, 30)
            cls = "interactive" if client == 0 else "agent"
            for _ in range(steps):
                think, service = lognormal(chance, 3.0, 0.9), lognormal(chance, 10.0, 0.7)
                before = draft.next(before, think, model, service, f"g{number}c{client}", first, cls)
    return draft.jobs


def _person(draft: Draft, chance: random.Random, session: str, first: float, seconds: float, think: float) -> None:
    before, t = "", first
    while t < seconds:
        pause, service = chance.expovariate(1 / think), lognormal(chance, 22.0, 0.6)
        before = draft.next(before, pause, QUALITY, service, session, first)
        t += pause + service


def _calls(draft: Draft, chance: random.Random, seconds: float, every: float) -> None:
    t = chance.expovariate(1 / every)
    while t < seconds:
        draft.at(t, FAST, lognormal(chance, 1.5, 0.6), f"f{int(t)}")
        t += chance.expovariate(1 / every)


def _coder(draft: Draft, chance: random.Random, plan: str, session: str) -> str:
    step = plan
    for _ in range(8):
        if chance.random() < 0.03:
            step = draft.after((step,), 1.0, QUALITY, lognormal(chance, 25.0, 0.4), session, "agent")
        think, service = 1.0 + chance.expovariate(1 / 4.5), lognormal(chance, 15.0, 0.6)
        step = draft.after((step,), think, CODER, service, session)
    return step

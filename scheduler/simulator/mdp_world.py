"""The smallest world with the whole problem in it: one of two models fits, Poisson arrivals, exponential services."""

import random
from dataclasses import dataclass, replace

from scheduler.simulator.host import CODER, GB, QUALITY, Host, HostModel
from scheduler.simulator.measures import WEIGHTS
from scheduler.simulator.workload import Job

NAMES = (QUALITY, CODER)
SHARES = (0.375, 0.625)
MEANS = (22.0, 11.0)
SLOTS = (2, 4)
LOADS = (18.0, 12.0)
UNLOADS = (2.0, 1.5)
Classes = tuple[str, str]
AGENTS: Classes = ("agent", "agent")
PEOPLE_ON_LARGE: Classes = ("interactive", "agent")
PEOPLE_ON_SMALL: Classes = ("agent", "interactive")
SIMULATED = (UNLOADS[1] + LOADS[0], UNLOADS[0] + LOADS[1])
"""Seconds of a change to quality and to coder as the simulators play it: unload of the one, then load of the other."""
ROUNDED = (20.0, 13.5)
"""The same as the study assumed it, where a change takes an Erlang-2 time."""


@dataclass(frozen=True, slots=True)
class World:
    """Two models, the first being quality; pairs are in that order. Seconds, and requests per second.

    `phases` is the shape of the change times: that many exponential phases (Erlang), or 0 for exactly `change` seconds.
    No more than `most` requests wait for one model (further ones are lost, so take it large enough).
    """

    arrivals: tuple[float, float]
    services: tuple[float, float] = MEANS
    slots: tuple[int, int] = SLOTS
    change: tuple[float, float] = SIMULATED
    loads: tuple[float, float] = LOADS
    weights: tuple[float, float] = (1.0, 1.0)
    phases: int = 0
    most: int = 40


def world(load: float, classes: Classes = AGENTS) -> World:
    """The world at `load`, the slot load of both models if changes were free, with change times as simulated, and with
    requests of one class for each model."""
    rate = load / sum(share * mean / slots for share, mean, slots in zip(SHARES, MEANS, SLOTS, strict=True))
    weights = WEIGHTS[classes[0]], WEIGHTS[classes[1]]
    return World((rate * SHARES[0], rate * SHARES[1]), weights=weights, most=70 if load >= 0.7 else 40)


def studied(load: float) -> World:
    """The same with the change times of the study: 20 and 13.5 s on average, Erlang-2."""
    return replace(world(load), change=ROUNDED, phases=2)


def host() -> Host:
    """The machine of this world, for the simulators: quality and coder, of which one fits."""
    models = tuple(
        HostModel(name, size * GB, load, unload, slots)
        for name, size, load, unload, slots in zip(NAMES, (35, 20), LOADS, UNLOADS, SLOTS, strict=True)
    )
    return Host(models, 38 * GB, ((QUALITY,), (CODER,)))


def exponential(load: float, seed: int, horizon: float, classes: Classes = AGENTS) -> list[Job]:
    """`horizon` seconds of this world's requests, anonymous and in order of arrival."""
    chance = random.Random(f"exponential {load} {seed}")
    rate = sum(world(load).arrivals)
    jobs: list[Job] = []
    time = chance.expovariate(rate)
    while time < horizon:
        which = 0 if chance.random() < SHARES[0] else 1
        jobs.append(Job(str(len(jobs)), NAMES[which], chance.expovariate(1 / MEANS[which]), classes[which], t=time))
        time += chance.expovariate(rate)
    return jobs

"""Makes a workload by name and seed: `make("poisson-0.4", 1000)`; seeds below 1000 are for tuning, from 1000 to judge.

The names that the traces in tests/data/workloads have give the same kind of workload, with other draws.
"""

from __future__ import annotations

from collections.abc import Callable

from scheduler.simulator.generate_days import office
from scheduler.simulator.generate_loops import (
    bursts,
    few_agents,
    orchestra,
    pairs,
    starvation,
    three_way,
    three_way_host,
)
from scheduler.simulator.generate_open import alternate, alternate_closed, idle, poisson, with_probes
from scheduler.simulator.generate_public import azure, servegen_day
from scheduler.simulator.host import GB, Host, documented, pairs_host
from scheduler.simulator.mdp_world import exponential
from scheduler.simulator.workload import Job

EXPONENTIAL = 40_000.0  # seconds of the world that the best online policy is solved for

_MAKERS: dict[str, Callable[[int], list[Job]]] = {
    "bursts-14-agents": bursts,
    "orchestra": orchestra,
    "starvation": starvation,
    "few-agents": few_agents,
    "pairs": pairs,
    "alternate-closed": lambda seed: alternate_closed(),
    "bursts-and-probes-60s": lambda seed: with_probes(bursts(seed)),
    "idle-and-probes-60s": idle,
    "office": office,
    "three-way": three_way,
    "servegen-day": servegen_day,
}
_WITH_NUMBER: dict[str, Callable[[float, int], list[Job]]] = {
    "poisson": poisson,
    "exponential": lambda load, seed: exponential(load, seed, EXPONENTIAL),
    "alternate": lambda every, seed: alternate(every),
    "azure": lambda thin, seed: azure(int(thin), seed),
}
NAMES = (*_MAKERS, *(f"{name}-NUMBER" for name in _WITH_NUMBER))
"""What `make` knows; NUMBER is a load ("poisson-0.4"), seconds ("alternate-20s") or a thinning ("azure-25")."""


def make(name: str, seed: int = 0) -> list[Job]:
    """The jobs of a named workload; the same for the same seed. Raises KeyError for a name that is not known."""
    if name in _MAKERS:
        return _MAKERS[name](seed)
    kind, _, number = name.partition("-")
    if kind not in _WITH_NUMBER:
        raise KeyError(name)
    try:
        value = float(number.removesuffix("s"))
    except ValueError:
        raise KeyError(name) from None
    return _WITH_NUMBER[kind](value, seed)


def host_for(name: str, gigabytes: int = 48) -> Host:
    """The machine that a named workload is meant for; `pairs` and `three-way` have one of their own, of 38 GB."""
    if name == "pairs":
        return pairs_host()
    return three_way_host() if name == "three-way" else documented(gigabytes * GB)

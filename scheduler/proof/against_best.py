"""The row on the best policy that does not know the future: solved for two models and Poisson arrivals."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from scheduler.proof.frame import Finding, Form, Row, Task, at_most
from scheduler.proof.played import OURS, Figures, figures, kept, play
from scheduler.proof.statistics import ratio_of_means
from scheduler.simulator import mdp_rule, mdp_world
from scheduler.simulator.mdp import Solved, solve
from scheduler.simulator.mdp_world import AGENTS, PEOPLE_ON_LARGE, PEOPLE_ON_SMALL, Classes

LIMITS = {0.1: 1.03, 0.2: 1.03, 0.4: 1.03, 0.6: 1.03, 0.8: 1.05}
HORIZON = 20_000.0  # seconds of arrivals, each seed
SHORT_LOADS = (0.2, 0.6)
EXACT = 1e-9
CLASSES = {"people on quality, agents on coder": PEOPLE_ON_LARGE, "agents on quality, people on coder": PEOPLE_ON_SMALL}
MIXED_LOADS = (0.4, 0.6, 0.8)


@cache
def _solved(load: float, classes: Classes) -> Solved:
    return solve(mdp_world.world(load, classes))


def play_solved(load: float, classes: Classes, seed: int, horizon: float) -> Figures:
    """The solved policy on the jobs of that seed."""
    jobs = mdp_world.exponential(load, seed, horizon, classes)
    return figures(mdp_rule.play(_solved(load, classes), mdp_world.host(), jobs))


def play_ours(load: float, classes: Classes, seed: int, horizon: float) -> Figures:
    """Ours on the same jobs."""
    return play(OURS, mdp_world.exponential(load, seed, horizon, classes), mdp_world.host())


def _worlds(form: Form) -> list[tuple[str, float, Classes]]:
    """What a finding is called, its load, and who asks for which model."""
    worlds = [(f"load {load:g}", load, AGENTS) for load in (SHORT_LOADS if form.short else LIMITS)]
    if form.short:
        return worlds
    return worlds + [
        (f"load {load:g}, {who}", load, classes) for who, classes in CLASSES.items() for load in MIXED_LOADS
    ]


def _tasks(form: Form) -> list[Task]:
    return [
        Task(function, (load, classes, seed, HORIZON))
        for _, load, classes in _worlds(form)
        for function in (play_solved, play_ours)
        for seed in form.seeds
    ]


def _judge(form: Form, values: Sequence[Any]) -> list[Finding]:
    rest, count = list(values), len(form.seeds)
    findings = [
        Finding(
            "as simulated",
            f"changes take {mdp_world.SIMULATED[0]:g} s to quality and {mdp_world.SIMULATED[1]:g} s to coder, "
            "cost = weight of the class x seconds waited + seconds of loading",
        )
    ]
    ours: list[Figures] = []
    for subject, load, classes in _worlds(form):
        best = [rest.pop(0) for _ in range(count)]
        mine = [rest.pop(0) for _ in range(count)]
        ours += mine
        paired = ratio_of_means([each.j for each in mine], [each.j for each in best])
        j = sum(each.j for each in mine) / count, sum(each.j for each in best) / count
        text = f"{paired}  J {j[0]:.0f} : {j[1]:.0f}"
        if classes == AGENTS:
            findings.append(at_most(subject, paired.value, LIMITS[load] + EXACT, text))
        else:
            findings.append(Finding(subject, text))
    return [*findings, kept(ours)]


BEST_ONLINE = Row("mdp", "J against the best policy that does not know the future (ours : its)", _tasks, _judge)

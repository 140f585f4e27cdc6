"""The clairvoyant optimum: as good as trying everything, as dear as it says, never beaten by those who know less."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.simulator import baselines
from scheduler.simulator.host import CODER, FAST, GB, QUALITY, Host, HostModel, documented, pairs_host
from scheduler.simulator.mdp_world import exponential, host as two_models
from scheduler.simulator.optimum import arrived, bound, search, unhindered
from scheduler.simulator.optimum_brute import brute
from scheduler.simulator.optimum_lanes import TooMuch
from scheduler.simulator.optimum_played import play
from scheduler.simulator.optimum_problem import problem
from scheduler.simulator.optimum_search import Label, beam, exact, insert
from scheduler.simulator.run import simulate
from scheduler.simulator.workload import Job, read

WORKLOADS = Path(__file__).parent / "data" / "workloads"
HOSTS = (((35, 20), 38), ((35, 20, 5), 38), ((35, 20, 5), 48), ((20, 20, 20), 30), ((35, 20, 5, 4), 38))
"""Sizes of models and budgets, GB: two that exclude each other, one against two, one beside both, three, one against
three."""


def tiny(seed: int) -> tuple[list[Job], Host]:
    """A few requests on one of the hosts, of one weight a model or, every third time, of several."""
    chance = random.Random(seed)
    sizes, budget = HOSTS[seed % len(HOSTS)]
    models = tuple(
        HostModel(
            f"m{which}",
            size * GB,
            round(chance.uniform(1, 20), 1),
            round(chance.uniform(0, 3), 1),
            chance.randint(1, 2),
        )
        for which, size in enumerate(sizes)
    )
    classes = ("interactive", "agent", "batch", "probe")
    usual = {model.name: chance.choice(classes[:3]) for model in models}
    within = chance.choice((20, 100))
    jobs = []
    for number in range(chance.randint(2, (5, 5, 5, 4, 3)[seed % len(HOSTS)])):
        name = chance.choice(models).name
        cls = chance.choice(classes) if not seed % 3 else usual[name]
        time, service = round(chance.uniform(0, within), 1), round(chance.uniform(0.5, 30), 1)
        jobs.append(Job(str(number), name, service, cls, t=time))
    return jobs, Host(models, budget * GB, ())


def workload(name: str, most: int | None = None) -> list[Job]:
    """The first requests of a workload of the traces."""
    return read(WORKLOADS / f"{name}.jsonl.gz")[:most]


def check_tiny(seed: int) -> None:
    """Trying everything finds nothing cheaper than the search, and finds what costs as much."""
    jobs, machine = tiny(seed)
    found = search(problem(jobs, machine))
    assert found.exact
    assert brute(jobs, machine, found.cost + 1e-6) == pytest.approx(found.cost, abs=1e-6), seed


@pytest.mark.parametrize("first", range(0, 80, 20))
def test_trying_everything_finds_nothing_cheaper(first: int) -> None:
    """Eighty random instances of all kinds of hosts: the exact optimum is what brute force finds."""
    for seed in range(first, first + 20):
        check_tiny(seed)


@pytest.mark.long
@pytest.mark.parametrize("first", range(1000, 1600, 50))
def test_trying_everything_many_times(first: int) -> None:
    """Six hundred more of them."""
    for seed in range(first, first + 50):
        check_tiny(seed)


@pytest.mark.parametrize(
    ("name", "most", "budget"),
    [("alternate-5s.0", 60, 38), ("poisson-0.2.0", 90, 38), ("poisson-0.6.1", 120, 48), ("poisson-0.9.0", 90, 48)],
)
def test_a_plan_costs_what_it_says(name: str, most: int, budget: int) -> None:
    """On a stage that counts memory, slots and seconds itself, the exact plan and the beam's cost what was found; and
    the exact one is no dearer."""
    jobs, machine = workload(name, most), documented(budget * GB)
    wanted = problem(jobs, machine)
    rough = beam(wanted, 3)
    best = exact(wanted, rough.cost, 500_000)
    for found in (rough, best):
        result = play(found, wanted, machine, jobs)
        assert result.unserved == 0
        assert result.j == pytest.approx(found.cost, abs=1e-6)
    assert best.exact
    assert not rough.exact
    assert best.cost <= rough.cost + 1e-6


@pytest.mark.parametrize(
    ("name", "each"),
    [("alternate-5s.0", 21.6), ("alternate-10s.0", 18.9), ("alternate-20s.0", 18.0), ("alternate-40s.0", 15.2)],
)
def test_the_study_found_the_same(name: str, each: float) -> None:
    """J a request of the first 100 of the alternations is what the scheduling study's own exact optimum was."""
    least = bound(workload(name, 100), documented())
    assert least.exact
    assert least.note == "exact"
    assert least.j / 100 == pytest.approx(each, abs=0.051)


@pytest.mark.parametrize(("name", "budget"), [("poisson-0.4.2", 38), ("poisson-0.8.1", 48), ("alternate-10s.0", 38)])
def test_no_policy_that_knows_less_is_cheaper(name: str, budget: int) -> None:
    """Neither ours nor any baseline beats the optimum of the same requests."""
    jobs, machine = workload(name, 110), documented(budget * GB)
    least = bound(jobs, machine)
    assert least.exact
    results = [*(baselines.run(policy, jobs, machine) for policy in baselines.NAMES), simulate(jobs, machine)]
    assert all(result.unserved == 0 and result.j >= least.j - 1e-6 for result in results)
    assert min(result.j for result in results) < 4 * least.j


def test_only_what_is_neither_sooner_nor_cheaper_is_dropped() -> None:
    """Of labels with the same served those stay that no other is at once as soon and as cheap as."""
    chance = random.Random(5)
    for _ in range(200):
        labels: list[Label] = [
            (float(chance.randint(0, 9)), float(chance.randint(0, 9)), (1,), 0, None, 0.0) for _ in range(12)
        ]
        fronts: dict[tuple[int, ...], list[Label]] = {}
        for label in labels:
            insert(fronts, label)
        pairs = {label[:2] for label in labels}
        best = [one for one in pairs if not any(o != one and o[0] <= one[0] and o[1] <= one[1] for o in pairs)]
        assert [label[:2] for label in fronts[1,]] == sorted(best)


def test_what_arrives_after_others_is_replayed() -> None:
    """A closed loop is bounded at the arrivals of a run, or at those that it would have without loading; it is said."""
    jobs, machine = workload("pairs.0", 40), pairs_host()
    ours = simulate(jobs, machine)
    least = bound(jobs, machine, ours)
    assert least.exact
    assert least.note == "exact; arrivals as under default"
    assert least.j <= ours.j
    assert least.j == search(problem(jobs, machine, arrived(ours))).cost
    free = bound(jobs, machine)
    assert free.j != least.j
    assert free.note == "exact; arrivals as if no model had to be loaded"
    assert set(unhindered(jobs, machine)) == {job.id for job in jobs} == set(arrived(ours))
    with pytest.raises(KeyError, match="arrives after others"):
        problem(jobs, machine)


def test_without_loading_nobody_waits_but_for_slots() -> None:
    """Arrivals as if no model had to be loaded: each follows its predecessor's service and the pause."""
    machine = documented()
    jobs = [
        Job("a", QUALITY, 10.0, "agent", t=5.0),
        Job("b", CODER, 4.0, "agent", after=("a",), think=1.0),
        Job("c", FAST, 1.0, "helper", after=("a", "b"), think=2.0),
    ]
    assert unhindered(jobs, machine) == {"a": 5.0, "b": 16.0, "c": 22.0}


def test_a_probe_costs_nothing() -> None:
    """Probes, and requests for models that are not there or can never fit, are nobody's business."""
    machine = documented(30 * GB)
    jobs = [
        Job("p", CODER, 1.0, "probe", t=0.0),
        Job("q", QUALITY, 1.0, "agent", t=0.0),
        Job("x", "unknown", 1.0, "agent", t=0.0),
    ]
    assert bound(jobs, machine).j == 0.0
    assert bound([], machine).j == 0.0
    assert bound([*jobs, Job("c", CODER, 1.0, "interactive", t=2.0)], machine).j == pytest.approx(12 + 3 * 10)


def test_models_that_are_no_plain_groups_have_a_lower_bound() -> None:
    """Where any two fit and all three do not, all are taken to fit; below what trying everything finds, and said."""
    models = tuple(HostModel(name, 10 * GB, 5.0, 1.0, 1) for name in "abc")
    machine = Host(models, 20 * GB, ())
    jobs = [Job(str(number), "abc"[number % 3], 4.0, "agent", t=3.0 * number) for number in range(5)]
    least = bound(jobs, machine)
    assert not least.exact
    assert "lower bound" in least.note
    assert least.j < brute(jobs, machine)


def test_what_is_too_much_is_a_beam() -> None:
    """Where the exact search is given up, the best plan of the beam stands, which is said and costs no less."""
    jobs, machine = workload("poisson-0.4.0", 120), documented()
    full, rough = bound(jobs, machine), bound(jobs, machine, work=100, width=3)
    assert full.exact
    assert not rough.exact
    assert rough.note == "best plan of a beam of 3; the optimum may be lower"
    assert rough.j >= full.j - 1e-6
    with pytest.raises(TooMuch):
        exact(problem(jobs, machine), full.j, 100)


def test_a_heavier_lane_may_pass() -> None:
    """Two weights on one model are two lanes: the interactive request that came later is served first."""
    machine = replace(two_models(), models=(HostModel(QUALITY, 35 * GB, 10.0, 0.0, 1),))
    jobs = [Job("a", QUALITY, 20.0, "batch", t=0.0), Job("b", QUALITY, 5.0, "interactive", t=1.0)]
    assert bound(jobs, machine).j == pytest.approx(10 + 3 * 9 + 0.5 * 15)
    with pytest.raises(ValueError, match="order"):
        play(search(problem(jobs, machine)), problem(jobs, machine), machine, jobs)


def test_three_that_exclude_each_other() -> None:
    """Plans over more than two groups hold on the stage too, and beat the baselines."""
    chance = random.Random(7)
    models = tuple(HostModel(name, 20 * GB, 8.0, 1.0, 2) for name in "abc")
    machine = Host(models, 30 * GB, ())
    jobs = [
        Job(str(number), chance.choice("abc"), chance.uniform(2, 20), "agent", t=chance.uniform(0, 600))
        for number in range(45)
    ]
    wanted = problem(jobs, machine)
    found = search(wanted)
    assert found.exact
    assert play(found, wanted, machine, jobs).j == pytest.approx(found.cost, abs=1e-6)
    assert all(baselines.run(name, jobs, machine).j >= found.cost for name in ("lru", "sets", "fifo"))


@pytest.mark.long
@pytest.mark.parametrize("load", [0.2, 0.6, 0.8])
def test_the_future_is_worth_something(load: float) -> None:
    """On exponential worlds of 300 requests the optimum is exact and below the plain policies."""
    jobs, machine = exponential(load, 1, 20_000.0)[:300], two_models()
    least = bound(jobs, machine, work=3_000_000)
    assert least.exact
    assert least.j <= min(simulate(jobs, machine).j, baselines.run("sets", jobs, machine).j)

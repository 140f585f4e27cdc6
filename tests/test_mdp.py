"""The best policy that does not know the future: solved, known where it can be known otherwise, and played."""

from dataclasses import replace
from statistics import mean, stdev

import numpy as np
import pytest

from scheduler.simulator.mdp import GO, STAY, Solved, evaluate, exhaustive, solve
from scheduler.simulator.mdp_rule import play
from scheduler.simulator.mdp_world import MEANS, NAMES, exponential, host, studied, world


@pytest.fixture(scope="module")
def solved() -> dict[float, Solved]:
    """The best policies of worlds with change times as simulated."""
    return {load: solve(world(load)) for load in (0.2, 0.4, 0.6)}


def erlang_c(load: float, slots: int) -> float:
    """The share of requests that wait at all where `load` Erlangs come to `slots` (A. K. Erlang, 1917)."""
    blocked = 1.0
    for slot in range(1, slots + 1):
        blocked = load * blocked / (slot + load * blocked)
    return blocked / (1 - load / slots * (1 - blocked))


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_a_world_with_one_model_is_the_queue_that_everybody_knows(load: float) -> None:
    """With no requests for coder, nobody changes and the mean wait is that of M/M/2 by Erlang's formula."""
    rate = load * 2 / MEANS[0]
    alone = replace(world(0.5), arrivals=(rate, 1e-12), most=60)
    expected = erlang_c(rate * MEANS[0], 2) / (2 / MEANS[0] - rate)
    assert evaluate(alone, exhaustive(alone)).j == pytest.approx(expected, rel=2e-3)


def test_what_is_solved_is_what_it_costs(solved: dict[float, Solved]) -> None:
    """The cost of the best policy as solved and that of its table evaluated as any other policy's are one."""
    for each in solved.values():
        again = evaluate(each.world, each.acts)
        assert again.j == pytest.approx(each.j, rel=1e-3)
        assert each.error <= 5e-4 * each.j


def test_no_table_costs_less_than_the_best(solved: dict[float, Solved]) -> None:
    """The plain rule and the best tables of other loads cost no less; the plain rule at most 2 % more."""
    for best, other in zip(solved.values(), reversed(solved.values()), strict=True):
        plain = evaluate(best.world, exhaustive(best.world))
        assert best.j - best.error <= plain.j <= 1.02 * best.j
        assert evaluate(best.world, other.acts, 2e-3).j >= best.j * (1 - 2e-3)
    held = exhaustive(solved[0.4].world)
    held[0][0, 0, 1:6] = STAY
    assert evaluate(solved[0.4].world, held).j > 1.05 * solved[0.4].j


def test_the_best_leaves_what_is_drained(solved: dict[float, Solved]) -> None:
    """Drained, quality is left for more the higher the load, coder for one; and never two who wait for one or two."""
    assert [each.leaves(0) for each in solved.values()] == [1, 1, 2]
    assert [each.leaves(1) for each in solved.values()] == [1, 1, 1]
    for each in solved.values():
        quality, coder = each.acts
        assert not (quality[0, 2:10, :3] == GO).any()
        assert not (coder[0, :3, 2:10] == GO).any()


def test_changes_of_many_phases_are_changes_of_a_fixed_time() -> None:
    """Erlang change times tend to fixed ones: of two phases the cost is higher, of forty it is nearly that of none."""
    fixed = world(0.3)
    few, many = (solve(replace(fixed, phases=phases, most=20)).j for phases in (2, 20))
    none = solve(replace(fixed, most=20)).j
    assert none < many < few
    assert many == pytest.approx(none, rel=5e-3)


def test_a_table_played_costs_what_was_solved(solved: dict[float, Solved]) -> None:
    """In the event simulator, which shares nothing with the solver, the table costs what it should within chance."""
    for load, each in solved.items():
        seen = []
        for seed in range(12):
            jobs = exponential(load, seed, 20_000.0)
            result = play(each, host(), jobs)
            assert result.unserved == 0
            seen.append(result.j / len(jobs))
        assert abs(mean(seen) - each.j) < 3 * stdev(seen) / len(seen) ** 0.5


def test_the_jobs_are_of_the_world_that_was_solved() -> None:
    """Arrival rates, shares and mean services of many generated jobs are those of the world."""
    horizon = 400_000.0
    jobs = exponential(0.5, 3, horizon)
    for which, name in enumerate(NAMES):
        services = [job.service for job in jobs if job.model == name]
        assert len(services) / horizon == pytest.approx(world(0.5).arrivals[which], rel=0.03)
        assert mean(services) == pytest.approx(MEANS[which], rel=0.03)
    assert all(job.t is not None and job.t < horizon for job in jobs)
    assert exponential(0.5, 3, horizon) == jobs
    assert exponential(0.5, 4, 1000.0) != exponential(0.5, 3, 1000.0)


def test_too_much_load_has_no_cost() -> None:
    """A bad bargain with time is told instead of a wrong number."""
    with pytest.raises(ArithmeticError, match="after 100 rounds"):
        solve(world(0.8), rounds=100)


def test_of_equal_decisions_the_quiet_one_is_taken(solved: dict[float, Solved]) -> None:
    """With nobody waiting anywhere the best policy stays where it is."""
    for each in solved.values():
        for acts in each.acts:
            assert (acts[:, 0, 0] == STAY).all()
            assert acts.dtype == np.int8


@pytest.mark.long
@pytest.mark.parametrize("load", [0.1, 0.3, 0.5, 0.7, 0.8])
def test_the_other_loads_too(load: float) -> None:
    """At every load the table played costs what was solved; with the change times of the study it would cost more."""
    best = solve(world(load))
    seen = []
    for seed in range(20):
        jobs = exponential(load, seed, 60_000.0)
        seen.append(play(best, host(), jobs).j / len(jobs))
    assert abs(mean(seen) - best.j) < 3 * stdev(seen) / len(seen) ** 0.5
    assert best.j < solve(studied(load)).j

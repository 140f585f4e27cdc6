"""The stated bound B: clients that mean ill cannot make anybody wait past it, and no simulation breaks it.

CI besets 700 worlds, beside the 1,400 runs of tests/test_promises.py that are watched in the same way; with
HYPOTHESIS_PROFILE=long ten times as many, others each day.
"""

import datetime
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from policies import bound, default
from scheduler.core import messages as m
from scheduler.core.machine import Machine
from scheduler.simulator.host import CODER, GB, QUALITY, documented
from scheduler.simulator.measures import Result
from scheduler.simulator.run import configuration, simulate
from scheduler.simulator.watch_bound import SLACK, BoundBroken, BoundWatch, Wait, watched
from scheduler.simulator.workload import Job
from tests.promises.bound import Bound
from tests.world_adversaries import TRICKS, beset
from tests.world_parts import Broken

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
RUNS = 7_000 if LONG else 700
FIRST = datetime.datetime.now(datetime.UTC).toordinal() * RUNS if LONG else 0

HOST = documented(38 * GB)


@pytest.mark.promises
@pytest.mark.timeout(3_600 if LONG else 600)
def test_nobody_waits_past_the_bound_whoever_means_ill() -> None:
    """Greedy, alternating, bursting and fickle clients, and failures among them: B is never exceeded."""
    played: Counter[str] = Counter()
    forced = checked = 0
    for seed in range(FIRST, FIRST + RUNS):
        watch = Bound()
        try:
            world, adversary = beset("default", seed, [watch])
        except Broken as error:
            pytest.fail(f"seed {seed}: {error}", pytrace=False)
        played.update(adversary.played)
        forced += world.machine.state.memo.forced_at is not None
        checked += watch.checked
    assert checked > 100 * RUNS
    assert forced > RUNS / 4, "hardly any change was forced: these adversaries are harmless"
    assert all(played[trick] > RUNS / 4 for trick in TRICKS), played


def greedy(seconds: float = 1200.0) -> list[Job]:
    """Six coders that leave no gap, and after a minute somebody who waits for quality."""
    jobs = []
    for client in range(6):
        for number in range(int(seconds / 10)):
            after = (f"c{client}-{number - 1}",) if number else ()
            first = None if number else 0.1 * client
            jobs.append(Job(f"c{client}-{number}", CODER, 10.0, "agent", f"coder {client}", first, after))
    return [*jobs, Job("asks", QUALITY, 5.0, "interactive", "a person", 60.0)]


def test_the_bound_is_asserted_in_a_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that never forces a change is caught where it is simulated, with the story of who waited."""
    result = watched(greedy(), HOST)
    waited = next(each.wait for each in result.served if each.job.id == "asks")
    assert 100.0 < waited < 400.0, "the change was not forced"

    claims = default._claims
    monkeypatch.setattr(default, "_claims", lambda world: [replace(claim, due=None) for claim in claims(world)])
    with pytest.raises(BoundBroken, match=r"asks \(interactive\) has waited .* longest running request"):
        watched(greedy(3600.0), HOST)


def test_a_policy_that_states_no_bound_is_not_held_to_it() -> None:
    """fifo lets a person wait as long as it likes; but nobody says that it does not."""
    assert watched(greedy(), HOST, "fifo").max > 0


def test_the_bound_is_made_of_what_occurred() -> None:
    """One forced change: its terms are the patience or floor, the request that ran, the change that was under way and
    the turn of the other set; the wait ends with the first order for it."""
    watch = BoundWatch()
    seen: list[tuple[float, m.Order]] = []

    def both(fact: m.Fact, orders: Sequence[m.Order], machine: Machine) -> None:
        watch(fact, orders, machine)
        seen.extend((fact.at, order) for order in orders if isinstance(order, m.Unload) and order.model == CODER)

    simulate(greedy(), HOST, witness=both)
    wait = watch.closest
    assert wait is not None
    assert wait.request == "asks"
    assert seen[0][0] - 10.0 <= wait.at <= seen[0][0], "it was nearest to it when the coder was told to leave"
    assert wait.counted == pytest.approx(wait.at - 60.0)
    assert wait.patience == 150.0
    assert 8.0 < wait.running <= 10.0
    assert [turn.members for turn in wait.turns] == [HOST.sets[1]]
    assert wait.bound == pytest.approx(
        max(wait.patience, wait.floor)
        + wait.running
        + wait.committed
        + wait.turns[0].change
        + wait.turns[0].keeps
        + SLACK
    )


def test_floor_and_turn_are_asked_of_the_policy() -> None:
    """Whoever states another floor or turn is held to that one."""

    def of(floor: float, turn: float) -> Wait:
        watch = BoundWatch(lambda world: floor, lambda world: turn)
        simulate(greedy(), HOST, witness=watch)
        assert watch.closest is not None
        return watch.closest

    assert of(1000.0, 50.0).bound - of(500.0, 20.0).bound == pytest.approx(530.0, abs=25.0)
    assert BoundWatch()._floor is bound.floor
    strict = BoundWatch(lambda world: 0.0, lambda world: 0.0)
    simulate([replace(job, cls="helper") for job in greedy()], HOST, witness=strict)
    assert strict.broken, "without floor and turn the policy is past the bound"
    assert len({wait.request for wait in strict.broken}) == len(strict.broken), "told once each"


def ill(fact: m.Fact) -> Result:
    """The greedy, with something that happens 100 s after the person has asked and is over after 1,000 s."""
    back = {m.OllamaDown: m.OllamaUp(1160.0, "back"), m.Paused: m.Resumed(1160.0, "a person")}
    patient = replace(configuration(HOST, "default"), ollama_wait=1e6)
    return watched(greedy(3600.0), HOST, events=[fact, back[type(fact)]], config=patient)


@pytest.mark.parametrize("fact", [m.OllamaDown(160.0, "gone"), m.Paused(160.0, "a person", None, "wait")])
def test_unhealthy_time_is_not_counted(fact: m.Fact) -> None:
    """While Ollama is away, or a person has paused everything, nobody's bound runs out."""
    result = ill(fact)
    waited = next(each.wait for each in result.served if each.job.id == "asks")
    assert waited > 1000.0

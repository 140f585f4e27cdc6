"""What is expected is loaded ahead, just in time, once such guesses came true.

A restart sends nobody away for it, and no idle limit is undone by it.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from scheduler import saved
from scheduler.core import messages as m
from scheduler.core.machine import Machine
from scheduler.simulator import mdp_world
from scheduler.simulator.generate import make
from scheduler.simulator.generate_days import DAY
from scheduler.simulator.host import GB, QUALITY, Host, documented
from scheduler.simulator.run import simulate
from scheduler.simulator.workload import Job
from tests.scenario import Story, Told

STAGE = """budget 38GB device 45GB
model quality 35GB
model coder 20GB
set big quality
set coding coder"""
ROUND = """arrive {0}{2} {1}
wait 2s
unloaded {3}
wait 9s
loaded {1}
wait 2s
ended {0}{2}
wait 60s"""
EXPECTED, FORESEEN = "coder is expected", "is expected"


def told(stage: str = STAGE) -> Story:
    """A story in which quality and coder were asked for in turns, a minute between, and quality was asked for last."""
    stage_told = Told()
    for line in stage.splitlines():
        stage_told.tell(line)
    story = Story(stage_told)
    for number in range(6):
        for args in (("q", "quality", number, "coder"), ("c", "coder", number, "quality")):
            for line in ROUND.format(*args).splitlines():
                story.tell(line)
    story.tell("quiet on")
    for line in ROUND.format("q", "quality", 9, "coder").splitlines()[:-1]:
        story.tell(line)
    story.printed = []
    return story


def test_after_a_restart_nobody_is_sent_away_for_what_is_expected() -> None:
    """The past is known over restarts, but a start unloads nothing by itself (promise 9): quality, adopted, stays until
    somebody has asked for something; without a restart coder would have been loaded by then."""
    story = told()
    past, stopped = saved.saved_of(story.machine.state, 0.0), story.at
    story.tell("quiet off")
    story.wait(50.0)
    assert any(EXPECTED in line for line in story.printed)

    later = Story(story.told)
    later.at = stopped + 10.0  # before coder was ever asked for: it is to be expected still
    later.machine = saved.apply(past, Machine.fresh(story.config, later.at), 0.0)
    later.post(m.MemorySeen(later.at, later.told.budget, "the story", device=later.told.device))
    later.post(m.ModelsListed(later.at, tuple(later.told.models.values())))
    later.post(m.OllamaUp(later.at, "0.32.1"))
    later.residents(["quality"])
    later.printed = []
    later.wait(60.0)
    assert later.printed == []
    assert later.machine.state.models["quality"].state == "ready"


@pytest.mark.parametrize(("limit", "loaded"), [(5.0, False), (25.0, True), (120.0, True)])
def test_what_would_be_idle_before_it_is_asked_for_is_not_loaded_ahead(limit: float, loaded: bool) -> None:
    """Coder is asked for a minute from now: with an idle limit of 5 s it would have gone again by then."""
    story = told()
    story.config = replace(story.config, idle_limits=(("coder", limit),))
    story.post(m.Reloaded(story.at, story.config))
    story.tell("quiet off")
    story.wait(50.0)
    assert any(EXPECTED in line for line in story.printed) == loaded


# --- when a guess is acted on ------------------------------------------------------------------------------------


def played(jobs: Sequence[Job], host: Host) -> list[tuple[float, str, str]]:
    """Second, model and reason of every load of a simulation."""
    loads: list[tuple[float, str, str]] = []

    def see(fact: m.Fact, orders: Sequence[m.Order], _: Machine) -> None:
        loads.extend((fact.at, order.model, order.because) for order in orders if isinstance(order, m.Load))

    simulate(jobs, host, witness=see)
    return loads


def test_turns_are_expected_after_a_few_and_met_just_in_time() -> None:
    """Two models in turn, one each 40 s: from the sixth turn that was foreseen every load is over when it is asked for,
    and begins no earlier than that needs."""
    loads = played(make("alternate-40s"), documented(38 * GB))
    ahead = [at for at, _, because in loads if FORESEEN in because]
    assert len(ahead) >= 100
    assert ahead[0] > 5 * 40
    takes = {model.name: model.load for model in documented(38 * GB).models}
    for at, model, because in loads:
        if FORESEEN in because:
            spare = 40 - (at + takes[model]) % 40
            assert 0 < spare <= 8


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_chance_is_not_acted_on(seed: int) -> None:
    """Poisson arrivals for hours: what looks like a pattern now and then is not one, and nothing is loaded for it."""
    loads = played(mdp_world.exponential(0.2, seed, 10_000.0), mdp_world.host())
    assert len(loads) > 50
    assert [because for _, _, because in loads if FORESEEN in because] == []


def test_an_appointment_is_met_just_in_time() -> None:
    """The office's days: in the second week, what is asked for at half past eight is loaded in the half hour before it,
    on most days, and not when the work of the evening is over."""
    loads = played(make("office", 3), documented(38 * GB))
    ahead = [at for at, model, because in loads if model == QUALITY and FORESEEN in because]
    mornings = [at % DAY / 3600 for at in ahead if at > 7 * DAY and at % DAY < 9 * 3600]
    assert len(mornings) >= 5
    assert all(8.0 < hour < 8.6 for hour in mornings)


# --- when a drained model stays ----------------------------------------------------------------------------------


def verdicts(jobs: Sequence[Job], host: Host) -> list[str]:
    """Why nothing changed, as the policy said it at each step of a simulation."""
    said: list[str] = []

    def see(_: m.Fact, __: Sequence[m.Order], machine: Machine) -> None:
        said.append(machine.state.verdict)

    simulate(jobs, host, witness=see)
    return said


@pytest.mark.parametrize(
    ("name", "why"),
    [("pairs", "it is usually asked for together"), ("alternate-10s", "more than one after the next request")],
)
def test_what_is_wanted_again_stays(name: str, why: str) -> None:
    """For a moment what usually comes in company, and until the next request what a known turn asks for again."""
    assert any(why in verdict for verdict in verdicts(make(name), documented(38 * GB)))


def test_by_chance_nothing_is_held() -> None:
    """Poisson arrivals: nobody waits because of a guess."""
    said = verdicts(mdp_world.exponential(0.2, 1, 10_000.0), mdp_world.host())
    assert any("busy" in verdict for verdict in said)
    assert not any("after the next request" in verdict for verdict in said)

"""What is expected is loaded ahead, but a restart sends nobody away for it, and no idle limit is undone by it."""

from dataclasses import replace

import pytest

from scheduler import saved
from scheduler.core import messages as m
from scheduler.core.machine import Machine
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
EXPECTED = "coder is expected"


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
    past = saved.saved_of(story.machine.state, 0.0)
    story.tell("quiet off")
    assert any(EXPECTED in line for line in story.printed)

    later = Story(story.told)
    later.at = story.at + 10.0
    later.machine = saved.apply(past, Machine.fresh(story.config, later.at), 0.0)
    later.post(m.MemorySeen(later.at, later.told.budget, "the story", device=later.told.device))
    later.post(m.ModelsListed(later.at, tuple(later.told.models.values())))
    later.post(m.OllamaUp(later.at, "0.32.1"))
    later.residents(["quality"])
    later.printed = []
    later.wait(30.0)
    assert later.printed == []
    assert later.machine.state.models["quality"].state == "ready"


@pytest.mark.parametrize(("limit", "loaded"), [(20.0, False), (120.0, True)])
def test_what_would_be_idle_before_it_is_asked_for_is_not_loaded_ahead(limit: float, loaded: bool) -> None:
    """Coder is asked for a minute from now: with an idle limit of 20 s it would have gone again by then."""
    story = told()
    story.config = replace(story.config, idle_limits=(("coder", limit),))
    story.post(m.Reloaded(story.at, story.config))
    story.tell("quiet off")
    story.wait(3.0)
    assert any(EXPECTED in line for line in story.printed) == loaded

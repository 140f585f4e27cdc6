"""The baselines are the world that the published figures were computed in, and each rule does what its page says."""

from __future__ import annotations

import pytest

from scheduler.simulator import baselines
from scheduler.simulator.baselines_sets import allowed_sets
from scheduler.simulator.host import CODER, FAST, GB, QUALITY, documented, pairs_host
from scheduler.simulator.workload import Job
from tests.orientation import pairs


@pytest.mark.parametrize(("name", "equal"), [("lru", 127), ("sets", 125), ("fifo", 126)])
def test_the_published_figures_come_out(name: str, equal: int) -> None:
    """J and loads agree within 5 % on all 127 entries, and to the published digit on all but three runs of 381."""
    found = list(pairs([name]))
    assert len(found) == 127
    assert [one.entry for one in found if not one.close] == []
    assert sum(one.equal for one in found) >= equal


def test_the_sets_of_each_budget() -> None:
    """What may be together follows from the budget alone: three models, two pairs, or one pair and one alone."""
    assert allowed_sets(documented(60 * GB)) == ((QUALITY, CODER, FAST),)
    assert allowed_sets(documented(48 * GB)) == ((QUALITY, FAST), (CODER, FAST))
    assert allowed_sets(documented(38 * GB)) == ((QUALITY,), (CODER, FAST))


def _waits(name: str, jobs: list[Job], budget: int = 38 * GB) -> dict[str, float]:
    result = baselines.run(name, jobs, documented(budget))
    assert result.unserved == 0
    return {served.job.id: served.wait for served in result.served}


def test_lru_lets_nothing_overtake() -> None:
    """A request for the resident model waits behind one for an absent model, until both changes are through."""
    jobs = [
        Job("a", CODER, 100.0, "agent", t=0.0),
        Job("b", QUALITY, 10.0, "interactive", t=20.0),
        Job("c", CODER, 10.0, "agent", t=21.0),
    ]
    waits = _waits("lru", jobs)
    assert waits["a"] == 12.0
    assert waits["b"] == pytest.approx(112 - 20 + 1.5 + 18)
    assert waits["c"] == pytest.approx(112 + 1.5 + 18 + 10 + 2 + 12 - 21)


def test_sets_lets_a_resident_model_starve_others() -> None:
    """Whoever asks for the resident model goes through at once, and the other waits until it happens to be idle."""
    jobs = [
        Job("a", CODER, 100.0, "agent", t=0.0),
        Job("b", QUALITY, 10.0, "interactive", t=20.0),
        Job("c", CODER, 200.0, "agent", t=100.0),
    ]
    waits = _waits("sets", jobs)
    assert waits["c"] == 0.0
    assert waits["b"] == pytest.approx(300 - 20 + 1.5 + 18)


def test_fifo_blocks_behind_its_head() -> None:
    """A request for a model that would fit waits behind one that does not: Ollama looks at one head alone."""
    jobs = [
        Job("a", CODER, 100.0, "agent", t=0.0),
        Job("b", QUALITY, 10.0, "interactive", t=20.0),
        Job("c", FAST, 1.0, "helper", t=21.0),
    ]
    assert _waits("fifo", jobs)["c"] > 100.0
    assert _waits("sets", jobs)["c"] == pytest.approx(4.0)


def test_fifo_unloads_what_was_idle_for_five_minutes() -> None:
    """After 300 s without a request the model leaves, and the next request loads it again."""
    jobs = [Job("a", FAST, 1.0, "helper", t=0.0), Job("b", FAST, 1.0, "helper", t=306.0)]
    assert _waits("fifo", jobs)["b"] == pytest.approx(4.0, abs=0.01)
    jobs[1] = Job("b", FAST, 1.0, "helper", t=304.0)
    assert _waits("fifo", jobs)["b"] == 0.0


def test_what_the_host_lacks_stays_unserved() -> None:
    """A job for an unknown model, and what comes after it, is counted as unserved, and the rest is served."""
    jobs = [
        Job("a", "nobody", 1.0, "agent", t=0.0),
        Job("b", FAST, 1.0, "helper", after=("a",)),
        Job("c", FAST, 1.0, "helper", t=0.0),
    ]
    for name in ("lru", "sets", "fifo"):
        result = baselines.run(name, jobs, pairs_host())
        assert (result.unserved, [served.job.id for served in result.served]) == (2, ["c"])

"""The baselines are the world that the published figures were computed in, and each rule does what its page says."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import pytest

from scheduler.simulator import baselines
from scheduler.simulator.baselines_sets import allowed_sets
from scheduler.simulator.baselines_stage import Asked, Stage
from scheduler.simulator.generate import host_for, make
from scheduler.simulator.host import CODER, FAST, GB, QUALITY, documented, pairs_host
from scheduler.simulator.workload import Job
from tests.orientation import Pair, pairs


@pytest.mark.parametrize(("name", "equal"), [("lru", 127), ("sets", 125), ("fifo", 126)])
def test_the_published_figures_come_out(name: str, equal: int) -> None:
    """J and loads agree within 5 % on all 127 entries, and to the published digit on all but three runs of 381."""
    found = list(pairs([name]))
    assert len(found) == 127
    assert [one.entry for one in found if not one.close] == []
    assert sum(one.equal for one in found) >= equal


def _light(entry: str) -> bool:
    return not entry.startswith(("poisson-0.6", "poisson-0.8", "poisson-0.9", "bursts-and"))


@pytest.mark.parametrize(
    ("which", "least"), [(_light, 85), pytest.param(lambda entry: True, 120, marks=pytest.mark.long)]
)
def test_the_proposal_is_close_to_its_figures(which: Callable[[str], bool], least: int) -> None:
    """J of the proposal, written anew, is within 4 % of the published one in each family, 5 % on nearly all runs."""
    found = list(pairs(["proposal"], which))
    assert sum(abs(one.j / one.their_j - 1) <= 0.05 for one in found) >= least
    families: dict[str, list[Pair]] = {}
    for one in found:
        trace, _, gigabytes = one.entry.partition("|")
        families.setdefault(f"{trace.rpartition('.')[0]} at {gigabytes}", []).append(one)
    for family, runs in families.items():
        assert sum(one.j for one in runs) / sum(one.their_j for one in runs) == pytest.approx(1.0, abs=0.04), family
        longest, theirs = sum(one.longest for one in runs), sum(one.their_longest for one in runs)
        assert longest <= 1.04 * theirs, family


def test_the_proposal_bounds_what_its_shape_alone_does_not() -> None:
    """On the starvation traces the deadline cuts the longest wait to a third, as published."""
    with_deadline, without = (
        list(pairs([name], lambda entry: entry.startswith("starvation")))
        for name in ("proposal", "proposal-no-deadline")
    )
    assert len(with_deadline) == len(without) == 10
    for one, other in zip(with_deadline, without, strict=True):
        assert other.longest == pytest.approx(other.their_longest, abs=0.1)
        assert one.longest < other.longest / 3


def test_the_proposal_answers_probes_itself() -> None:
    """A health check of an absent model loads nothing; of a resident one it takes a slot."""
    probes = [Job(f"p{number}", QUALITY, 1.0, "probe", t=60.0 * number) for number in range(10)]
    result = baselines.run("proposal", probes, documented(38 * GB))
    assert (result.loads, result.unserved) == (0, 0)
    asked = Job("a", QUALITY, 10.0, "interactive", t=0.0)
    result = baselines.run("proposal", [asked, *probes], documented(38 * GB))
    assert result.loads == 1
    assert [served.ended - served.started for served in result.served if served.job.id == "p5"] == [1.0]


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


@pytest.mark.parametrize("name", baselines.NAMES)
def test_slots_and_order_hold(name: str) -> None:
    """Nobody starts before arriving or before whom he waits for, and never are more slots in use than a model has."""
    for workload in ("orchestra", "few-agents", "bursts-and-probes-60s", "three-way"):
        jobs, host = make(workload, 7), host_for(workload, 38)
        result = baselines.run(name, jobs, host)
        assert (result.unserved, len(result.served)) == (0, len(jobs))
        ended = {served.job.id: served.ended for served in result.served}
        for served in result.served:
            assert served.arrived <= served.started <= served.ended
            if served.job.after:
                last = max(ended[other] for other in served.job.after)
                assert served.arrived == pytest.approx(last + served.job.think)
        for model in host.models:
            mine = [one for one in result.served if one.job.model == model.name and one.ended > one.started]
            steps = sorted([(one.started, 1) for one in mine] + [(one.ended, -1) for one in mine])
            assert max(accumulate(step for _, step in steps)) <= model.parallel


def test_the_stage_refuses_what_no_machine_can_do() -> None:
    """A load beyond the budget, an unload of a loading model, a request to an absent one: each is an error."""
    stage = Stage(documented(38 * GB))
    quality, fast = stage.places[QUALITY], stage.places[FAST]
    stage.load(quality)
    with pytest.raises(RuntimeError, match="cannot be loaded"):
        stage.load(fast)
    with pytest.raises(RuntimeError, match="cannot be unloaded"):
        stage.unload(quality)
    with pytest.raises(RuntimeError, match="cannot take"):
        stage.admit(fast, Asked(Job("a", FAST, 1.0, "helper", t=0.0), 0.0))

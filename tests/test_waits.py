"""How long a request will wait, as a range: drawn from what was measured, and no number where nothing was."""

from dataclasses import replace
from typing import Any

from scheduler.core import messages as m
from scheduler.core.config import Config, ModelConfig
from scheduler.measured import KEPT, Measured
from scheduler.waits import ahead_of
from scheduler.why import why
from scheduler.why_request import why_request
from tests.played import CODER, FAST, QUALITY, SIZES
from tests.test_status import EACH
from tests.test_why_request import Watched


class Timed(Watched):
    """A scene in which what was measured is kept."""

    def __init__(self, config: Config = EACH) -> None:
        self.measured = Measured()
        self.number = 0
        super().__init__(config)

    def tell(self, fact: m.Fact) -> list[m.Order]:
        """One fact."""
        orders = super().tell(fact)
        self.measured.note(fact, orders)
        return orders

    def serves(self, name: str, seconds: float) -> None:
        """A request that is answered after so long."""
        self.number += 1
        self.arrive(name, f"before{self.number}")
        self.ends(f"before{self.number}", after=seconds, status=200)

    def would_wait(self, name: str, after: float = 0.0) -> Any:
        """What `why` says of a request for `name`."""
        return why(self.machine.state, name, self.at + after, measured=self.measured)

    def waits(self, request: str, after: float = 0.0) -> Any:
        """The range that is told of one that waits."""
        return self.why(request, after, measured=self.measured)["wait"]


def two_slots() -> Config:
    """Each model a set of its own, with two slots."""
    models = tuple(replace(model, parallel=2) for model in EACH.models)
    return replace(EACH, models=models, num_parallel=2)


def test_nothing_measured_is_no_number() -> None:
    """Before a load was ever measured nobody knows how long one takes, and so it is for answers."""
    scene = Timed()
    scene.arrive(QUALITY, "r1")
    assert scene.waits("r1") is None
    assert not any("By what was measured" in each for each in scene.why("r1", measured=scene.measured)["sentences"])
    scene.load(QUALITY)
    scene.arrive(QUALITY, "r2")
    assert scene.waits("r2") is None, "r1 runs, and no answer of this model was seen to end"
    assert scene.would_wait(QUALITY)["wait"] is None


def test_a_place_in_line() -> None:
    """One runs for 4 s and one waits before it; answers took 10 or 20 s: what is left of the first and the whole of the
    second, between the tenth and the ninetieth per cent."""
    scene = Timed()
    scene.arrive(FAST, "first")
    scene.load(FAST)
    scene.ends("first", after=10.0, status=200)
    for seconds in (10.0, 20.0) * 10:
        scene.serves(FAST, seconds)
    scene.arrive(FAST, "r1")
    scene.arrive(FAST, "r2")
    scene.arrive(FAST, "r3")
    assert scene.waits("r2", 4.0) == [6.0, 16.0]
    assert scene.waits("r3", 4.0) == [16.0, 36.0]
    told = scene.would_wait(FAST, 4.0)
    low, high = told["wait"]
    assert 26.0 <= low <= 36.0 <= high <= 56.0
    assert "By what was measured it gets its slot in" in told["sentences"][2]
    assert scene.waits("r2", 15.0) == [5.0, 5.0], "of what took longer than it has by now"


def test_two_slots_are_faster_than_one() -> None:
    """Whoever is next gets the slot that is free first."""
    scene = Timed(two_slots())
    scene.arrive(FAST, "first")
    scene.load(FAST)
    scene.ends("first", after=10.0, status=200)
    scene.serves(FAST, 10.0)
    for number in range(4):
        scene.arrive(FAST, f"r{number}")
    assert scene.waits("r2", 3.0) == [7.0, 7.0]
    assert scene.waits("r3", 3.0) == [7.0, 7.0]


def test_in_a_pause_there_is_no_number() -> None:
    """Nobody is served before it ends, and no clock runs: neither a range nor a time when the scheduler must act."""
    scene = Timed()
    scene.arrive(QUALITY, "r0")
    scene.load(QUALITY)
    scene.ends("r0", after=4.0, status=200)
    scene.arrive(QUALITY, "running")
    scene.arrive(QUALITY, "r1")
    assert scene.waits("r1") is not None
    scene.tell(m.Paused(scene.at, "ada", None, "wait"))
    told = scene.why("r1", measured=scene.measured)
    assert told["wait"] is None
    assert not any("must act" in each for each in told["sentences"])
    assert scene.would_wait(QUALITY)["wait"] is None


def test_a_change_under_way() -> None:
    """Coder leaves for quality: what is left of the answer that runs, its unload, the load, and nobody ahead."""
    scene = Timed()
    for name, took in ((QUALITY, 30.0), (CODER, 12.0)):  # each was loaded once, and answered in 8 s
        scene.arrive(name, f"for {name}")
        for each in list(scene.machine.state.present):
            if scene.machine.state.models[each].state == "leaving":
                scene.tell(m.Unloaded(scene.at + 2.0, each, 2.0))
        scene.load(name, took)
        scene.ends(f"for {name}", after=8.0, status=200)
    scene.arrive(CODER, "runs")
    scene.arrive(QUALITY, "waits")
    assert scene.machine.state.transition is None
    soonest, latest = scene.waits("waits", 3.0)
    assert soonest == 5.0 + 1.0 + 30.0  # if nobody else comes for coder
    assert latest > 120.0, "it may be as late as its patience"
    verdict = scene.machine.state.verdict
    assert verdict
    assert scene.why("waits")["because"] == f"its turn: {verdict}", "a sentence is no noun"
    scene.ends("runs", after=8.0, status=200)
    assert scene.machine.state.transition is not None
    assert scene.waits("waits") == [31.0, 31.0]
    scene.tell(m.Unloaded(scene.at + 2.0, CODER, 2.0))
    assert scene.waits("waits", 10.0) == [20.0, 20.0]
    told = scene.why("waits", 10.0, measured=scene.measured)
    assert told["expected"][1] == told["wait"][1] == 20.0, "its model is there before it gets its slot"
    assert any(each.startswith("By what was measured it gets its slot in about 20 s") for each in told["sentences"])


def test_what_an_earlier_life_learned_is_spread() -> None:
    """Of that only the mean is known: a range around it, and not a number that looks exact."""
    scene = Timed()
    scene.arrive(FAST, "r1")
    scene.machine.state.models[FAST].load_learned = 10.0
    low, high = scene.waits("r1", 1.0)
    assert (low, high) == (6.0, 14.0)


def test_who_runs_before() -> None:
    """All of a higher class, and the earlier ones of its own."""
    scene = Timed()
    scene.arrive(FAST, "runs")
    scene.load(FAST)
    for number, cls in enumerate(("agent", "interactive", "batch", "agent", "interactive")):
        scene.tell(m.Arrived(scene.at, f"r{number}", FAST, cls=cls))
    requests, model = scene.machine.state.requests, scene.machine.state.models[FAST]
    before = [ahead_of(model, requests[f"r{n}"].cls, requests[f"r{n}"].seq) for n in range(5)]
    assert before == [2, 0, 4, 3, 1]


def test_only_the_last_are_kept() -> None:
    """A machine that has become faster is not told by what it once was."""
    measured = Measured()
    for number in range(2 * KEPT):
        measured.note(m.Loaded(0.0, FAST, SIZES[FAST], 4096, float(number)))
        measured.note(m.Unloaded(0.0, FAST, float(number)))
    for kept in (measured.loads[FAST], measured.unloads[FAST]):
        assert list(kept) == [float(number) for number in range(KEPT, 2 * KEPT)]


def test_fifo_states_no_latest() -> None:
    """Without a bound there is no latest: only what would be if the change began now."""
    scene = Timed(replace(EACH, policy="fifo", models=(*EACH.models, ModelConfig("small:latest", 10**9))))
    scene.arrive(FAST, "r1")
    scene.machine.state.models[FAST].load_learned = 10.0
    assert scene.waits("r1") == [7.0, 15.0]
    assert why_request(scene.machine.state, scene.past.fate("r1"), scene.at)["wait"] is None  # type: ignore[arg-type]

"""`why REQUEST` and what is remembered of requests that are over: from arrival to end, told as it was."""

import time
from dataclasses import replace
from typing import Any

import pytest

from policies.bound import lead
from scheduler.core import messages as m
from scheduler.core.config import Config
from scheduler.core.view import Sets, WorldView
from scheduler.past import REQUESTS, WISHES, Past
from scheduler.why import why
from scheduler.why_request import ENDS, WhyRequest, why_request
from tests.played import CODER, FAST, QUALITY
from tests.test_status import AROUND, EACH, Scene


class Watched(Scene):
    """A scene whose past is kept."""

    def __init__(self, config: Config = EACH) -> None:
        self.past = Past()
        super().__init__(config)

    def tell(self, fact: m.Fact) -> list[m.Order]:
        """One fact."""
        orders = super().tell(fact)
        self.past.note(fact, orders)
        return orders

    def why(self, request: str, after: float = 0.0, **more: Any) -> WhyRequest:
        """What is said of a request `after` seconds after the last fact."""
        fate = self.past.fate(request)
        assert fate is not None
        return why_request(self.machine.state, fate, self.at + after, **more)

    def ends(self, request: str, outcome: Any = "answered", after: float = 2.0, **more: Any) -> None:
        """A request leaves its slot."""
        self.tell(m.Ended(self.at + after, request, outcome, service=after, **more))


def test_from_arrival_to_answer() -> None:
    """It waits for its load, runs, and is over; each time since when, why and what comes next."""
    scene = Watched()
    scene.arrive(FAST, "r1")
    told = scene.why("r1", 3.0)
    assert (told["state"], told["because"], told["age"], told["ahead"], told["ran"]) == (
        "waiting",
        "its load",
        3.0,
        0,
        None,
    )
    assert told["expected"] is not None
    assert "asked for as gpt-4" in told["sentences"][0]
    assert any("should be there in" in each for each in told["sentences"])
    state = scene.machine.state
    ahead = lead(WorldView(state, Sets(state.config, state.phase)), state.models[FAST])
    assert 0.0 < ahead <= state.models[FAST].load_seconds
    due = 150.0 - 3.0 - ahead  # its patience, less what has passed and what a change takes
    assert any(f"must act for it within {due:.0f} s" in each for each in told["sentences"])
    scene.load(FAST)
    told = scene.why("r1", 1.5, stage="generating")
    assert (told["state"], told["waited"], told["ran"]) == ("running", 12.0, 1.5)
    assert "its answer is coming" in told["sentences"][1]
    scene.arrive(FAST, "r2")
    scene.arrive(FAST, "r3")
    assert scene.why("r3")["ahead"] == 1
    assert "a free slot" in scene.why("r3")["because"]
    scene.ends("r1", status=200)
    told = scene.why("r1", 50.0)
    assert (told["state"], told["outcome"], told["status"], told["waited"], told["ran"]) == (
        "over",
        "answered",
        200,
        12.0,
        2.0,
    )
    assert "was answered with 200" in told["sentences"][1]


def test_each_end_is_told() -> None:
    """Refused, left, abandoned, cancelled, canned, failed: by its own words and with what its client read."""
    scene = Watched()
    scene.arrive("nobody:latest", "r1")
    told = scene.why("r1")
    assert (told["outcome"], told["status"]) == ("refused", 404)
    assert "not found" in told["message"]
    scene.arrive(FAST, "r2")
    scene.tell(m.Left(scene.at + 4, "r2"))
    assert (scene.why("r2")["outcome"], scene.why("r2")["waited"]) == ("left", 4.0)
    scene.tell(m.Arrived(scene.at, "r3", QUALITY, kind="probe"))
    assert scene.why("r3")["outcome"] == "canned"
    scene.load(FAST)
    scene.arrive(FAST, "r4")
    scene.tell(m.Left(scene.at + 1, "r4"))
    assert "its client hung up" in scene.why("r4")["sentences"][1]
    scene.ends("r4", "abandoned")
    assert "abandoned" in scene.why("r4")["sentences"][1]
    scene.arrive(FAST, "r5")
    scene.arrive(FAST, "r6")
    scene.tell(m.Cancelled(scene.at, "r6", "ada"))
    assert (scene.why("r6")["outcome"], scene.why("r6")["message"]) == ("refused", "cancelled by ada")
    scene.tell(m.Cancelled(scene.at, "r5", "ada"))
    assert "told to end" in scene.why("r5")["sentences"][1]
    scene.ends("r5", "cancelled", error="cancelled by ada")
    assert "was cancelled while it ran" in scene.why("r5")["sentences"][1]
    scene = Watched()
    scene.arrive(FAST, "r8")
    scene.load(FAST)
    began = scene.at
    scene.tell(m.Cancelled(scene.at, "r8", "ada"))
    scene.tell(m.Returned(began + 3.0, "r8", "cancelled"))
    told = scene.why("r8")
    assert (told["outcome"], told["status"], told["ran"]) == ("refused", 403, 3.0)
    assert "was cancelled while it ran" in told["sentences"][1]
    scene = Watched()
    scene.arrive(FAST, "r7")
    scene.load(FAST)
    scene.ends("r7", "failed", error="Ollama broke off its answer", status=200)
    assert "Ollama broke off its answer" in scene.why("r7")["sentences"][1]


def test_one_that_came_back_waits_again() -> None:
    """A forwarding in vain is no forwarding: it waits since its arrival."""
    scene = Watched()
    scene.arrive(FAST, "r1")
    scene.load(FAST)
    scene.tell(m.Returned(scene.at + 1, "r1", "connection refused"))
    told = scene.why("r1")
    assert (told["state"], told["ran"], told["waited"]) == ("waiting", None, 13.0)


def test_every_outcome_has_words() -> None:
    """Whatever a request may end as, `why` has a sentence for it."""
    assert {*m.Outcome.__args__, "refused", "left", "wish", "wish refused"} == set(ENDS)


def test_wishes_that_are_not_followed_are_remembered() -> None:
    """The last one of each model, told by `why MODEL` with who wished it and why it was not followed."""
    scene = Watched()
    scene.arrive(FAST, "r1")
    scene.load(FAST)
    scene.tell(m.Arrived(scene.at, "w1", FAST, kind="unload", client="127.0.0.1:5"))
    assert scene.why("w1")["outcome"] == "wish refused"
    wish = scene.past.refused_wish(FAST)
    assert wish is not None
    assert wish.client == "127.0.0.1:5"
    said = " ".join(why(scene.machine.state, FAST, scene.at + 9, wish=wish)["sentences"])
    assert f"127.0.0.1:5 wished to have it unloaded 9 s ago; not followed: {wish.because}" in said
    around = replace(AROUND, refused_wishes=scene.past.refused_wishes)
    (row,) = scene.status(around=around)["refused_wishes"]
    assert (row["model"], row["because"]) == (FAST, wish.because)
    assert scene.status()["wishes_refused"] == 1
    scene.ends("r1")
    scene.tell(m.Arrived(scene.at, "w2", FAST, kind="unload", client="127.0.0.1:6"))
    assert scene.why("w2")["outcome"] == "wish"
    assert scene.past.refused_wish(CODER) is None


def test_what_is_remembered_is_bounded() -> None:
    """After thousands of requests and wishes the oldest are forgotten, and nothing is left open."""
    past = Past()
    for number in range(3 * REQUESTS):
        past.note(m.Arrived(1.0, f"r{number}", FAST), [])
        past.note(m.Left(2.0, f"r{number}"), [])
    assert past.fate("r0") is None
    assert past.fate(f"r{2 * REQUESTS}") is not None
    assert past.fate(f"r{2 * REQUESTS - 1}") is None
    for number in range(2 * WISHES):
        wish = m.Arrived(1.0, f"w{number}", f"m{number}:latest", kind="unload")
        past.note(wish, [m.AnswerWish(f"w{number}", "busy", granted=False)])
    assert len(past.refused_wishes) == WISHES
    assert past.refused_wish("m0:latest") is None
    assert not past._open


@pytest.mark.parametrize("waiting", [0, 900])
def test_why_costs_the_same_however_many_wait(waiting: int) -> None:
    """`why MODEL` with 900 waiting takes less than three times as long as with none, and tells the same number."""
    scene = Watched()
    for number in range(waiting):
        scene.arrive((QUALITY, CODER, FAST)[number % 3], f"r{number}")
    none = Watched()
    told = why(scene.machine.state, FAST, scene.at)
    assert (told["would"], told["waiting"]) == ("wait", waiting // 3)
    least = min(_seconds(none) for _ in range(20))
    assert min(_seconds(scene) for _ in range(20)) < 3 * least + 0.001


def _seconds(scene: Scene) -> float:
    began = time.perf_counter()
    why(scene.machine.state, FAST, scene.at)
    return time.perf_counter() - began


def test_what_runs_is_finished_first() -> None:
    """Where something runs, the time by which the scheduler must act is not told as if nothing stood in its way."""
    scene = Watched()
    scene.arrive(FAST, "r1")
    scene.load(FAST)
    scene.arrive(QUALITY, "r2")
    (said,) = [each for each in scene.why("r2")["sentences"] if "must act" in each]
    assert said.endswith(" s; what runs then is finished first, however long that takes.")
    alone = Watched()
    alone.arrive(FAST, "r1")
    assert not any("what runs" in each for each in alone.why("r1")["sentences"])

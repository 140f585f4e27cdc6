"""`bounds`: the bound of promise 4 in numbers, by the policy's own floor and turn, and what has no limit."""

from dataclasses import replace

import pytest

from policies.bound import floor, turn
from scheduler.bounds import UNBOUNDED, bounds
from scheduler.core import messages as m
from scheduler.core.view import Sets, WorldView
from scheduler.journal_lines import copy_of
from tests.played import CODER, CONFIG, QUALITY
from tests.test_status import Scene


def test_the_terms_add_up() -> None:
    """With the documented models and nothing learned: each forced turn is its change and its turn, a class's bound is
    max(patience, floor), one committed change and the forced turns of the others; both sets count as contended."""
    scene = Scene(replace(CONFIG, policy="default"))
    told = bounds(scene.machine.state, scene.at)
    assert told["stated"]
    assert told["unbounded"] == [UNBOUNDED]
    assert (told["longest_running"], told["longest_seen"]) == (None, None)
    quality, coding = told["contended"]
    assert (quality["set"], quality["models"], quality["measured"]) == ("quality", [QUALITY], False)
    assert quality["change"] == 35.0 + 2 * 1.0  # coder and fast unloaded, quality loaded
    assert coding["change"] == 20.0 + 5.0 + 1.0
    for each in told["contended"]:
        assert each["total"] == pytest.approx(each["change"] + each["turn"], abs=0.01)
    patience = dict(CONFIG.patience)
    assert [each["cls"] for each in told["classes"]] == list(patience)
    for each in told["classes"]:
        assert each["patience"] == patience[each["cls"]]
        assert each["committed"] == quality["change"]
        assert each["forced"] == max(each["total"] for each in told["contended"])
        reckoned = max(each["patience"], each["floor"]) + each["committed"] + each["forced"]
        assert each["bound"] == pytest.approx(reckoned, abs=0.01)
        assert (each["running"], each["with_longest_seen"]) == (2, None)


def test_floor_and_turn_are_the_policys_own() -> None:
    """As the policy reckons them where both sets are wanted: what the page of a running daemon says cannot differ from
    what that daemon goes by."""
    scene = Scene(replace(CONFIG, policy="default"))
    told = bounds(scene.machine.state, scene.at)
    for name in (QUALITY, CODER):
        scene.arrive(name, f"for {name}")
    state = copy_of(scene.machine.state)
    world = WorldView(state, Sets(state.config, state.phase))
    assert told["classes"][0]["floor"] == pytest.approx(floor(world), abs=0.01)
    assert told["contended"][0]["turn"] == pytest.approx(turn(world), abs=0.01)


def test_a_longer_line_does_not_pass_the_bound_of_a_long_one() -> None:
    """What is said now holds however many come after, but for the change that is under way by then: the bound grows
    with the line, and never beyond what was told."""
    scene = Scene(replace(CONFIG, policy="default"))
    told = bounds(scene.machine.state, scene.at)
    before = [each["bound"] for each in told["classes"]]
    for number in range(200):
        scene.arrive(QUALITY, f"quality {number}")
        scene.arrive(CODER, f"coder {number}")
    after = bounds(scene.machine.state, scene.at)["classes"]
    for least, known, each in zip(before, told["classes"], after, strict=True):
        assert least < each["bound"] <= each["in_a_long_line"]
        assert each["in_a_long_line"] - each["committed"] == pytest.approx(
            known["in_a_long_line"] - known["committed"], abs=0.01
        )
    assert any("however long the line" in each for each in told["sentences"])


def test_what_was_measured_counts() -> None:
    """A load that took 9 s counts instead of 35, and the longest answer seen is named beside the unbounded term."""
    scene = Scene(replace(CONFIG, policy="default"))
    before = bounds(scene.machine.state, scene.at)
    scene.arrive(QUALITY, "r1")
    scene.load(QUALITY)
    assert bounds(scene.machine.state, scene.at + 7.0)["longest_running"] == pytest.approx(7.0)
    scene.tell(m.Ended(scene.at + 41.0, "r1", "answered", service=41.0, status=200))
    told = bounds(scene.machine.state, scene.at)
    assert told["longest_seen"] == 41.0
    assert told["contended"][0]["measured"]
    assert told["contended"][0]["change"] < before["contended"][0]["change"]
    for each in told["classes"]:
        assert each["with_longest_seen"] == pytest.approx(each["bound"] + 2 * 41.0, abs=0.01)
    assert any("Unbounded: the longest running request" in each and "41 s" in each for each in told["sentences"])


def test_nothing_is_changed_by_asking() -> None:
    """The question is reckoned on a copy: afterwards nobody waits."""
    scene = Scene(replace(CONFIG, policy="default"))
    before = copy_of(scene.machine.state)
    bounds(scene.machine.state, scene.at)
    assert copy_of(scene.machine.state) == before


def test_a_policy_without_a_bound_says_so() -> None:
    """Strict arrival order promises nobody anything, and no number is made up for it."""
    scene = Scene(replace(CONFIG, policy="fifo"))
    told = bounds(scene.machine.state, scene.at)
    assert not told["stated"]
    assert told["classes"] == []
    assert "states no bound" in told["sentences"][0]


def test_what_puts_changes_off_now_is_named() -> None:
    """A pin, a pause, passthrough and an absent Ollama do not count towards the bound: each is said while it lasts."""
    scene = Scene(replace(CONFIG, policy="default"))

    def beside() -> list[str]:
        told = bounds(scene.machine.state, scene.at)
        assert [f"Not counted either: {each}." for each in told["unbounded"][1:]] == [
            each for each in told["sentences"] if each.startswith("Not counted")
        ]
        return told["unbounded"][1:]

    assert beside() == []
    scene.tell(m.Pinned(scene.at, CODER, scene.at + 90.0, "ada"))
    (pin,) = beside()
    assert pin == "the pin of qwen2.5-coder:32b-instruct by ada, for 90 s yet, against what does not fit beside it"
    scene.tell(m.Unpinned(scene.at, CODER, "ada"))
    scene.tell(m.Paused(scene.at, "ada", None))
    assert beside() == ["the pause by ada, until it is resumed"]
    scene.tell(m.Resumed(scene.at, "ada"))
    scene.tell(m.OllamaDown(scene.at, "gone"))
    assert beside() == ["the time in which Ollama does not answer"]
    scene.tell(m.PassthroughSet(scene.at, True, "ada"))
    assert beside()[0] == "passthrough by ada, in which nothing is scheduled"


def test_what_is_refused_is_named() -> None:
    """No bound is stated for requests that memory can never serve."""
    scene = Scene(replace(CONFIG, policy="default"))
    scene.tell(m.MemorySeen(scene.at, 30 * 10**9, "configured", device=30 * 10**9))
    said = bounds(scene.machine.state, scene.at)["sentences"]
    refused = "requests for qwen-quality-128k, which are refused, for memory never holds that"
    assert f"Not counted either: {refused}." in said

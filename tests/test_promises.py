"""The promises under any order of events, for every policy: thousands of runs of the virtual world, each watched whole.

One campaign of runs a policy is shared by all the tests here, because every run puts every promise to the test. CI
plays 2,000 runs, always the same; HYPOTHESIS_PROFILE=long plays 20,000 new ones.
"""

import functools
import os
from collections import Counter

import pytest
from hypothesis import Phase, given, settings, strategies as st

from scheduler.core import messages as m
from tests.promises import PROMISES, Promise, proved, watchers
from tests.world_model import World
from tests.world_script import LEAST_FACTS

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
RUNS = {"default": 14_000, "fifo": 6_000} if LONG else {"default": 1_400, "fifo": 600}
POLICIES = tuple(RUNS)
ELSEWHERE = {"PassthroughSet", "Restarted", "RestartOllama"}
"""What has scenarios and tests on a real Ollama of its own: here Ollama would have to do as it likes."""

pytestmark = [pytest.mark.promises, pytest.mark.timeout(3_600 if LONG else 900)]
both = pytest.mark.parametrize("policy", POLICIES)


class Campaign:
    """What all the runs of one policy came to."""

    def __init__(self) -> None:
        self.runs = 0
        self.fewest = 10**9
        self.checked: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.broken: BaseException | None = None

    def note(self, world: World, watching: list[Promise]) -> None:
        """Add one run."""
        self.runs += 1
        self.fewest = min(self.fewest, world.facts)
        for promise in watching:
            self.checked[promise.name] += promise.checked
        for fact, orders in world.steps:
            self.seen[type(fact).__name__] += 1
            for order in orders:
                self.seen[type(order).__name__] += 1
                if isinstance(order, m.Record):
                    self.seen[order.what] += 1
        self.seen["wedges healed"] += world.machine.state.healed
        self.seen["forced"] += world.machine.state.memo.forced_at is not None


@functools.cache
def campaign(policy: str) -> Campaign:
    """Play them, once."""
    came = Campaign()

    phases = (Phase.generate, Phase.shrink)  # to explain a failure would trace every line of thousands of runs

    @settings(max_examples=RUNS[policy], derandomize=not LONG, database=None, print_blob=False, phases=phases)
    @given(script=st.binary(min_size=64, max_size=240), seed=st.integers(0, 2**32 - 1))
    def run(script: bytes, seed: int) -> None:
        watching = watchers(policy)
        came.note(proved(policy, script, seed, watching), watching)

    try:
        run()
    except Exception as error:  # kept for the test of the promise that it broke
        came.broken = error
    return came


def kept(name: str, policy: str, least: int = 1) -> None:
    """The promise was put to the test in every run of the campaign and never broke."""
    came = campaign(policy)
    if came.broken is not None:
        if str(came.broken).startswith(name) or not any(str(came.broken).startswith(p.name) for p in PROMISES):
            raise came.broken
        pytest.fail(f"not shown: the runs ended early at {came.broken}", pytrace=False)
    assert came.runs >= RUNS[policy]
    assert came.checked[name] >= least * RUNS[policy], "hardly ever put to the test"


@both
def test_p1_memory(policy: str) -> None:
    """No order of ours makes loading + resident + leaving exceed the budget in force; where others exceeded it, no load
    is ordered until it holds again."""
    kept("P1", policy)


@both
def test_p2_busy(policy: str) -> None:
    """A model with a request in progress is never unloaded; when a runner is stalled a request may be ended first."""
    kept("P2", policy)


@both
def test_p3_answers(policy: str) -> None:
    """Every accepted request is answered exactly once: by the model, or by an error that says why."""
    kept("P3", policy, 10)


@both
def test_p4_order(policy: str) -> None:
    """Once its model is ready, only earlier requests for that model, or higher classes until it has waited its
    patience, run before it."""
    kept("P4 (order)", policy, 10)


def test_p4_bound() -> None:
    """A request whose model is away sees the change to it begin within B(class), with the durations that occurred."""
    kept("P4 (bound)", "default", 10)
    assert campaign("default").seen["forced"] > RUNS["default"] / 20, "hardly any change was forced"


@both
def test_p5_probes(policy: str) -> None:
    """Health checks, listings and abandoned requests never load a model, never keep one loaded and never count as
    demand."""
    kept("P5", policy)


@both
def test_p6_reasons(policy: str) -> None:
    """No model leaves memory without a recorded reason, and none leaves unless something named needs its room or asked
    for it."""
    kept("P6", policy, 5)


@both
def test_p7_replay(policy: str) -> None:
    """The same facts in the same order give the same orders, from a state in the middle, copied or read from JSON."""
    kept("P7", policy)


@both
def test_p8_evictor(policy: str) -> None:
    """Ollama's own evictor never fires: a transition is drain, unload, seen gone, load, seen there, one at a time, and
    a load is ordered only if Ollama's own gates let it in."""
    kept("P8", policy, 10)


@both
def test_p9_restarts(policy: str) -> None:
    """A daemon restart, an Ollama restart, sleep or a changed configuration unloads nothing by itself."""
    kept("P9", policy)


@both
def test_it_comes_to_rest(policy: str) -> None:
    """It asks to be woken in the future only, and once all is well and quiet everybody is answered."""
    kept("liveness", policy)


@both
def test_phases(policy: str) -> None:
    """A model that only sets outside the current phase hold is not loaded, and nobody waits for it."""
    kept("phases", policy, 10)


@both
def test_persons(policy: str) -> None:
    """The pinned stay, nobody is served in a pause, pins and pauses end in time, the cancelled get nothing more."""
    kept("persons", policy)


@both
def test_the_runs_are_lively(policy: str) -> None:
    """Every run has thirty facts at least, and all of them together hold every fact, every order and every trouble."""
    came = campaign(policy)
    assert came.fewest >= LEAST_FACTS
    missing = {kind.__name__ for kind in (*m.Fact.__args__, *m.Order.__args__)} - set(came.seen)
    assert missing <= ELSEWHERE
    happened = ("adopted", "vanished", "stalled", "reloaded", "wedges healed")
    changed = ("transition begun", "transition called off", "transition given up")
    rare = [what for what in (*happened, *changed) if came.seen[what] < RUNS[policy] / 50]
    assert not rare

"""The law that no policy can break: legal moves of a model, and what the core refuses whoever asks for it."""

from collections.abc import Callable
from itertools import product
from typing import get_args

import pytest

from policies import POLICIES
from policies.verdict import Change, Memo, Serve, Verdict
from policies.world import State, World
from scheduler.core import machine as core, messages as m
from scheduler.core.config import Config, ModelConfig
from scheduler.core.lifecycle import MOVES, IllegalMove, move
from scheduler.core.machine import Machine
from scheduler.core.state import CoreState, ModelState

GB = 10**9
STATES: tuple[State, ...] = get_args(State)


def a_model(state: State) -> tuple[CoreState, ModelState]:
    """A core with one model in this state."""
    whole = CoreState(Config())
    model = whole.models["a"] = ModelState("a", state=state, held=5, context=4096, wrong_context=True, stalled=True)
    if state != "absent":
        whole.present["a"] = None
    return whole, model


@pytest.mark.parametrize(("start", "to"), list(product(STATES, STATES)))
def test_moves(start: State, to: State) -> None:
    """A move in the table is made and noted, any other is a bug that says so."""
    whole, model = a_model(start)
    before = whole.revision
    if (start, to) not in MOVES:
        with pytest.raises(IllegalMove, match=f"a: {start} -> {to}"):
            move(whole, model, to, 7.0)
        assert model.state == start
        return
    move(whole, model, to, 7.0)
    assert (model.state, model.since) == (to, 7.0)
    assert ("a" in whole.present) == (to != "absent")
    assert whole.revision > before, "a plan made before it would still be believed"


def test_every_state_can_be_reached_and_left() -> None:
    """No state is a trap, and none is unreachable."""
    assert {start for start, _ in MOVES} == {to for _, to in MOVES} == set(STATES)


def test_leaving_memory_forgets_the_runner() -> None:
    """What was true of the runner is not true of the next one: its bytes, its context, its troubles."""
    whole, model = a_model("leaving")
    move(whole, model, "absent", 7.0)
    assert (model.held, model.context, model.wrong_context, model.stalled) == (0, 0, False, False)
    assert model.away_since == 7.0


def ready_machine(policy: Callable[[World, Memo], Verdict], monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A core under this policy: `here` is resident, takes two at once and serves one; `there` is away."""
    monkeypatch.setattr(core, "POLICIES", {**POLICIES, "silly": policy})
    config = Config((ModelConfig("here", GB, 0, 2), ModelConfig("there", GB)), policy="default", num_parallel=2)
    machine = Machine.fresh(config, 0.0)
    for fact in (
        m.MemorySeen(0.0, 10 * GB, "test"),
        m.ModelsListed(0.0, (m.Listed("here", GB), m.Listed("there", GB))),
        m.OllamaUp(0.0, "0.32"),
        m.Residents(0.1, 0.1, (m.Resident("here", GB, 4096),)),
        m.Arrived(1.0, "runs", "here"),
        m.Reloaded(1.0, Config(config.models, policy="silly", num_parallel=2)),
    ):
        machine.step(fact)
    return machine


def says(*actions: Serve | Change) -> Callable[[World, Memo], Verdict]:
    """A policy that always says the same."""
    return lambda world, memo: Verdict(actions, memo)


SILLY = {
    "serve a request that nobody made": says(Serve("nobody", "")),
    "serve one that runs already": says(Serve("runs", "")),
    "serve one whose model is away": says(Serve("waits", "")),
    "change nothing": says(Change((), (), "")),
    "unload what is not there": says(Change(("there",), (), "")),
    "load what is there": says(Change((), ("here",), "")),
    "change twice at once": says(Change((), ("there",), ""), Change(("here",), (), "")),
}


@pytest.mark.parametrize("what", SILLY)
def test_a_silly_policy_is_refused(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the law forbids is refused to every policy, as a bug and not as a fallback."""
    machine = ready_machine(says(), monkeypatch)
    machine._decide = SILLY[what]
    with pytest.raises(IllegalMove):
        machine.step(m.Arrived(2.0, "waits", "there"))


def test_a_slot_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third request for a model that takes two is refused even if the policy wants it."""
    machine = ready_machine(says(), monkeypatch)
    for name in ("second", "third"):
        machine._decide = says()
        machine.step(m.Arrived(2.0, name, "here"))
    machine._decide = lambda world, memo: Verdict(
        tuple(Serve(r.id, "") for model in world.demanded for r in [world.first(model)] if r is not None), memo
    )
    with pytest.raises(IllegalMove, match="cannot take third"):
        machine.step(m.Ticked(3.0))


def test_a_policy_that_does_not_settle_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that changes and calls off for ever is stopped, not waited for."""
    monkeypatch.setattr(core, "SETTLED_BY_THEN", 50)
    machine = ready_machine(says(), monkeypatch)
    machine._decide = says(Change((), ("there",), "for nobody"))
    with pytest.raises(IllegalMove, match="does not settle"):
        machine.step(m.Ticked(3.0))


def test_a_busy_model_waits_for_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that a policy wants at once still waits until the model serves nobody (P2)."""
    machine = ready_machine(says(), monkeypatch)
    machine.step(m.Arrived(2.0, "waits", "there"))
    machine._decide = lambda world, memo: Verdict(
        () if world.transition else (Change(("here",), ("there",), "now"),), memo
    )
    orders = machine.step(m.Ticked(3.0))
    assert not [order for order in orders if isinstance(order, m.Unload | m.Load)]
    machine._decide = says()
    orders = machine.step(m.Ended(4.0, "runs", "answered"))
    assert m.Unload("here", "now") in orders
    orders = machine.step(m.Unloaded(5.0, "here", 1.0))
    assert m.Load("there", "now") in orders


LATE_FACTS = (
    m.Ended(9.0, "nobody", "answered"),
    m.Returned(9.0, "nobody", "late"),
    m.Left(9.0, "nobody"),
    m.Loaded(9.0, "here", GB, 4096, 1.0),
    m.LoadFailed(9.0, "here", "late", 1.0),
    m.Unloaded(9.0, "here", 1.0),
    m.UnloadFailed(9.0, "here", "late"),
    m.EngineSeen(9.0, "unheard of", False, 99.0),
    m.Ticked(0.5),
)


@pytest.mark.parametrize("fact", LATE_FACTS, ids=lambda fact: type(fact).__name__)
def test_a_fact_that_comes_too_late_changes_nothing(fact: m.Fact, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report about what is over already neither breaks the core nor undoes anything."""
    machine = ready_machine(says(), monkeypatch)
    before = {name: model.state for name, model in machine.state.models.items()}, set(machine.state.requests)
    orders = machine.step(fact)
    assert [order for order in orders if not isinstance(order, m.WakeAt)] == []
    assert ({name: model.state for name, model in machine.state.models.items()}, set(machine.state.requests)) == before


@pytest.mark.parametrize(("seconds", "fits"), [(1.0, True), (86_400.0, True), (86_401.0, False), (0.0, False)])
def test_a_pin_lasts_a_day_at_most_from_when_it_is_asked_for(seconds: float, fits: bool) -> None:
    """The day is reckoned from the command, however long ago the last fact was."""
    config = Config((ModelConfig("here", GB),))
    machine = Machine.fresh(config, 0.0)
    machine.step(m.MemorySeen(0.0, 10 * GB, "test"))
    machine.step(m.ModelsListed(0.0, (m.Listed("here", GB),)))
    at = 1000.0
    assert (machine.objection(m.Pinned(at, "here", at + seconds, "somebody", "wait")) is None) == fits

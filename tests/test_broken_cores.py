"""The promises have teeth: each core or policy broken here on purpose is caught, by the promise that it breaks.

Every break is one patched function of the real core or policy; then worlds with fixed seeds are played until a promise
breaks. A break that no promise notices fails its test.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from policies import bound, default, fifo, fit
from policies.verdict import Change
from policies.world import Plan
from scheduler.core import (
    idle,
    lifecycle,
    messages as m,
    operator,
    pressure,
    refusals,
    requests,
    residency,
    stall,
    transition,
    turns,
)
from scheduler.core.machine import Machine
from scheduler.core.state import CoreState, ModelState
from scheduler.core.view import WorldView
from tests.promises import proved, watchers
from tests.promises.bound import Bound
from tests.world_adversaries import beset
from tests.world_parts import Broken
from tests.world_script import some_script

RUNS = 400  # seeds tried at most
SIEGES = range(0, 200, 5)
BREAKS: list["Break"] = []


@dataclass(frozen=True)
class Break:
    """One way to break the core, and the promises of which one must notice it."""

    name: str
    why: str
    promises: tuple[str, ...]
    apply: Callable[[pytest.MonkeyPatch], None]
    policy: str


def broken(*promises: str, policy: str = "default") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Note a break; its docstring says what is wrong with the core."""

    def note(apply: Callable[[pytest.MonkeyPatch], None]) -> Callable[[pytest.MonkeyPatch], None]:
        BREAKS.append(Break(apply.__name__, apply.__doc__ or "", promises, apply, policy))
        return apply

    return note


def first_broken(policy: str, promises: tuple[str, ...]) -> str | None:
    """The first promise that breaks, and how; None if all of them hold in every run. Whoever should be caught for the
    bound is besieged first: in ordinary worlds few wait that long."""
    if Bound.name in promises:
        for seed in SIEGES:
            try:
                beset(policy, seed, [Bound()])
            except Broken as error:
                return str(error)
    for seed in range(RUNS):
        try:
            proved(policy, some_script(seed), seed, watchers(policy))
        except Broken as error:
            return str(error)
    return None


def wrapped(patch: pytest.MonkeyPatch, where: Any, name: str, wrapper: Callable[..., Any]) -> None:
    """Replace `where.name` by `wrapper(original, *arguments)`."""
    original = getattr(where, name)
    patch.setattr(where, name, lambda *args: wrapper(original, *args))


# --- memory --------------------------------------------------------------------------------------------------------


@broken("P1", "P8")
def memory_is_not_booked(patch: pytest.MonkeyPatch) -> None:
    """What a loaded model holds is forgotten."""

    def measure(original: Any, state: CoreState, model: ModelState, size: int, context: int) -> None:
        original(state, model, size, context)
        model.held = 0

    wrapped(patch, residency, "_measure", measure)


@broken("P1")
def budget_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """Only Ollama's gates are asked whether a model fits."""
    patch.setattr(
        fit,
        "admits",
        lambda world, model, there: (
            not there.count or (there.count < world.max_loaded and model.predicted * 100 <= there.free * 80)
        ),
    )


@broken("P1")
def orphans_are_ignored(patch: pytest.MonkeyPatch) -> None:
    """What runners without a parent hold is not counted."""

    def seen(original: Any, state: CoreState, fact: m.MemorySeen) -> list[m.Order]:
        orders: list[m.Order] = original(state, fact)
        state.orphans = 0
        return orders

    wrapped(patch, residency, "memory_seen", seen)


@broken("P1", "P8")
def strangers_are_ignored(patch: pytest.MonkeyPatch) -> None:
    """What we did not load ourselves is not adopted."""
    wrapped(
        patch,
        residency,
        "_seen",
        lambda original, state, model, row, asked: (
            [] if model.state == "absent" else original(state, model, row, asked)
        ),
    )


@broken("P8")
def gates_are_ignored(patch: pytest.MonkeyPatch) -> None:
    """Only the budget is asked whether a model fits."""
    patch.setattr(fit, "admits", lambda world, model, there: there.held + world.orphans + model.size <= world.budget)


@broken("P8")
def load_beside_an_unload(patch: pytest.MonkeyPatch) -> None:
    """The load is ordered with the unload, not when the model was seen gone."""

    def unload(original: Any, state: CoreState, under_way: Any) -> list[m.Order]:
        orders: list[m.Order] = original(state, under_way)
        for order in orders:
            if isinstance(order, m.Unload):
                under_way.leave.remove(order.model)
                state.present.pop(order.model, None)
                orders = [*orders, m.Load(under_way.load.pop(0), "at once")] if under_way.load else orders
        return orders

    wrapped(patch, transition, "_unload_drained", unload)


@broken("P8")
def old_readings_are_believed(patch: pytest.MonkeyPatch) -> None:
    """A reading of /api/ps counts even if it was asked before the reason to read."""

    def read(original: Any, state: CoreState, fact: m.Residents) -> list[m.Order]:
        state.look_since = 0.0
        orders: list[m.Order] = original(state, fact)
        return orders

    wrapped(patch, residency, "residents", read)


@broken("P8")
def context_is_not_sent(patch: pytest.MonkeyPatch) -> None:
    """A request is forwarded with whatever context its client named."""

    def lease(original: Any, state: CoreState, model: ModelState, request: Any, because: str) -> m.Forward:
        original(state, model, request, because)
        return m.Forward(request.id, request.model, 4097, because)

    wrapped(patch, requests, "_lease", lease)


# --- who is served and who is not ------------------------------------------------------------------------------------


@broken("P2")
def busy_models_are_unloaded(patch: pytest.MonkeyPatch) -> None:
    """Draining waits for nobody."""

    def unload(state: CoreState, under_way: Any) -> list[m.Order]:
        orders: list[m.Order] = []
        for name in under_way.leave:
            if state.models[name].state == "draining":
                lifecycle.move(state, state.models[name], "leaving", state.at)
                orders.append(m.Unload(name, under_way.because))
        return orders

    patch.setattr(transition, "_unload_drained", unload)


@broken("P4 (order)", "P2")
def no_barrier(patch: pytest.MonkeyPatch) -> None:
    """A draining model goes on taking requests."""
    patch.setattr(ModelState, "usable", property(lambda model: model.state in ("ready", "draining")))


@broken("P4 (bound)")
def no_forced_change(patch: pytest.MonkeyPatch) -> None:
    """Whoever waits too long waits on: a busy model never leaves."""
    wrapped(
        patch,
        default,
        "_claims",
        lambda original, world: [replace(claim, due=None) for claim in original(world)],
    )


@broken("P4 (bound)")
def patience_is_stretched(patch: pytest.MonkeyPatch) -> None:
    """The floor under every patience is four times what the policy says it is."""
    patch.setattr(default, "floor", lambda world: 4.0 * bound.floor(world))


@broken("P4 (bound)")
def turns_are_endless(patch: pytest.MonkeyPatch) -> None:
    """A model that was forced in keeps its place as long as it has work."""
    patch.setattr(default, "turn", lambda world: 3600.0)


@broken("P4 (order)")
def last_come_first_served(patch: pytest.MonkeyPatch) -> None:
    """Classes and arrival do not count."""
    patch.setattr(turns, "first", lambda model, at, patience: max(model.requests(), key=lambda r: r.seq, default=None))


@broken("P4 (order)", policy="fifo")
def the_newest_goes_first(patch: pytest.MonkeyPatch) -> None:
    """The baseline serves whoever came last."""
    patch.setattr(fifo, "_oldest", lambda model: max(model.heads(), key=lambda head: head.seq, default=None))


@broken("P4 (order)")
def returned_requests_go_last(patch: pytest.MonkeyPatch) -> None:
    """A request that comes back loses its place."""

    def enqueue(original: Any, state: CoreState, model: ModelState, request: Any) -> None:
        sent, request.sent = request.sent, 0
        original(state, model, request)
        request.sent = sent

    wrapped(patch, turns, "enqueue", enqueue)


@broken("P4 (order)")
def slots_of_the_dead_are_given_away(patch: pytest.MonkeyPatch) -> None:
    """A slot counts as free as soon as its client hangs up, while Ollama still works for it."""

    def left(original: Any, state: CoreState, fact: m.Left) -> list[m.Order]:
        request = state.requests.get(fact.id)
        orders: list[m.Order] = original(state, fact)
        if request is not None and request.id in state.models[request.model].running_ids:
            requests._free_slot(state, state.models[request.model], request)
            del state.requests[request.id]
        return orders

    wrapped(patch, requests, "left", left)


@broken("P3")
def answered_twice(patch: pytest.MonkeyPatch) -> None:
    """A request that Ollama failed gets a second error from us."""

    def ended(original: Any, state: CoreState, fact: m.Ended) -> list[m.Order]:
        orders: list[m.Order] = original(state, fact)
        return [*orders, m.Refuse(fact.id, 502, "it failed", "it failed")] if fact.outcome == "failed" else orders

    wrapped(patch, requests, "ended", ended)


@broken("P3", "P4 (order)")
def lost_on_return(patch: pytest.MonkeyPatch) -> None:
    """A request that comes back untouched is forgotten."""

    def returned(original: Any, state: CoreState, fact: m.Returned) -> list[m.Order]:
        orders: list[m.Order] = original(state, fact)
        request = state.requests.get(fact.id)
        if request is not None:
            requests._forget(state, request)
        return orders

    wrapped(patch, requests, "returned", returned)


@broken("P3")
def wedges_are_not_noticed(patch: pytest.MonkeyPatch) -> None:
    """An idle engine under an outstanding request is nobody's business."""
    patch.setattr(stall, "engine_seen", lambda state, fact: [])


@broken("P3", "P4 (bound)")
def failed_loads_are_not_tried_again(patch: pytest.MonkeyPatch) -> None:
    """After a failed load the model is left alone for ever."""

    def failed(original: Any, state: CoreState, fact: m.LoadFailed) -> list[m.Order]:
        orders: list[m.Order] = original(state, fact)
        state.models[fact.model].not_before = 1e12
        return orders

    wrapped(patch, residency, "load_failed", failed)


# --- who counts as demand --------------------------------------------------------------------------------------------


@broken("P3", "P5")
def probes_wait(patch: pytest.MonkeyPatch) -> None:
    """A health check for a model that is away queues up like a request."""

    def probe(original: Any, state: CoreState, model: ModelState, request: Any) -> list[m.Order]:
        if model.usable:
            orders: list[m.Order] = original(state, model, request)
            return orders
        request.kind = "request"
        state.requests[request.id] = request
        turns.enqueue(state, model, request)
        return []

    wrapped(patch, requests, "_probe", probe)


@broken("P5", "use")
def probes_count_as_use(patch: pytest.MonkeyPatch) -> None:
    """A health check makes its model the last used."""

    def freed(original: Any, state: CoreState, model: ModelState, request: Any) -> None:
        original(state, model, request)
        model.last_used = state.at

    wrapped(patch, requests, "_free_slot", freed)


@broken("P5", "use")
def probes_keep_models(patch: pytest.MonkeyPatch) -> None:
    """A model is not drained while a health check sits in a slot."""
    patch.setattr(ModelState, "serving", property(lambda model: len(model.running_ids)))


@broken("P5")
def loads_for_the_dead(patch: pytest.MonkeyPatch) -> None:
    """A change goes on although everybody it was for has hung up."""
    patch.setattr(transition, "_wanted", lambda state, under_way: True)


# --- what leaves, and why --------------------------------------------------------------------------------------------


@broken("P6")
def everything_leaves(patch: pytest.MonkeyPatch) -> None:
    """Whatever is to be loaded, all that is resident goes first."""

    def plan(original: Any, world: Any, wanted: Any) -> Plan | None:
        found: Plan | None = original(world, wanted)
        if found is None:
            return None
        rest = tuple(x.name for x in world.present if x.name not in found.leave and x.state == "ready")
        return Plan(found.leave + tuple(n for n in rest if n not in found.load), found.load)

    wrapped(patch, fit, "plan_for", plan)


@broken("P6")
def no_reason_is_kept(patch: pytest.MonkeyPatch) -> None:
    """A model leaves and nobody can say why."""

    def begin(original: Any, state: CoreState, change: Change) -> list[m.Order]:
        orders: list[m.Order] = original(state, change)
        for name in change.leave:
            state.models[name].left_because = ""
        return orders

    wrapped(patch, transition, "begin", begin)


@broken("P9")
def home_clears_the_memory_at_start(patch: pytest.MonkeyPatch) -> None:
    """Home is loaded at a start whoever is resident."""
    patch.setattr(WorldView, "home_due", property(lambda world: True))


@broken("P9")
def reloading_unloads(patch: pytest.MonkeyPatch) -> None:
    """A changed configuration begins with an empty memory."""

    def reload(original: Any, self: Machine, config: Any) -> list[m.Order]:
        orders: list[m.Order] = original(self, config)
        ready = tuple(n for n in self.state.present if self.state.models[n].state == "ready")
        if ready and self.state.transition is None:
            orders += transition.begin(self.state, Change(ready, (), "the configuration changed", cause="repair"))
        return orders

    wrapped(patch, Machine, "_reload", reload)


@broken("phases")
def phases_are_ignored(patch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a model that the phase excludes is let in."""
    patch.setattr(refusals, "excluded", lambda state, sets, model: None)


# --- what a person said ----------------------------------------------------------------------------------------------


@broken("persons")
def pins_are_ignored(patch: pytest.MonkeyPatch) -> None:
    """What is pinned leaves for others as anything else does."""
    patch.setattr(fit, "_stays", lambda world, model, plan: model.stays_until > world.at)


@broken("persons")
def pins_last(patch: pytest.MonkeyPatch) -> None:
    """A pin never ends by itself."""
    patch.setattr(operator, "expire", lambda state: [])


@broken("persons")
def the_cancelled_are_sent_again(patch: pytest.MonkeyPatch) -> None:
    """A cancelled request that comes back untouched goes to its place again."""

    def returned(original: Any, state: CoreState, fact: m.Returned) -> list[m.Order]:
        if fact.id in state.requests:
            state.requests[fact.id].cancelled = ""
        orders: list[m.Order] = original(state, fact)
        return orders

    wrapped(patch, requests, "returned", returned)


@broken("P4 (order)", "P8", "P2")
def replaced_in_memory(patch: pytest.MonkeyPatch) -> None:
    """A model is overwritten while it is in memory."""

    def forward(original: Any, state: CoreState, world: WorldView) -> list[m.Order]:
        waiting = [r for r in state.requests.values() if r.kind == "replace" and r.place == "waiting"]
        return [requests.replace_now(state, request, "at once") for request in waiting] if world.healthy else []

    wrapped(patch, operator, "forward_replacements", forward)


@broken("P9")
def kept_at_any_price(patch: pytest.MonkeyPatch) -> None:
    """What is to be kept comes back even where others must leave for it."""

    def homeward(original: Any, world: Any, missing: Any) -> Plan | None:
        return original(world, missing) or world.plan(missing)

    wrapped(patch, default, "_homeward", homeward)


# --- the same facts, the same orders ---------------------------------------------------------------------------------


@broken("P7")
def chance_decides(patch: pytest.MonkeyPatch) -> None:
    """Of what is to be done, a die says what is done first."""
    chance = random.Random(7)
    wrapped(patch, default, "_weight", lambda original, world, model: chance.random())


@broken("P7")
def the_policy_remembers(patch: pytest.MonkeyPatch) -> None:
    """A policy keeps a memory beside its memo."""
    calls: Iterator[int] = itertools.count()
    wrapped(patch, default, "floor", lambda original, world: original(world) + next(calls) % 50)


@broken("liveness")
def wakes_at_once(patch: pytest.MonkeyPatch) -> None:
    """It asks to be woken now, always."""

    def wake(original: Any, self: Machine, policy: float | None) -> list[m.Order]:
        return [m.WakeAt(self.state.at)] if self.state.demanded else original(self, policy)

    wrapped(patch, Machine, "_wake", wake)


@broken("P6")
def an_absence_empties_the_memory(patch: pytest.MonkeyPatch) -> None:
    """When Ollama does not answer for a moment, what is resident is believed gone for good."""

    def down(original: Any, self: Machine, fact: m.OllamaDown) -> list[m.Order]:
        orders: list[m.Order] = original(self, fact)
        for name in list(self.state.present):
            if self.state.models[name].state == "ready":
                lifecycle.move(self.state, self.state.models[name], "absent", 1e12)
        return orders

    wrapped(patch, Machine, "_ollama_down", down)


# --- what happens unasked ------------------------------------------------------------------------------------------


@broken("pressure")
def more_memory_is_trusted_at_once(patch: pytest.MonkeyPatch) -> None:
    """A larger budget holds as soon as it is seen."""

    def seen(original: Any, state: CoreState, fact: m.MemorySeen) -> list[m.Order]:
        orders: list[m.Order] = original(state, fact)
        if state.growing is not None:
            state.budget, state.growing = state.growing.budget, None
        return orders

    wrapped(patch, pressure, "seen", seen)


@broken("pressure")
def less_memory_sends_everybody_away(patch: pytest.MonkeyPatch) -> None:
    """Where the budget shrank nothing is kept that would fit."""
    patch.setattr(pressure, "_most_valuable", lambda *_: ())


@broken("idle")
def nobody_is_ever_idle(patch: pytest.MonkeyPatch) -> None:
    """The idle limit is forgotten."""
    patch.setattr(idle, "unload", lambda *_: [])


@broken("idle")
def everybody_is_idle_at_once(patch: pytest.MonkeyPatch) -> None:
    """The idle limit counts from the load, however much the model was used."""
    patch.setattr(idle, "_since", lambda model: model.loaded_at or 0.0)


@broken("quiet")
def quiet_is_not_heard(patch: pytest.MonkeyPatch) -> None:
    """Home comes back in quiet hours as ever."""
    patch.setattr(WorldView, "home", property(lambda world: world._sets.home))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("each", BREAKS, ids=lambda each: each.name)
def test_broken_core_is_caught(each: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    """A core broken on purpose breaks the promise that it should."""
    each.apply(monkeypatch)
    said = first_broken(each.policy, each.promises)
    assert said is not None, f"nobody noticed: {each.why}"
    assert said.startswith(each.promises), said


def test_the_core_itself_is_not_broken() -> None:
    """Without a break the same seeds break nothing, so that it is the break that is caught."""
    for seed in range(60):
        for policy in ("default", "fifo"):
            proved(policy, some_script(seed), seed, watchers(policy))

"""The promises of docs/design.md as watchers of the virtual world: each sees every step and raises Broken.

They reckon from the truth (what really is in memory, who was really answered) and from the core's state, never from
its code: the arithmetic of the gates is written out here a second time.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from itertools import permutations

from policies import default
from scheduler.core import messages as m
from scheduler.core.machine import Machine
from scheduler.core.state import CoreState, ModelState, TransitionState
from scheduler.core.view import Sets
from scheduler.journal_lines import copy_of
from tests.world_model import Broken, Client, World
from tests.world_script import play

RANK = {"interactive": 0, "agent": 1, "helper": 2, "batch": 3}


class Promise:
    """One promise. `checked` counts how often it was put to the test, so that a silent watcher shows."""

    name = "P0"

    def __init__(self) -> None:
        self.checked = 0

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        """Look at one step, taken but not yet carried out."""

    def ended(self, world: World) -> None:
        """Look at what one life of the daemon came to."""

    def hold(self, holds: bool, what: str) -> None:
        """Note a check; raises Broken where it fails."""
        self.checked += 1
        if not holds:
            raise Broken(f"{self.name}: {what}")


def of(kind: type[m.Order], orders: Iterable[m.Order]) -> list[m.Order]:
    """The orders of one kind."""
    return [order for order in orders if isinstance(order, kind)]


def healthy(state: CoreState) -> bool:
    """Ollama answers, and what is resident and the budget are known."""
    return state.ollama == "up" and not state.looking and state.budget is not None


def alive(world: World, model: str) -> list[Client]:
    """Those who wait for `model` or are served by it and whose clients are there; no probes, no wish to unload."""
    kinds = ("request", "preload")
    return [c for c in world.clients.values() if c.model == model and c.kind in kinds and not c.left]


class P1(Promise):
    """No order of ours makes loading + resident + leaving exceed the budget in force. Where others exceeded it (adopted
    models, a shrunken budget), no load is ordered until it holds again."""

    name = "P1"

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        loads = [order for order in orders if isinstance(order, m.Load)]
        state = world.machine.state
        for load in loads:
            books = state.orphans + sum(max(mod.held, mod.size) for n in state.present for mod in [state.models[n]])
            self.hold(books <= world.budget, f"{load} makes {books} of {world.budget} booked")
            if world.known:
                truth = world.orphans + sum(runner.size for runner in world.runners.values())
                said = world.stage.models[load.model].listed.size
                truth += min(world.real(load.model), max(state.models[load.model].declared, said))
                self.hold(truth <= world.budget, f"{load} makes {truth} of {world.budget} used")


class P2(Promise):
    """A model with a request in progress is never unloaded. When a runner is stalled, a request may be ended first,
    with its dialect's error; then the idle model leaves."""

    name = "P2"

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        sent = {o.model for o in orders if isinstance(o, m.Forward)}
        for order in orders:
            if isinstance(order, m.Unload):
                busy = [client.id for client in world.outstanding(order.model)]
                self.hold(not busy and order.model not in sent, f"{order} while {busy} run")


class P3(Promise):
    """Every accepted request is answered exactly once: by the model, or by an error in its own dialect that says
    why."""

    name = "P3"

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        done: set[str] = set()
        for order in orders:
            if isinstance(order, m.Refuse | m.AnswerWish | m.AnswerProbe | m.Forward):
                self._once(world, order, done)
        if isinstance(fact, m.Arrived) and fact.kind in ("probe", "unload"):
            self.hold(fact.id in done, f"{fact} is kept waiting")

    def _once(self, world: World, order: m.Refuse | m.AnswerWish | m.AnswerProbe | m.Forward, done: set[str]) -> None:
        client = world.clients.get(order.id)
        if client is None and isinstance(order, m.AnswerProbe):
            return
        self.hold(client is not None, f"{order} for one who is answered or gone")
        self.hold(order.id not in done, f"{order} after another answer in one step")
        done.add(order.id)
        if client is None:
            return
        self.hold(not client.left, f"{order} for one who is gone")
        ends_itself = isinstance(order, m.AnswerProbe)
        self.hold(client.place == "waiting" or ends_itself, f"{order} while it runs")
        if isinstance(order, m.Refuse):
            self.hold(order.status >= 400 and bool(order.message), f"{order} does not say why")

    def ended(self, world: World) -> None:
        state = world.machine.state
        left_over = set(state.requests) - set(world.clients)
        self.hold(not left_over, f"the core still keeps {left_over}")
        lost = [c.id for c in world.clients.values() if c.id not in state.requests and not c.left]
        self.hold(not lost, f"the core has forgotten {lost}")


class Order(Promise):
    """Once its model is ready, only earlier requests for that model, or higher classes until it has waited its
    patience, run before it; and a slot that is free with somebody waiting for it is given at once."""

    name = "P4 (order)"

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        state = world.machine.state
        given: list[m.Forward] = []
        begun = False
        for order in orders:
            begun |= isinstance(order, m.Record) and order.what == "transition begun"
            if isinstance(order, m.Forward):
                self._turn(world, order, given, begun)
                given.append(order)
        if not healthy(state) or state.stopping:
            return
        for name in state.demanded:
            model = state.models[name]
            if model.waiting and model.usable:
                self.hold(model.running >= model.parallel, f"{name} has a free slot and {model.waiting} waiting")

    def _turn(self, world: World, order: m.Forward, given: Sequence[m.Forward], begun: bool) -> None:
        mine = world.clients[order.id]
        model = world.machine.state.models[order.model]
        ahead = {other.id for other in given}
        running = len(world.outstanding(order.model)) + sum(other.model == order.model for other in given)
        self.hold(model.state == "ready" or not begun, f"{order} to a model that is {model.state}")
        self.hold(running < max(1, model.parallel), f"{order} with {running} of {model.parallel} slots taken")
        if mine.kind == "probe":
            return
        patience = dict(world.config.patience)
        for other in world.clients.values():
            waits = other.place == "waiting" and other.kind == "request" and other.id not in ahead
            if waits and other.model == order.model and other.seq < mine.seq:
                higher = RANK[mine.cls] < RANK[other.cls]
                early = world.now - other.arrived < patience[other.cls]
                self.hold(higher and early, f"{order} before {other}")


class Bound(Promise):
    """With Ollama and memory healthy, a request whose model is away sees the change to it begin (our first unload or
    load order for it) within B(class) = max(patience, floor) + longest running request + transitions already committed
    + one forced turn for each other contended set, with the durations that occurred."""

    name = "P4 (bound)"

    def __init__(self) -> None:
        super().__init__()
        self._reset(0.0)

    def _reset(self, at: float) -> None:
        self.at = at
        self.spells: dict[str, Spell] = {}
        self.transition: TransitionState | None = None
        self.began = 0.0
        self.counting = False
        self.paused: dict[str, float] = {}

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        state = world.machine.state
        if world.config.policy != "default":
            return
        self._pass(world.now)
        self._transitions(state, world.now)
        self._surroundings(world, state)
        away = {n for n in state.demanded if state.models[n].waiting and not state.models[n].usable}
        for name in [n for n in self.spells if n not in away]:
            del self.spells[name]
        for name in away:
            self.spells.setdefault(name, Spell())
        self._surroundings(world, state)
        self._begun(world, state)
        self.paused = {name: state.models[name].not_before for name in self.spells}
        self.counting = self._counts(state)

    def _pass(self, now: float) -> None:
        """The time since the last step counts for those whom nothing ill held up."""
        for name, spell in self.spells.items():
            since = max(self.at, self.paused.get(name, 0.0))
            if self.counting and now > since:
                spell.counted += now - since
        self.at = now

    def _counts(self, state: CoreState) -> bool:
        transition = state.transition
        models = [state.models[name] for name in state.present]
        held = state.orphans + sum(model.held for model in models)
        well = healthy(state) and not state.stopping and not state.orphans and held <= (state.budget or 0)
        if not well or any(model.stalled for model in models):
            return False
        if transition is not None:
            return transition.cause == "demand"
        return not any(model.state in ("loading", "leaving") for model in models)

    def _transitions(self, state: CoreState, now: float) -> None:
        """What a transition took, once it is over; one that failed is not counted."""
        transition = state.transition
        if transition is self.transition:
            return
        if self.transition is not None:
            failed = bool(self.transition.leave or self.transition.load)
            for spell in self.spells.values():
                spell.longest_change = max(spell.longest_change, now - self.began)
                if failed:
                    spell.counted = min(spell.counted, spell.counted_before)
        self.transition, self.began = transition, now
        for spell in self.spells.values():
            spell.counted_before = spell.counted

    def _begun(self, world: World, state: CoreState) -> None:
        """A transition for it has given its first order: its waiting ends here, within the bound or not."""
        transition = state.transition
        for name, spell in list(self.spells.items()):
            heads = [c for c in alive(world, name) if c.kind == "request" and c.place == "waiting"]
            first = transition is not None and name in transition.planned and transition.first_order is not None
            for client in heads:
                since = spell.started.setdefault(client.id, spell.counted)
                waited = spell.counted - since
                patience = dict(world.config.patience)[client.cls]
                spell.patience[client.id] = max(patience, spell.patience.get(client.id, 0.0))
                bound = self._bound(spell, spell.patience[client.id])
                self.hold(waited <= bound, f"{client} has waited {waited:.0f} s of {bound:.0f} for {name}")
            if first:
                del self.spells[name]

    def _bound(self, spell: Spell, patience: float) -> float:
        turn = spell.longest_change + spell.turn + spell.longest_service
        return (
            max(patience, spell.floor) + spell.longest_service + spell.longest_change + len(spell.others) * turn + 1.0
        )

    def _surroundings(self, world: World, state: CoreState) -> None:
        if not self.spells:
            return
        view = world.machine._world
        floor, turn = default.floor(view), default.turn(view)
        sent = [c for c in world.clients.values() if c.place == "sent"]
        service = max((world.now - c.sent_at for c in sent), default=0.0)
        change = world.now - self.began if self.transition is not None else 0.0
        contended = {c.model for c in sent} | {n for n in state.demanded if state.models[n].waiting}
        contended |= {n for n in state.demanded if state.models[n].wishes}
        for name, spell in self.spells.items():
            spell.floor = max(spell.floor, floor)
            spell.turn = max(spell.turn, turn)
            spell.longest_service = max(spell.longest_service, service)
            spell.longest_change = max(spell.longest_change, change)
            spell.others |= contended - {name}

    def ended(self, world: World) -> None:
        self._reset(world.now)


class Spell:
    """A model is away and wanted: what happened meanwhile, in seconds."""

    __slots__ = (
        "counted",
        "counted_before",
        "floor",
        "longest_change",
        "longest_service",
        "others",
        "patience",
        "started",
        "turn",
    )

    def __init__(self) -> None:
        self.counted = self.counted_before = 0.0
        self.floor = self.turn = self.longest_service = self.longest_change = 0.0
        self.others: set[str] = set()
        self.started: dict[str, float] = {}
        self.patience: dict[str, float] = {}


class P5(Promise):
    """Health checks, listings and abandoned requests never load a model, never keep one loaded and never count as
    demand."""

    name = "P5"

    def __init__(self) -> None:
        super().__init__()
        self.before: tuple[float, dict[str, float]] = (0.0, {})
        self.probes: set[str] = set()

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        state = world.machine.state
        transition = state.transition
        for load in of(m.Load, orders):
            if transition is not None and transition.cause != "home":
                living = [c.id for name in transition.planned for c in alive(world, name)]
                self.hold(bool(living), f"{load} for nobody")
        self._no_trace(world, fact, bool(of(m.Forward, orders)))
        if healthy(state) and not state.stopping and transition is None:
            self._not_kept(world, state)

    def _no_trace(self, world: World, fact: m.Fact, served: bool) -> None:
        state = world.machine.state
        if isinstance(fact, m.Arrived) and fact.kind == "probe":
            self.probes.add(fact.id)
        probe = getattr(fact, "id", None) in self.probes
        quiet, used = self.before
        self.before = (state.quiet_since, {name: model.last_used for name, model in state.models.items()})
        if probe and not (served and not isinstance(fact, m.Arrived)):
            trace = self.before != (quiet, used | {n: 0.0 for n in state.models if n not in used})
            self.hold(not trace, f"{fact} left a trace: {quiet} {used} -> {self.before}")

    def _not_kept(self, world: World, state: CoreState) -> None:
        """Where only probes and the dead keep what must leave, the change begins."""
        view = world.machine._world
        for name in state.demanded:
            model = state.models[name]
            wanted = [c for c in alive(world, name) if c.place == "waiting"]
            if not wanted or model.usable or model.not_before > world.now or not model.installed:
                continue
            plan = view.plan(model)
            if plan is None or not plan.leave or "keeps its turn" in state.verdict:
                continue
            if any(view.home and n in view.home and n not in plan.load for n in plan.leave):
                continue
            kept_by = [c for n in plan.leave for c in alive(world, n)]
            if world.config.policy == "default":
                self.hold(bool(kept_by), f"nobody living keeps {plan.leave} from leaving for {name}")

    def ended(self, world: World) -> None:
        self.before = (world.now, {})
        self.probes = set()


class P6(Promise):
    """No model leaves memory without a recorded reason, and none leaves unless something named needs its room or asked
    for it."""

    name = "P6"

    def __init__(self) -> None:
        super().__init__()
        self.transition: TransitionState | None = None

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        state = world.machine.state
        for order in orders:
            if isinstance(order, m.Unload):
                model = state.models[order.model]
                self.hold(bool(order.because and model.left_because), f"{order} without a reason")
                self.hold(state.transition is not None, f"{order} outside a transition")
        if isinstance(fact, m.Residents | m.Unloaded):
            for name, model in state.models.items():
                if model.state == "absent" and model.loaded_at is not None:
                    self.hold(bool(model.left_because), f"{name} has left without a recorded reason")
        if state.transition is not self.transition and state.transition is not None:
            self._needed(world, state, state.transition)
        self.transition = state.transition

    def _needed(self, world: World, state: CoreState, transition: TransitionState) -> None:
        if transition.cause not in ("demand", "home"):
            return
        stay = [state.models[n] for n in state.present if n not in transition.left]
        load = [state.models[n] for n in transition.planned]
        for name in transition.left:
            model = state.models[name]
            if model.wrong_context or model.stalled:
                continue
            others = [other for other in load if other.name != name]
            possible = admitted(world, [*stay, model], others)
            self.hold(not possible, f"{name} need not leave for {transition.planned}: {transition.because}")


def admitted(world: World, beside: Sequence[ModelState], load: Sequence[ModelState]) -> bool:
    """Whether some order brings `load` in beside `beside`, by the budget and by Ollama's gates."""
    state = world.machine.state
    budget, device = state.budget or 0, state.device or state.budget or 0

    def order_admits(order: Sequence[ModelState]) -> bool:
        held, loaded = sum(model.held for model in beside), len(beside)
        for model in order:
            if held + state.orphans + model.size > budget:
                return False
            if loaded and (loaded >= world.config.max_loaded or model.predicted > 0.8 * (device - held)):
                return False
            held, loaded = held + model.size, loaded + 1
        return True

    return any(order_admits(order) for order in permutations(load))


class P7(Promise):
    """The same facts in the same order give the same orders: every journal file replays exactly, alone."""

    name = "P7"

    def __init__(self) -> None:
        super().__init__()
        self.snapshot: CoreState | None = None
        self.at = 0

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        if len(world.steps) == 3 + (world.seed + world.life) % 40:
            state = world.machine.state
            self.snapshot = copy.deepcopy(state) if (world.seed // 40 + world.life) % 2 else copy_of(state)
            self.at = len(world.steps)

    def ended(self, world: World) -> None:
        if self.snapshot is None:
            return
        machine = Machine(self.snapshot)
        for number, (fact, orders) in enumerate(world.steps[self.at :], self.at):
            again = machine.step(fact)
            self.hold(again == orders, f"step {number}, {fact}: {orders} became {again}")
        self.hold(machine.state == world.machine.state, "the same facts left another state")
        self.snapshot = None


class P8(Promise):
    """Ollama's own evictor never fires: a transition is drain, unload, seen gone, load, seen there, one at a time, and
    a load is ordered only if Ollama's own gates let it in."""

    name = "P8"

    def __init__(self) -> None:
        super().__init__()
        self.doubtful_at = 0.0  # when something last said that what is resident may have changed

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        state = world.machine.state
        came_back = isinstance(fact, m.Returned) and fact.error != "recalled"
        failed = isinstance(fact, m.Ended) and (fact.outcome == "failed" or fact.status == 500)
        if came_back or failed or isinstance(fact, m.OllamaUp | m.ClockGap):
            self.doubtful_at = fact.at
        acts = [order for order in orders if isinstance(order, m.Forward | m.Load | m.Unload)]
        if acts:
            self.hold(world.seen_asked >= self.doubtful_at, f"{acts[0]} before what is resident was read again")
        for order in orders:
            if isinstance(order, m.Load):
                self.hold(world.loading is None, f"{order} while {world.loading} is being loaded")
                self.hold(not world.unloading, f"{order} while {list(world.unloading)} leave")
                self.hold(len(of(m.Load, orders)) == 1, f"{order} and another in one step")
                self.hold(healthy(state), f"{order} while nothing is known")
                if world.known and order.model in world.installed:
                    objection = world.gates_admit(order.model)
                    self.hold(not objection, f"{order}: Ollama would evict: {objection}")
            elif isinstance(order, m.Forward) and world.known and order.model in world.runners:
                runner = world.runners[order.model]
                self.hold(order.context == runner.context, f"{order} would reload {runner}")

    def ended(self, world: World) -> None:
        self.doubtful_at = 0.0


class P9(Promise):
    """A daemon restart, an Ollama restart, sleep or a changed configuration unloads nothing by itself: what is resident
    is adopted."""

    name = "P9"

    def __init__(self) -> None:
        super().__init__()
        self.entered = False  # a phase was entered, or home left for others, in this life

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        state = world.machine.state
        transition = state.transition
        self.entered |= isinstance(fact, m.PhaseSet)
        home = Sets(state.config, state.phase).home
        if transition is not None and transition.cause != "home" and set(transition.left) & set(home):
            self.entered = True
        for order in of(m.Unload, orders):
            assert isinstance(order, m.Unload)
            self.hold(transition is not None and self._asked(world, transition, order), f"{order} by itself")

    def _asked(self, world: World, transition: TransitionState, order: m.Unload) -> bool:
        model = world.machine.state.models[order.model]
        match transition.cause:
            case "demand":
                return any(alive(world, name) for name in transition.planned)
            case "home":
                return self.entered
            case "repair":
                return model.stalled
            case _:
                return any(isinstance(f, m.Arrived) and f.kind == "unload" for f, _ in world.steps[-3:])

    def ended(self, world: World) -> None:
        self.entered = False


class Wakes(Promise):
    """It asks to be woken in the future only, and never again and again at one moment."""

    name = "liveness"

    def __init__(self) -> None:
        super().__init__()
        self.at = 0.0
        self.wakes = 0

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        for order in orders:
            if isinstance(order, m.WakeAt):
                self.wakes = self.wakes + 1 if isinstance(fact, m.Ticked) and fact.at == self.at else 0
                self.hold(order.when > world.now or self.wakes < 3, f"{order} at {world.now}, again and again")
        self.at = fact.at


class Phases(Promise):
    """A model that only sets outside the current phase hold is not loaded, and nobody waits for it."""

    name = "phases"

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        state = world.machine.state
        sets = Sets(state.config, state.phase)
        for order in orders:
            if isinstance(order, m.Load):
                self.hold(bool(sets.of(order.model)), f"{order} in phase {state.phase}")
        if not isinstance(fact, m.Ticked):
            for name in state.demanded:
                self.hold(bool(sets.of(name)), f"somebody waits for {name} in phase {state.phase}")


PROMISES: tuple[type[Promise], ...] = (P1, P2, P3, Order, Bound, P5, P6, P7, P8, P9, Wakes, Phases)


def watchers(policy: str) -> list[Promise]:
    """A watcher of each promise."""
    return [promise() for promise in PROMISES]


def proved(policy: str, script: bytes, seed: int, watching: Sequence[Promise]) -> World:
    """A whole run under the eyes of `watching`; raises Broken where a promise breaks."""
    world = play(policy, script, seed, watching)
    for promise in watching:
        promise.ended(world)
    return world

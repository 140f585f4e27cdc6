"""P1, P2, P8 and the phases: memory, busy models, Ollama's own evictor."""

from collections.abc import Sequence

from scheduler.core import messages as m
from scheduler.core.view import Sets
from tests.promises.promise import Promise, healthy, of
from tests.world_model import World


class P1(Promise):
    """No order of ours makes loading + resident + leaving exceed the budget in force. Where others exceeded it (adopted
    models, a shrunken budget), no load is ordered until it holds again."""

    name = "P1"

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        loads = [order for order in orders if isinstance(order, m.Load)]
        state = world.machine.state
        for load in loads:
            books = state.orphans + sum(max(mod.held, mod.size) for n in state.present for mod in [state.models[n]])
            booked = state.models[load.model].held
            self.hold(booked >= state.models[load.model].size, f"{load} is not booked: {booked}")
            self.hold(books <= world.budget, f"{load} makes {books} of {world.budget} booked")
            if world.known:
                truth = world.orphans + sum(runner.size for runner in world.runners.values())
                said = world.installed.get(load.model, world.stage.models[load.model]).listed.size
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
                busy = [client.id for client in world.outstanding(order.model) if client.kind != "replace"]
                self.hold(not busy and order.model not in sent, f"{order} while {busy} run")


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

"""P6 and P9: nothing leaves without a reason, and nothing by itself."""

from collections.abc import Sequence
from itertools import permutations

from scheduler.core import messages as m
from scheduler.core.state import CoreState, ModelState, TransitionState
from scheduler.core.view import Sets
from tests.promises.promise import Promise, alive, healthy, of
from tests.world_model import World


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
        free = min([device - held, *(model.free_after for model in beside if world.config.stale_free)])
        for model in order:
            if held + state.orphans + model.size > budget:
                return False
            if loaded and (loaded >= world.config.max_loaded or model.predicted > 0.8 * free):
                return False
            held, loaded = held + model.size, loaded + 1
            free = min(free, device - held) if world.config.stale_free else device - held
        return True

    return any(order_admits(order) for order in permutations(load))


class P9(Promise):
    """A daemon restart, an Ollama restart, sleep or a changed configuration unloads nothing by itself: what is resident
    is adopted."""

    name = "P9"

    def __init__(self) -> None:
        super().__init__()
        self.entered = False  # a phase was entered, or home left for others, in this life
        self.served = False  # in this life somebody asked for something
        self.shrunk = False  # in this life the budget became smaller, and no person had it so
        self.budget = 0
        self.asked: set[str] = set()  # in this life, by a person
        self.asked_out: set[str] = set()

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        state = world.machine.state
        transition = state.transition
        self.entered |= isinstance(fact, m.PhaseSet)
        self.served |= isinstance(fact, m.Arrived) and fact.kind == "request"
        self._hear(state, fact)
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
                learned = " is expected: asked for next after " in transition.because  # with its evidence
                return self.entered or (learned and self.served)
            case "repair":
                return model.stalled
            case "pressure":
                return self.shrunk
            case "idle":
                return world.config.idle_limit is not None
            case _:
                return order.model in self.asked_out or any(name in self.asked for name in transition.planned)

    def _hear(self, state: CoreState, fact: m.Fact) -> None:
        """Who was asked for, in or out, by a client's wish or a person's command."""
        match fact:
            case m.MemorySeen():
                self.shrunk |= not fact.configured and fact.budget < self.budget
                self.budget = fact.budget
            case m.Arrived(kind="unload" | "replace"):
                self.asked_out.add(fact.model)
            case m.UnloadAsked():
                self.asked_out |= {fact.model} if fact.model else set(state.present)
            case m.Paused():
                self.asked_out |= set(state.present)
            case m.LoadAsked() | m.Pinned():
                self.asked.add(fact.model)

    def ended(self, world: World) -> None:
        self.entered = self.shrunk = self.served = False
        self.budget = 0
        self.asked.clear()
        self.asked_out.clear()


class Home(Promise):
    """Once all is well and everybody has been quiet for the phase's settle time, its home is loaded, if it can be held
    and, at the start of a life, if it fits beside what is resident."""

    name = "home"

    def ended(self, world: World) -> None:
        state = world.machine.state
        home = Sets(state.config, state.phase).home
        if not world.rested or not healthy(state) or state.stopping or world.config.policy != "default":
            return
        models = [state.models[name] for name in home]
        if not all(model.installed and not model.sent_away for model in models):
            return
        away = [model for model in models if not model.usable and (state.home_due or model.state == "absent")]
        beside = [] if state.home_due else [state.models[name] for name in state.present]
        if models and admitted(world, beside, models if state.home_due else away):
            self.hold(not away, f"{home} is not there: {world.machine!r}")

"""What happens without a request: memory that gets short and long again, idle limits, and quiet hours."""

from collections.abc import Sequence

from scheduler.core import messages as m
from scheduler.core.state import TransitionState
from scheduler.core.view import Sets
from tests.promises.promise import Promise, alive, healthy, of
from tests.world_model import World


class Begun(Promise):
    """Told of each transition as it begins."""

    def __init__(self) -> None:
        super().__init__()
        self._known: TransitionState | None = None

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        self.heard(world, fact)
        transition = world.machine.state.transition
        if transition is not None and transition is not self._known:
            self.begun(world, transition)
        self._known = transition

    def heard(self, world: World, fact: m.Fact) -> None:
        """Note what the fact says."""

    def begun(self, world: World, transition: TransitionState) -> None:
        """Look at a transition that has just begun."""


class Short(Begun):
    """A smaller budget holds at once, a larger one once it has stayed; whoever leaves for it had to, unless a person
    pinned it."""

    name = "pressure"

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[float, int]] = []  # when a budget was told, and which; the oldest held before the window

    def heard(self, world: World, fact: m.Fact) -> None:
        state = world.machine.state
        if isinstance(fact, m.MemorySeen):
            self.told = [(fact.at, fact.budget)] if fact.configured else [*self.told, (fact.at, fact.budget)]
        since = world.now - world.config.grow_after + 1e-6
        while len(self.told) > 1 and self.told[1][0] <= since:
            del self.told[0]
        if self.told:
            least = min(budget for _, budget in self.told)
            self.hold((state.budget or 0) <= least, f"{state.budget} are trusted, of {self.told}")

    def begun(self, world: World, transition: TransitionState) -> None:
        if transition.cause != "pressure":
            return
        state = world.machine.state
        stay = [state.models[name] for name in state.present if name not in transition.left]
        held = sum(model.held for model in stay) + state.orphans + sum(state.unreachable.values())
        budget = state.budget or 0
        self.hold(not transition.planned, f"{transition.planned} are loaded for want of memory")
        for name in transition.left:
            self.hold(held + state.models[name].held > budget, f"{name} need not leave: {held} of {budget} are held")
            self.hold(name not in state.pins, f"{name} is pinned and leaves for want of memory")

    def ended(self, world: World) -> None:
        self.told = []


class Idle(Begun):
    """A model with an idle limit leaves once nobody has used it for that long, and no other; at the end none such is
    there."""

    name = "idle"

    def begun(self, world: World, transition: TransitionState) -> None:
        if transition.cause != "idle":
            return
        state = world.machine.state
        home = () if state.quiet else Sets(state.config, state.phase).home
        for name in transition.left:
            model, limit = state.models[name], world.config.idle_limit
            idle = world.now - max(model.loaded_at or 0.0, model.last_used)  # promise "use" holds these to the truth
            self.hold(limit is not None and idle >= limit - 1e-6, f"{name} was idle for {idle} of {limit} s")
            self.hold(not alive(world, name), f"{name} leaves as idle though somebody is there for it")
            self.hold(name not in home and name not in state.pins and not model.keep, f"{name} leaves as idle")

    def ended(self, world: World) -> None:
        state, limit = world.machine.state, world.config.idle_limit
        if limit is None or not world.rested or not healthy(state) or state.stopping:
            return
        kept = {*Sets(state.config, state.phase).home, *(model.name for model in world.config.models if model.keep)}
        self.hold(set(state.present) <= kept, f"{list(state.present)} are there after {limit} s")


class Quiet(Begun):
    """While it is quiet nothing is loaded unasked."""

    name = "quiet"

    def begun(self, world: World, transition: TransitionState) -> None:
        if world.machine.state.quiet:
            self.hold(transition.cause != "home", f"{transition.planned} go home in the quiet")

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        super().saw(world, fact, orders)
        state = world.machine.state
        if state.quiet and of(m.Load, orders):
            self.hold(state.transition is not None and state.transition.cause != "home", f"{orders} in the quiet")

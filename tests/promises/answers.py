"""P3, P5 and the order within a model: who is answered, when, and who counts as demand."""

import re
from collections.abc import Sequence

from policies.hold import WEIGHT
from scheduler.core import messages as m
from scheduler.core.state import CoreState
from tests.promises.promise import RANK, Promise, alive, healthy, of
from tests.world_model import World

_HOLDS = re.compile("keeps its turn|stays: |stays for a moment")  # of the living: a turn, or what keeps a drained model


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
        given: list[m.Forward | m.Refuse] = []
        begun = False
        for order in orders:
            begun |= isinstance(order, m.Record) and order.what == "transition begun"
            if isinstance(order, m.Forward):
                self._turn(world, order, given, begun)
            if isinstance(order, m.Forward | m.Refuse):
                given.append(order)
        for model in state.models.values():
            queued = sum(WEIGHT[request.cls] for request in model.requests())
            self.hold(model.weight == queued, f"{model.name} counts {model.weight}, and {queued} wait for it")
        self.hold(state.weight == sum(model.weight for model in state.models.values()), "the weight of all is not all")
        if not healthy(state) or state.stopping:
            return
        for load in of(m.Load, orders):
            replaced = [c.id for c in world.outstanding(load.model) if c.kind == "replace"]
            self.hold(not replaced, f"{load} while {replaced} replaces it")
        for name in state.demanded:
            model = state.models[name]
            if model.waiting and model.usable:
                self.hold(model.running >= model.parallel, f"{name} has a free slot and {model.waiting} waiting")

    def _turn(self, world: World, order: m.Forward, given: Sequence[m.Forward | m.Refuse], begun: bool) -> None:
        mine = world.clients[order.id]
        if mine.kind == "replace":
            self.hold(order.model not in world.runners or not world.known, f"{order} while it is in memory")
            return
        model = world.machine.state.models[order.model]
        ahead = {other.id for other in given}
        running = len(world.outstanding(order.model)) + sum(
            isinstance(other, m.Forward) and other.model == order.model for other in given
        )
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
        for order in orders:
            if isinstance(order, m.Forward) and world.clients[order.id].kind == "probe":
                self._free(world, state, order)
        for load in of(m.Load, orders):
            if transition is not None and transition.cause not in ("home", "asked"):
                living = [c.id for name in transition.planned for c in alive(world, name)]
                self.hold(bool(living), f"{load} for nobody")
        self._no_trace(world, fact, bool(of(m.Forward, orders) or of(m.Refuse, orders)))
        if healthy(state) and not state.stopping and transition is None:
            self._not_kept(world, state)

    def _free(self, world: World, state: CoreState, order: m.Forward) -> None:
        """A health check takes a slot only where nobody waits for it, nothing changes and all is known."""
        waiting = [c.id for c in alive(world, order.model) if c.place == "waiting" and c.kind == "request"]
        self.hold(not waiting, f"{order} ahead of {waiting}")
        self.hold(healthy(state) and state.transition is None, f"{order} while something changes")

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
            if not wanted or model.usable or model.replacing or model.not_before > world.now or not model.installed:
                continue
            plan = view.plan(model)
            if plan is None or not plan.leave or _HOLDS.search(state.verdict):
                continue
            if any(view.home and n in view.home and n not in plan.load for n in plan.leave):
                continue
            kept_by = [c for n in plan.leave for c in alive(world, n)]
            if world.config.policy == "default":
                self.hold(bool(kept_by), f"nobody living keeps {plan.leave} from leaving for {name}")

    def ended(self, world: World) -> None:
        self.before = (world.now, {})
        self.probes = set()

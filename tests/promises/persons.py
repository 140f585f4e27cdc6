"""What a person said holds: the pinned stay, nobody is served in a pause, the cancelled end."""

from collections.abc import Sequence

from scheduler.core import messages as m
from tests.promises.promise import Promise
from tests.world_model import World


class Persons(Promise):
    """A pinned model is unloaded for a pause or a repair alone, nobody is served or loaded for while paused, a pin or a
    pause ends in time, and a cancelled request gets nothing more."""

    name = "persons"

    def __init__(self) -> None:
        super().__init__()
        self.cancelled: set[str] = set()

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        state = world.machine.state
        if isinstance(fact, m.Cancelled) and fact.id in world.clients:
            self.cancelled.add(fact.id)
            told = any(isinstance(order, m.Refuse | m.Recall) and order.id == fact.id for order in orders)
            client = world.clients[fact.id]
            self.hold(told or client.left or client.place == "sent", f"{fact} changes nothing")
        for order in orders:
            self._order(world, order)
        self.hold(all(pin.until > world.now for pin in state.pins.values()), f"{state.pins} at {world.now}")
        if state.paused is not None and state.paused.until is not None:
            self.hold(state.paused.until > world.now, f"{state.paused} at {world.now}")

    def _order(self, world: World, order: m.Order) -> None:
        state = world.machine.state
        match order:
            case m.Unload() if order.model in state.pins:
                transition = state.transition
                again = transition is not None and order.model in transition.planned
                stalled = transition is not None and transition.cause == "repair"
                self.hold(state.paused is not None or again or stalled, f"{order} though it is pinned")
            case m.Forward() if world.clients[order.id].kind != "replace":
                self.hold(state.paused is None, f"{order} while paused")
                self.hold(order.id not in self.cancelled, f"{order} after it was cancelled")
            case m.Load():
                self.hold(state.paused is None, f"{order} while paused")

    def ended(self, world: World) -> None:
        self.cancelled.clear()

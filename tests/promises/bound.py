"""P4's bound: how long a request may wait for the change to its model to begin, by the durations that occurred."""

from collections.abc import Sequence

from scheduler.core import messages as m
from scheduler.simulator.watch_bound import BoundWatch
from tests.promises.promise import Promise
from tests.world_model import World


class Bound(Promise):
    """With Ollama and memory healthy, a request whose model is away sees the change to it begin (our first unload or
    load order for it) within B(class) = max(patience, floor) + longest running request + transitions already committed
    + one forced turn for each other contended set, with the durations that occurred."""

    name = "P4 (bound)"

    def __init__(self) -> None:
        super().__init__()
        self.watch = BoundWatch()

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        if world.config.policy != "default":
            return
        self.watch(fact, orders, world.machine)
        self.checked = self.watch.checked
        if self.watch.broken:
            self.hold(False, str(self.watch.broken[0]))

    def ended(self, world: World) -> None:
        self.watch.forget(world.now)

"""P7, liveness and memory of use: the same facts give the same orders, time is asked for sparingly."""

import copy
from collections.abc import Sequence

from scheduler.core import messages as m
from scheduler.core.machine import Machine
from scheduler.core.state import CoreState
from scheduler.journal_lines import copy_of
from tests.promises.promise import Promise
from tests.world_model import World


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

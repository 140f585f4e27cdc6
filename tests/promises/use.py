"""When a model was last used, and since when everybody is quiet: by those whose clients are there, and nobody else."""

from collections.abc import Sequence

from scheduler.core import messages as m
from tests.promises.promise import Promise
from tests.world_model import World


class Use(Promise):
    """A model was last used when a request last began or ended there or its client left; everybody is quiet since the
    last request or wish was answered or left. Home and the choice of who leaves go by these."""

    name = "use"

    def __init__(self) -> None:
        super().__init__()
        self.ended(None)

    def ended(self, world: World | None) -> None:
        self.used: dict[str, float] = {}
        self.living: dict[str, str] = {}  # who waits or is served, with the model
        self.quiet: float | None = None

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        """Follow who is there, and compare."""
        before = bool(self.living)
        refused = any(isinstance(order, m.Refuse) and order.id == getattr(fact, "id", None) for order in orders)
        taken_in = isinstance(fact, m.Arrived) and fact.kind in ("request", "preload") and not refused
        if isinstance(fact, m.Arrived) and taken_in:
            self.living[fact.id] = fact.model
        self._end(world, fact, orders)
        for order in orders:
            if isinstance(order, m.Forward) and order.id in self.living:
                self.used[order.model] = fact.at
        if not self.living and (before or taken_in):
            self.quiet = fact.at
        state = world.machine.state
        if not self.living and self.quiet is not None:
            self.hold(state.quiet_since == self.quiet, f"quiet since {self.quiet}, not {state.quiet_since}: {fact}")
        for name, at in list(self.used.items()):
            model = state.models.get(name)
            if model is None:  # it was never listed and is gone: forgotten, and new when it is asked for again
                del self.used[name]
            else:
                self.hold(model.last_used >= at, f"{name} was used at {at}, not {model.last_used}")

    def _end(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        """Whoever is answered or has left is there no more."""
        if isinstance(fact, m.Left | m.Ended) and fact.id in self.living:
            model = self.living.pop(fact.id)
            running = isinstance(fact, m.Ended) or fact.id in world.clients
            if running:
                self.used[model] = fact.at
        for order in orders:
            if isinstance(order, m.Refuse | m.AnswerWish):
                self.living.pop(order.id, None)

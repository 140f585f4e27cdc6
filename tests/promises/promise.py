"""What every promise is made of: a watcher of each step of the virtual world, and the few things they all ask."""

from collections.abc import Iterable, Sequence

from scheduler.core import messages as m
from scheduler.core.state import CoreState
from scheduler.core.view import Sets
from tests.world_model import World
from tests.world_parts import Broken, Client

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
    """Ollama answers, what is resident and the budget are known, and nobody has paused anything."""
    return state.paused is None and state.ollama == "up" and not state.looking and state.budget is not None


def alive(world: World, model: str) -> list[Client]:
    """Those who wait for `model` or are served by it and whose clients are there; no probes, no wish to unload."""
    kinds = ("request", "preload")
    return [c for c in world.clients.values() if c.model == model and c.kind in kinds and not c.left]


def set_of(state: CoreState, name: str) -> tuple[str, ...]:
    """The first set, allowed now, that holds the model; itself where there is none."""
    return next(iter(Sets(state.config, state.phase).of(name)), (name,))

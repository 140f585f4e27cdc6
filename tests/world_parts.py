"""What the virtual machine is made of: models as they really are, runners in memory, clients, the next trouble."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from scheduler.core import messages as m
from scheduler.core.config import Config

if TYPE_CHECKING:
    from tests.world_model import World


class Broken(AssertionError):
    """A promise was broken; the first word says which."""


@dataclass(slots=True)
class Installed:
    """A model as Ollama has it: what it lists, the bytes it really takes, and the context Ollama gives it."""

    listed: m.Listed
    real: int
    context: int


@dataclass(slots=True)
class Stage:
    """A machine before anything happens."""

    config: Config
    models: dict[str, Installed]
    budget: int
    device: int
    askable: bool = True  # the engine answers whether it works
    troubled: bool = True  # things go wrong here
    starving: bool = False  # agents keep one model busy for a long time
    quiet: bool = False  # it begins in quiet hours
    resident: tuple[tuple[str, int], ...] = ()  # models in memory at start, with their context


@dataclass(slots=True)
class Runner:
    """A model in memory, in truth."""

    name: str
    size: int
    context: int
    wedged: bool = False
    last_byte: float = 0.0
    free_after: int | None = None  # of the device, once we had loaded it; Ollama may go on believing it
    watched: bool = False


@dataclass(slots=True)
class Client:
    """Somebody who asked. `run` counts sendings, so that what belongs to an earlier one is told apart."""

    id: str
    model: str
    kind: m.Kind
    cls: str
    arrived: float
    seq: int
    body: int  # bytes
    place: Literal["waiting", "sent", "done"] = "waiting"
    left: bool = False
    head: bool = False  # the head of its answer was sent
    sent_at: float = 0.0
    run: int = 0
    answers: int = 0
    session: str = ""
    again: int = 0  # rounds still to come: it asks again once answered


class Watcher(Protocol):
    """Told of each step, before its orders are carried out, and of a life's end; raises Broken."""

    def saw(self, world: "World", fact: m.Fact, orders: Sequence[m.Order]) -> None: ...
    def ended(self, world: "World") -> None: ...  # one life of the daemon is over


@dataclass(slots=True)
class Trouble:
    """What goes wrong next."""

    loads: list[Literal["fails", "never ends"]] = field(default_factory=list)
    unloads: int = 0

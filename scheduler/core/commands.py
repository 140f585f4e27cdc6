"""What a person tells the scheduler, as facts; frozen, plain values. `messages` makes them part of the one vocabulary.

`by` is who says so, as shown in /status. `at` and `until` are monotonic seconds. Ask `Machine.objection` first: a fact
that the core objects to changes nothing.
"""

from dataclasses import dataclass
from typing import Literal

Others = Literal["wait", "refuse"]
"""What becomes of requests that a pin or a pause keeps out: they wait for its end, or are told at once."""


@dataclass(frozen=True, slots=True)
class PhaseSet:
    """A person or a schedule entered a phase."""

    at: float
    phase: str
    by: str


@dataclass(frozen=True, slots=True)
class Pinned:
    """Keep `model` in memory until `until`, and load it if it is away. Replaces an earlier pin of it."""

    at: float
    model: str
    until: float
    by: str
    others: Others = "wait"


@dataclass(frozen=True, slots=True)
class Unpinned:
    """The pin of `model` is over."""

    at: float
    model: str
    by: str


@dataclass(frozen=True, slots=True)
class LoadAsked:
    """Load `model` now; what must leave for it drains first."""

    at: float
    model: str
    by: str


@dataclass(frozen=True, slots=True)
class UnloadAsked:
    """Unload `model` ("": all that are in memory) once drained; only a request, a load or a pin brings it back."""

    at: float
    model: str
    by: str


@dataclass(frozen=True, slots=True)
class Paused:
    """Serve nobody any more and unload everything as it drains, until `until` (None: until resumed)."""

    at: float
    by: str
    until: float | None = None
    others: Others = "wait"


@dataclass(frozen=True, slots=True)
class Resumed:
    """The pause is over."""

    at: float
    by: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """End this request, waiting or running."""

    at: float
    id: str
    by: str


@dataclass(frozen=True, slots=True)
class PassthroughSet:
    """On: every request is forwarded as it comes and Ollama does as it likes, so promises 1, 2, 4-6 and 8 rest.
    Off: what is resident is adopted."""

    at: float
    on: bool
    by: str


@dataclass(frozen=True, slots=True)
class QuietSet:
    """On: from now on nothing is loaded unasked, neither home nor what may be wanted soon. Off: that is over."""

    at: float
    on: bool
    by: str


Command = (
    PhaseSet | Pinned | Unpinned | LoadAsked | UnloadAsked | Paused | Resumed | Cancelled | PassthroughSet | QuietSet
)

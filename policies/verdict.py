"""What a policy may answer, each with its reason."""

from dataclasses import dataclass
from typing import Literal

Cause = Literal["demand", "home", "repair", "asked", "pressure", "idle"]
"""Why residency changes: waiting requests, the home set, a repair, somebody who asked, a shrunken budget, an
idle limit."""


@dataclass(frozen=True, slots=True)
class Serve:
    """Start this waiting request now, in a free slot of its usable model."""

    request: str
    because: str


@dataclass(frozen=True, slots=True)
class Change:
    """Begin a transition: drain and unload `leave`, then load `load`, one model at a time, in this order."""

    leave: tuple[str, ...]
    load: tuple[str, ...]
    because: str
    cause: Cause = "demand"
    forced: bool = False


Action = Serve | Change


@dataclass(frozen=True, slots=True)
class Memo:
    """A policy's only state: frozen, serialisable, kept by the core."""

    forced_at: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The actions to take now, the memo to keep, and when to ask again if no fact comes before (None: never)."""

    actions: tuple[Action, ...]
    memo: Memo
    wake_at: float | None = None
    because: str = ""

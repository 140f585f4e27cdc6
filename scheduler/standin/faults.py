"""What can be made to go wrong with the stand-in while it runs, and the record of what it did."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from scheduler.standin.stage import spelled_out

KINDS = {
    "load_error": "the load ends with a 500 once its time is over (`seconds` replaces that time, `message` the text)",
    "load_never_ends": "the load goes on until its client leaves, it is given up, or the fault is removed",
    "silent": "a runner accepts and never sends a byte until it is unloaded, also when the fault is removed before",
    "wedge": "the next client that hangs up leaves its slot taken until the runner is unloaded",
    "crash_serving": "the runner dies after `after` tokens (0: before the first byte); the next request reloads it",
    "request_error": "the engine answers 500 with `message`; the runner stays",
    "slow_tokens": "words come at `per_second` only",
    "slow_first_token": "the first token takes `seconds` more",
    "truncate": "the answer ends cleanly after `after` tokens, without its last line",
    "hang_ps": "/api/ps answers only after `seconds` (0: never)",
    "down": "every connection is cut without an answer, those under way too (`forget`: nothing is resident any more)",
}


class BadFault(ValueError):
    """A fault that the stand-in does not know."""


@dataclass(eq=False)
class Fault:
    """One thing that goes wrong, for one model or (empty) for every model, `times` times (0: until removed)."""

    kind: str
    model: str = ""
    seconds: float = 0.0
    after: int = 3
    times: int = 0
    message: str = ""
    forget: bool = False
    per_second: float = 0.0
    struck: int = 0
    cleared: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def from_mapping(cls, told: Mapping[str, Any]) -> "Fault":
        """Read the body of `POST /standin/fault`; raises `BadFault`."""
        allowed = {item.name for item in fields(cls)} - {"struck", "cleared"}
        if unknown := set(told) - allowed:
            raise BadFault(f"unknown key {', '.join(sorted(unknown))}; known are {', '.join(sorted(allowed))}")
        if told.get("kind") not in KINDS:
            raise BadFault(f"unknown kind {told.get('kind')!r}; known are {', '.join(KINDS)}")
        return cls(**told)

    def concerns(self, kind: str, model: str) -> bool:
        """Whether it would strike now."""
        spent = self.times > 0 and self.struck >= self.times
        return self.kind == kind and not spent and (not self.model or spelled_out(self.model) == spelled_out(model))


class Faults:
    """The faults now set, in the order in which they were set."""

    def __init__(self) -> None:
        self._set: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Set one more."""
        self._set.append(fault)

    def clear(self) -> None:
        """Remove all of them; what was held up goes on, but for a runner that fell silent."""
        for fault in self._set:
            fault.cleared.set()
        self._set.clear()

    def strike(self, kind: str, model: str = "") -> Fault | None:
        """The first fault of that kind that concerns the model, counted as having struck."""
        for fault in self._set:
            if fault.concerns(kind, model):
                fault.struck += 1
                return fault
        return None


class Events:
    """What the stand-in did, with monotonic times: the evidence that tests look at."""

    def __init__(self, most: int = 50_000) -> None:
        self._lines: deque[dict[str, Any]] = deque(maxlen=most)
        self._counts: Counter[str] = Counter()

    def note(self, kind: str, **more: object) -> None:
        """Record one event now."""
        self._counts[kind] += 1
        self._lines.append({"at": time.monotonic(), "kind": kind, **more})

    def as_json(self) -> dict[str, Any]:
        """All of it, for `GET /standin/events`: `counts` by kind, `events` oldest first, `now`."""
        return {"now": time.monotonic(), "counts": dict(self._counts), "events": list(self._lines)}

    def clear(self) -> None:
        """Forget all of it."""
        self._lines.clear()
        self._counts.clear()

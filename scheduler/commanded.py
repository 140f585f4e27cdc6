"""The parts of `/status` that tell what people told the daemon: pins, pause, passthrough, wishes, configuration."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from scheduler import status_commanded as c
from scheduler.core.state import CoreState
from scheduler.ledger import Ledger
from scheduler.past import RefusedWish
from scheduler.status_verdict import SUSPENDED, Clock

SHOWN_WISHES = 20


class Configured(Protocol):
    """Which configuration is in force; times are monotonic seconds."""

    @property
    def file(self) -> Path | None: ...
    @property
    def loaded(self) -> float: ...
    @property
    def tried(self) -> float: ...
    @property
    def refused(self) -> Sequence[str]: ...
    @property
    def restart(self) -> Sequence[str]: ...


class Planned(Protocol):
    """What the timetable changes next, at `at` seconds since 1970."""

    @property
    def at(self) -> float: ...
    @property
    def what(self) -> str: ...
    @property
    def by(self) -> str: ...


def pins(state: CoreState, now: float, iso: Clock) -> list[c.Pin]:
    """What is kept in memory, the first to end first."""
    return [
        c.Pin(
            model=pin.model,
            owner=pin.owner,
            until=iso(pin.until),
            left=round(max(0.0, pin.until - now), 3),
            others=pin.others,
        )
        for pin in sorted(state.pins.values(), key=lambda pin: pin.until)
    ]


def paused(state: CoreState, now: float, iso: Clock) -> c.Pause | None:
    """The pause in force."""
    pause = state.paused
    if pause is None:
        return None
    until = pause.until
    return c.Pause(
        owner=pause.owner,
        since=iso(pause.since),
        until=None if until is None else iso(until),
        left=None if until is None else round(max(0.0, until - now), 3),
        others=pause.others,
    )


def passthrough(state: CoreState, ledger: Ledger, iso: Clock) -> c.Passthrough | None:
    """The escape hatch, if it is open."""
    if not state.passthrough:
        return None
    running = sum(request.place == "running" for request in state.requests.values())
    return c.Passthrough(
        owner=state.passthrough,
        since=iso(ledger.passthrough_since or state.at),
        running=running,
        suspended=list(SUSPENDED),
    )


def scheduled(planned: Planned | None, wall: float) -> c.Scheduled | None:
    """What the timetable changes next; `wall` is now, in seconds since 1970."""
    if planned is None:
        return None
    at = datetime.fromtimestamp(planned.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return c.Scheduled(at=at, left=round(max(0.0, planned.at - wall), 3), what=planned.what, by=planned.by)


def refused_wishes(wishes: Mapping[str, RefusedWish], iso: Clock) -> list[c.RefusedWish]:
    """The last wishes that were not followed, newest first; `wishes` are by model, oldest first."""
    newest = list(wishes.items())[-SHOWN_WISHES:][::-1]
    return [
        c.RefusedWish(model=name, client=wish.client, at=iso(wish.at), because=wish.because) for name, wish in newest
    ]


def configuration(known: Configured | None, started: float, iso: Clock) -> c.Configuration:
    """Which configuration is in force: the one `known`, or the documented one since `started` (monotonic seconds)."""
    if known is None:
        at = iso(started)
        return c.Configuration(file=None, loaded_at=at, state="in force", tried_at=at, problems=[], needs_restart=[])
    return c.Configuration(
        file=None if known.file is None else str(known.file),
        loaded_at=iso(known.loaded),
        state="refused" if known.refused else "in force",
        tried_at=iso(known.tried),
        problems=list(known.refused),
        needs_restart=list(known.restart),
    )

"""The chore that follows the timetable: it posts the phase to enter and the quiet that begins or ends, and no more.

What was missed while the machine slept is done once, the latest alone, on waking. What was missed while no daemon ran
is not: a start enters no phase. Quiet is a state and not an act, so a start finds out whether it is quiet.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from scheduler.core import messages as m

if TYPE_CHECKING:
    from scheduler.timetable import Planned, Timetable

SET_BACK = 60.0  # seconds back that are no mere adjustment of the clock: what it shows again counts again


ZONE = 60.0  # seconds after which it is looked whether the machine has come to another time zone


class Scheduled:
    """Looks at the wall clock and posts what is due."""

    def __init__(
        self,
        timetable: "Timetable | None",
        post: Callable[[m.Fact], None],
        now: Callable[[], float],
        wall: Callable[[], float] | None = None,
    ) -> None:
        self._timetable = timetable
        self._post = post
        self._now = now
        self._wall = wall or (lambda: time.time())  # looked up each time, so that a frozen clock is seen
        self._seen = self._wall()  # what was due until then is done
        self._quiet = ""
        self._next: Planned | None = None
        self._anew = True
        self._zone_read = self._seen

    def renew(self, timetable: "Timetable | None") -> None:
        """Go by this timetable from now on; None: nothing is scheduled any more."""
        self._timetable = timetable
        self._anew = True

    def upcoming(self) -> "Planned | None":
        """What changes next; None where nothing is scheduled."""
        return self._next

    def look(self) -> None:
        """Post what has become due since the last look."""
        wall = self._wall()
        if wall < self._seen - SET_BACK:
            self._seen, self._anew = wall, True
        if self._timetable is not None and abs(wall - self._zone_read) >= ZONE:
            self._zone_read = wall
            self._anew = self._timetable.travelled() or self._anew
        if not self._anew and (self._next is None or wall < self._next.at):
            self._seen = max(self._seen, wall)
            return
        table = self._timetable
        missed = table.missed(self._seen, wall) if table else None
        self._seen, self._anew = max(self._seen, wall), False
        self._next = table.upcoming(self._seen) if table else None
        quiet = table.quiet(self._seen) if table else ""
        if quiet and not self._quiet:
            self._post(m.QuietSet(self._now(), True, quiet))
        if missed is not None:
            self._post(m.PhaseSet(self._now(), missed.phase, missed.by))
        if self._quiet and not quiet:
            self._post(m.QuietSet(self._now(), False, self._quiet))
        self._quiet = quiet

"""Timed chores on APScheduler: each looks at something and posts a fact, or has a part put its own house in order."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

log = logging.getLogger(__name__)

GUARD = 1.0  # seconds between two looks at the clock
SET_BACK = 0.5  # seconds back that are no mere adjustment

Chore = Callable[[], Awaitable[None] | None]


class _Steady(IntervalTrigger):  # type: ignore[misc]  # apscheduler has no types
    """An interval that passes over what was missed: after a night's sleep its parent lists each missed second, and
    holds the loop up for as long as that takes."""

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        """The time after `previous`, or after `now` where that is past."""
        late = previous is not None and now - previous > self.interval
        due: datetime | None = super().get_next_fire_time(now if late else previous, now)
        return due


class Housekeeping:
    """Chores by name, each every so many seconds, never twice at once."""

    def __init__(self) -> None:
        logging.getLogger("apscheduler").setLevel(logging.ERROR)  # a chore late on a busy machine is no news
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._gap = 0.0  # seconds between the wall clock and the loop's
        self._guard: asyncio.TimerHandle | None = None

    def every(self, seconds: float, name: str, chore: Chore) -> None:
        """Do `chore` every `seconds` seconds from now on; a late one is done once, not once per missed time."""

        async def once() -> None:
            try:
                done = chore()
                if done is not None:
                    await done
            except asyncio.CancelledError:
                return  # the daemon ends: nothing to tell
            except Exception:
                log.exception("chore %s", name)

        trigger = _Steady(seconds=max(seconds, 0.001), timezone=UTC)
        self._scheduler.add_job(once, trigger, id=name, coalesce=True, max_instances=1, misfire_grace_time=None)

    def start(self) -> None:
        """Begin."""
        self._scheduler.start()
        self._gap = time.time() - asyncio.get_running_loop().time()
        self._look_at_the_clock()

    def stop(self) -> None:
        """Stop; a chore under way is not waited for."""
        if self._guard is not None:
            self._guard.cancel()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def _look_at_the_clock(self) -> None:
        """APScheduler goes by the wall clock: where that was set back, every chore would wait until it has come to the
        same time again. Then all are due now."""
        gap = time.time() - asyncio.get_running_loop().time()
        if gap < self._gap - SET_BACK:
            log.warning("the clock was set back by %.0f s", self._gap - gap)
            for job in self._scheduler.get_jobs():
                job.modify(next_run_time=datetime.now(UTC))
        self._gap = gap
        self._guard = asyncio.get_running_loop().call_later(GUARD, self._look_at_the_clock)

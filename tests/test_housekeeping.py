"""Timed chores: at their time, never twice at once, late ones once; one that fails harms no other."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest
from freezegun import freeze_time

from scheduler.housekeeping import Housekeeping

WAIT = 5.0
OFTEN = 0.01  # seconds


class Counted:
    """A chore that counts how often it is done, and may wait or fail."""

    def __init__(self, upon: Callable[[], None] = lambda: None) -> None:
        self.done = 0
        self.upon = upon
        self.go: asyncio.Event | None = None
        self._news = asyncio.Event()

    def chore(self) -> None:
        """As a plain function."""
        self.done += 1
        self._news.set()
        self.upon()

    async def slow(self) -> None:
        """As a coroutine; waits for `go`."""
        self.chore()
        if self.go is not None:
            await self.go.wait()

    async def times(self, number: int) -> None:
        """Wait until it was done so often."""
        async with asyncio.timeout(WAIT):
            while self.done < number:
                self._news.clear()
                await self._news.wait()


@pytest.fixture
async def chores() -> AsyncIterator[Housekeeping]:
    """Chores, stopped at the end."""
    made = Housekeeping()
    yield made
    made.stop()
    await asyncio.sleep(0)  # what was under way hears of it


async def test_chores_are_done_again_and_again(chores: Housekeeping) -> None:
    """Functions and coroutines alike, each in its own time; nothing before the start."""
    fast, slow, rare = Counted(), Counted(), Counted()
    chores.every(OFTEN, "a function", fast.chore)
    chores.every(OFTEN, "a coroutine", slow.slow)
    chores.every(3600.0, "a rare one", rare.chore)
    await asyncio.sleep(0)
    assert fast.done == slow.done == 0
    chores.start()
    await fast.times(3)
    await slow.times(3)
    assert rare.done == 0


async def test_a_late_chore_is_done_once(chores: Housekeeping) -> None:
    """The machine slept for a year: what was due many times meanwhile is done once, late or not, and nobody counts
    how often it was missed."""
    chore = Counted()
    with freeze_time("2026-01-01 12:00:00", real_asyncio=True) as wall:  # the loop's own clock goes on
        chores.every(OFTEN, "a chore", chore.chore)
        chores.start()
        for number in (1, 2, 3, 4):
            wall.tick(365 * 86400 if number % 2 else OFTEN)
            await chore.times(number)
        assert chore.done == 4


async def test_a_chore_is_never_done_twice_at_once(chores: Housekeeping) -> None:
    """One that takes long is not begun again meanwhile; others go on, and then so does it. Nobody is told: a busy
    machine is no news."""
    long, other = Counted(), Counted()
    long.go = asyncio.Event()
    chores.every(OFTEN, "takes long", long.slow)
    chores.every(OFTEN, "goes on", other.chore)
    chores.start()
    await long.times(1)
    await other.times(other.done + 5)
    assert long.done == 1
    long.go.set()
    await long.times(3)


@pytest.mark.parametrize("kind", ["chore", "slow"])
async def test_a_chore_that_fails_is_told_and_harms_none(
    chores: Housekeeping, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """The log names it and says why; it is tried again at its time, and the others are done."""

    def fails() -> None:
        raise OSError("no such thing")

    broken, other = Counted(fails), Counted()
    chores.every(OFTEN, "look at nothing", getattr(broken, kind))
    chores.every(OFTEN, "goes on", other.chore)
    chores.start()
    await broken.times(3)
    await other.times(3)
    told = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "chore look at nothing" in told[0].getMessage()
    assert "no such thing" in caplog.text


async def test_a_chore_under_way_ends_quietly(chores: Housekeeping, caplog: pytest.LogCaptureFixture) -> None:
    """At the end nobody waits for it, it is cancelled, and nothing is told; nothing is done afterwards."""
    chore, ended = Counted(), asyncio.Event()

    async def until_cancelled() -> None:
        try:
            chore.chore()
            await asyncio.Event().wait()
        finally:
            ended.set()

    other = Counted()
    chores.every(OFTEN, "under way", until_cancelled)
    chores.every(OFTEN, "another", other.chore)
    chores.start()
    await chore.times(1)
    chores.stop()
    await asyncio.wait_for(ended.wait(), WAIT)
    done = other.done
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(5 * OFTEN, later.set)
    await later.wait()
    assert other.done == done
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_to_stop_what_never_began_or_is_over_does_nothing(chores: Housekeeping) -> None:
    """A daemon that fails before its chores begin stops them all the same."""
    chores.every(OFTEN, "a chore", Counted().chore)
    chores.stop()
    chores.start()
    chores.stop()
    chores.stop()


async def test_a_rhythm_of_nothing_is_a_fast_one(chores: Housekeeping) -> None:
    """Zero seconds is no interval; it does not go round without end either."""
    chore, beside = Counted(), asyncio.Event()
    chores.every(0.0, "a chore", chore.chore)
    chores.start()
    asyncio.get_running_loop().call_later(0.02, beside.set)
    await asyncio.wait_for(beside.wait(), WAIT)
    await chore.times(2)


async def test_a_clock_set_back_holds_no_chore_up(chores: Housekeeping, caplog: pytest.LogCaptureFixture) -> None:
    """The wall clock goes back by an hour: chores go on within a second or two, not in an hour."""
    with freeze_time(real_asyncio=True) as frozen:
        counted = Counted()
        chores.every(0.05, "count", counted.chore)
        chores.start()
        frozen.tick(0.1)
        await counted.times(1)
        frozen.tick(-3600.0)
        done = counted.done
        async with asyncio.timeout(WAIT):
            while counted.done == done:
                frozen.tick(0.01)
                await asyncio.sleep(0.02)
    assert "set back" in caplog.text

"""Waiting bodies stay in memory, then in files without a name, then nowhere; what is loaded is what was stored."""

import asyncio
import os
import stat
from pathlib import Path

import pytest

from scheduler.bodies import BodyStore, NoRoom
from scheduler.demand import Body

SMALL = Body(b'{"model":"m","options":{', b'"top_k":1}}', more=True)
LARGE = Body(b"a" * 3_000_000, b"b" * 2_000_000)


async def test_a_body_in_memory_is_kept_once() -> None:
    """Within the limit nothing is written, and dropping gives the room back, once."""
    store = BodyStore(1000, 0)
    kept = await store.store(SMALL)
    assert await kept.load() is SMALL
    assert (store.memory, store.disk, kept.on_disk) == (len(SMALL), 0, False)
    kept.drop()
    kept.drop()
    assert (store.memory, store.disk) == (0, 0)


async def test_beyond_memory_it_goes_to_a_file_that_nobody_else_can_open(tmp_path: Path) -> None:
    """The file has no name and mode 0600, and every byte and the cut in the body come back, as often as asked."""
    store = BodyStore(1000, 10_000_000, tmp_path)
    kept = await store.store(LARGE)
    assert (kept.on_disk, kept.size, store.memory, store.disk) == (True, 5_000_000, 0, 5_000_000)
    assert os.listdir(tmp_path) == []  # noqa: PTH208
    files = [status for each in range(256) if (status := _status(each)) and status.st_size == kept.size]
    assert [(stat.S_IMODE(status.st_mode), status.st_nlink) for status in files] == [(0o600, 0)]
    for _ in range(2):
        assert await kept.load() == LARGE
    kept.drop()
    assert store.disk == 0
    with pytest.raises(ValueError, match="dropped"):
        await kept.load()


async def test_the_cut_survives_the_file(tmp_path: Path) -> None:
    """A body from disk takes a context in the same place as one from memory."""
    kept = await BodyStore(0, 1000, tmp_path).store(SMALL)
    assert kept.on_disk
    assert (await kept.load()).at(7) == b'{"model":"m","options":{"num_ctx":7,"top_k":1}}'
    kept.drop()


async def test_a_small_body_still_fits_beside_a_spilled_one(tmp_path: Path) -> None:
    """What memory cannot take goes to disk alone; the next that fits stays in memory."""
    store = BodyStore(1000, 10_000_000, tmp_path)
    large, small = await store.store(LARGE), await store.store(SMALL)
    assert (large.on_disk, small.on_disk) == (True, False)
    large.drop()
    small.drop()


async def test_beyond_both_limits_it_is_refused(tmp_path: Path) -> None:
    """No room is an error that leaves the accounts as they were."""
    store = BodyStore(1000, 1_000_000, tmp_path)
    with pytest.raises(NoRoom):
        await store.store(LARGE)
    assert (store.memory, store.disk) == (0, 0)


async def test_a_disk_that_cannot_be_written_is_no_room(tmp_path: Path) -> None:
    """A folder that is gone refuses the request, not the daemon."""
    store = BodyStore(0, 10_000_000, tmp_path / "gone")
    with pytest.raises(NoRoom):
        await store.store(LARGE)
    assert store.disk == 0


async def test_a_cancelled_store_leaves_nothing_behind(tmp_path: Path) -> None:
    """A client that leaves while its body is written costs neither room nor an open file."""
    store = BodyStore(0, 10_000_000, tmp_path)
    storing = asyncio.ensure_future(store.store(LARGE))
    await asyncio.sleep(0)
    assert store.disk == len(LARGE)
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    assert store.disk == 0


def _status(descriptor: int) -> os.stat_result | None:
    try:
        return os.fstat(descriptor)
    except OSError:
        return None

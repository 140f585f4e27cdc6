"""Understand what a request says: a body that takes long in a thread of its own, so that others are served meanwhile.

One body is understood at a time. Those that wait for their turn wait in their own requests: a client that leaves takes
its body with it.
"""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

LARGE = 1 << 20  # bytes of a body from which it is understood beside the loop: 20 MB take a tenth of a second
SMALL = 1 << 13  # bytes up to which it never is
PIECES = 2000  # keys, lists and objects from which it is: each takes some 0.02 ms
TURN = 0.0005  # seconds for which the thread may keep the loop waiting; Python's own is ten times that


def costly(raw: bytes) -> bool:
    """Whether others would feel it if this body was understood between their bytes."""
    if len(raw) <= SMALL:
        return False
    return len(raw) > LARGE or sum(map(raw.count, (b"{", b"[", b":"))) > PIECES


class Beside:
    """The thread, begun with the first body that needs it. `close` it."""

    def __init__(self) -> None:
        sys.setswitchinterval(TURN)
        self._thread = ThreadPoolExecutor(1, "understand")  # two would take time of each other's, and of the loop's
        self._turn = asyncio.Lock()

    async def understood(self, raw: bytes, read: Callable[[bytes], T]) -> T:
        """What `read` makes of a body. Raises what it raises."""
        if not costly(raw):
            return read(raw)
        await self._turn.acquire()
        try:
            reading = asyncio.get_running_loop().run_in_executor(self._thread, read, raw)
        except BaseException:
            self._turn.release()
            raise
        reading.add_done_callback(self._over)
        await asyncio.wait((reading,))  # which lets it go on where its request is over: a thread cannot be stopped
        return reading.result()

    def _over(self, reading: asyncio.Future[T]) -> None:
        """The next one may have the thread, whether anybody waited for this one or not."""
        self._turn.release()
        with suppress(asyncio.CancelledError):
            reading.exception()

    def close(self) -> None:
        """Begin with no other body."""
        self._thread.shutdown(wait=False, cancel_futures=True)

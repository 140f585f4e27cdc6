"""One answer of Ollama as it arrives: its connection feeds it, one reader takes status, headers and pieces from it."""

import asyncio
from typing import Protocol

Headers = list[tuple[bytes, bytes]]

READ_AHEAD = 1 << 20  # bytes a reply may hold unread before its connection is read no further


class Source(Protocol):
    """The connection that a reply comes over."""

    def read_on(self) -> None: ...
    def cut(self, why: str | Exception) -> None: ...


class Broken(Exception):
    """Ollama could not be reached, or its answer broke off. `reached` is False when no connection could be made."""

    def __init__(self, message: str, *, reached: bool = True) -> None:
        super().__init__(message)
        self.reached = reached


class Reply:
    """One answer of Ollama, as it arrives. Read by one reader: `await head()`, then `await chunks()` until empty."""

    __slots__ = (
        "_connection",
        "_error",
        "_ready",
        "_unread",
        "_waiter",
        "chunked",
        "done",
        "headers",
        "length",
        "reason",
        "status",
    )

    def __init__(self, connection: Source) -> None:
        self.status = 0
        self.reason = b""
        self.headers: Headers = []
        self.length: int | None = None  # bytes, as declared
        self.chunked = False
        self.done = False
        self._connection: Source | None = connection
        self._ready: list[bytes] = []
        self._unread = 0
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def head(self) -> None:
        """Wait until status and headers are known. Raises Broken, or what the request's own body raised, if never."""
        while not self.status:
            if self._error:
                raise self._error
            await self._wait()

    async def chunks(self) -> list[bytes]:
        """The pieces of the body that came since the last call, at least one; empty at the body's proper end.

        Raises Broken when the body broke off, once everything before the break was read.
        """
        while not self._ready:
            if self.done:
                return []
            if self._error:
                raise self._error
            await self._wait()
        ready, self._ready = self._ready, []
        self._unread = 0
        if self._connection:
            self._connection.read_on()
        return ready

    @property
    def ready(self) -> bool:
        """True when `chunks` would not wait."""
        return bool(self._ready) or self.done or self._error is not None

    def close(self) -> None:
        """Stop reading: an answer that has not ended is cut by closing its connection."""
        if self._connection:
            self._connection.cut("closed by us")

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    # The connection calls these as bytes come in.

    def begin(self, status: int, reason: bytes, headers: Headers) -> None:
        """Status and headers are known."""
        self.reason = reason
        self.headers = headers
        for name, value in headers:
            lower = name.lower()
            if lower == b"content-length" and value.isdigit():
                self.length = int(value)
            elif lower == b"transfer-encoding":
                self.chunked = b"chunked" in value.lower()
        self.status = status
        self._wake()

    def feed(self, data: bytes) -> bool:
        """A piece of the body came; True when more is held than the reader should let lie."""
        self._ready.append(data)
        self._unread += len(data)
        self._wake()
        return self._unread > READ_AHEAD

    def end(self, error: Exception | None = None) -> None:
        """The answer is whole, or broke off with `error`."""
        self._connection = None
        self._error = error
        self.done = error is None
        self._wake()

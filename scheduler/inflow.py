"""The body of one request as it comes in: framing undone by Go's rules, held only as far as it is not yet taken.

From Go 1.26: net/http/internal/chunked.go and `body` in net/http/transfer.go.
"""

import asyncio
import re
from collections import deque
from typing import Protocol

from scheduler.heads import BodyFault

READ_AHEAD = 1 << 18  # bytes held before the client is read no further
LINE = 4096  # bytes of a chunk's size line, and of all trailers
NON_DATA = 16 * 1024  # bytes of framing that may exceed what its data justifies
_SIZE = re.compile(rb"[0-9A-Fa-f]+")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z -]+:[^\x00-\x08\x0a-\x1f\x7f]*")


class Source(Protocol):
    """The connection that a body comes over."""

    def read_on(self) -> None: ...


def fault(words: str) -> BodyFault:
    """What Ollama answers when Go's reader says `words`."""
    return BodyFault(400, words)


class Inflow:
    """A body of `length` bytes, or a chunked one (None). The connection feeds it, one reader takes pieces from it."""

    __slots__ = (
        "_buffer",
        "_error",
        "_excess",
        "_left",
        "_pieces",
        "_source",
        "_stage",
        "_waiter",
        "held",
        "whole",
    )

    def __init__(self, source: Source, length: int | None) -> None:
        self._source = source
        self._left = length or 0  # bytes still to come, of the body or of its chunk
        self._stage = "size" if length is None else "plain"
        self._buffer = b""  # of a line that is not whole
        self._excess = 0
        self._pieces: deque[bytes] = deque()
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.held = 0  # bytes not taken yet
        self.whole = length == 0

    @property
    def expected(self) -> int | None:
        """Bytes that are still to come, as far as known."""
        return self._left if self._stage == "plain" else None

    @property
    def waited_for(self) -> bool:
        """True while its reader waits for the client."""
        return self._waiter is not None

    @property
    def broken(self) -> bool:
        """True when nothing more can be read from it."""
        return self._error is not None

    async def take(self) -> bytes:
        """The next piece; empty at the end. Raises what broke it, once all before was taken."""
        while not self._pieces:
            if self.whole:
                return b""
            if self._error:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        piece = self._pieces.popleft()
        self.held -= len(piece)
        if self.held <= READ_AHEAD:
            self._source.read_on()
        return piece

    def fail(self, error: Exception) -> None:
        """It will never be whole."""
        if not self.whole and self._error is None:
            self._error = error
            self._wake()

    # The connection calls these as bytes come in.

    def feed(self, data: bytes) -> bytes:
        """Bytes came; returns what follows the body."""
        try:
            while data and not self.whole and self._error is None:
                data = self._data(data) if self._stage in ("plain", "chunk") else self._line(data)
        except BodyFault as error:
            self.fail(error)
        return data if self.whole else b""

    def _data(self, data: bytes) -> bytes:
        piece, rest = data[: self._left], data[self._left :]
        self._left -= len(piece)
        self.held += len(piece)
        self._pieces.append(piece)
        if not self._left:
            if self._stage == "plain":
                self.whole = True
            else:
                self._stage = "gap"
        self._wake()
        return rest

    def _line(self, data: bytes) -> bytes:
        """Framing between the pieces of a chunked body."""
        data = self._buffer + data
        self._buffer = b""
        if self._stage == "gap":
            if len(data) < 2:
                self._buffer = data
                return b""
            if not data.startswith(b"\r\n"):
                raise fault("malformed chunked encoding")
            self._stage = "size"
            return data[2:]
        return self._size(data) if self._stage == "size" else self._trailer(data)

    def _size(self, data: bytes) -> bytes:
        line, newline, rest = data.partition(b"\n")
        if len(line) + 1 > LINE:
            raise fault("header line too long")
        if not newline:
            self._buffer = data
            return b""
        if b"\r" not in line:
            raise fault("chunked line ends with bare LF")
        if line.index(b"\r") != len(line) - 1:
            raise fault("invalid CR in chunked line")
        self._left = _chunk_size(line[:-1])
        self._excess = max(0, self._excess + len(line) + 1 - 16 - 2 * self._left)
        if self._excess > NON_DATA:
            raise fault("chunked encoding contains too much non-data")
        self._stage = "chunk" if self._left else "trailer"
        return rest

    def _trailer(self, data: bytes) -> bytes:
        """Trailers are read and dropped: Ollama has no use for them."""
        if data.startswith(b"\r\n"):
            return self._ended(data[2:])
        lines, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            if len(data) >= LINE:
                raise fault("http: suspiciously long trailer after chunked body")
            self._buffer = data
            return b""
        for line in lines.split(b"\r\n"):
            if not _TRAILER.fullmatch(line):
                quoted = line.decode("latin-1").replace('"', '\\"')
                raise fault(f'malformed MIME header: missing colon: "{quoted}"' if b":" not in line else "bad trailer")
        return self._ended(rest)

    def _ended(self, rest: bytes) -> bytes:
        self.whole = True
        self._wake()
        return rest

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)


def _chunk_size(line: bytes) -> int:
    digits = line.rstrip(b" \t").partition(b";")[0]
    if not digits:
        raise fault("empty hex number for chunk length")
    if not _SIZE.fullmatch(digits[:16]) or (len(digits) > 16 and not _SIZE.fullmatch(digits[16:17])):
        raise fault("invalid byte in chunk length")
    if len(digits) > 16:
        raise fault("http chunk length too large")
    return int(digits, 16)

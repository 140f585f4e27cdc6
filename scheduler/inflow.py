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
_PLAIN = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")  # a size line as nearly everybody writes it
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
        """Bytes came; returns what follows the body. What they hold of it becomes one piece, however it is chunked."""
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        parts: list[bytes] = []
        at = 0
        try:
            while at < len(data) and not self.whole and self._error is None:
                if self._stage == "size":
                    at = self._chunks(data, at, parts)
                at = self._data(data, at, parts) if self._stage in ("plain", "chunk") else self._line(data, at)
        except BodyFault as error:
            self.fail(error)
        if parts:
            self._pieces.append(parts[0] if len(parts) == 1 else b"".join(parts))
            self.held += len(self._pieces[-1])
        if parts or self.whole:
            self._wake()
        return data[at:] if self.whole else b""

    # Each of these takes what stands in `data` from `at` on and returns where it ends: nothing is copied twice.

    def _chunks(self, data: bytes, at: int, parts: list[bytes]) -> int:
        """Plain chunks that are here whole, as many as there are: of a byte each they come by the ten thousand."""
        excess = self._excess
        while line := _PLAIN.match(data, at):
            begin = line.end()
            size = int(line[1], 16)
            if not size or not data.startswith(b"\r\n", begin + size):
                break
            if excess:
                excess = max(0, excess + begin - at - 16 - 2 * size)
            parts.append(data[begin : begin + size])
            at = begin + size + 2
        self._excess = excess
        return at

    def _data(self, data: bytes, at: int, parts: list[bytes]) -> int:
        piece = data[at : at + self._left]
        self._left -= len(piece)
        parts.append(piece)
        if not self._left:
            if self._stage == "plain":
                self.whole = True
            else:
                self._stage = "gap"
        return at + len(piece)

    def _line(self, data: bytes, at: int) -> int:
        """Framing between the pieces of a chunked body."""
        if self._stage == "size":
            return self._size(data, at)
        if self._stage == "trailer":
            return self._trailer(data, at)
        if len(data) - at < 2:
            return self._wait(data, at)
        if not data.startswith(b"\r\n", at):
            raise fault("malformed chunked encoding")
        self._stage = "size"
        return at + 2

    def _wait(self, data: bytes, at: int) -> int:
        """The line that begins at `at` is not whole."""
        self._buffer = data[at:]
        return len(data)

    def _size(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at, at + LINE)
        if end < 0:
            if len(data) - at >= LINE:
                raise fault("header line too long")
            return self._wait(data, at)
        line = data[at:end]
        if b"\r" not in line:
            raise fault("chunked line ends with bare LF")
        if line.index(b"\r") != len(line) - 1:
            raise fault("invalid CR in chunked line")
        self._left = _chunk_size(line[:-1])
        self._excess = max(0, self._excess + len(line) + 1 - 16 - 2 * self._left)
        if self._excess > NON_DATA:
            raise fault("chunked encoding contains too much non-data")
        self._stage = "chunk" if self._left else "trailer"
        return end + 1

    def _trailer(self, data: bytes, at: int) -> int:
        """Trailers are read and dropped: Ollama has no use for them."""
        if data.startswith(b"\r\n", at):
            self.whole = True
            return at + 2
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            if len(data) - at >= LINE:
                raise fault("http: suspiciously long trailer after chunked body")
            return self._wait(data, at)
        for line in data[at:end].split(b"\r\n"):
            if not _TRAILER.fullmatch(line):
                quoted = line.decode("latin-1").replace('"', '\\"')
                raise fault(f'malformed MIME header: missing colon: "{quoted}"' if b":" not in line else "bad trailer")
        self.whole = True
        return end + 4

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

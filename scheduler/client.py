"""The client's end of one request: answers are written here, byte for byte, and a client that takes none is cut.

Status line, `Connection` and framing are those of Go's server (net/http `chunkWriter.writeHeader`), whatever Ollama
sent us. The transport's own buffer is the bounded buffer of an answer.
"""

import asyncio
from collections.abc import Iterable
from email.utils import formatdate
from http.client import responses as REASON_PHRASES
from typing import Protocol

Headers = Iterable[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection".split()
    + b"te trailer transfer-encoding upgrade".split()
)
GO_BUFFER = 2048  # bytes of an answer whose length Go's server can still say; a longer one goes in a chunk
LOOKS = 4  # how often a client is looked at within the silence it is allowed
ROOM_POLL = 0.02  # seconds between looks at a full buffer


def end_to_end(headers: Headers, *, lasting: bool = False) -> list[tuple[bytes, bytes]]:
    """The headers that travel on: without those of one connection (RFC 9110 section 7.6.1).

    `lasting`: a `Connection: keep-alive`, which Ollama says on /v1/messages, is true of this side too, and stays.
    """
    kept = []
    named: set[bytes] = set()
    for pair in headers:
        name = pair[0].lower()
        if name == b"connection" and not (lasting and pair[1].lower() == b"keep-alive"):
            named.update(token.strip().lower() for token in pair[1].split(b","))
        elif name == b"connection" or name not in HOP_BY_HOP:
            kept.append(pair)
    return [pair for pair in kept if pair[0].lower() not in named] if named else kept


def _with(pairs: list[tuple[bytes, bytes]], extra: Headers) -> list[tuple[bytes, bytes]]:
    """Headers with ours where they are not said yet: in order of their names before Date, as Go writes them."""
    said = {name.lower() for name, _ in pairs}
    more = [pair for pair in extra if pair[0].lower() not in said]
    at = next((number for number, pair in enumerate(pairs) if pair[0].lower() == b"date"), len(pairs))
    return [*sorted((*pairs[:at], *more), key=lambda pair: pair[0].lower()), *pairs[at:]]


class Asking(Protocol):
    """The request that is answered. `lasting`: its body lets the connection serve on."""

    method: str
    modern: bool
    keep_alive: bool
    transport: asyncio.Transport | None

    @property
    def lasting(self) -> bool: ...


class Client:
    """Where one answer goes. Nothing here blocks or raises: what is written after the client left is dropped.

    `buffer` bytes may wait for a client; one that takes no byte for `silence` seconds is cut off.
    """

    __slots__ = (
        "_buffer",
        "_chunked",
        "_head",
        "_last_taken",
        "_looking",
        "_no_body",
        "_request",
        "_silence",
        "_since",
        "_transport",
        "_written",
        "ended",
        "extra",
        "keep_alive",
        "sent",
    )

    def __init__(self, request: Asking, *, buffer: int, silence: float) -> None:
        self._request = request
        self._transport = request.transport
        self._buffer = buffer
        self._silence = silence
        self.extra: list[tuple[bytes, bytes]] = []  # our own headers, beside those of the answer
        self._head = b""  # not yet written: goes out with the first piece of the body
        self._chunked = False
        self._no_body = request.method == "HEAD"
        self._written = 0
        self._last_taken = 0
        self._since = 0.0
        self._looking: asyncio.TimerHandle | None = None
        self.keep_alive = request.keep_alive
        self.sent = False  # a status line is on its way
        self.ended = False

    @property
    def gone(self) -> bool:
        """True when nothing more can reach the client."""
        return self._transport is None or self._transport.is_closing()

    @property
    def waiting(self) -> int:
        """Bytes written that the client has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport and not self.gone else 0

    @property
    def full(self) -> bool:
        """True when more waits for the client than its buffer may hold."""
        return self.waiting > self._buffer

    def head(self, status: int, reason: bytes, headers: Headers, length: int | None) -> None:
        """Begin the answer; the head is written with the first piece of the body, or by `flush`."""
        modern = self._request.modern
        self._no_body = self._no_body or status in (204, 304)
        self._chunked = modern and length is None and not self._no_body
        self.keep_alive &= self._request.lasting and (modern or length is not None or self._no_body)
        pairs = end_to_end(headers, lasting=modern and self.keep_alive)
        if self.extra:
            pairs = _with(pairs, self.extra)
        lines = [b"HTTP/1.%d %d %b" % (modern, status, reason), *(name + b": " + value for name, value in pairs)]
        if modern and not self.keep_alive:
            lines.append(b"Connection: close")
        elif self.keep_alive and not modern:
            lines.append(b"Connection: keep-alive")
        if self._chunked:
            lines.append(b"Transfer-Encoding: chunked")
        self._head = b"\r\n".join(lines) + b"\r\n\r\n"
        self.sent = True

    def flush(self) -> None:
        """Send the head now if it still waits for a body."""
        self.write(())

    def write(self, chunks: Iterable[bytes]) -> None:
        """Send these pieces of the body now, each as a chunk of its own where the answer is chunked."""
        parts = [self._head] if self._head else []
        self._head = b""
        if not self._no_body:
            for chunk in chunks:
                parts += (b"%x\r\n" % len(chunk), chunk, b"\r\n") if self._chunked else (chunk,)
        self._put(parts)

    def end(self) -> None:
        """The answer is whole."""
        if not self.ended:
            self.ended = True
            self._put([self._head + (b"0\r\n\r\n" if self._chunked else b"")])
            self._head = b""

    def break_off(self, last_words: bytes = b"") -> None:
        """End an answer that cannot be whole: an error if one can be said, then the connection, unended."""
        if self.ended:
            return
        self.write([last_words] if last_words and self._chunked else ())
        self.ended = True
        self.keep_alive = False
        if self._transport:
            self._transport.close()

    def whole(self, status: int, headers: Headers, body: bytes, *, events: bool = False) -> None:
        """Answer in one piece; Date is added, and Content-Length where there may be a body. `events`: each event of
        the body as a chunk, as Ollama sends what it flushes."""
        date = formatdate(usegmt=True).encode()
        phrase = REASON_PHRASES.get(status, "")
        more = [*headers, (b"Date", date)]
        length = len(body) if (len(body) <= GO_BUFFER or not self._request.modern) and not events else None
        if length is not None and status not in (204, 304):
            more.append((b"Content-Length", b"%d" % length))
        self.head(status, phrase.encode(), more, length)
        pieces = [event + b"\n\n" for event in body.split(b"\n\n") if event] if events else [body]
        self.write(piece for piece in pieces if piece)
        self.end()

    def cut(self) -> None:
        """Drop the connection and whatever it still holds."""
        self.keep_alive = False
        if self._transport:
            self._transport.abort()

    async def room(self) -> None:
        """Wait until less than the buffer's size is untaken, or the client is gone."""
        while self.full:  # noqa: ASYNC110 - the transport tells nobody; rare, and short
            await asyncio.sleep(ROOM_POLL)

    async def taken(self) -> None:
        """Wait until everything was taken, or the client is gone."""
        while self.waiting:  # noqa: ASYNC110 - as above
            await asyncio.sleep(ROOM_POLL)

    def _put(self, parts: list[bytes]) -> None:
        data = b"".join(parts)
        if not data or self.gone:
            return
        assert self._transport
        self._transport.write(data)
        self._written += len(data)
        if self._looking is None:
            loop = asyncio.get_running_loop()
            self._since = loop.time()
            self._looking = loop.call_later(self._silence / LOOKS, self._look)

    def _look(self) -> None:
        """Cut a client that has taken nothing of what waits for it; look again while something waits."""
        self._looking = None
        if self.gone or (self.ended and not self.waiting):
            return
        loop = asyncio.get_running_loop()
        taken = self._written - self.waiting
        if taken != self._last_taken or not self.waiting:
            self._last_taken, self._since = taken, loop.time()
        elif loop.time() - self._since >= self._silence:
            self.cut()
            return
        self._looking = loop.call_later(self._silence / LOOKS, self._look)

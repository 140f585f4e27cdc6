"""One client's connection: reads one head after the other; each request is answered before the next is looked at."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Protocol, cast
from urllib.parse import parse_qsl

from scheduler.client import Client
from scheduler.errors import BadRequest, Failure
from scheduler.heads import TOO_LARGE, Head, NotHTTP, check_first_line, read_head
from scheduler.inflow import Inflow, fault

HEAD_LIMIT = (1 << 20) + 4096  # bytes; net/http DefaultMaxHeaderBytes and the slack of its reader
AHEAD = 1 << 16  # bytes of later requests that are read while one is served
DRAIN = 256 << 10  # bytes of a body nobody wanted that are read to keep the connection (net/http)
DRAIN_SECONDS = 5.0
LINGER = 0.5  # seconds in which a client may read our last words before the connection is gone (net/http)
_HEAD_END = re.compile(rb"\n\r?\n")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Left(ConnectionError):
    """The client is gone: nobody reads an answer."""


class Limits(Protocol):
    """How long a client may take, in seconds."""

    @property
    def head_seconds(self) -> float: ...
    @property
    def idle_seconds(self) -> float: ...
    @property
    def body_silence(self) -> float: ...
    @property
    def body_seconds(self) -> float: ...


class Request:
    """One request: its head, its body as it comes, and the transport that its answer goes to."""

    def __init__(self, head: Head, inflow: Inflow, connection: "Connection") -> None:
        self.method = head.method
        self.raw_path = head.raw_path
        self.host = head.host
        self.raw_headers = head.raw_headers
        self.content_length = head.content_length  # bytes; None: chunked
        self.modern = head.modern
        self.expects = head.expects  # its client waits for our 100 before it sends the body
        self.expects_more = head.expects_more
        self.transport: asyncio.Transport | None = connection.transport
        self.keep_alive = head.keep_alive
        self._head = head
        self._inflow = inflow
        self._connection = connection
        self._asked = not head.expects or inflow.whole

    @property
    def headers(self) -> Mapping[str, str]:
        """By name, whatever its case."""
        return self._head.headers

    @property
    def query(self) -> Mapping[str, str]:
        """The query's values by name; the last one counts."""
        return dict(parse_qsl(self.raw_path.partition("?")[2], keep_blank_values=True))

    @property
    def peer(self) -> str:
        """Address and port of the client."""
        return self._connection.peer

    @property
    def whole(self) -> bool:
        """Every byte of the body was taken."""
        return self._inflow.whole and not self._inflow.held

    @property
    def lasting(self) -> bool:
        """Whether, as far as its body goes, the connection can serve on after an answer now."""
        left = self._inflow.expected
        return self._asked and not self._inflow.broken and (self._inflow.whole or left is None or left < DRAIN)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body as it comes; the client is read no faster. Raises BodyFault, and Left when its client went."""
        self._ask()
        while piece := await self._inflow.take():
            yield piece

    async def read(self, limit: int) -> bytes:
        """The whole body, kept nowhere else. Raises BadRequest: 413 beyond `limit` bytes, 408 where it takes too long,
        400 where it is broken; and Left when its client went."""
        too_large = BadRequest(413, f"request body too large: more than {limit} bytes")
        if (self.content_length or 0) > limit:
            raise too_large
        if self._inflow.whole and not self._inflow.held:
            return b""
        self._ask()
        parts: list[bytes] = []
        size = 0
        seconds = self._connection.limits.body_seconds
        try:
            async with asyncio.timeout(seconds):
                while piece := await self._inflow.take():
                    size += len(piece)
                    if size > limit:
                        raise too_large
                    parts.append(piece)
        except TimeoutError as error:
            raise BadRequest(408, f"request body not whole after {seconds:g} s") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def rest(self, limit: int) -> None:
        """Drop what is left of the body, at most about `limit` bytes of it; nothing if its client was never asked."""
        if not self._asked:
            return
        dropped = 0
        async with asyncio.timeout(DRAIN_SECONDS):
            while dropped <= limit and (piece := await self._inflow.take()):
                dropped += len(piece)

    def leave_with_end(self) -> None:
        """From now on a client that half-closes has left: so Ollama treats one whose answer takes a model."""
        self._connection.leave_with_end()

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            if self.transport and not self.transport.is_closing() and not self._inflow.came:
                self.transport.write(_CONTINUE)


Hear = Callable[[Request], Awaitable[Client]]
"""Answers one request and returns the client's end it was written to."""


class Connection(asyncio.Protocol):
    """Feeds requests to `hear`. `gone` is called once, when the connection is."""

    def __init__(self, hear: Hear, limits: Limits, gone: Callable[["Connection"], None]) -> None:
        self.transport: asyncio.Transport | None = None
        self.limits = limits
        self.task: asyncio.Task[None] | None = None
        self.asked = 0  # requests that were heard
        self.since = 0.0  # when it last became idle, or began to be silent
        self.peer = ""
        self._hear = hear
        self._gone = gone
        self._buffer = b""
        self._inflow: Inflow | None = None
        self._heard_at = 0.0  # when the last byte of a body came
        self._paused = False
        self._checked = False  # the first line of the head in the buffer is sound
        self._after_post = False
        self._ended = False  # the client sends nothing more
        self._leaves = False
        self._last = False  # nothing more is heard: what comes in is dropped
        self._loop = asyncio.get_running_loop()

    @property
    def busy(self) -> bool:
        """A request is being served."""
        return self.task is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.since = self._loop.time()
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if peer else ""

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._last = True
        self._buffer = b""
        if self._inflow:
            self._inflow.fail(Left("the client left"))
        if self.task:
            self.task.cancel()
        self._gone(self)

    def data_received(self, data: bytes) -> None:
        if self._last:
            return
        if self._inflow and not self._inflow.whole:
            self._heard_at = self._loop.time()
            data = self._inflow.feed(data)
            if self._inflow.held > 2 * AHEAD:
                self._pause()
        if self.task is None and not self._buffer:
            self.since = self._loop.time()
        self._buffer += data
        if self.task is None:
            self._next()
        elif len(self._buffer) > AHEAD:
            self._pause()

    def eof_received(self) -> bool:
        """The client sends nothing more; it may still read."""
        self._ended = True
        if self._inflow and not self._inflow.whole:
            self._inflow.fail(fault("unexpected EOF"))
        elif self.task is None and self._buffer and not self._last:
            self._refuse(NotHTTP("400 Bad Request"))
        elif self.task is None or self._leaves:
            self.close()
        return True

    def leave_with_end(self) -> None:
        """The end of what the client sends is the end of the client."""
        self._leaves = True
        if self._ended:
            self.close()

    def read_on(self) -> None:
        """There is room again."""
        if self._paused and self.transport and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def close(self) -> None:
        """Drop it, and what it is served."""
        self._last = True
        if self.transport:
            self.transport.abort()

    def look(self, now: float) -> None:
        """Close it if it was silent for longer than it may be."""
        if self.task is None:
            idle = self.asked and not self._buffer
            if now - self.since > (self.limits.idle_seconds if idle else self.limits.head_seconds):
                self.close()
        elif self._inflow and self._inflow.waited_for and now - self._heard_at > self.limits.body_silence:
            self._inflow.fail(BadRequest(408, f"no byte of the request body for {self.limits.body_silence:g} s"))

    def _pause(self) -> None:
        if not self._paused and self.transport and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def _next(self) -> None:
        """Begin with the next request, if its head is here."""
        try:
            block = self._head_block()
            if block is None:
                return
            head = read_head(block)
        except NotHTTP as refusal:
            self._refuse(refusal)
            return
        self.asked += 1
        self._checked = self._leaves = False
        self._after_post = head.method == "POST"
        self._inflow = inflow = Inflow(self, head.content_length)
        self._heard_at = self._loop.time()
        if self._buffer and not inflow.whole:
            self._buffer = inflow.feed(self._buffer)
        if self._ended and not inflow.whole:
            inflow.fail(fault("unexpected EOF"))
        self.task = self._loop.create_task(self._serve(Request(head, inflow, self)))

    def _head_block(self) -> bytes | None:
        """Take the lines of a head off the buffer; None while it is not whole. Raises NotHTTP as soon as Go would."""
        if self._after_post and not self._checked:
            ahead = self._buffer[:4]
            self._buffer = ahead.lstrip(b"\r\n") + self._buffer[4:]  # RFC 7230 section 3: old, buggy clients
        end = _HEAD_END.search(self._buffer)
        if (end.start() if end else len(self._buffer)) > HEAD_LIMIT:
            raise TOO_LARGE
        if end:
            block, self._buffer = self._buffer[: end.start()], self._buffer[end.end() :]
            return block
        line, newline, _ = self._buffer.partition(b"\n")
        if newline and not self._checked:
            check_first_line(line.removesuffix(b"\r"))
            self._checked = True
        return None

    async def _serve(self, request: Request) -> None:
        """Hear one request and go on with the next, or end the connection as its answer says."""
        client = await self._hear(request)
        lasts = client.keep_alive and not client.gone and await self._drained(request)
        self.task = self._inflow = None
        if self.transport is None or self.transport.is_closing():
            return
        if not lasts:
            self._end(unread=bool(self._buffer) or not request.lasting or not request.whole)
            return
        self.since = self._loop.time()
        self.read_on()
        if self._buffer:
            self._next()
        elif self._ended:
            self.transport.close()

    async def _drained(self, request: Request) -> bool:
        """Read what is left of a body nobody wanted, if that is little: the next request begins behind it."""
        with suppress(Failure, TimeoutError, Left):
            await request.rest(DRAIN)
        return request.whole

    def _refuse(self, refusal: NotHTTP) -> None:
        if self.transport:
            self.transport.write(refusal.answer)
        self._end(unread=True)

    def _end(self, *, unread: bool) -> None:
        """Close once what was written is taken; a client that still sends gets time to read it."""
        self._last = True
        self._buffer = b""
        if not self.transport:
            return
        if not unread or self._ended:
            self.transport.close()
            return
        self.read_on()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._loop.call_later(LINGER, self.close)

"""One client's connection: reads one head after the other; each request is answered before the next is looked at."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

from scheduler.client import Client
from scheduler.errors import BadRequest, Failure
from scheduler.heads import TOO_LARGE, NotHTTP, check_first_line, read_head
from scheduler.inflow import Inflow, fault
from scheduler.request import DRAIN, ClientGone, Request
from scheduler.wire import WireConfig

log = logging.getLogger(__name__)

HEAD_LIMIT = (1 << 20) + 4096  # bytes; net/http DefaultMaxHeaderBytes and the slack of its reader
AHEAD = 1 << 16  # bytes of later requests that are read while one is served
LINGER = 0.5  # seconds in which a client may read our last words before the connection is gone (net/http)
_HEAD_END = re.compile(rb"\n\r?\n")


Hear = Callable[[Request], Awaitable[Client]]
"""Answers one request and returns the client's end it was written to."""


class Connection(asyncio.Protocol):
    """Feeds requests to `hear`. `gone` is called once, when the connection is."""

    def __init__(self, hear: Hear, limits: WireConfig, gone: Callable[["Connection"], None]) -> None:
        self.transport: asyncio.Transport | None = None
        self.limits = limits
        self.task: asyncio.Task[None] | None = None
        self.asked = 0  # requests that were heard
        self.peer = ""
        self._hear = hear
        self._gone = gone
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer in which no head ends
        self._inflow: Inflow | None = None
        self._heard_at = 0.0  # when the last byte of a body came
        self._paused = False
        self._checked = False  # the first line of the head in the buffer is sound
        self._after_post = False
        self._ended = False  # the client sends nothing more
        self._leaves = False
        self._last = False  # nothing more is heard: what comes in is dropped
        self._loop = asyncio.get_running_loop()
        self.since = self._loop.time()  # when it was let in, last became idle, or began to be silent

    @property
    def busy(self) -> bool:
        """A request is being served."""
        return self.task is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._last:  # it was closed before it was made
            self.transport.abort()
        self.since = self._loop.time()
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if peer else ""

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._last = True
        self._buffer.clear()
        if self._inflow:
            self._inflow.fail(ClientGone("the client left"))
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
        elif self.task is None:
            self._end(unread=False)
        elif self._leaves:
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
            self._buffer = bytearray(inflow.feed(bytes(self._buffer)))
        if self._ended and not inflow.whole:
            inflow.fail(fault("unexpected EOF"))
        self.task = self._loop.create_task(self._serve(Request(head, inflow, self)))

    def _head_block(self) -> bytes | None:
        """Take the lines of a head off the buffer; None while it is not whole. Raises NotHTTP as soon as Go would."""
        if self._after_post and not self._checked:
            ahead = self._buffer[:4]
            if empty := len(ahead) - len(ahead.lstrip(b"\r\n")):  # RFC 7230 section 3: old, buggy clients
                del self._buffer[:empty]
                self._searched = 0
        since = max(0, self._searched - 3)  # an end may have begun in what was here before
        end = _HEAD_END.search(self._buffer, since)
        if (end.start() if end else len(self._buffer)) > HEAD_LIMIT:
            raise TOO_LARGE
        if end:
            block = bytes(self._buffer[: end.start()])
            del self._buffer[: end.end()]
            self._searched = 0
            return block
        self._searched = len(self._buffer)
        if not self._checked and (newline := self._buffer.find(b"\n", since)) >= 0:
            check_first_line(bytes(self._buffer[:newline]).removesuffix(b"\r"))
            self._checked = True
        return None

    async def _serve(self, request: Request) -> None:
        """Hear one request and go on with the next, or end the connection as its answer says."""
        done = False
        try:
            client = await self._hear(request)
            lasts = client.keep_alive and not client.gone and await self._drained(request)
            self.task = self._inflow = None
            self._go_on(request, lasts=lasts)
            done = True
        except Exception:
            log.exception("%s %s from %s was not answered to its end", request.method, request.raw_path, self.peer)
        finally:
            if not done:  # whoever waits for an answer must not wait for ever
                self.task = self._inflow = None
                self.close()

    def _go_on(self, request: Request, *, lasts: bool) -> None:
        """After `request`: the next one that is here, or none, or the end."""
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
        with suppress(Failure, TimeoutError, ClientGone):
            await request.rest(DRAIN)
        return request.whole

    def _refuse(self, refusal: NotHTTP) -> None:
        if self.transport:
            self.transport.write(refusal.answer)
        self._end(unread=True)

    def _end(self, *, unread: bool) -> None:
        """Close once what was written is taken; a client that still sends gets time to read it."""
        self._last = True
        self._buffer.clear()
        if not self.transport:
            return
        if not unread or self._ended:
            self.transport.close()
            return
        self._pause()  # what it still sends stays with it
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._loop.call_later(LINGER, self.close)

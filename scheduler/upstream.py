"""Speak HTTP/1.1 to Ollama over kept connections: `Upstream.send` gives a `Reply` to read chunk by chunk.

aiohttp's client is not used here: it alone costs more than the millisecond a request may lose with us (measured;
`docs/decisions.md`). httptools parses; this file keeps the connections, and the bytes as Ollama sent them.
"""

import asyncio
import errno
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import cast
from urllib.parse import urlsplit

import httptools

from scheduler.reply import Broken, Headers, Reply

CONNECT_SECONDS = 5.0
FILE_POLL = 0.05  # seconds between tries for a connection where no file is left for one
SENT_AT_ONCE = 1 << 16  # bytes up to which head and body are joined for one write
CONTINUE_SECONDS = 1.0  # how long a body whose client asked first waits for Ollama's 100 (Go's transport waits so too)


class _Connection(asyncio.Protocol):
    """One connection to Ollama and the one reply it is receiving, if any."""

    def __init__(self, upstream: "Upstream") -> None:
        self._upstream = upstream
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._bodiless = False  # the request was HEAD
        self._lasting = True  # may be kept after this reply
        self._paused = False
        self._reason = b""
        self._headers: Headers = []
        self._sending: asyncio.Task[None] | None = None  # a body that is still on its way
        self._writable = asyncio.Event()
        self._writable.set()
        self._wanted = asyncio.Event()  # Ollama asked for the body with its 100, or answered without it

    @property
    def usable(self) -> bool:
        """True while a request can be written."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def request(self, head: bytes, body: bytes, *, bodiless: bool) -> Reply:
        """Write one request and begin its reply."""
        assert self._transport
        assert self._reply is None
        self._bodiless = bodiless
        self._reply = reply = Reply(self)
        if len(body) <= SENT_AT_ONCE:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        return reply

    def stream(
        self, head: bytes, pieces: AsyncIterator[bytes], length: int | None, *, bodiless: bool, asked: bool
    ) -> Reply:
        """Write a request whose body comes piece by piece, and begin its reply."""
        reply = self.request(head, b"", bodiless=bodiless)
        self._wanted.clear()
        self._sending = asyncio.get_running_loop().create_task(self._send(pieces, length, asked=asked))
        return reply

    async def _send(self, pieces: AsyncIterator[bytes], length: int | None, *, asked: bool) -> None:
        """Write the pieces as fast as Ollama takes them; no more than the transport's buffer is ever held."""
        try:
            if asked:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), CONTINUE_SECONDS)
            sent = 0
            async for piece in pieces:
                sent += len(piece)
                if piece:
                    await self._writable.wait()
                    self._write((b"%x\r\n%b\r\n" % (len(piece), piece)) if length is None else piece)
            if length is not None and sent != length:
                raise Broken(f"the request's body has {sent} bytes, {length} were announced")
            if length is None:
                self._write(b"0\r\n\r\n")
            self._sending = None
        except Exception as error:  # whatever the body's source says, its reader is told
            self._sending = None
            self.cut(error)

    def _write(self, data: bytes) -> None:
        if self._transport:
            self._transport.write(data)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.cut(f"not HTTP: {error}")
        else:
            if self._reply is None and self._transport:
                self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._stop_sending()
        self._upstream.lost(self)
        if reply := self._reply:
            self._reply = None
            to_the_end = bool(reply.status) and reply.length is None and not reply.chunked and exc is None
            reply.end(None if to_the_end else Broken(f"Ollama closed the connection{f': {exc}' if exc else ''}"))

    def cut(self, why: str | Exception) -> None:
        """Close at once; the reply under way, if any, has failed."""
        self._stop_sending()
        if reply := self._reply:
            self._reply = None
            reply.end(why if isinstance(why, Exception) else Broken(why))
        if self._transport:
            self._transport.abort()

    def read_on(self) -> None:
        """The reader caught up."""
        if self._paused and self._transport:
            self._paused = False
            self._transport.resume_reading()

    def _stop_sending(self) -> None:
        """Nobody reads the rest of this body."""
        if self._sending:
            self._sending.cancel()
            self._upstream.retire(self._sending)
            self._sending = None

    def _rest(self) -> None:
        """Between replies: keep the connection if both sides may."""
        assert self._transport
        whole = self._sending is None and not self._transport.get_write_buffer_size()
        self._stop_sending()
        if self._lasting and whole and not self._transport.is_closing():
            self.read_on()
            self._upstream.keep(self)
        else:
            self._transport.close()

    # httptools calls these.

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        reason, self._reason = self._reason, b""
        headers, self._headers = self._headers, []
        status = self._parser.get_status_code()
        self._wanted.set()
        if self._reply and status >= 200:
            self._lasting = self._parser.should_keep_alive() and not self._bodiless
            self._reply.begin(status, reason, headers)
            if self._bodiless:
                self._finish()

    def on_body(self, data: bytes) -> None:
        if self._reply and self._reply.feed(data) and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        self._headers = []  # trailers
        if self._reply and self._reply.status:
            self._finish()
        elif not self._reply:
            self._lasting = False  # bytes that nobody asked for

    def _finish(self) -> None:
        reply, self._reply = self._reply, None
        if reply:
            reply.end()


class Upstream:
    """The one Ollama, at `http(s)://host[:port]`."""

    def __init__(self, url: str, *, connect_seconds: float = CONNECT_SECONDS) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self._connect_seconds = connect_seconds
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._retired: set[asyncio.Task[None]] = set()
        self._emptied: asyncio.Future[None] | None = None
        self.host_header = parts.netloc.rpartition("@")[2].encode()

    async def send(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes | AsyncIterator[bytes],
        *,
        length: int | None = None,
        asked: bool = False,
        once: bool = False,
    ) -> Reply:
        """Write one request; `headers` without Host, Content-Length, Transfer-Encoding and Expect.

        A `body` that is an iterator is sent piece by piece as fast as Ollama takes it, `length` bytes in all (None:
        chunked); its reply may begin, and end, before it is whole. What the iterator raises is what the reply's
        reader gets, and Ollama's connection is cut. `asked`: its client waits to be asked for it (`Expect`), so Ollama
        is asked first. `once`: it must not be sent again, so it takes a new connection; a kept one may be dead by now.
        Raises Broken (`reached` False) if no connection can be made.
        """
        lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: " + self.host_header]
        lines += [name + b": " + value for name, value in headers]
        if isinstance(body, bytes):
            length = len(body)
        if length is None:
            lines.append(b"Transfer-Encoding: chunked")
        elif length or method not in ("GET", "HEAD"):
            lines.append(b"Content-Length: %d" % length)
        if asked and not isinstance(body, bytes):
            lines.append(b"Expect: 100-continue")
        head = b"\r\n".join(lines) + b"\r\n\r\n"
        connection = None if once else self._kept()
        if connection is None:
            connection = await self._connect()
        bodiless = method == "HEAD"
        if isinstance(body, bytes):
            return connection.request(head, body, bodiless=bodiless)
        return connection.stream(head, body, length, bodiless=bodiless, asked=asked)

    async def close(self) -> None:
        """Close every connection; replies under way fail."""
        for connection in list(self._all):
            connection.cut("the daemon closes")
        if self._all:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied
        if self._retired:
            await asyncio.wait(self._retired)

    def retire(self, sending: asyncio.Task[None]) -> None:
        """A sending that was stopped is over as soon as its body's source lets go."""
        self._retired.add(sending)
        sending.add_done_callback(self._retired.discard)

    def keep(self, connection: _Connection) -> None:
        """A connection is free again."""
        if connection not in self._idle:
            self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._all.discard(connection)
        if not self._all and self._emptied and not self._emptied.done():
            self._emptied.set_result(None)
        if connection in self._idle:
            self._idle.remove(connection)

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _connect(self) -> _Connection:
        short = ""
        try:
            async with asyncio.timeout(self._connect_seconds):
                while (connection := await self._opened()) is None:
                    short = ": too many open files"
                    await asyncio.sleep(FILE_POLL)
        except TimeoutError as error:
            raise Broken(f"no connection within {self._connect_seconds:g} s{short}", reached=False) from error
        except OSError as error:
            raise Broken(str(error), reached=False) from error
        if not connection.usable:  # nothing was written to it
            raise Broken("Ollama closed the connection at once", reached=False)
        self._all.add(connection)  # not before: of one whose making is cancelled uvloop never says that it is lost
        return connection

    async def _opened(self) -> _Connection | None:
        """A new connection; None where there is no file for it just now: that is our trouble, not Ollama's."""
        loop = asyncio.get_running_loop()
        try:
            return (await loop.create_connection(lambda: _Connection(self), self._host, self._port, ssl=self._ssl))[1]
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return None
            raise

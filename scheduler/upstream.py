"""Speak HTTP/1.1 to Ollama over kept connections: `Upstream.send` gives a `Reply` to read chunk by chunk.

aiohttp's client is not used here: it alone costs more than the millisecond a request may lose with us (measured;
`docs/decisions.md`). httptools parses; this file keeps the connections, and the bytes as Ollama sent them.
"""

import asyncio
import ssl
from collections.abc import Iterable
from typing import cast
from urllib.parse import urlsplit

import httptools

from scheduler.reply import Broken, Headers, Reply

CONNECT_SECONDS = 5.0
SENT_AT_ONCE = 1 << 16  # bytes up to which head and body are joined for one write


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
        self._upstream.lost(self)
        if reply := self._reply:
            self._reply = None
            to_the_end = bool(reply.status) and reply.length is None and not reply.chunked and exc is None
            reply.end(None if to_the_end else Broken(f"Ollama closed the connection{f': {exc}' if exc else ''}"))

    def cut(self, why: str) -> None:
        """Close at once; the reply under way, if any, has failed."""
        if reply := self._reply:
            self._reply = None
            reply.end(Broken(why))
        if self._transport:
            self._transport.abort()

    def read_on(self) -> None:
        """The reader caught up."""
        if self._paused and self._transport:
            self._paused = False
            self._transport.resume_reading()

    def _rest(self) -> None:
        """Between replies: keep the connection if both sides may."""
        assert self._transport
        if self._lasting and not self._transport.is_closing() and not self._transport.get_write_buffer_size():
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
        self._emptied: asyncio.Future[None] | None = None
        self.host_header = parts.netloc.rpartition("@")[2].encode()

    async def send(
        self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, fresh: bool = False
    ) -> Reply:
        """Write one request; `headers` without Host and Content-Length. `fresh` takes no kept connection.

        Raises Broken (`reached` False) if no connection can be made.
        """
        lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: " + self.host_header]
        lines += [name + b": " + value for name, value in headers]
        if body or method not in ("GET", "HEAD"):
            lines.append(b"Content-Length: %d" % len(body))
        connection = None if fresh else self._kept()
        if connection is None:
            connection = await self._connect()
        return connection.request(b"\r\n".join(lines) + b"\r\n\r\n", body, bodiless=method == "HEAD")

    async def close(self) -> None:
        """Close every connection; replies under way fail."""
        for connection in list(self._all):
            connection.cut("the daemon closes")
        if self._all:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

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
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self), self._host, self._port, ssl=self._ssl
                )
        except TimeoutError as error:
            raise Broken(f"no connection within {self._connect_seconds:g} s", reached=False) from error
        except OSError as error:
            raise Broken(str(error), reached=False) from error
        self._all.add(connection)
        return connection

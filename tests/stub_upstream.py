"""An Ollama whose every byte a test writes itself: a raw HTTP/1.1 server, one coroutine per path."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

Script = Callable[["Call"], Awaitable[None]]


@dataclass
class Call:
    """One request the stub received, and the connection to answer it on."""

    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    connection: int
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def header(self, name: bytes) -> bytes | None:
        """The value of one header, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    async def send(self, data: bytes) -> None:
        """Write raw bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def whole(self, body: bytes, status: bytes = b"200 OK", kind: bytes = b"application/json") -> None:
        """Answer with a Content-Length."""
        head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (status, kind, len(body))
        await self.send(head + body)

    async def head(self, kind: bytes = b"application/x-ndjson", more: bytes = b"") -> None:
        """Begin a chunked answer."""
        await self.send(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%bTransfer-Encoding: chunked\r\n\r\n" % (kind, more))

    async def chunk(self, data: bytes) -> None:
        """One chunk."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        """The last chunk."""
        await self.send(b"0\r\n\r\n")

    def close(self) -> None:
        """Close the connection in good order."""
        self.writer.close()

    def reset(self) -> None:
        """Close the connection with a reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def hung_up(self) -> None:
        """Wait until the other side closed the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


class StubUpstream:
    """Serve `scripts` by path (without query) on a loopback port; what no script answers gets 404."""

    def __init__(self, scripts: dict[str, Script] | None = None) -> None:
        self.scripts: dict[str, Script] = scripts or {}
        self.calls: list[Call] = []
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrival = asyncio.Condition()

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 20)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def called(self, number: int) -> Call:
        """Wait for the request with this number, from 0."""
        async with self._arrival:
            await asyncio.wait_for(self._arrival.wait_for(lambda: len(self.calls) > number), 5)
        return self.calls[number]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._serve(self.connections, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).strip().split(b"\r\n")
            pairs = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
            length = next((int(value) for name, value in pairs if name.lower() == b"content-length"), 0)
            method, target, _ = first.decode().split(" ")
            call = Call(method, target, pairs, await reader.readexactly(length), connection, writer, reader)
            async with self._arrival:
                self.calls.append(call)
                self._arrival.notify_all()
            script = self.scripts.get(target.partition("?")[0])
            if script is None:
                await call.whole(b"404 page not found", b"404 Not Found", b"text/plain")
            else:
                await script(call)
            call.answered.set()

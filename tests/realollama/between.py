"""A wire between us and Ollama that can be cut: `async with Between.to(ollama.port) as wire:`; we look at `wire.url`.

It passes Ollama's bytes as they are. A `Strike` harms the answers of one path: late, another answer, an edited one, cut
after so many bytes. Each request gets a connection of its own to Ollama, so that a cut never meets another request.
"""

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Literal

CHUNK = 1 << 16
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass
class Strike:
    """What befalls the answers to requests whose path matches `path`, the next `times` of them (None: all)."""

    path: str
    times: int | None = None
    delay: float = 0.0  # seconds before Ollama is even asked
    answer: bytes = b""  # these bytes instead of Ollama's
    edit: Callable[[bytes], bytes] | None = None  # of the body, which is passed on in one piece with its true end
    cut: int | None = None  # pass so many bytes of the body, as they are on the wire, then end
    end: Literal["close", "reset"] = "close"
    struck: int = 0

    def meets(self, path: str) -> bool:
        """Whether it strikes this request, which is counted."""
        if re.fullmatch(self.path, path) is None or (self.times is not None and self.struck >= self.times):
            return False
        self.struck += 1
        return True


@dataclass
class Between:
    """The wire; `strikes` may be changed at any time."""

    target: int
    port: int = 0
    strikes: list[Strike] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)  # every request that came by

    @property
    def url(self) -> str:
        """Where Ollama seems to be."""
        return f"http://127.0.0.1:{self.port}"

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, target: int) -> AsyncIterator["Between"]:
        """Listen before the Ollama at port `target` of 127.0.0.1."""
        wire = cls(target)
        server = await asyncio.start_server(wire._converse, "127.0.0.1", 0, limit=CHUNK)
        wire.port = server.sockets[0].getsockname()[1]
        try:
            yield wire
        finally:
            server.close()

    def strike(self, path: str, **harm: object) -> Strike:
        """Harm the answers of `path` from now on."""
        strike = Strike(path, **harm)  # type: ignore[arg-type]
        self.strikes.append(strike)
        return strike

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = LENGTH.search(head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            path = head.split(b" ", 2)[1].decode().partition("?")[0]
            self.paths.append(path)
            strike = next((each for each in self.strikes if each.meets(path)), None)
            if strike is not None and strike.delay:
                await asyncio.sleep(strike.delay)
            if strike is not None and strike.answer:
                writer.write(strike.answer)
            else:
                await self._ask(head, body, reader, writer, strike)
            await writer.drain()
        writer.close()

    async def _ask(
        self,
        head: bytes,
        body: bytes,
        client: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        strike: Strike | None,
    ) -> None:
        """Ask Ollama, one request a connection, and pass its answer; a client that hangs up hangs up on Ollama too."""
        try:
            reader, ollama = await asyncio.open_connection("127.0.0.1", self.target, limit=CHUNK)
        except ConnectionRefusedError:
            _reset(writer)
            return
        edit = strike.edit if strike is not None else None
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        if edit is not None:
            lines[0] = lines[0].replace(b"HTTP/1.1", b"HTTP/1.0")  # then the body comes in one piece, to its true end
        ollama.write(b"\r\n".join([lines[0], b"Connection: close", *lines[1:]]) + body)
        passing = asyncio.ensure_future(_edited(reader, writer, edit) if edit else _passed(reader, writer, strike))
        leaving = asyncio.ensure_future(client.read(1))
        try:
            await asyncio.wait((passing, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            passing.cancel()
            ollama.transport.abort() if not passing.done() else ollama.close()
            with contextlib.suppress(asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
                await passing


async def _passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, strike: Strike | None) -> None:
    left = strike.cut if strike is not None else None
    try:
        writer.write(await reader.readuntil(b"\r\n\r\n"))
        while (left is None or left > 0) and (data := await reader.read(CHUNK)):
            writer.write(data if left is None else data[:left])
            left = None if left is None else left - len(data)
            await writer.drain()
    except (ConnectionResetError, asyncio.IncompleteReadError):
        _reset(writer)
        return
    if strike is not None and strike.cut is not None and strike.end == "reset":
        await writer.drain()
        _reset(writer)


async def _edited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, edit: Callable[[bytes], bytes]) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    content = edit(await reader.read())
    lines = [line for line in head.split(b"\r\n")[1:-2] if not LENGTH.match(line)]
    status = head.split(b"\r\n")[0].replace(b"HTTP/1.0", b"HTTP/1.1")
    lines = [status, *lines, b"Content-Length: %d" % len(content)]
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + content)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End with RST instead of FIN."""
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()

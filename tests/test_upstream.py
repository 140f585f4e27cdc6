"""A body goes to Ollama piece by piece, no faster than it is taken, and whatever breaks it breaks nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from scheduler.errors import BadRequest
from scheduler.reply import Broken, Reply
from scheduler.upstream import Upstream
from tests.scarce import NoFiles

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
MEGABYTE = b"x" * (1 << 20)


class Server:
    """One scripted connection after the other; `head` is the last head it read."""

    def __init__(self, script: Answer) -> None:
        self._script = script
        self.connections = 0
        self.head = b""
        self.over = asyncio.Event()

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.upstream = Upstream(f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.wait_for(self.upstream.close(), 5)
        self._server.close()
        await asyncio.wait_for(self.over.wait(), 5)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.over.clear()
        try:
            while not reader.at_eof():
                self.head = await reader.readuntil(b"\r\n\r\n")
                await self._script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.over.set()


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    """A body in these pieces."""
    for part in parts:
        yield part


async def body_of(reply: Reply) -> bytes:
    """All of an answer."""
    await reply.head()
    parts = []
    while chunks := await reply.chunks():
        parts += chunks
    return b"".join(parts)


async def chunked(reader: asyncio.StreamReader) -> bytes:
    """Read a chunked body."""
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return b"".join(parts)


async def answer_with_size(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> None:
    """Tell how much came."""
    told = json.dumps({"bytes": len(data)}).encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))


@pytest.mark.parametrize("length", [None, 7])
async def test_a_body_in_pieces(length: int | None) -> None:
    """It goes chunked, or under the length that was announced; the connection serves on."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await (chunked(reader) if length is None else reader.readexactly(length))
        await answer_with_size(reader, writer, data)

    async with Server(script) as server:
        for _ in range(2):
            reply = await server.upstream.send("POST", "/x", [], pieces(b"abc", b"", b"defg"), length=length)
            assert await body_of(reply) == b'{"bytes": 7}'
        assert server.connections == 1
        framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: 7"
        assert framing in server.head
        assert server.head.count(b":") == 3  # Host with its port, and one framing


async def test_ollama_sets_the_pace() -> None:
    """Its source is asked for no more than Ollama and the sockets between take."""
    given = 0
    go = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(200):
            given += 1
            yield MEGABYTE

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await answer_with_size(reader, writer, await reader.readexactly(200 << 20))

    async with Server(script) as server:
        reply = await server.upstream.send("POST", "/x", [], endless(), length=200 << 20)
        before = -1
        while given != before:  # until nothing moves any more
            before = given
            await asyncio.sleep(0.1)
        assert given < 40
        go.set()
        assert await body_of(reply) == b'{"bytes": 209715200}'
        assert given == 200


async def test_an_answer_before_the_body_is_whole() -> None:
    """Its reader gets it at once; the rest of the body is sent to nobody, and its source is let go."""
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0)
        finally:
            closed.set()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await reader.read()

    async with Server(script) as server:
        reply = await server.upstream.send("POST", "/x", [], endless())
        assert await body_of(reply) == b"{}"
        await asyncio.wait_for(closed.wait(), 5)


async def test_a_source_that_fails() -> None:
    """Its own error reaches the reader, and Ollama sees the request end short."""
    short: list[bytes] = []

    async def fails() -> AsyncIterator[bytes]:
        yield b"abc"
        raise BadRequest(413, "too large")

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await chunked(reader)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            short.append(b"short")
            raise ConnectionError from error

    async with Server(script) as server:
        reply = await server.upstream.send("POST", "/x", [], fails())
        with pytest.raises(BadRequest, match="too large"):
            await reply.head()
    assert short == [b"short"]


async def test_a_source_that_is_short_of_what_it_announced() -> None:
    """It is told as broken, never padded, and never mixed with the next request."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer_with_size(reader, writer, await reader.readexactly(9))

    async with Server(script) as server:
        reply = await server.upstream.send("POST", "/x", [], pieces(b"abc"), length=9)
        with pytest.raises(Broken, match="3 bytes, 9 were announced"):
            await reply.head()
        other = await server.upstream.send("POST", "/x", [], b"x" * 9)
        assert await body_of(other) == b'{"bytes": 9}'
        assert server.connections == 2


@pytest.mark.parametrize("asks", [True, False])
async def test_ollama_is_asked_first(asks: bool) -> None:
    """A body whose client asked first is not begun before Ollama's 100, and never where it answers without."""
    begun = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal begun
        begun = True
        yield b"abc"

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"Expect: 100-continue" in server.head
        assert not begun
        if not asks:
            writer.write(OK)
            await reader.read()
            return
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await answer_with_size(reader, writer, await reader.readexactly(3))

    async with Server(script) as server:
        reply = await server.upstream.send("POST", "/x", [], body(), length=3, asked=True)
        assert await body_of(reply) == (b'{"bytes": 3}' if asks else b"{}")
        assert begun == asks


async def test_a_reader_that_leaves_stops_the_body() -> None:
    """Closing the reply cuts Ollama's connection in the middle of the body, with nothing left running."""
    never = asyncio.Event()
    closed = asyncio.Event()

    async def waits() -> AsyncIterator[bytes]:
        try:
            yield b"abc"
            await never.wait()
        finally:
            closed.set()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await chunked(reader)

    async with Server(script) as server:
        reply = await server.upstream.send("POST", "/x", [], waits())
        reply.close()
        with pytest.raises(Broken):
            await reply.head()
        await asyncio.wait_for(server.upstream.close(), 5)
    assert closed.is_set() or len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b"HTTP/1.1 200", b""])
async def test_ollama_goes_in_the_middle(answer: bytes) -> None:
    """Closed after the head, in the head or before it: the reader is told, and the body goes nowhere."""

    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with Server(script) as server:
        reply = await server.upstream.send("POST", "/x", [], body())
        with pytest.raises(Broken):
            await body_of(reply)
    assert len(asyncio.all_tasks()) == 1


async def test_a_connection_that_ollama_closes_at_once_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was written to it: it counts as none, and whoever closes the rest does not wait for it."""

    async def slams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(slams, "127.0.0.1", 0)
    upstream = Upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    loop = asyncio.get_running_loop()
    create = loop.create_connection

    async def noticed_first(*args: Any, **more: Any) -> Any:
        made: Any = await create(*args, **more)
        while made[1].usable:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.001)
        return made

    monkeypatch.setattr(loop, "create_connection", noticed_first)
    async with asyncio.timeout(5):
        with pytest.raises(Broken) as broken:
            await upstream.send("GET", "/", (), b"")
        assert not broken.value.reached
        await upstream.close()
        server.close()


async def test_where_no_file_is_left_a_connection_waits_for_one() -> None:
    """Our own want of files is no failure of Ollama's: the request goes as soon as there is one, or is told why not."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)

    no_files = NoFiles()
    async with Server(script) as server:
        hasty = Upstream(f"http://{server.upstream.host_header.decode()}", connect_seconds=0.2)
        try:
            no_files(True)
            sending = asyncio.ensure_future(server.upstream.send("GET", "/", (), b""))
            with pytest.raises(Broken, match=r"no connection within 0.2 s: too many open files") as broken:
                await hasty.send("GET", "/", (), b"")
            assert not broken.value.reached
            assert not sending.done()
        finally:
            no_files(False)
        assert await body_of(await asyncio.wait_for(sending, 5)) == b"{}"

"""What strangers send costs the loop no more than in proportion to its bytes, however it is cut."""

import asyncio
import gc
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest

from scheduler.client import Client
from scheduler.connection import Connection
from scheduler.core.messages import Arrived
from scheduler.heads import BodyFault, read_head
from scheduler.inflow import Inflow
from scheduler.request import Request
from scheduler.wire import WireConfig
from tests.stub_upstream import Call, StubUpstream
from tests.wired import wired


class Source:
    """A connection whose bytes the test feeds itself."""

    def read_on(self) -> None:
        """There is nothing to read on."""


def cut(data: bytes, size: int) -> Iterator[bytes]:
    """The pieces of `data` as reads of `size` bytes give them."""
    return (data[at : at + size] for at in range(0, len(data), size))


def seconds(work: Callable[[], Any]) -> float:
    """The least time of this thread's own that `work` takes in three goes."""

    def once() -> float:
        began = time.thread_time()
        work()
        return time.thread_time() - began

    return min(once() for _ in range(3))


# --- heads -------------------------------------------------------------------------------------------------------


def test_folds_are_joined_once() -> None:
    """A header folded 100,000 times costs about what as many headers cost."""
    start = b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n"
    plain = seconds(lambda: read_head(start + b"X: a\r\n" * 100_000 + b"Y: b"))
    assert seconds(lambda: read_head(start + b" a\r\n" * 100_000 + b" b")) < 3 * plain


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (b"X:\r\n a", b"a"),
        (b"X: \t\r\n \r\n\t\r\n a", b"a"),
        (b"X: a\r\n  b \r\n\tc", b"a b c"),
        (b"X: a\r\n ", b"a "),
        (b"X:\r\n ", b""),
    ],
)
def test_each_fold_is_one_space(lines: bytes, value: bytes) -> None:
    """As Go's readContinuedLineSlice joins them, with nothing before the first word."""
    assert read_head(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines).values(b"x") == [value]


class Nobody(asyncio.Transport):
    """A transport whose client takes what it is given."""

    def is_closing(self) -> bool:
        """Never."""
        return False

    def abort(self) -> None:
        """Nothing is to be dropped."""


async def never(request: Request) -> Client:
    """Hear a request and never answer."""
    raise await asyncio.get_running_loop().create_future()


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    """A connection that is fed by hand."""
    connection = Connection(never, WireConfig(), lambda _: None)
    connection.connection_made(Nobody())
    yield connection
    connection.connection_lost(None)


async def test_a_head_is_searched_once(connection: Connection) -> None:
    """The last quarter of a head that comes in small pieces costs no more than the first."""
    pieces = list(cut(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 1_000_000, 250))

    def feed(some: Iterable[bytes]) -> float:
        began = time.thread_time()
        for piece in some:
            connection.data_received(piece)
        return time.thread_time() - began

    quarter = len(pieces) // 4
    first, *_, last = [feed(pieces[at * quarter : (at + 1) * quarter]) for at in range(4)]
    assert last < 3 * first
    assert not connection.busy


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100])
@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\n\r\n"])
async def test_the_end_of_a_head_is_found_however_it_is_cut(connection: Connection, size: int, end: bytes) -> None:
    """It is heard with its last byte and not before."""
    *some, last = cut(b"GET / HTTP/1.1\nHost: a\nX: b" + end, size)
    for piece in some:
        connection.data_received(piece)
        assert not connection.busy
    connection.data_received(last)
    assert connection.busy


# --- bodies ------------------------------------------------------------------------------------------------------


def inflow_of(pieces: Iterable[bytes]) -> tuple[Inflow, bytes]:
    """A chunked body fed with `pieces`, and what followed it."""
    inflow = Inflow(Source(), None)
    after = b""
    for piece in pieces:
        after += piece if inflow.whole else inflow.feed(piece)
    return inflow, after


async def test_small_chunks_are_taken_off_once() -> None:
    """Chunks of a byte each cost the same in large reads as in small ones, and become one piece a read."""
    data = b"1\r\na\r\n" * 40_000 + b"0\r\n\r\n"
    small = seconds(lambda: inflow_of(cut(data, 4096)))
    assert seconds(lambda: inflow_of([data])) < 2 * small
    odd = b"1;x\r\na\r\n" * 1000
    assert seconds(lambda: inflow_of([odd * 8])) < 24 * seconds(lambda: inflow_of([odd]))
    inflow, _ = inflow_of([data])
    assert await inflow.take() == b"a" * 40_000
    assert await inflow.take() == b""


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 1000])
async def test_a_chunked_body_is_the_same_however_it_is_cut(size: int) -> None:
    """Its bytes, and what follows it, do not depend on the reads: with extensions, spaces and trailers."""
    data = b"1\r\na\r\n3;x=y\r\nbcd\r\nA  \r\n0123456789\r\n01\r\n\n\r\n0\r\nX-T: a\r\n\r\nGET /"
    inflow, after = inflow_of(cut(data, size))
    said = b""
    while piece := await inflow.take():
        said += piece
    assert said == b"abcd0123456789\n"
    assert after == b"GET /"
    assert inflow.held == 0


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("framing", "words"),
    [
        (b"1\r\nab\r\n", "malformed chunked encoding"),
        (b"x\r\n", "invalid byte in chunk length"),
        (b"1\n", "chunked line ends with bare LF"),
        (b"1" + b" " * 5000, "header line too long"),
        (b"1;" + b"a" * 2000 + b"\r\na\r\n", ""),
        ((b"1;" + b"a" * 2000 + b"\r\na\r\n") * 9, "chunked encoding contains too much non-data"),
        ((b"1;" + b"a" * 2000 + b"\r\na\r\n") * 5 + b"1\r\na\r\n" * 1000, ""),
    ],
)
async def test_a_broken_body_gives_what_came_before(framing: bytes, words: str, size: int) -> None:
    """What was sound is read first, then the fault is told in Go's words."""
    inflow, _ = inflow_of(cut(b"2\r\nok\r\n" + framing + b"0\r\n\r\n", size))
    said, told = b"", ""
    try:
        while piece := await inflow.take():
            said += piece
    except BodyFault as fault:
        told = fault.message
    assert told == words
    assert said.startswith(b"ok")


# --- understanding -----------------------------------------------------------------------------------------------

MANY = b",".join(b'"k%d":0' % number for number in range(40_000))


async def answers(call: Call) -> None:
    """An upstream that answers anything."""
    await call.whole(b"{}")


@pytest.mark.parametrize("path", ["/api/show", "/api/copy", "/api/delete", "/api/pull", "/api/chat"])
async def test_no_body_is_understood_on_the_loop(path: str) -> None:
    """Half a megabyte of keys takes a second to understand, whatever is asked; others are answered meanwhile."""
    async with StubUpstream(dict.fromkeys((path, "/api/version"), answers)) as stub, wired(stub.url) as world:
        method = "DELETE" if path == "/api/delete" else "POST"
        body = b'{"model":"gpt-4",' + MANY + b"}"
        heavy = await world.ask(path, body, method, Content_Length=str(len(body)))
        answer = asyncio.ensure_future(heavy.answer())
        served = 0
        other = await world.connect()
        while not answer.done():
            assert (await other.ask("/api/version", method="GET").answer()).status == 200
            served += 1
        assert answer.result().status == 200
        assert served > 5


async def test_a_body_has_its_room_until_it_is_stored_or_sent() -> None:
    """What waits for the thread, and what is under way to Ollama, counts; what is with the store counts there."""
    go = asyncio.Event()

    async def slow(call: Call) -> None:
        await go.wait()
        await call.whole(b"{}")

    heavy = b'{"model":"m","messages":[{"role":"user","content":"x"}],' + MANY + b"}"
    async with (
        StubUpstream({"/api/chat": answers, "/api/show": slow}) as stub,
        wired(stub.url, serve=False, body_memory=100, body_disk=1 << 26, body_room=2 * len(heavy) + 1000) as world,
    ):
        room = world.listener._coming
        clients = [await world.ask("/api/chat", heavy) for _ in range(2)]
        while room.taken < 2 * len(heavy):  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0.001)
        refused = await (await world.ask("/api/chat", heavy)).answer()
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        for number in range(2):
            await world.core.fact(Arrived, number)
        assert (room.taken, world.bodies.disk > 0) == (0, True)
        show = await world.ask("/api/show", b'{"model":"m"}')
        await stub.called(0)
        assert room.taken == 13
        go.set()
        await show.answer()
        assert room.taken == 0
        for client in clients:
            client.hang_up()


async def test_who_leaves_takes_his_body_out_of_the_line() -> None:
    """Clients that leave while their bodies wait for the thread, or are in it, hold nothing any more, and the next
    body has its turn."""
    async with StubUpstream({"/api/chat": answers}) as stub, wired(stub.url) as world:
        heavy = b'{"model":"m","messages":[{"role":"user","content":"x"}],' + MANY + b"}"
        room = world.listener._coming
        clients = [await world.ask("/api/chat", heavy) for _ in range(4)]
        while room.taken < 4 * len(heavy):  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0.001)
        for client in clients:
            line = client.writer.get_extra_info("socket")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
            client.hang_up()
        async with asyncio.timeout(5):
            while room.taken:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert (await (await world.ask("/api/chat", heavy)).answer()).status == 200
        assert world.core.count(Arrived) == 1


async def test_what_is_stored_on_disk_is_held_nowhere_else() -> None:
    """While it waits, a body of 4 MB that the store wrote to a file takes no memory."""
    async with StubUpstream() as stub, wired(stub.url, serve=False, body_memory=100, body_disk=1 << 26) as world:
        client, exchange = await world.arrive(messages=[{"role": "user", "content": "x" * 4_000_000}])
        assert exchange.kept.on_disk
        gc.collect()
        held = [each for each in gc.get_referents(*gc.get_objects()) if isinstance(each, bytes | str | bytearray)]
        assert max(map(len, held)) < 4_000_000
        client.hang_up()


async def test_a_body_beyond_the_limit_is_let_go_at_once() -> None:
    """What was read of it is gone with its answer, and does not wait for the garbage to be collected."""

    def held() -> int:
        return sum(len(each) for each in gc.get_referents(*gc.get_objects()) if type(each) is bytes)

    async with wired("http://127.0.0.1:9", body_limit=1 << 22) as world:
        client = await world.connect()
        gc.collect()
        gc.disable()
        try:
            before = held()
            client.writer.write(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.writer.write(b"%x\r\n%b" % ((1 << 22) + 1, bytes((1 << 22) + 1)))
            assert (await client.answer()).status == 413
            await asyncio.sleep(0)
            assert held() - before < 1 << 20
        finally:
            gc.enable()

"""HTTP itself, as Go's server speaks it: what is no request, what a body may be, and who has left."""

import asyncio
import json
import resource
import socket
import time
from collections.abc import Iterator

import pytest

from scheduler.core.messages import Arrived, Ended, Left
from scheduler.door import WANTED_FILES, raise_file_limit, room_for_clients
from tests.scarce import NoFiles
from tests.stub_upstream import Call, StubUpstream
from tests.wired import BODIES, Connection, Wired, wired

DONE = b'{"model":"m","message":{},"done":true}'
QUESTION = json.dumps(BODIES["/api/chat"]).encode()
PLAIN = "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"


async def answers(call: Call) -> None:
    """An upstream that answers anything."""
    await call.whole(DONE)


async def rest(client: Connection) -> bytes:
    """Everything until the connection ends."""
    async with asyncio.timeout(5):
        return await client.reader.read()


async def says(world: Wired, data: bytes, *, end: bool = False) -> bytes:
    """What is answered to raw bytes until the connection ends."""
    client = await world.connect()
    client.writer.write(data)
    if end:
        client.writer.write_eof()
    return await rest(client)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /\r\n", "400 Bad Request"),
        (b"\r\nGET / HTTP/1.1\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\n\r\n", "400 Bad Request: missing required Host header"),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400 Bad Request: malformed Host header"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", "400 Bad Request: invalid header name"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505 HTTP Version Not Supported: unsupported protocol version"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 1_060_000, "431 Request Header Fields Too Large"),
    ],
)
async def test_what_is_no_request(data: bytes, status: str) -> None:
    """It gets the words of Go's server, as soon as it is known, and the connection ends."""
    async with StubUpstream() as stub, wired(stub.url) as world:
        assert (await says(world, data)).decode() == f"HTTP/1.1 {status}\r\n{PLAIN}{status}"
        assert stub.calls == []


async def test_a_coding_that_nobody_knows() -> None:
    """Anything but chunked is 501, in words that repeat nothing of it."""
    async with wired("http://127.0.0.1:9") as world:
        answer = await says(world, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")
        assert answer.decode() == f"HTTP/1.1 501 Not Implemented\r\n{PLAIN}Unsupported transfer encoding"


async def test_an_expectation_that_nobody_can_meet() -> None:
    """417, and the body is not waited for."""
    async with wired("http://127.0.0.1:9") as world:
        answer = await says(world, b"POST /api/chat HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 9\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 417 Expectation Failed\r\n")


async def test_a_body_that_nobody_asked_for() -> None:
    """Refused before it was sent: no 100, and the connection does not serve on."""
    async with wired("http://127.0.0.1:9") as world:
        head = b"POST /nowhere HTTP/1.1\r\nHost: a.local\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
        answer = await says(world, head)
        assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
        assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize("kept", [True, False])
async def test_an_old_client(kept: bool) -> None:
    """HTTP/1.0 is answered in its version; the connection lasts where it asks for that and a length is known."""
    async with StubUpstream({"/api/version": answers}) as stub, wired(stub.url) as world:
        client = await world.connect()
        more = b"Connection: Keep-Alive\r\n" if kept else b""
        for _ in range(2 if kept else 1):
            client.writer.write(b"GET /api/version HTTP/1.0\r\n" + more + b"\r\n")
            answer = await client.answer()
            assert answer.head.startswith(b"HTTP/1.0 200 OK\r\n")
            assert answer.headers.get("Connection") == ("keep-alive" if kept else None)
            assert answer.body == DONE
        if not kept:
            assert await rest(client) == b""


async def test_trailers_and_what_follows_them() -> None:
    """A chunked body with trailers is one body; the next request begins behind it."""
    async with StubUpstream({"/api/chat": answers}) as stub, wired(stub.url) as world:
        client = await world.connect()
        for piece in (1, 7, 10_000):
            client.writer.write(b"POST /api/chat HTTP/1.1\r\nHost: a.local\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at in range(0, len(QUESTION), piece):
                part = QUESTION[at : at + piece]
                client.writer.write(b"%x;a=b\r\n%b\r\n" % (len(part), part))
            client.writer.write(b"0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n")
            assert (await client.answer()).body == DONE
        assert len({call.body for call in stub.calls}) == 1


async def test_bytes_one_by_one() -> None:
    """However a request is cut by the network, it is the same request."""
    async with StubUpstream({"/api/chat": answers}) as stub, wired(stub.url) as world:
        client = await world.connect()
        data = b"POST /api/chat HTTP/1.1\r\nHost: a.local\r\nContent-Length: %d\r\n\r\n%b" % (len(QUESTION), QUESTION)
        for byte in data * 2:
            client.writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        assert [(await client.answer()).body for _ in range(2)] == [DONE, DONE]
        assert stub.calls[0].body == stub.calls[1].body


async def test_an_absolute_target() -> None:
    """It is served, its host counts and not the header's; Ollama gets the path."""
    async with StubUpstream({"/api/version": answers}) as stub, wired(stub.url) as world:
        client = await world.connect()
        client.writer.write(b"GET http://localhost:1/api/version?a=b HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert (await client.answer()).status == 200
        assert stub.calls[0].target == "/api/version?a=b"
        client.writer.write(b"GET http://evil.example/api/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.answer()).status == 403
        assert len(stub.calls) == 1


async def test_headers_travel_as_they_were_sent() -> None:
    """Their order and case, a fold as one space; without those of the connection, named or known."""
    async with StubUpstream({"/api/version": answers}) as stub, wired(stub.url) as world:
        client = await world.connect()
        client.writer.write(
            b"GET /api/version HTTP/1.1\r\nHost: a.local\r\nx-LOWER: 1\r\nX-Folded: 2\r\n\t3\r\nx-lower: 4\r\n"
            b"TE: trailers\r\nX-Mine: 5\r\nConnection: x-mine, keep-alive\r\nKeep-Alive: 9\r\nX-Raw: \xff\r\n\r\n"
        )
        assert (await client.answer()).status == 200
        sent = [(b"x-LOWER", b"1"), (b"X-Folded", b"2 3"), (b"x-lower", b"4"), (b"X-Raw", b"\xff")]
        assert stub.calls[0].headers[1:] == sent


async def test_broken_chunks_are_told_as_ollama_tells_them() -> None:
    """In Go's words, in the dialect; what follows is never taken for a request."""
    async with StubUpstream() as stub, wired(stub.url) as world:
        head = b"POST /api/chat HTTP/1.1\r\nHost: a.local\r\nTransfer-Encoding: chunked\r\n\r\n"
        smuggled = b"GET /api/ps HTTP/1.1\r\nHost: a.local\r\n\r\n"
        answer = await says(world, head + b"zz\r\n" + smuggled)
        assert answer.count(b"HTTP/1.1") == 1
        assert answer.endswith(b'\r\nConnection: close\r\n\r\n{"error":"invalid byte in chunk length"}')
        assert stub.calls == []


async def test_a_body_that_ends_short() -> None:
    """Its client can still read, and is told; it never was a request."""
    async with StubUpstream() as stub, wired(stub.url) as world:
        head = b"POST /api/chat HTTP/1.1\r\nHost: a.local\r\nContent-Length: 500\r\n\r\n"
        answer = await says(world, head + QUESTION, end=True)
        assert answer.endswith(b'{"error":"unexpected EOF"}')
        assert world.core.facts == []


async def test_a_half_closed_client_of_a_listing_is_answered() -> None:
    """Ollama does so too."""
    async with StubUpstream({"/api/tags": answers}) as stub, wired(stub.url) as world:
        answer = await says(world, b"GET /api/tags HTTP/1.1\r\nHost: a.local\r\n\r\n", end=True)
        assert answer.endswith(DONE)


async def test_a_half_closed_client_of_a_model_has_left() -> None:
    """A real Ollama takes the end of what a client sends for its end: it is no longer demand, and gets no answer."""
    async with wired("http://127.0.0.1:9", serve=False) as world:
        client, exchange = await world.arrive()
        client.writer.write_eof()
        assert (await world.core.fact(Left)).id == exchange.id
        assert await rest(client) == b""


# --- time and room ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\nX-A: "])
async def test_a_client_that_says_nothing_whole_is_let_go(sent: bytes) -> None:
    """Within the time a head may take, without a word, as Go's server with a limit would."""
    async with wired("http://127.0.0.1:9", head_seconds=0.1) as world:
        client = await world.connect()
        client.writer.write(sent)
        assert await rest(client) == b""
        assert world.listener.door.connections == set()


async def test_a_connection_is_kept_for_its_next_request() -> None:
    """Longer than a head may take, and not for ever."""
    async with (
        StubUpstream({"/api/version": answers}) as stub,
        wired(stub.url, head_seconds=0.1, idle_seconds=0.6) as w,
    ):
        client = await w.connect()
        for _ in range(2):
            client.writer.write(b"GET /api/version HTTP/1.1\r\nHost: a.local\r\n\r\n")
            assert (await client.answer()).status == 200
            await asyncio.sleep(0.3)  # the time itself is what is tested
        assert await rest(client) == b""


async def test_a_body_that_stops_coming() -> None:
    """408 in the dialect, and nobody to the core."""
    async with wired("http://127.0.0.1:9", body_silence=0.1) as world:
        client = await world.connect()
        client.writer.write(b"POST /api/chat HTTP/1.1\r\nHost: a.local\r\nContent-Length: 500\r\n\r\n{")
        answer = await client.answer()
        assert answer.status == 408
        assert "0.1 s" in answer.json()["error"]
        assert world.core.facts == []


async def test_a_body_that_comes_for_ever() -> None:
    """A byte now and then does not help: a body that is held has a time in all."""
    async with wired("http://127.0.0.1:9", body_silence=5.0, body_seconds=0.2) as world:
        client = await world.connect()
        client.writer.write(b"POST /api/chat HTTP/1.1\r\nHost: a.local\r\nContent-Length: 500\r\n\r\n{")
        answer = asyncio.ensure_future(client.answer())
        while not answer.done():
            client.writer.write(b" ")
            await asyncio.wait((answer,), timeout=0.05)
        assert answer.result().status == 408


async def test_the_one_silent_longest_makes_room() -> None:
    """At the limit a newcomer is let in for it; who is served stays; who asked before goes after who never did."""
    async with StubUpstream({"/api/version": answers}) as stub, wired(stub.url, serve=False, connections=3) as world:
        served, _ = await world.arrive()
        kept = await world.connect()
        kept.ask("/api/version", method="GET")
        assert (await kept.answer()).status == 200
        silent = await world.connect()
        newcomer = await world.connect()
        newcomer.ask("/api/version", method="GET")
        assert (await newcomer.answer()).status == 200
        assert await rest(silent) == b""
        kept.ask("/api/version", method="GET")
        assert (await kept.answer()).status == 200
        assert world.listener.door.sent_away == 1
        assert world.core.count(Left) == 0
        served.hang_up()


async def test_where_all_are_served_the_next_one_waits() -> None:
    """Nobody is thrown out in the middle; the one who comes is let in as soon as one has gone."""
    async with StubUpstream({"/api/version": answers}) as stub, wired(stub.url, serve=False, connections=2) as world:
        first, _ = await world.arrive()
        await world.arrive()
        third = await world.connect()
        third.ask("/api/version", method="GET")
        waiting = asyncio.ensure_future(third.answer())
        done, _ = await asyncio.wait((waiting,), timeout=0.2)
        assert not done
        first.hang_up()
        assert (await waiting).status == 200
        assert world.core.count(Left) == 1


def test_launchd_gives_few_files() -> None:
    """We raise our own limit as far as we may, and count clients by what we got."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        assert room_for_clients() == 64
        got = raise_file_limit()
        assert got == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert got == min(WANTED_FILES, limits[1]) or limits[1] == resource.RLIM_INFINITY
        assert room_for_clients() == got // 2 - 64
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture
def no_files() -> Iterator[NoFiles]:
    """`no_files(True)` takes every open file that is left, `no_files(False)` gives them back."""
    switch = NoFiles()
    yield switch
    switch(False)


async def test_open_files_run_out(no_files: NoFiles) -> None:
    """Nobody spins, nobody served is hurt, it is said, and it ends by itself as soon as there are files again."""
    loop = asyncio.get_running_loop()
    async with StubUpstream({"/api/version": answers}) as stub, wired(stub.url, serve=False, connections=500) as world:
        door = world.listener.door
        client, _ = await world.arrive()  # served, so that nobody can be closed to make room
        with socket.socket() as other:
            other.setblocking(False)
            no_files(True)
            await loop.sock_connect(other, ("127.0.0.1", world.listener.port))
            async with asyncio.timeout(5):
                while not door.trouble:  # noqa: ASYNC110 - it tells nobody else
                    await asyncio.sleep(0.01)
            cpu = time.process_time()
            await asyncio.sleep(0.5)
            assert time.process_time() - cpu < 0.25
            assert "open files ran out once" in door.warnings[0]
            no_files(False)
            await loop.sock_sendall(other, b"GET /healthz HTTP/1.1\r\nHost: a.local\r\n\r\n")
            async with asyncio.timeout(5):
                assert b"200 OK" in await loop.sock_recv(other, 1000)
        assert "now there is room again" in door.warnings[0]
        assert world.core.count(Left) == 0
        client.hang_up()


async def test_a_body_of_many_pieces_does_not_hold_up_the_others() -> None:
    """Half a megabyte of keys takes a second to understand; others are answered meanwhile."""
    async with StubUpstream({"/api/chat": answers, "/api/version": answers}) as stub, wired(stub.url) as world:
        many = b'{"model":"m",' + b",".join(b'"k%d":0' % number for number in range(40_000)) + b',"messages":[]}'
        heavy = await world.ask("/api/chat", many)
        answer = asyncio.ensure_future(heavy.answer())
        served = 0
        other = await world.connect()
        while not answer.done():
            other.ask("/api/version", method="GET")
            assert (await other.answer()).status == 200
            served += 1
        assert answer.result().status in (200, 400)
        assert served > 5
        assert world.core.count(Arrived) == world.core.count(Ended)

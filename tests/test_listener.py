"""Every request gets its one answer: at once from Ollama or from us, or through the core, in its own dialect."""

import asyncio
import json
from typing import Any

import pytest

from scheduler.core.messages import AnswerProbe, AnswerWish, Arrived, Ended, Left, Listed, Refuse
from tests.stub_upstream import Call, StubUpstream
from tests.wired import BODIES, wired

NOWHERE = "http://127.0.0.1:9"
DONE = b'{"model":"m","message":{},"done":true}'


async def answers(call: Call) -> None:
    """An upstream that answers anything."""
    await call.whole(DONE)


async def tags(call: Call) -> None:
    """A listing as Go sends it."""
    await call.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nDate: now\r\n")
    await call.send(b'Transfer-Encoding: chunked\r\n\r\nd\r\n{"models":[]}\r\n0\r\n\r\n')


# --- reads -------------------------------------------------------------------------------------------------------


async def test_a_listing_goes_through_without_the_core() -> None:
    """Reads are forwarded at once, bytes and headers as they are, query included, and are never demand."""
    async with StubUpstream({"/api/tags": tags}) as stub, wired(stub.url) as world:
        answer = await (await world.ask("/api/tags?x=%20y", method="GET")).answer()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nDate: now\r\n"
        assert answer.head == head + b"Transfer-Encoding: chunked\r\n\r\n"
        assert answer.body == b'{"models":[]}'
        assert stub.calls[0].target == "/api/tags?x=%20y"
        assert world.core.facts == []


async def test_head_of_the_root() -> None:
    """`ollama` asks HEAD / first: status and headers, no body, and the connection goes on."""

    async def root(call: Call) -> None:
        body = b"" if call.method == "HEAD" else b"Ollama is running"
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 17\r\n\r\n" + body)

    async with StubUpstream({"/": root}) as stub, wired(stub.url) as world:
        client = await world.ask("/", method="HEAD")
        answer = await client.answer(bodiless=True)
        assert answer.head == b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 17\r\n\r\n"
        assert (await client.ask("/", method="GET").answer()).body == b"Ollama is running"


async def test_show_carries_its_body() -> None:
    """`/api/show` is a read with a body; it goes up as it was sent."""
    async with StubUpstream({"/api/show": answers}) as stub, wired(stub.url) as world:
        await (await world.ask("/api/show", b'{"model":"","name":"X"}')).answer()
        assert stub.calls[0].body == b'{"model":"","name":"X"}'
        assert world.core.facts == []


async def test_a_read_without_ollama_is_503() -> None:
    """Not reachable is said in the dialect, at once."""
    async with wired(NOWHERE) as world:
        answer = await (await world.ask("/api/tags", method="GET")).answer()
        assert answer.status == 503
        assert "Ollama" in answer.json()["error"]
        openai = await (await world.ask("/v1/models", method="GET")).answer()
        assert openai.json()["error"]["type"] == "api_error"


async def test_a_read_that_hangs_is_504() -> None:
    """`/api/ps` can block inside Ollama; a read never hangs with it."""

    async def hangs(call: Call) -> None:
        await call.hung_up()

    async with StubUpstream({"/api/ps": hangs}) as stub, wired(stub.url, read_seconds=0.1) as world:
        answer = await (await world.ask("/api/ps", method="GET")).answer()
        assert answer.status == 504
        await asyncio.wait_for(stub.calls[0].answered.wait(), 5)


async def test_a_read_on_a_connection_that_ollama_closed_is_asked_again() -> None:
    """A kept connection may be dead by the time it is used; a read notices nothing."""

    async def once(call: Call) -> None:
        if len(stub.calls) == 2:
            call.reset()
        else:
            await call.whole(b"{}")

    async with StubUpstream({"/api/ps": once}) as stub, wired(stub.url) as world:
        for _ in range(2):
            assert (await (await world.ask("/api/ps", method="GET")).answer()).body == b"{}"
        assert len(stub.calls) == 3


# --- what we answer ourselves ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Host": "8.8.8.8"}, {"Origin": "https://evil.example"}, {"Origin": "null"}]
)
@pytest.mark.parametrize("path", ["/api/chat", "/healthz", "/api/tags", "/api/pull"])
async def test_no_web_page_gets_in(path: str, headers: dict[str, str]) -> None:
    """A foreign Host or Origin is 403 without a body, as Ollama answers it, on every route."""
    async with StubUpstream({"/api/chat": answers, "/api/tags": tags}) as stub, wired(stub.url) as world:
        answer = await (await world.ask(path, BODIES["/api/chat"], **headers)).answer()
        assert (answer.status, answer.body) == (403, b"")
        assert world.core.facts == []
        assert stub.calls == []


async def test_a_preflight_is_answered_by_us() -> None:
    """OPTIONS from an allowed origin gets Ollama's 204 and its headers."""
    async with wired(NOWHERE) as world:
        client = await world.ask("/api/chat", method="OPTIONS", Origin="http://localhost:3000")
        answer = await client.answer(bodiless=True)
        assert answer.status == 204
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"


@pytest.mark.parametrize(
    ("method", "path", "status", "more"),
    [
        ("POST", "/api/load", 404, {}),
        ("POST", "/v1/messages/count_tokens", 404, {}),
        ("PUT", "/x", 404, {}),
        ("PUT", "/api/chat", 405, {"Allow": "POST"}),
        ("DELETE", "/api/tags", 405, {"Allow": "HEAD, GET"}),
        ("PATCH", "/api/blobs/sha256:0", 405, {"Allow": "HEAD, POST"}),
        ("POST", "/api/chat/?a=b", 307, {"Location": "/api/chat?a=b"}),
        ("POST", "//api/../api/chat", 307, {"Location": "/api/chat"}),
    ],
)
async def test_what_ollama_does_not_serve(method: str, path: str, status: int, more: dict[str, str]) -> None:
    """A route that could load a model and is not known gets what Ollama says of it, and never reaches Ollama."""
    async with StubUpstream() as stub, wired(stub.url) as world:
        answer = await (await world.ask(path, b"{}" if method == "POST" else b"", method=method)).answer()
        assert answer.status == status
        assert answer.headers.items() >= more.items()
        body = {404: b"404 page not found", 405: b"405 method not allowed", 307: b""}[status]
        assert (answer.body, answer.headers.get("Content-Type")) == (body, "text/plain" if body else None)
        assert stub.calls == []


async def test_our_own_routes() -> None:
    """They are answered without Ollama, in JSON."""
    async with wired(NOWHERE) as world:
        answer = await (await world.ask("/healthz?a=b", method="GET")).answer()
        assert (answer.status, answer.json()) == (200, {"status": "ok", "a": "b"})
        assert answer.headers["Content-Type"].startswith("application/json")
        assert "Server" not in answer.headers


async def test_a_stand_in_is_said_in_every_answer() -> None:
    """Reads, answers, errors and our own routes all carry the mark, and only with a stand-in."""
    async with StubUpstream({"/api/chat": answers, "/api/tags": tags}) as stub, wired(stub.url) as world:
        requests = [("POST", "/api/chat"), ("GET", "/api/tags"), ("GET", "/healthz"), ("POST", "/api/pull")]
        for stand_in in (True, False):
            world.core.state.stand_in = stand_in
            for method, path in requests:
                answer = await (
                    await world.ask(path, BODIES["/api/chat"] if method == "POST" else b"", method)
                ).answer()
                assert answer.headers.get("X-Scheduler-Stand-In") == ("1" if stand_in else None)


@pytest.mark.parametrize("path", BODIES)
async def test_a_bad_body_is_told_in_its_dialect_and_goes_nowhere(path: str) -> None:
    """What cannot be parsed is never sent on."""
    async with StubUpstream() as stub, wired(stub.url) as world:
        answer = await (await world.ask(path, b'{"model":')).answer()
        assert answer.status == 400
        error = answer.json()["error"]
        assert isinstance(error, str) == path.startswith("/api/")
        assert world.core.facts == []
        assert stub.calls == []


async def test_a_body_beyond_the_limit_is_413() -> None:
    """Declared or not, it is refused in the dialect."""
    async with wired(NOWHERE, body_limit=1000) as world:
        body = {**BODIES["/api/chat"], "system": "x" * 2000}
        assert (await (await world.ask("/api/chat", body)).answer()).status == 413
        client = await world.connect()
        client.writer.write(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.writer.write(b"800\r\n" + b"x" * 2048 + b"\r\n0\r\n\r\n")
        assert (await client.answer()).status == 413


# --- demand ------------------------------------------------------------------------------------------------------


async def test_what_the_core_hears() -> None:
    """The fact of an arrival carries alias, model, class, dialect and size, and nothing of the words."""
    async with StubUpstream({"/api/chat": answers}) as stub, wired(stub.url) as world:
        await (await world.ask("/api/chat", {**BODIES["/api/chat"], "model": "gpt-4", "stream": False})).answer()
        arrived = await world.core.fact(Arrived)
        assert (arrived.alias, arrived.model, arrived.cls, arrived.dialect) == ("gpt-4", "m:latest", "agent", "chat")
        assert arrived.kind == "request"
        assert arrived.body_bytes == len(stub.calls[0].body)
        assert arrived.client.startswith("127.0.0.1:")
        assert "sky" not in repr(arrived)


async def test_ids_are_unique() -> None:
    """No two requests of one daemon share an id."""
    async with StubUpstream({"/api/chat": answers}) as stub, wired(stub.url) as world:
        client = await world.connect()
        for _ in range(3):
            await client.ask("/api/chat", BODIES["/api/chat"]).answer()
        assert len({fact.id for fact in world.core.facts if isinstance(fact, Arrived)}) == 3


@pytest.mark.parametrize("path", BODIES)
async def test_a_refusal_speaks_the_dialect(path: str) -> None:
    """Status, message and Retry-After of the order reach the client in the shape of its route."""
    async with wired(NOWHERE, serve=False) as world:
        client, exchange = await world.arrive(path)
        exchange.take(Refuse(exchange.id, 503, "no room today", "the test says so", retry_after=7))
        answer = await client.answer()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
        error = answer.json()["error"]
        assert (error if path.startswith("/api/") else error["message"]) == "no room today"
        assert world.listener.exchanges == {}
        assert world.core.exchanges == {}
        assert world.bodies.memory == 0


async def test_a_wish_is_answered_as_ollama_does() -> None:
    """A preload that the core grants gets `done_reason: load`, whole."""
    async with wired(NOWHERE, serve=False) as world:
        client = await world.ask("/api/generate", {"model": "m"})
        arrived = await world.core.fact(Arrived)
        assert (arrived.kind, arrived.cls) == ("preload", "batch")
        world.core.exchanges[arrived.id].take(AnswerWish(arrived.id, "it is loaded"))
        answer = await client.answer()
        assert (answer.status, answer.json()["done_reason"], answer.json()["response"]) == (200, "load", "")


async def test_a_probe_that_finds_no_slot_gets_its_canned_success() -> None:
    """A waiting probe is answered without Ollama."""
    async with wired(NOWHERE, serve=False) as world:
        body = {"model": "m", "messages": [{"role": "user", "content": "What's 1 + 1?"}], "max_tokens": 16}
        client = await world.ask("/v1/chat/completions", body)
        arrived = await world.core.fact(Arrived)
        assert arrived.kind == "probe"
        world.core.exchanges[arrived.id].take(AnswerProbe(arrived.id, "no slot"))
        answer = await client.answer()
        assert (answer.status, answer.json()["choices"][0]["message"]["content"]) == (200, "ok")
        assert world.core.count(Ended) == 0


async def test_a_hang_up_while_waiting() -> None:
    """The core hears it once, and the body is let go."""
    async with wired(NOWHERE, serve=False) as world:
        client, exchange = await world.arrive()
        assert world.bodies.memory > 0
        assert exchange.progress.stage == "held"
        client.hang_up()
        assert (await world.core.fact(Left)).id == exchange.id
        assert world.bodies.memory == 0
        assert world.listener.exchanges == {}
        assert world.core.exchanges == {}
        assert world.core.count(Left) == 1


async def test_a_hang_up_in_the_middle_of_a_body_is_nobody() -> None:
    """What was never heard whole never arrived."""
    async with StubUpstream({"/api/chat": answers}) as stub, wired(stub.url) as world:
        client = await world.connect()
        client.writer.write(b'POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{"model"')
        await client.writer.drain()
        client.hang_up()
        assert (await (await world.ask("/api/chat", BODIES["/api/chat"])).answer()).body == DONE
        assert world.core.count(Arrived) == 1


async def test_a_cloud_model_passes_straight_through() -> None:
    """No residency, no queue: by its name, or because Ollama lists it as remote."""
    async with StubUpstream({"/api/chat": answers}) as stub, wired(stub.url, serve=False) as world:
        world.core.state.listed = (Listed("m:latest", 300, remote=True),)
        for model in ("gpt-oss:120b-cloud", "m"):
            answer = await (await world.ask("/api/chat", {**BODIES["/api/chat"], "model": model})).answer()
            assert answer.body == DONE
        assert json.loads(stub.calls[0].body)["model"] == "gpt-oss:120b-cloud"
        assert world.core.facts == []


async def test_a_large_body_goes_through() -> None:
    """20 MB, byte for byte."""
    async with StubUpstream({"/api/chat": answers}) as stub, wired(stub.url) as world:
        text = "y" * 20_000_000
        body = {"model": "m", "messages": [{"role": "user", "content": text}]}
        assert (await (await world.ask("/api/chat", body)).answer()).body == DONE
        assert json.loads(stub.calls[0].body)["messages"][0]["content"] == text


async def test_a_body_that_waits_on_disk_goes_through() -> None:
    """Beyond the memory limit a body waits in a file, and reaches Ollama all the same."""
    async with (
        StubUpstream({"/api/chat": answers}) as stub,
        wired(stub.url, serve=False, body_memory=100, body_disk=10_000_000) as world,
    ):
        text = "y" * 1_000_000
        client, exchange = await world.arrive(messages=[{"role": "user", "content": text}])
        assert exchange.kept.on_disk
        exchange.take(world.core.forward(exchange.id))
        assert (await client.answer()).body == DONE
        assert json.loads(stub.calls[0].body)["messages"][0]["content"] == text
        await world.core.fact(Ended)
        assert world.bodies.disk == 0


async def test_beyond_both_limits_ollamas_own_503() -> None:
    """A body that nothing can hold is refused as over the limit, and is nobody to the core."""
    async with wired(NOWHERE, body_memory=100, body_disk=100) as world:
        answer = await (await world.ask("/api/chat", {**BODIES["/api/chat"], "system": "x" * 200})).answer()
        assert answer.status == 503
        assert answer.json()["error"] == "server busy, please try again.  maximum pending requests exceeded"
        assert int(answer.headers["Retry-After"]) > 0
        assert world.core.facts == []


# --- HTTP --------------------------------------------------------------------------------------------------------


async def test_one_connection_many_requests() -> None:
    """Kept and pipelined: three requests written at once come back in their order."""
    async with StubUpstream({"/api/chat": answers, "/api/tags": tags}) as stub, wired(stub.url) as world:
        client = await world.connect()
        for _ in range(2):
            client.ask("/api/chat", BODIES["/api/chat"])
            client.ask("/api/tags", method="GET")
        bodies = [(await client.answer()).body for _ in range(4)]
        assert bodies == [DONE, b'{"models":[]}'] * 2


async def test_an_old_client_is_answered_until_the_connection_closes() -> None:
    """HTTP/1.0 knows no chunks: the body as it is, then the end of the connection."""
    async with StubUpstream({"/api/tags": tags}) as stub, wired(stub.url) as world:
        client = await world.connect()
        client.writer.write(b"GET /api/tags HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(5):
            everything = await client.reader.read()
        head, _, body = everything.partition(b"\r\n\r\n")
        assert body == b'{"models":[]}'
        assert head == b"HTTP/1.0 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nDate: now"


async def test_a_chunked_body_and_one_that_asks_first() -> None:
    """Both reach Ollama with a length; `Expect` gets its 100 and travels no further."""
    async with StubUpstream({"/api/chat": answers}) as stub, wired(stub.url) as world:
        data = json.dumps(BODIES["/api/chat"]).encode()
        client = await world.connect()
        head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.writer.write(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        assert (await client.answer()).body == DONE
        client.writer.write(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n")
        client.writer.write(b"Content-Length: %d\r\n\r\n" % len(data))
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.writer.write(data)
        assert (await client.answer()).body == DONE
        for call in stub.calls:
            assert call.header(b"content-length") == b"%d" % len(call.body)
            assert call.header(b"transfer-encoding") is None
            assert call.header(b"expect") is None


async def test_connection_close_is_obeyed() -> None:
    """A client that says close gets its answer and the end."""
    async with StubUpstream({"/api/chat": answers}) as stub, wired(stub.url) as world:
        client = await world.ask("/api/chat", BODIES["/api/chat"], Connection="close")
        answer = await client.answer()
        assert (answer.body, answer.headers["Connection"]) == (DONE, "close")
        async with asyncio.timeout(5):
            assert await client.reader.read() == b""


# --- the end -----------------------------------------------------------------------------------------------------


async def test_no_new_work_after_the_end_was_called() -> None:
    """Open connections are told 503 and when to come again, new ones find nobody, listings go on; what runs may end."""
    go = asyncio.Event()

    async def slow(call: Call) -> None:
        await go.wait()
        await call.whole(DONE)

    async with StubUpstream({"/api/chat": slow, "/api/tags": tags}) as stub, wired(stub.url) as world:
        running, _ = await world.arrive()
        other = await world.connect()
        other.ask("/api/tags", method="GET")
        await other.answer()
        await world.listener.stop_accepting()
        refused = await other.ask("/api/chat", BODIES["/api/chat"]).answer()
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        assert (await other.ask("/api/tags", method="GET").answer()).status == 200
        with pytest.raises(OSError, match=r".*"):
            await world.connect()
        assert await world.listener.drain(0.05) == 1
        go.set()
        assert await world.listener.drain(5) == 0
        assert (await running.answer()).body == DONE


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/pull", {"model": "m"}),
        ("/api/push", {"model": "m"}),
        ("/api/blobs/sha256:" + "0" * 64, {}),
        ("/api/chat", {**BODIES["/api/chat"], "model": "m:cloud"}),
    ],
)
async def test_what_goes_past_the_core_ends_before_we_do(path: str, body: dict[str, Any]) -> None:
    """A pull, a push, an upload or an answer from elsewhere runs on while we stop, and is waited for; none begins."""
    go = asyncio.Event()

    async def slow(call: Call) -> None:
        await call.head(b"application/x-ndjson")
        await call.chunk(b"{}\n")
        await go.wait()
        await call.chunk(b"[]\n")
        await call.end()

    async with StubUpstream({path: slow}) as stub, wired(stub.url) as world:
        other = await world.connect()
        await other.ask("/healthz", method="GET").answer()
        client = await world.ask(path, body)
        await client.head()
        assert await client.chunk() == b"{}\n"
        await world.listener.stop_accepting()
        assert await world.listener.drain(0.05) == 1
        refused = await other.ask(path, body).answer()
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        draining = asyncio.ensure_future(world.listener.drain(5))
        go.set()
        assert await draining == 0
        assert [await client.chunk(), await client.chunk()] == [b"[]\n", b""]
        assert len(stub.calls) == 1

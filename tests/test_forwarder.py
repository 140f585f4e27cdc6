"""Ollama's bytes reach the client as they are, whatever breaks; each Forward comes back exactly once."""

import asyncio
import json
import time

import pytest

from scheduler.core.messages import AnswerProbe, Arrived, Ended, Left, Recall, Refuse, Returned
from tests.stub_upstream import Call, StubUpstream
from tests.wired import BODIES, wired

CHAT = b'{"model":"m","message":{"role":"assistant","content":"%b"},"done":false}\n'
CHAT_END = b'{"model":"m","message":{},"done":true,"total_duration":5,"prompt_eval_count":7,"eval_count":3}\n'
WHOLE: dict[str, tuple[bytes, tuple[int | None, int | None]]] = {
    "/api/generate": (b'{"model":"m","response":"a","done":true,"prompt_eval_count":7,"eval_count":3}', (7, 3)),
    "/api/chat": (b'{"model":"m","message":{},"done":true,"prompt_eval_count":7,"eval_count":3}', (7, 3)),
    "/api/embed": (b'{"model":"m","embeddings":[[0.1]],"prompt_eval_count":7}', (7, None)),
    "/api/embeddings": (b'{"embedding":[0.1]}', (None, None)),
    "/v1/chat/completions": (b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n', (7, 3)),
    "/v1/embeddings": (b'{"data":[],"usage":{"prompt_tokens":7,"total_tokens":7}}\n', (7, None)),
    "/v1/messages": (b'{"type":"message","usage":{"input_tokens":7,"output_tokens":3}}\n', (7, 3)),
}
STREAMED: dict[str, tuple[bytes, list[bytes]]] = {
    "/api/generate": (b"application/x-ndjson", [b'{"response":"a","done":false}\n', b'{"response":"","done":true}\n']),
    "/api/chat": (b"application/x-ndjson", [CHAT % b"a", CHAT % b"b", CHAT_END]),
    "/v1/chat/completions": (b"text/event-stream", [b'data: {"choices":[]}\n\n', b"data: [DONE]\n\n"]),
    "/v1/messages": (
        b"text/event-stream",
        [b'event: message_start\ndata: {"x":1}\n\n', b'event: message_stop\ndata: {"type":"message_stop"}\n\n'],
    ),
}


def streaming(path: str, *, until: int | None = None, then: str = "end"):  # type: ignore[no-untyped-def]
    """A script that streams the chunks of `path` up to `until` and then does `then`."""
    kind, chunks = STREAMED[path]

    async def script(call: Call) -> None:
        await call.head(kind)
        for chunk in chunks[:until]:
            await call.chunk(chunk)
        if then == "end":
            await call.end()
        elif then == "reset":
            call.reset()
        elif then == "close":
            call.close()
        else:
            await call.hung_up()

    return script


@pytest.mark.parametrize("path", WHOLE)
async def test_a_whole_answer_goes_through_untouched(path: str) -> None:
    """Status, reason, headers as written and every byte of the body, in each dialect; the tokens are counted."""
    body, (prompt, output) = WHOLE[path]

    async def script(call: Call) -> None:
        await call.send(
            b"HTTP/1.1 200 Fine\r\nX-ODD-case: yes\r\nContent-Type: application/json; charset=utf-8\r\n"
            b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )

    async with StubUpstream({path: script}) as stub, wired(stub.url) as world:
        answer = await (await world.ask(path, {**BODIES[path], "stream": False})).answer()
        expected = b"HTTP/1.1 200 Fine\r\nX-ODD-case: yes\r\nContent-Type: application/json; charset=utf-8\r\n"
        expected += b"Connection: keep-alive\r\n"
        assert answer.head == expected + b"Content-Length: %d\r\n\r\n" % len(body)
        assert answer.body == body
        ended = await world.core.fact(Ended)
        assert (ended.outcome, ended.status, ended.error, ended.cut) == ("answered", 200, "", False)
        assert (ended.prompt_tokens, ended.output_tokens) == (prompt, output)
        assert ended.first_byte is not None
        assert 0 <= ended.first_byte <= ended.service
        assert world.core.exchanges == {}
        assert world.bodies.memory == 0


@pytest.mark.parametrize("path", STREAMED)
async def test_a_chunk_is_delivered_before_the_next_is_produced(path: str) -> None:
    """Nothing is kept back: Ollama waits here until the client has read what came before."""
    kind, chunks = STREAMED[path]
    read = asyncio.Semaphore(0)

    async def script(call: Call) -> None:
        await call.head(kind)
        await read.acquire()
        for chunk in chunks:
            await call.chunk(chunk)
            await read.acquire()
        await call.end()

    async with StubUpstream({path: script}) as stub, wired(stub.url) as world:
        client = await world.ask(path, {**BODIES[path], "stream": True})
        head = await client.head()
        assert head == b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % kind
        for chunk in chunks:
            read.release()
            assert await client.chunk() == chunk
        read.release()
        assert await client.chunk() == b""
        ended = await world.core.fact(Ended)
        assert (ended.outcome, ended.error) == ("answered", "")


async def test_what_goes_upstream_is_ours() -> None:
    """Ollama's own Host, no Origin, a Content-Length, the client's other headers, and the context we decided."""
    async with (
        StubUpstream({"/api/chat": streaming("/api/chat"), "/v1/messages": streaming("/v1/messages")}) as stub,
        wired(stub.url) as world,
    ):
        world.core.context = 4096
        body = {**BODIES["/api/chat"], "keep_alive": -1, "options": {"num_ctx": 9, "top_k": 1}}
        client = await world.ask(
            "/api/chat", body, Origin="http://localhost:3000", X_Mine="1", Connection="X-Hop", X_Hop="2"
        )
        assert (await client.answer()).headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
        call = stub.calls[0]
        assert call.header(b"host") == stub.url.removeprefix("http://").encode()
        assert call.header(b"origin") is None
        assert call.header(b"x-mine") == b"1"
        assert call.header(b"x-hop") is None
        assert call.header(b"connection") is None
        assert call.header(b"content-length") == b"%d" % len(call.body)
        sent = json.loads(call.body)
        assert sent["options"] == {"num_ctx": 4096, "top_k": 1}
        assert "keep_alive" not in sent
        await (await world.ask("/v1/messages", {**BODIES["/v1/messages"], "stream": True})).answer()
        assert b"num_ctx" not in stub.calls[1].body


async def test_connections_to_ollama_are_kept() -> None:
    """Three requests one after the other need one connection; one that Ollama closed is not used again."""
    async with StubUpstream({"/api/chat": streaming("/api/chat")}) as stub, wired(stub.url) as world:
        for _ in range(3):
            await (await world.ask("/api/chat", BODIES["/api/chat"])).answer()
        assert stub.connections == 1
        stub.calls[-1].close()
        await stub.calls[-1].writer.wait_closed()
        await (await world.ask("/api/chat", BODIES["/api/chat"])).answer()
        assert world.core.count(Returned) + stub.connections >= 2
        assert world.core.count(Ended) == 4


@pytest.mark.parametrize(("status", "reason"), [(404, b"Not Found"), (500, b"Internal Server Error"), (503, b"Busy")])
async def test_ollamas_own_errors_go_through(status: int, reason: bytes) -> None:
    """An error status of Ollama's is an answer: never sent again, never reworded."""

    async def script(call: Call) -> None:
        await call.whole(b'{"error":"as Ollama says it"}', b"%d %b" % (status, reason))

    async with StubUpstream({"/api/chat": script}) as stub, wired(stub.url) as world:
        answer = await (await world.ask("/api/chat", BODIES["/api/chat"])).answer()
        assert answer.head.startswith(b"HTTP/1.1 %d %b\r\n" % (status, reason))
        assert answer.body == b'{"error":"as Ollama says it"}'
        ended = await world.core.fact(Ended)
        assert (ended.outcome, ended.status) == ("answered", status)


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_broken_before_a_byte_it_comes_back_and_can_be_sent_again(how: str) -> None:
    """A connection lost before the status line is a `Returned`; the client notices nothing but the time."""

    async def script(call: Call) -> None:
        if len(stub.calls) > 1:
            await streaming("/api/chat")(call)
        else:
            getattr(call, how)()

    async with StubUpstream({"/api/chat": script}) as stub, wired(stub.url) as world:
        client, exchange = await world.arrive()
        returned = await world.core.fact(Returned)
        assert returned.id == exchange.id
        assert "Ollama" in returned.error
        assert exchange.state == "untouched"
        assert exchange.progress.stage == "held"
        exchange.take(world.core.forward(exchange.id))
        answer = await client.answer()
        assert answer.body == b"".join(STREAMED["/api/chat"][1])
        assert (await world.core.fact(Ended)).outcome == "answered"
        assert world.core.count(Returned) == 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/api/delete", {"model": "m"}),
        ("POST", "/api/create", {"model": "m", "from": "n"}),
        ("POST", "/api/copy", {"source": "n", "destination": "m"}),
    ],
)
async def test_what_replaces_a_model_takes_a_new_connection(method: str, path: str, body: dict[str, str]) -> None:
    """A kept one may be dead, and a second try would tell of the first's success as a failure: sent once, told once."""

    async def script(call: Call) -> None:
        call.close()

    async with (
        StubUpstream({"/api/chat": streaming("/api/chat"), path: script}) as stub,
        wired(stub.url) as world,
    ):
        await (await world.ask("/api/chat", BODIES["/api/chat"])).answer()
        data = json.dumps(body).encode()
        client = await world.ask(path, data, method, Content_Length=str(len(data)))
        returned = await world.core.fact(Returned)
        assert [call.connection for call in stub.calls] == [1, 2]
        world.core.exchanges[returned.id].take(Refuse(returned.id, 502, "broke off", "sent but once"))
        answer = await client.answer()
        assert (answer.status, answer.json()) == (502, {"error": "broke off"})
        assert [call.method for call in stub.calls] == ["POST", method]


async def test_without_ollama_it_comes_back() -> None:
    """A refused connection is a `Returned` too, and a `Left` after it ends the matter."""
    async with wired("http://127.0.0.1:9") as world:
        client, exchange = await world.arrive()
        await world.core.fact(Returned)
        client.hang_up()
        assert (await world.core.fact(Left)).id == exchange.id
        assert world.core.count(Ended) == 0
        assert world.bodies.memory == 0


@pytest.mark.parametrize("path", STREAMED)
@pytest.mark.parametrize("how", ["reset", "close"])
async def test_broken_after_the_head_the_client_is_told_in_its_dialect(path: str, how: str) -> None:
    """What came is delivered, the dialect's error follows, and the stream is left unended."""
    async with StubUpstream({path: streaming(path, until=1, then=how)}) as stub, wired(stub.url) as world:
        answer = await (await world.ask(path, {**BODIES[path], "stream": True})).answer()
        first = STREAMED[path][1][0]
        assert answer.body.startswith(first)
        last_words = answer.body.removeprefix(first)
        assert b"broke off" in last_words
        assert last_words.startswith(
            {"/v1/messages": b"event: error\ndata: {", "/v1/chat/completions": b'data: {"error"'}.get(
                path, b'{"error":'
            )
        )
        assert not answer.whole
        ended = await world.core.fact(Ended)
        assert (ended.outcome, ended.status) == ("failed", 200)
        assert world.core.count(Returned) == 0


async def test_half_a_chunk_is_a_break() -> None:
    """A chunk cut in the middle never looks like an end."""

    async def script(call: Call) -> None:
        await call.head()
        await call.send(b"40\r\nonly a part")
        call.close()

    async with StubUpstream({"/api/chat": script}) as stub, wired(stub.url) as world:
        answer = await (await world.ask("/api/chat", BODIES["/api/chat"])).answer()
        assert answer.body.startswith(b"only a part")
        assert not answer.whole
        assert (await world.core.fact(Ended)).outcome == "failed"


@pytest.mark.parametrize("end", ["short", "closed"])
async def test_an_answer_in_one_piece_is_an_error_where_it_is_not_whole(end: str) -> None:
    """A client that wants one piece has got nothing yet when half of it is all that comes: he gets a proper 502."""
    half = b'{"model":"m","choices":[{"mess'

    async def script(call: Call) -> None:
        length = len(half) if end == "short" else 50
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (length, half))
        call.close()

    path = "/v1/chat/completions"
    async with StubUpstream({path: script}) as stub, wired(stub.url) as world:
        answer = await (await world.ask(path, {**BODIES[path], "stream": False})).answer()
        assert (answer.status, answer.whole) == (502, True)
        assert json.loads(answer.body)["error"]["type"] == "api_error"


async def test_a_whole_answer_that_stops_short_is_cut_without_an_error_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a length was promised nothing may be added: the client sees a short body and a closed connection."""
    monkeypatch.setattr("scheduler.forwarder.HELD_BACK", 0)

    async def script(call: Call) -> None:
        await call.send(b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"model":"m",')
        call.close()

    async with StubUpstream({"/api/chat": script}) as stub, wired(stub.url) as world:
        answer = await (await world.ask("/api/chat", {**BODIES["/api/chat"], "stream": False})).answer()
        assert (answer.body, answer.whole) == (b'{"model":"m",', False)
        assert (await world.core.fact(Ended)).outcome == "failed"


@pytest.mark.parametrize(
    ("last", "error"),
    [(CHAT % b"a", "ended without done"), (b'{"error":"out of memory"}\n', "Ollama ended it with an error")],
)
async def test_a_clean_end_goes_through_and_is_remembered(last: bytes, error: str) -> None:
    """A proper end of HTTP without the dialect's own end is Ollama's answer; the fact says what was odd about it."""

    async def script(call: Call) -> None:
        await call.head()
        await call.chunk(last)
        await call.end()

    async with StubUpstream({"/api/chat": script}) as stub, wired(stub.url) as world:
        answer = await (await world.ask("/api/chat", BODIES["/api/chat"])).answer()
        assert (answer.body, answer.whole) == (last, True)
        ended = await world.core.fact(Ended)
        assert (ended.outcome, ended.error) == ("answered", error)


# --- the client leaves -------------------------------------------------------------------------------------------


async def test_a_hang_up_costs_ollama_nothing() -> None:
    """The answer of a client that left is read to its end; only then is the slot free."""
    gone = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.chunk(CHAT % b"a")
        await gone.wait()
        await call.chunk(CHAT_END)
        await call.end()

    async with StubUpstream({"/api/chat": script}) as stub, wired(stub.url) as world:
        client, exchange = await world.arrive()
        await client.head()
        assert await client.chunk() == CHAT % b"a"
        client.hang_up()
        assert (await world.core.fact(Left)).id == exchange.id
        assert world.core.count(Ended) == 0
        assert world.forwarder.outstanding("m:latest")[2] == (exchange.id,)
        gone.set()
        ended = await world.core.fact(Ended)
        assert (ended.outcome, ended.cut, ended.output_tokens) == ("abandoned", False, 3)
        await (await world.ask("/api/chat", BODIES["/api/chat"])).answer()
        assert stub.connections == 1


@pytest.mark.parametrize("until", [None, 1], ids=["before a byte", "in the stream"])
async def test_an_abandoned_answer_that_goes_on_is_cut(until: int | None) -> None:
    """After the limit the connection to Ollama is closed, and the fact says so."""

    async def silent(call: Call) -> None:
        await call.hung_up()

    script = silent if until is None else streaming("/api/chat", until=until, then="hold")
    async with StubUpstream({"/api/chat": script}) as stub, wired(stub.url, drain=0.2) as world:
        client, _ = await world.arrive()
        call = await stub.called(0)
        client.hang_up()
        left = await world.core.fact(Left)
        ended = await world.core.fact(Ended)
        assert (ended.outcome, ended.cut) == ("abandoned", True)
        assert ended.at - left.at >= 0.2
        await asyncio.wait_for(call.answered.wait(), 5)
        assert world.core.count(Left) == 1
        assert world.bodies.memory == 0


async def test_a_slow_client_never_slows_ollama() -> None:
    """Ollama's answer is read at full speed while its client reads nothing; its slot is free first."""
    piece = CHAT % (b"x" * 100_000)

    async def script(call: Call) -> None:
        await call.head()
        for _ in range(80):
            await call.chunk(piece)
        await call.chunk(CHAT_END)
        await call.end()

    async with StubUpstream({"/api/chat": script}) as stub, wired(stub.url) as world:
        client, _ = await world.arrive()
        ended = await world.core.fact(Ended)
        assert ended.outcome == "answered"
        answer = await client.answer()
        assert answer.body == piece * 80 + CHAT_END
        assert world.core.count(Left) == 0


async def test_a_client_that_takes_nothing_is_cut() -> None:
    """Beyond the buffer Ollama waits; a client silent for the limit is cut, and the slot comes back."""
    piece = b"x" * 1_000_000

    async def script(call: Call) -> None:
        await call.head()
        for _ in range(40):
            await call.chunk(piece)
        await call.hung_up()

    async with (
        StubUpstream({"/api/chat": script}) as stub,
        wired(stub.url, client_silence=0.4, buffer=2_000_000, drain=0.2) as world,
    ):
        client, exchange = await world.arrive()
        client.writer.transport.pause_reading()
        left = await world.core.fact(Left)
        assert left.id == exchange.id
        assert exchange.progress.bytes < 30_000_000
        assert (await world.core.fact(Ended)).outcome == "abandoned"


async def test_a_client_that_takes_little_is_kept() -> None:
    """Slow is not silent: a client that takes something now and then gets the whole of it."""
    piece = b"x" * 1_000_000

    async def script(call: Call) -> None:
        await call.head()
        for _ in range(12):
            await call.chunk(piece)
        await call.end()

    async with (
        StubUpstream({"/api/chat": script}) as stub,
        wired(stub.url, client_silence=0.4, buffer=1_000_000) as world,
    ):
        client, _ = await world.arrive()
        await client.head()
        began = time.monotonic()
        taken = 0
        while part := await client.chunk():
            taken += len(part)
            if taken // 1_000_000 > (taken - len(part)) // 1_000_000:
                await asyncio.sleep(0.1)  # the client's own pace, which is what is tested
        assert taken == 12_000_000
        assert time.monotonic() - began > 0.8
        assert world.core.count(Left) == 0


# --- orders while it runs ----------------------------------------------------------------------------------------


async def test_a_recalled_request_waits_again_and_is_served() -> None:
    """Untouched, it comes back as `Returned`, Ollama's connection is closed, and a second sending answers it."""

    async def script(call: Call) -> None:
        await (streaming("/api/chat")(call) if len(stub.calls) > 1 else call.hung_up())

    async with StubUpstream({"/api/chat": script}) as stub, wired(stub.url) as world:
        client, exchange = await world.arrive()
        call = await stub.called(0)
        exchange.take(Recall(exchange.id, "the runner is stalled"))
        returned = await world.core.fact(Returned)
        assert returned.error == "the runner is stalled"
        await asyncio.wait_for(call.answered.wait(), 5)
        exchange.take(world.core.forward(exchange.id))
        assert (await client.answer()).whole
        assert (await world.core.fact(Ended)).outcome == "answered"


async def test_recalled_at_once() -> None:
    """An order that comes before the sending has begun is obeyed all the same."""
    async with StubUpstream({"/api/chat": streaming("/api/chat")}) as stub, wired(stub.url, serve=False) as world:
        client, exchange = await world.arrive()
        exchange.take(world.core.forward(exchange.id))
        exchange.take(Recall(exchange.id, "changed our mind"))
        await world.core.fact(Returned)
        assert stub.calls == []
        exchange.take(world.core.forward(exchange.id))
        assert (await client.answer()).whole


async def test_recalled_after_the_head_it_ends_with_an_error() -> None:
    """With bytes sent it cannot be sent again: the dialect's error, the connection, and `stalled`."""
    script = streaming("/api/chat", until=1, then="hold")
    async with StubUpstream({"/api/chat": script}) as stub, wired(stub.url) as world:
        client, exchange = await world.arrive()
        await client.head()
        await client.chunk()
        assert exchange.state == "head sent"
        exchange.take(Recall(exchange.id, "the runner is stalled"))
        last_words = await client.chunk()
        assert json.loads(last_words)["error"].endswith("the runner is stalled")
        assert await client.reader.read() == b""
        ended = await world.core.fact(Ended)
        assert (ended.outcome, ended.cut) == ("stalled", True)


async def test_recalled_after_its_client_left_it_ends_abandoned() -> None:
    """Nobody waits for it any more, so it does not come back."""
    script = streaming("/api/chat", until=1, then="hold")
    async with StubUpstream({"/api/chat": script}) as stub, wired(stub.url) as world:
        client, exchange = await world.arrive()
        await stub.called(0)
        client.hang_up()
        await world.core.fact(Left)
        exchange.take(Recall(exchange.id, "the runner is stalled"))
        ended = await world.core.fact(Ended)
        assert (ended.outcome, ended.cut) == ("abandoned", True)
        assert world.core.count(Returned) == 0


async def test_a_probe_in_a_slot_gets_its_canned_success() -> None:
    """When a drain begins, the probe that sits in the slot is answered at once and the slot is free."""

    async def script(call: Call) -> None:
        await call.hung_up()

    async with StubUpstream({"/api/chat": script}) as stub, wired(stub.url) as world:
        body = {"model": "m", "messages": [{"role": "user", "content": "What's 1 + 1?"}], "stream": False}
        client = await world.ask("/api/chat", body)
        arrived = await world.core.fact(Arrived)
        assert arrived.kind == "probe"
        call = await stub.called(0)
        world.core.exchanges[arrived.id].take(AnswerProbe(arrived.id, "a change begins"))
        answer = await client.answer()
        assert answer.status == 200
        assert answer.json()["message"]["content"] == "ok"
        ended = await world.core.fact(Ended)
        assert (ended.outcome, ended.cut) == ("canned", True)
        await asyncio.wait_for(call.answered.wait(), 5)


async def test_leaving_the_forwarder_ends_what_runs_with_an_error() -> None:
    """A daemon that goes tells each client: with the dialect's 503 where nothing was sent, inside the stream else."""

    async def silent(call: Call) -> None:
        await call.hung_up()

    scripts = {"/api/chat": streaming("/api/chat", until=1, then="hold"), "/v1/messages": silent}
    async with StubUpstream(scripts) as stub, wired(stub.url) as world:
        begun = await world.ask("/api/chat", BODIES["/api/chat"])
        await begun.head()
        await begun.chunk()
        untouched = await world.ask("/v1/messages", BODIES["/v1/messages"])
        await stub.called(1)
        await world.forwarder_stack.aclose()
        refused = await untouched.answer()
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        assert refused.json()["error"]["type"] == "overloaded_error"
        assert b"shutting down" in await begun.chunk()
        assert [fact.outcome for fact in world.core.facts if isinstance(fact, Ended)] == ["failed", "failed"]
        late = await world.ask("/api/chat", BODIES["/api/chat"])
        assert (await late.answer()).status == 503
        assert (await world.core.fact(Ended, 2)).outcome == "failed"
        assert world.core.exchanges == {}


async def test_what_is_outstanding() -> None:
    """The stall watcher hears how long a model has been silent, the largest body and whose requests they are."""
    script = streaming("/api/chat", until=1, then="hold")
    async with StubUpstream({"/api/chat": script}) as stub, wired(stub.url) as world:
        assert world.forwarder.outstanding("m:latest") == (0.0, 0, ())
        client, small = await world.arrive()
        _, large = await world.arrive(system="x" * 5000)
        await client.head()
        await client.chunk()
        silent, body, ids = world.forwarder.outstanding("m:latest")
        assert 0.0 < silent < 5
        assert body > 100
        assert set(ids) == {small.id, large.id}
        assert small.progress.stage == "generating"
        assert small.progress.chunks == 1

"""Every route on the wire, between raw connections and a scripted Ollama: what is sent on, and what a wish is told."""

import asyncio
import json
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from scheduler.core.messages import AnswerWish, Arrived, Ended, Forward, Left, Recall
from tests.stub_upstream import Call, StubUpstream
from tests.wired import BODIES, wired

WISHES: list[tuple[str, dict[str, Any]]] = [
    ("/api/generate", {"model": "gpt-4"}),
    ("/api/generate", {"model": "gpt-4", "keep_alive": 0}),
    ("/api/chat", {"model": "gpt-4", "messages": [], "keep_alive": "0s"}),
    ("/api/embed", {"model": "gpt-4"}),
    ("/api/embeddings", {"model": "gpt-4"}),
    ("/v1/completions", {"model": "gpt-4", "stream": True}),
    ("/v1/responses", {"model": "gpt-4", "stream": True}),
    ("/v1/chat/completions", {"model": "gpt-4", "messages": [{"role": "user", "content": []}]}),
    (
        "/v1/messages",
        {"model": "gpt-4", "max_tokens": 1, "messages": [{"role": "user", "content": []}], "stream": True},
    ),
]
FORM = (
    b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-4\r\n--XX\r\n'
    b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\x00\xff\r\n\r\n--XX-\r\n--XX--\r\n'
)
FORM_TYPE = "multipart/form-data; boundary=XX"


async def fine(call: Call) -> None:
    """A short JSON answer."""
    await call.send(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"fine":[]}')


@pytest.mark.parametrize(("path", "body"), WISHES)
@pytest.mark.parametrize("granted", [True, False])
async def test_a_wish_is_told_what_became_of_it(path: str, body: dict[str, Any], granted: bool) -> None:
    """Ollama's own answer, with the name the client said, and whether it was followed beside it."""
    async with StubUpstream() as stub, wired(stub.url, serve=False) as world:
        connection = await world.ask(path, body)
        arrived = await world.core.fact(Arrived)
        assert arrived.kind == ("unload" if "keep_alive" in body else "preload")
        world.core.exchanges[arrived.id].take(AnswerWish(arrived.id, "m:latest serves\n2 requests…", granted))
        answer = await connection.answer()
        assert answer.status == 200
        told = "granted" if granted else "refused; m:latest serves 2 requests?"
        assert answer.headers["X-Ollama-Scheduler-Wish"] == told
        if path not in ("/api/embeddings",):
            assert b'"model":"gpt-4"' in answer.body
        early = body.get("stream") and path in ("/v1/responses", "/v1/messages")
        assert answer.headers.get("Cache-Control") == ("no-cache" if early else None)
        assert stub.calls == []


@pytest.mark.parametrize(
    ("path", "more", "ignored"),
    [
        ("/api/chat", {"keep_alive": 0}, True),
        ("/api/chat", {"keep_alive": "5m"}, True),
        ("/api/chat", {"KEEP_ALIVE": -1}, True),
        ("/api/chat", {"keep_alive": None}, False),
        ("/api/chat", {}, False),
        ("/api/generate", {"prompt": "", "keep_alive": "-1m"}, True),
        ("/api/generate", {"prompt": "", "keep_alive": 0}, False),
        ("/api/embed", {"input": "", "keep_alive": 0}, True),
        ("/v1/completions", {"keep_alive": 0}, False),
    ],
)
async def test_a_keep_alive_that_is_not_followed_is_told(path: str, more: dict[str, Any], ignored: bool) -> None:
    """The core hears of each that was ignored; a wish to unload is one that is looked at, and /v1 knows none."""
    async with StubUpstream() as stub, wired(stub.url, serve=False) as world:
        await world.ask(path, {**BODIES[path], **more})
        assert (await world.core.fact(Arrived)).keep_alive is ignored


async def test_a_wish_that_passes_through_is_its_client_s_own() -> None:
    """Forwarded while everything is, only its model's name is changed."""
    async with StubUpstream({"/api/generate": fine}) as stub, wired(stub.url) as world:
        sent = {"keep_alive": "7m", "options": {"num_ctx": 9}, "model": "gpt-4"}
        await (await world.ask("/api/generate", sent)).answer()
        assert stub.calls[0].body == b'{"keep_alive": "7m","options": {"num_ctx": 9},"model":"m"}'


@pytest.mark.parametrize(
    "path", ["/v1/completions", "/v1/responses", "/v1/images/generations", "/v1/images/edits", "/v1/chat/completions"]
)
async def test_a_runner_s_other_name_is_used_where_no_context_is_carried(path: str) -> None:
    """A request for a name of the same blob goes to the runner by its name, else Ollama would load it anew."""
    async with StubUpstream({path: fine}) as stub, wired(stub.url, serve=False) as world:
        connection, exchange = await world.arrive(path)
        exchange.take(Forward(exchange.id, "other:latest", 4096, "the test says so"))
        await connection.answer()
        body = json.loads(stub.calls[0].body)
        assert (body["model"], "options" in body) == ("other:latest", False)


async def test_a_native_request_keeps_its_name() -> None:
    """It carries the runner's context, so that its own name loads nothing."""
    async with StubUpstream({"/api/chat": fine}) as stub, wired(stub.url, serve=False) as world:
        connection, exchange = await world.arrive("/api/chat")
        exchange.take(Forward(exchange.id, "other:latest", 4096, "the test says so"))
        await connection.answer()
        body = json.loads(stub.calls[0].body)
        assert (body["model"], body["options"]) == ("m", {"num_ctx": 4096})


async def test_a_form_goes_on_as_it_came() -> None:
    """Not a byte of it is touched; which model it is for is said where Ollama looks first."""
    path = "/v1/audio/transcriptions"
    async with StubUpstream({path: fine}) as stub, wired(stub.url) as world:
        connection = await world.ask(f"{path}?language=en", FORM, Content_Type=FORM_TYPE)
        answer = await connection.answer()
        assert answer.body == b'{"fine":[]}'
        (call,) = stub.calls
        assert call.body == FORM
        assert call.header(b"Content-Type") == FORM_TYPE.encode()
        target = urlsplit(call.target)
        assert target.query.startswith("model=m&")
        assert parse_qs(target.query) == {"model": ["m"], "language": ["en"]}
        arrived = await world.core.fact(Arrived)
        assert (arrived.model, arrived.alias, arrived.kind, arrived.cls) == ("m:latest", "gpt-4", "request", "agent")


async def test_a_form_goes_to_a_runner_by_its_own_name() -> None:
    """Where the form's model is another name of the runner's blob, the query says the runner's."""
    path = "/v1/audio/transcriptions"
    async with StubUpstream({path: fine}) as stub, wired(stub.url, serve=False) as world:
        connection = await world.ask(f"{path}?language=en", FORM, Content_Type=FORM_TYPE)
        arrived = await world.core.fact(Arrived)
        world.core.exchanges[arrived.id].take(Forward(arrived.id, "other:1b", 0, "the test says so"))
        await connection.answer()
        assert parse_qs(urlsplit(stub.calls[0].target).query) == {"model": ["other:1b"], "language": ["en"]}


async def test_the_query_names_the_model_of_a_form() -> None:
    """Go looks there first, and so do we: no form can name one model to us and another to Ollama."""
    path = "/v1/audio/transcriptions"
    async with StubUpstream({path: fine}) as stub, wired(stub.url) as world:
        connection = await world.ask(f"{path}?model=Big%3Alatest&model=gpt-4", FORM, Content_Type=FORM_TYPE)
        await connection.answer()
        assert (await world.core.fact(Arrived)).model == "big:latest"
        assert parse_qs(urlsplit(stub.calls[0].target).query)["model"][0] == "Big:latest"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/me", b""),
        ("POST", "/api/signout", b""),
        ("DELETE", "/api/user/keys/abc", b""),
        ("POST", "/api/experimental/web_search", b'{"query":"x"}'),
        ("POST", "/api/pull", b'{"model":"gpt-4"}'),
        ("POST", "/api/push", b'{"model":"m"}'),
        ("POST", "/api/copy", b'{"source":"gpt-4"}'),
        ("POST", "/api/create", b'{"model":'),
        ("GET", "/api/anything?x=1", b""),
        ("HEAD", "/debug/pprof/", b""),
    ],
)
async def test_what_needs_no_model_is_nobody_to_the_core(method: str, path: str, body: bytes) -> None:
    """It goes on as it came, at once, and comes back as it is."""
    async with StubUpstream({path: fine, path.partition("?")[0]: fine}) as stub, wired(stub.url) as world:
        answer = await (await world.ask(path, body, method=method)).answer(bodiless=method == "HEAD")
        assert answer.status == 200
        assert [(call.method, call.target, call.body) for call in stub.calls] == [(method, path, body)]
        assert world.core.facts == []


async def test_a_pull_ends_with_its_client() -> None:
    """However long it takes; once its client hangs up, Ollama's side is closed."""
    closed = asyncio.Event()

    async def pulling(call: Call) -> None:
        await call.head(b"application/x-ndjson")
        await call.chunk(b'{"status":"pulling manifest"}\n')
        await call.hung_up()
        closed.set()

    async with StubUpstream({"/api/pull": pulling}) as stub, wired(stub.url, read_seconds=0.05) as world:
        connection = await world.ask("/api/pull", {"model": "x"})
        await connection.head()
        assert await connection.chunk() == b'{"status":"pulling manifest"}\n'
        connection.hang_up()
        async with asyncio.timeout(5):
            await closed.wait()


async def test_a_cancelled_answer_ends_as_cancelled() -> None:
    """A person's word ends a stream with the dialect's error and is told apart from a stall."""

    async def endless(call: Call) -> None:
        await call.head(b"text/event-stream")
        await call.chunk(b'event: response.created\ndata: {"type":"response.created"}\n\n')
        await call.hung_up()

    async with StubUpstream({"/v1/responses": endless}) as stub, wired(stub.url) as world:
        connection, exchange = await world.arrive("/v1/responses", stream=True)
        await connection.head()
        await connection.chunk()
        exchange.take(Recall(exchange.id, "cancelled by ada", "cancelled"))
        last = await connection.chunk()
        assert last.startswith(b"event: error\ndata: ")
        told = json.loads(last.partition(b"data: ")[2])
        assert (told["type"], told["message"]) == ("error", "ended by the scheduler: cancelled by ada")
        ended = await world.core.fact(Ended)
        assert (ended.outcome, ended.cut) == ("cancelled", True)


async def test_a_cut_response_stream_is_no_whole_one() -> None:
    """A stream that ends before `response.completed` ends here with an error, and its connection unended."""

    async def dying(call: Call) -> None:
        await call.head(b"text/event-stream")
        await call.chunk(b'event: response.created\ndata: {"type":"response.created"}\n\n')
        await call.end()

    async with StubUpstream({"/v1/responses": dying}) as stub, wired(stub.url) as world:
        connection, _ = await world.arrive("/v1/responses", stream=True)
        answer = await connection.answer()
        assert not answer.whole
        assert b"event: error\n" in answer.body
        assert (await world.core.fact(Ended)).outcome == "failed"


async def test_what_replaces_a_model_keeps_no_runner_under_watch() -> None:
    """A creation takes as long as it takes: its silence says nothing of a runner."""
    begun = asyncio.Event()

    async def slow(call: Call) -> None:
        begun.set()
        await call.hung_up()

    async with StubUpstream({"/api/create": slow}) as stub, wired(stub.url, drain=0.1) as world:
        connection = await world.ask("/api/create", {"model": "m", "from": "x"})
        arrived = await world.core.fact(Arrived)
        assert (arrived.kind, arrived.model, arrived.dialect) == ("replace", "m:latest", "library")
        async with asyncio.timeout(5):
            await begun.wait()
        assert len(world.forwarder.runs()) == 1
        assert world.forwarder.outstanding("m:latest") == (0.0, 0, ())
        connection.hang_up()
        await world.core.fact(Left)
        assert (await world.core.fact(Ended)).outcome == "abandoned"


async def test_64_megabytes_are_taken() -> None:
    """A body of that size is understood beside the loop, which serves others meanwhile, and goes on whole."""
    path = "/v1/responses"
    async with StubUpstream({path: fine, "/api/version": fine}) as stub, wired(stub.url) as world:
        size = 64_000_000
        body = b'{"input":"%b","model":"gpt-4"}' % (b"x" * size)
        connection = await world.ask(path, body)
        worst = 0.0
        answering = asyncio.ensure_future(connection.answer())
        while not answering.done():
            began = time.monotonic()
            await (await world.ask("/api/version", method="GET")).answer()
            worst = max(worst, time.monotonic() - began)
        assert (await answering).body == b'{"fine":[]}'
        (call,) = [call for call in stub.calls if call.target == path]
        assert len(call.body) == len(body) - len("gpt-4") + len("m")
        assert worst < 2.0


async def test_a_held_deletion_leaves_with_its_client() -> None:
    """A client that hangs up before the model could leave has deleted nothing."""
    async with StubUpstream({"/api/delete": fine}) as stub, wired(stub.url, serve=False) as world:
        connection = await world.ask("/api/create", {"model": "m", "from": "x"})
        arrived = await world.core.fact(Arrived)
        connection.hang_up()
        assert (await world.core.fact(Left)).id == arrived.id
        assert stub.calls == []

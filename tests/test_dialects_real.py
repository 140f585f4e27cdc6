"""What we say for Ollama is what a real one says: the recorded bad bodies, and every kind of wish, asked again."""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from scheduler.answers import TAIL, ending, error, head, tokens, wish
from scheduler.dialects import Rules, understand, unfit
from scheduler.errors import BadRequest
from scheduler.paths import DEMANDS, route
from scheduler.routes import Aliases
from tests.realollama.stage import RealOllama, StagedModel

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

FAST, EMBED = "small-chat:latest", "small-embed:latest"
MODELS = [
    StagedModel(FAST, 100_000_000, load_seconds=0.1, num_ctx=2_048),
    StagedModel(EMBED, 100_000_000, load_seconds=0.1, num_ctx=2_048, embedding=True),
]
RULES = Rules(Aliases(), frozenset(), b"0" * 16)
TABLE = json.loads((Path(__file__).parent / "badbodies" / "table.json").read_text())
EMPTY = [{"role": "user", "content": []}]
HELLO = [{"role": "user", "content": "hello"}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(real_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of one real Ollama for this file."""
    async with (
        RealOllama.start(tmp_path_factory.mktemp("real"), MODELS) as stage,
        aiohttp.ClientSession(stage.url) as session,
    ):
        yield session


def steady(body: bytes) -> str:
    """A body without what is made by chance, by the clock, or (Anthropic's first usage) by an estimate."""
    text = re.sub(
        r'"created_at":"[^"]*"|"(created|created_at|completed_at)":\d+|"(id|request_id)":"[^"]*"', "…", body.decode()
    )
    return re.sub(r'"input_tokens":\d+,"output_tokens":0}}}', "…", text)


async def test_every_bad_body_is_refused_in_these_bytes(http: aiohttp.ClientSession) -> None:
    """Status, content type, bytes and early headers of our errors are those of the real Ollama, body by body."""
    for bad in TABLE:
        body = bad["body"] if "body" in bad else '{"model":"x","a":' + "[" * bad["deep"] + "]" * bad["deep"] + "}"
        raw, headers = body.encode("latin-1"), {"Content-Type": bad.get("type", "text/plain")}
        async with http.post(bad["path"], data=raw, headers=headers) as answer:
            told = await answer.read()
        with pytest.raises(BadRequest) as caught:
            understand(route("POST", bad["path"]), bad["path"], raw, headers, RULES)
        ours = caught.value
        content_type, said = error(DEMANDS[bad["path"]], ours.status, ours.message, ours.voice)
        assert (answer.status, answer.headers["Content-Type"]) == (ours.status, content_type), bad["name"]
        assert steady(told) == steady(said), bad["name"]
        assert ("Cache-Control" in answer.headers) == bool(head(DEMANDS[bad["path"]], ours.streamed)), bad["name"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {"model": FAST}),
        ("/api/generate", {"model": FAST, "keep_alive": 0}),
        ("/api/generate", {"model": "small-chat", "keep_alive": "-0s", "stream": False}),
        ("/api/chat", {"model": FAST}),
        ("/api/chat", {"model": FAST, "messages": [], "keep_alive": "0"}),
        ("/v1/completions", {"model": FAST}),
        ("/v1/completions", {"model": FAST, "stream": True}),
        ("/v1/completions", {"model": FAST, "stream": True, "stream_options": {"include_usage": True}}),
        ("/v1/responses", {"model": FAST}),
        ("/v1/responses", {"model": FAST, "input": [], "stream": True}),
        (
            "/v1/chat/completions",
            {"model": FAST, "messages": EMPTY, "stream": True, "stream_options": {"include_usage": True}},
        ),
        ("/api/embed", {"model": EMBED}),
        ("/api/embed", {"model": EMBED, "input": [], "keep_alive": 0}),
        ("/api/embeddings", {"model": EMBED, "keep_alive": 0}),
        ("/v1/chat/completions", {"model": FAST, "messages": EMPTY}),
        ("/v1/chat/completions", {"model": FAST, "messages": EMPTY, "stream": True}),
        ("/v1/messages", {"model": FAST, "messages": EMPTY, "max_tokens": 5}),
        ("/v1/messages", {"model": FAST, "messages": EMPTY, "max_tokens": 5, "stream": True}),
    ],
)
async def test_a_wish_is_answered_as_here(http: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> None:
    """Content type and bytes of our answer to a preload or unload are the real Ollama's."""
    raw = json.dumps(body).encode()
    content_type, ours = wish(understand(route("POST", path), path, raw, {}, RULES), datetime.now(UTC).isoformat())
    async with http.post(path, data=raw) as answer:
        told = await answer.read()
    assert (answer.status, answer.headers["Content-Type"], steady(told)) == (200, content_type, steady(ours))


@pytest.mark.parametrize(
    ("path", "body", "counted"),
    [
        ("/api/generate", {"model": FAST, "prompt": "hello"}, (True, True)),
        ("/api/chat", {"model": FAST, "messages": HELLO}, (True, True)),
        ("/api/chat", {"model": FAST, "messages": HELLO, "stream": False}, (True, True)),
        ("/api/embed", {"model": EMBED, "input": "hello"}, (True, False)),
        ("/api/embeddings", {"model": EMBED, "prompt": "hello"}, (False, False)),
        ("/v1/embeddings", {"model": EMBED, "input": "hello"}, (True, False)),
        ("/v1/chat/completions", {"model": FAST, "messages": HELLO}, (True, True)),
        (
            "/v1/chat/completions",
            {"model": FAST, "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}},
            (True, True),
        ),
        ("/v1/completions", {"model": FAST, "prompt": "hello", "max_tokens": 5}, (True, True)),
        ("/v1/completions", {"model": FAST, "prompt": "hello", "max_tokens": 5, "stream": True}, (False, False)),
        ("/v1/responses", {"model": FAST, "input": "hello", "max_output_tokens": 5}, (True, True)),
        ("/v1/responses", {"model": FAST, "input": "hello", "max_output_tokens": 5, "stream": True}, (True, True)),
        ("/v1/messages", {"model": FAST, "messages": HELLO, "max_tokens": 5}, (True, True)),
        ("/v1/messages", {"model": FAST, "messages": HELLO, "max_tokens": 5, "stream": True}, (True, True)),
    ],
)
async def test_the_end_of_an_answer_is_understood(
    http: aiohttp.ClientSession, path: str, body: dict[str, Any], counted: tuple[bool, bool]
) -> None:
    """Our own serialisation gets an answer; it is whole, not whole without its last bytes, and its tokens are read."""
    demand = understand(route("POST", path), path, json.dumps(body).encode(), {}, RULES)
    context = 2_048 if path.startswith("/api/") else 0
    async with http.post(path, data=demand.body.at(context)) as answer:
        told = await answer.read()
    assert answer.status == 200
    assert ending(demand, told[-TAIL:]) == "whole"
    assert ending(demand, told[:-5][-TAIL:]) == "cut"
    prompt, output = tokens(demand, told[-TAIL:])
    assert ((prompt or 0) > 0, (output or 0) > 0) == counted


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {"model": EMBED}),
        ("/api/generate", {"model": EMBED, "prompt": "hi"}),
        ("/api/chat", {"model": EMBED, "messages": HELLO}),
        ("/v1/chat/completions", {"model": EMBED, "messages": HELLO, "stream": True}),
        ("/v1/completions", {"model": EMBED, "prompt": "hi"}),
        ("/v1/responses", {"model": EMBED, "input": "hi", "stream": True}),
        ("/v1/images/generations", {"model": EMBED, "prompt": "hi"}),
        ("/v1/messages", {"model": EMBED, "messages": HELLO, "max_tokens": 5}),
    ],
)
async def test_an_embedding_model_is_not_asked_to_speak(
    http: aiohttp.ClientSession, path: str, body: dict[str, Any]
) -> None:
    """What needs no load to be refused is refused as the real Ollama does it; an unload is no question."""
    demand = understand(route("POST", path), path, json.dumps(body).encode(), {}, RULES)
    told = unfit(demand, embedding=True)
    assert told is not None
    async with http.post(path, json=body) as answer:
        said = await answer.read()
    content_type, ours = error(demand.dialect, told.status, told.message, told.voice)
    assert (answer.status, answer.headers["Content-Type"]) == (told.status, content_type)
    assert steady(said) == steady(ours)
    assert unfit(demand, embedding=False) is None
    unload = json.dumps({"model": EMBED, "keep_alive": 0}).encode()
    assert unfit(understand(route("POST", "/api/chat"), "/api/chat", unload, {}, RULES), embedding=True) is None

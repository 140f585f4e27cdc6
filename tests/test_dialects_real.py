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

from scheduler.answers import TAIL, ending, error, tokens, wish
from scheduler.dialects import Rules, understand
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
    text = re.sub(r'"created_at":"[^"]*"|"created":\d+|"(id|request_id)":"[^"]*"', "…", body.decode())
    return re.sub(r'"input_tokens":\d+,"output_tokens":0}}}', "…", text)


async def test_every_bad_body_is_refused_in_these_words(http: aiohttp.ClientSession) -> None:
    """Status, message and shape of our errors are those of the real Ollama, body by body."""
    for bad in TABLE:
        body = bad["body"] if "body" in bad else '{"model":"x","a":' + "[" * bad["deep"] + "]" * bad["deep"] + "}"
        async with http.post(bad["path"], data=body.encode("latin-1")) as answer:
            told = await answer.read()
        ours = error(DEMANDS[bad["path"]], bad["status"], bad["message"])[1]
        assert (answer.status, steady(told).strip()) == (bad["status"], steady(ours).strip()), bad["name"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {"model": FAST}),
        ("/api/generate", {"model": FAST, "keep_alive": 0}),
        ("/api/generate", {"model": "small-chat", "keep_alive": "-0s", "stream": False}),
        ("/api/chat", {"model": FAST}),
        ("/api/chat", {"model": FAST, "messages": [], "keep_alive": "0"}),
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

"""Through us, a real Ollama's answers are what they are without us: status, headers in their case and order, framing,
bytes (but for times, ids and the length that goes with them), errors included."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.realollama.stage import FAST, STAGED_MODELS, RealOllama, StagedModel
from tests.wired import Answer, Connection, Wired, wired

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

EMBED = "tiny-embed:latest"
VOLATILE = re.compile(
    rb'("(?:created_at|id|created|modified_at|expires_at|request_id|\w+_duration)":\s?)(?:"[^"]*"|\d+)'
    rb"|(Date|Content-Length): [^\r]*"
)
SAME = {"temperature": 0, "seed": 1, "num_predict": 5}
QUESTION = [{"role": "user", "content": "héllo <b> & \u2028"}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(real_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealOllama]:
    """One Ollama for this file, with one model that talks and one that embeds."""
    models = [replace(model, load_seconds=0.2) for model in STAGED_MODELS if model.name == FAST]
    models.append(StagedModel(EMBED, 100_000_000, load_seconds=0.2, num_ctx=2_048, embedding=True))
    async with RealOllama.start(tmp_path_factory.mktemp("real"), models) as stage:
        yield stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(stage: RealOllama) -> AsyncIterator[Wired]:
    """Listener and forwarder before it, and a core that forwards everything."""
    async with wired(stage.url) as world:
        yield world


CASES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("HEAD", "/", None),
    ("GET", "/", None),
    ("GET", "/api/version", None),
    ("HEAD", "/api/tags", None),
    ("GET", "/api/tags", None),
    ("GET", "/v1/models", None),
    ("GET", f"/v1/models/{FAST}", None),
    ("GET", "/v1/models/nobody", None),
    ("GET", "/nowhere", None),
    ("GET", "/api/generate", None),
    ("POST", "/api/show", {"model": "", "name": FAST}),
    ("POST", "/api/show", {"model": "nobody"}),
    ("POST", "/api/chat", {"model": "nobody", "messages": QUESTION}),
    ("POST", "/v1/chat/completions", {"model": "nobody", "messages": QUESTION}),
    ("POST", "/v1/messages", {"model": "nobody", "messages": QUESTION, "max_tokens": 5}),
    ("POST", "/api/generate", {"model": FAST, "prompt": "hello", "options": SAME}),
    ("POST", "/api/generate", {"model": FAST, "prompt": "hello", "options": SAME, "stream": False}),
    ("POST", "/api/chat", {"model": FAST, "messages": QUESTION, "options": SAME}),
    ("POST", "/api/chat", {"model": FAST, "messages": QUESTION, "options": SAME, "stream": False}),
    (
        "POST",
        "/v1/chat/completions",
        {"model": FAST, "messages": QUESTION, "temperature": 0, "seed": 1, "max_tokens": 5},
    ),
    (
        "POST",
        "/v1/chat/completions",
        {"model": FAST, "messages": QUESTION, "temperature": 0, "seed": 1, "max_tokens": 5, "stream": True},
    ),
    ("POST", "/v1/messages", {"model": FAST, "messages": QUESTION, "temperature": 0, "max_tokens": 5}),
    ("POST", "/v1/messages", {"model": FAST, "messages": QUESTION, "temperature": 0, "max_tokens": 5, "stream": True}),
    ("POST", "/api/embed", {"model": EMBED, "input": "hello"}),
    ("POST", "/api/embeddings", {"model": EMBED, "prompt": "hello"}),
    ("POST", "/v1/embeddings", {"model": EMBED, "input": "hello"}),
    ("POST", "/api/embed", {"model": FAST, "input": "hello"}),
    ("POST", "/api/chat", {"model": EMBED, "messages": QUESTION}),
]


@pytest.mark.parametrize(("method", "path", "body"), CASES, ids=[f"{m} {p} {i}" for i, (m, p, _) in enumerate(CASES)])
async def test_an_answer_is_ollamas_own(
    stage: RealOllama, world: Wired, method: str, path: str, body: dict[str, Any] | None
) -> None:
    """Asked directly and asked through us, the same comes back."""
    data = json.dumps(body).encode() if body else b""
    direct = await _asked(await _connect(stage.url), method, path, data)
    ours = await _asked(await world.connect(), method, path, data)
    assert _lasting(ours.head) == _lasting(direct.head)
    assert _in_order(path, _lasting(ours.body)) == _in_order(path, _lasting(direct.body))
    assert ours.whole


async def _connect(url: str) -> Connection:
    host, _, port = url.removeprefix("http://").partition(":")
    return Connection(*await asyncio.open_connection(host, int(port)))


async def _asked(connection: Connection, method: str, path: str, data: bytes) -> Answer:
    try:
        return await connection.ask(path, data, method).answer(bodiless=method == "HEAD")
    finally:
        connection.writer.close()


def _in_order(path: str, body: bytes) -> list[bytes]:
    """A listing's rows in one order: Ollama gives those of the same age now in this, now in that one."""
    return sorted(re.split(rb"[\[\]{}]+", body)) if path in ("/api/tags", "/v1/models") else [body]


def _lasting(data: bytes) -> bytes:
    """Without what differs from one answer to the next; the Date that we leave where it was counts as the same."""
    return VOLATILE.sub(rb"\1\2*", data)

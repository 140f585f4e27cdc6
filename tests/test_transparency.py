"""Nobody can tell us from Ollama by its answers: every shape of tests/transparency/shapes, asked of both side by side.

What differs by design is a row of docs/differences.md, and is shown to differ here or where the row says. To see what
differs now: `python -m tests.transparency [WORD …]`.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from scheduler.answers import TAIL, ending, tokens
from scheduler.dialects import Rules, understand
from scheduler.paths import route
from scheduler.routes import Aliases
from tests.realollama.stage import RealOllama, until
from tests.transparency.shape import NOT_YET, Shape, bad_bodies, shapes
from tests.transparency.wire import Answer, Heard, ask
from tests.transparency.worlds import CONTEXT, Worlds, two_worlds

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

SHAPES = shapes()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worlds(real_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worlds]:
    """Two worlds for this file: a bare Ollama, and one behind our daemon."""
    async with two_worlds(tmp_path_factory.mktemp("worlds")) as worlds:
        yield worlds


@pytest.mark.parametrize("shape", SHAPES, ids=[f"{shape.file}: {shape.name}" for shape in SHAPES])
async def test_an_answer_is_ollamas_own(worlds: Worlds, shape: Shape) -> None:
    """Status, headers, framing, body and connection are Ollama's, or differ in exactly what the shape says."""
    found = await worlds.differences(shape)
    told = "\n".join([*map(str, found), *([worlds.lately()] if found else [])])
    if shape.name in NOT_YET:
        assert found, f"equal now: take it off NOT_YET ({NOT_YET[shape.name]})"
    elif shape.differs:
        assert {difference.part for difference in found} == shape.parts, f"{shape.differs}: {told or 'equal'}"
    else:
        assert not found, told


async def test_every_bad_body_is_refused_in_ollamas_bytes(worlds: Worlds) -> None:
    """What the recorded table says of bad bodies (tests/test_dialects.py holds us to it) is what both sides say."""
    found = {shape.name: list(map(str, await worlds.differences(shape))) for shape in bad_bodies()}
    assert not {name: told for name, told in found.items() if told}


# --- what differs in effect, not in the answer -------------------------------------------------------------------


def _post(path: str, **body: Any) -> Shape:
    return Shape(path, ask=f"POST {path}", body=json.dumps(body))


async def _ok(worlds: Worlds, shape: Shape) -> tuple[Heard, Heard]:
    """Ask both; both say 200."""
    sides = await worlds.asked(shape)
    assert [[answer.code for answer in side.answers] for side in sides] == [[200], [200]]
    return sides


async def test_keep_alive_sets_nothing(worlds: Worlds) -> None:
    """A keep_alive with a question unloads the model of a bare Ollama; behind us it stays."""
    await _ok(worlds, _post("/api/generate", model="away", keep_alive=-1))
    question = {"prompt": "hello", "stream": False, "options": {"num_predict": 1}}
    await _ok(worlds, _post("/api/generate", model="away", keep_alive="1ms", **question))
    await until(lambda: not _has_runner(worlds.theirs, "away"), what="a bare Ollama unloads it")
    assert "away:latest" in await worlds.behind.ps()


async def test_runner_options_reload_nothing(worlds: Worlds) -> None:
    """Another context makes a bare Ollama load the model anew; behind us it is answered with the context it has."""
    await _ok(worlds, _post("/api/generate", model="away", keep_alive=-1))
    loads = [len(stage.loads("away:latest")) for stage in (worlds.theirs, worlds.behind)]
    options = {"num_ctx": 2_048, "num_batch": 64, "num_gpu": 1, "num_predict": 1}
    await _ok(worlds, _post("/api/generate", model="away", prompt="hello", stream=False, options=options))
    after = [len(stage.loads("away:latest")) for stage in (worlds.theirs, worlds.behind)]
    assert after == [loads[0] + 1, loads[1]]


async def test_a_deleted_model_leaves_memory(worlds: Worlds) -> None:
    """A bare Ollama keeps the runner of a model that was deleted; behind us it is unloaded first."""
    await _ok(worlds, _post("/api/generate", model="doomed", keep_alive=-1))
    await _ok(worlds, Shape("delete", ask="DELETE /api/delete", body='{"model":"doomed"}'))
    assert "doomed:latest" in await worlds.theirs.ps()
    assert "doomed:latest" not in await worlds.behind.ps()


def _has_runner(stage: RealOllama, model: str) -> bool:
    try:
        stage.runner_url(f"{model}:latest")
    except LookupError:
        return False
    return True


# --- what Ollama's own tests cannot see of a proxy ---------------------------------------------------------------

WORDS = 12
SLOW = {"temperature": 0, "num_predict": WORDS}
QUESTION = [{"role": "user", "content": "hello"}]
STREAMS = {
    "/api/generate": ({"prompt": "hello", "options": SLOW}, "application/x-ndjson", '"done":true'),
    "/api/chat": ({"messages": QUESTION, "options": SLOW}, "application/x-ndjson", '"done":true'),
    "/v1/chat/completions": (
        {"messages": QUESTION, "stream": True, "max_tokens": WORDS},
        "text/event-stream",
        "data: [DONE]",
    ),
    "/v1/completions": ({"prompt": "hello", "stream": True, "max_tokens": WORDS}, "text/event-stream", "data: [DONE]"),
    "/v1/responses": (
        {"input": "hello", "stream": True, "max_output_tokens": WORDS},
        "text/event-stream",
        "event: response.completed",
    ),
    "/v1/messages": (
        {"messages": QUESTION, "stream": True, "max_tokens": WORDS},
        "text/event-stream",
        "event: message_stop",
    ),
}


async def _ours(worlds: Worlds, shape: Shape) -> Answer:
    heard = await ask(worlds.live.daemon.port, shape.sent(), 1, bodiless=False)
    assert [answer.code for answer in heard.answers] == [200]
    return heard.answers[0]


@pytest.mark.parametrize("path", STREAMS)
async def test_a_word_is_passed_on_when_it_is_said(worlds: Worlds, path: str) -> None:
    """Of an answer of slow words the first comes long before the last, under its type, and its end mark comes."""
    body, content_type, end = STREAMS[path]
    answer = await _ours(worlds, _post(path, model="slow", **body))
    assert answer.header("Content-Type") == content_type
    assert end in answer.body.decode().strip().splitlines()[-1 if end.startswith(("data", '"')) else -2]
    assert len(answer.chunks) >= WORDS
    spread = answer.arrivals[-1] - answer.arrivals[0]
    assert spread > 0.5 * (WORDS - 1) / 40, f"all within {spread:.3f} s"
    gaps = [after - before for before, after in itertools.pairwise(answer.arrivals)]
    assert max(gaps) < 0.5 * spread, "held back and let go at once"


async def test_posts_run_side_by_side(worlds: Worlds) -> None:
    """Two questions to one model with two slots, and one to another, are in their runners at the same time."""
    slow = _post("/api/generate", model="slow", prompt="hello", options=SLOW)
    await _ours(worlds, _post("/api/generate", model="slow"))
    before = len(worlds.behind.served("slow:latest"))
    await asyncio.gather(*(_ours(worlds, shape) for shape in (slow, slow)))
    one, two = worlds.behind.served("slow:latest")[before:]
    assert one.ended_at is not None
    assert two.at < one.ended_at


async def test_the_order_of_headers_is_kept(worlds: Worlds) -> None:
    """Headers of an answer that Ollama gave come in its order and case."""
    theirs, ours = await _ok(worlds, Shape("version", ask="GET /api/version"))
    names = [[line.partition(":")[0] for line in side.answers[0].headers] for side in (theirs, ours)]
    assert names[0] == names[1]


# --- what we read of an answer -----------------------------------------------------------------------------------

RULES = Rules(Aliases(), frozenset(), b"0" * 16)
USAGE = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    ("path", "body", "counted"),
    [
        ("/api/generate", {"prompt": "hello"}, (True, True)),
        ("/api/chat", {"messages": QUESTION}, (True, True)),
        ("/api/chat", {"messages": QUESTION, "stream": False}, (True, True)),
        ("/api/embed", {"input": "hello"}, (True, False)),
        ("/api/embeddings", {"prompt": "hello"}, (False, False)),
        ("/v1/embeddings", {"input": "hello"}, (True, False)),
        ("/v1/chat/completions", {"messages": QUESTION}, (True, True)),
        ("/v1/chat/completions", {"messages": QUESTION, **USAGE}, (True, True)),
        ("/v1/completions", {"prompt": "hello"}, (True, True)),
        ("/v1/completions", {"prompt": "hello", "stream": True}, (False, False)),
        ("/v1/responses", {"input": "hello"}, (True, True)),
        ("/v1/responses", {"input": "hello", "stream": True}, (True, True)),
        ("/v1/messages", {"messages": QUESTION, "max_tokens": 5}, (True, True)),
        ("/v1/messages", {"messages": QUESTION, "max_tokens": 5, "stream": True}, (True, True)),
    ],
)
async def test_the_end_of_an_answer_is_understood(
    worlds: Worlds, path: str, body: dict[str, Any], counted: tuple[bool, bool]
) -> None:
    """Our own serialisation gets an answer; it is whole, not whole without its last bytes, and its tokens are read."""
    asked = {"model": "embeds" if "embed" in path else "talks", **body}
    demand = understand(route("POST", path), path, json.dumps(asked).encode(), {}, RULES)
    context = CONTEXT if path.startswith("/api/") else 0
    shape = Shape(path, ask=f"POST {path}", body=demand.body.at(context).decode())
    told = (await ask(worlds.theirs.port, shape.sent(), 1, bodiless=False)).answers[0].body
    assert ending(demand, told[-TAIL:]) == "whole"
    assert ending(demand, told[:-5][-TAIL:]) == "cut"
    prompt, output = tokens(demand, told[-TAIL:])
    assert ((prompt or 0) > 0, (output or 0) > 0) == counted

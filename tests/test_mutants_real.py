"""Bodies changed at random: what a real Ollama refuses before it needs a model, we refuse in the same bytes.

All name a model that is not there, so that Ollama answers 404 to whatever it takes.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from scheduler.answers import error
from scheduler.dialects import Rules, understand
from scheduler.errors import Failure
from scheduler.paths import DEMANDS, route
from scheduler.routes import Aliases
from tests.realollama.stage import RealOllama

RULES = Rules(Aliases(), frozenset(), b"0" * 16)
LATER = (
    "failed to parse function call arguments: ",
    "failed to unmarshal tool parameters: ",
    "invalid input_schema for",
)
"""What Ollama alone checks: such a body costs a load before it is refused, if its model is there."""

PICTURE = "data:image/png;base64,AAAA"
CALL = {"id": "i", "index": 0, "type": "function", "function": {"name": "f", "arguments": "{}"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": ["string"], "properties": {}}}, "required": ["a"]}
WHOLE: dict[str, dict[str, Any]] = {
    "/api/generate": {"prompt": "p", "suffix": "s", "images": ["AAAA"], "context": [1], "think": True, "options": {}}
    | {"keep_alive": 5, "width": 5, "raw": False, "format": "json"},
    "/api/chat": {
        "messages": [{"role": "user", "content": "x", "images": ["AAAA"], "tool_calls": [{"function": {"name": "f"}}]}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
        "options": {"stop": ["x"]},
        "keep_alive": "5m",
    },
    "/api/embed": {"input": ["a"], "dimensions": 3, "truncate": True},
    "/v1/completions": {"prompt": "p", "stop": ["a"], "max_tokens": 3, "temperature": 0.5, "logprobs": 3}
    | {"stream_options": {"include_usage": True}, "suffix": "s"},
    "/v1/embeddings": {"input": ["a"], "dimensions": 3, "encoding_format": "float"},
    "/v1/images/generations": {"prompt": "p", "n": 1, "size": "1x1", "seed": 3},
    "/v1/images/edits": {"prompt": "p", "image": PICTURE, "size": "x", "seed": 1},
    "/v1/chat/completions": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": PICTURE}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
        "reasoning": {"effort": "low"},
        "top_logprobs": 2,
    },
    "/v1/responses": {
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image"}]},
            {"type": "reasoning", "summary": [{"type": "t", "text": "x"}], "encrypted_content": "e"},
            {"type": "function_call", "call_id": "c", "name": "n", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "output_text", "text": "x"}]},
        ],
        "text": {"format": {"type": "json_schema", "schema": {}}},
        "reasoning": {"effort": "low"},
        "include": ["a"],
    },
    "/v1/messages": {
        "max_tokens": 5,
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "AAAA"}}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "i", "name": "n", "input": {}}]},
        ],
        "system": [{"type": "text", "text": "s"}],
        "thinking": {"type": "enabled", "budget_tokens": 5},
        "stop_sequences": ["x"],
    },
}
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "x",
    "high",
    [],
    {},
    ["x"],
    [5],
    [None],
    1e40,
    2**40,
    {"type": "text"},
    PICTURE,
)


def steady(body: bytes) -> bytes:
    """A body without the id that is made by chance."""
    return re.sub(rb'"request_id":"[^"]*"', b"", body)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a value with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from places(item)


def mutant(chance: random.Random, path: str) -> dict[str, Any]:
    """A whole body of this path with one to three values changed, left out or said again in another case."""
    body: dict[str, Any] = json.loads(json.dumps({"model": "nobody", **WHOLE[path]}))
    for _ in range(chance.choice((1, 1, 2, 3))):
        container, key = chance.choice(list(places(body)))
        what = chance.random()
        if what < 0.15 and isinstance(container, dict):
            del container[key]
        else:
            again = what < 0.2 and isinstance(container, dict) and not isinstance(container[key], list)
            container[key.upper() if again else key] = json.loads(json.dumps(chance.choice(VALUES)))
    return body


@pytest.mark.real
async def test_ollama_and_we_refuse_the_same_in_the_same_bytes(real_binary: Path, tmp_path: Path) -> None:
    """1,200 bodies: status, content type and bytes are equal; what Ollama takes we take."""
    chance = random.Random(20261124)
    seen: Counter[str] = Counter()
    async with RealOllama.start(tmp_path, []) as stage, aiohttp.ClientSession(stage.url) as http:
        for _ in range(1_200):
            path = chance.choice(list(WHOLE))
            raw = json.dumps(mutant(chance, path)).encode()
            async with http.post(path, data=raw) as answer:
                told, kind = await answer.read(), answer.headers["Content-Type"]
            try:
                understand(route("POST", path), path, raw, {}, RULES)
                ours = None
            except Failure as failure:
                ours = failure
            if ours is None:
                taken = answer.status == 404 or any(words.encode() in told for words in LATER)
                assert taken, (path, raw, told)
                seen["taken"] += 1
                continue
            ours_kind, said = error(DEMANDS[path], ours.status, ours.message, ours.voice)
            assert (answer.status, kind, steady(told)) == (ours.status, ours_kind, steady(said)), (path, raw)
            seen["refused"] += 1
    assert min(seen["taken"], seen["refused"]) > 150, seen

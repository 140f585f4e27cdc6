"""What the stand-in Ollama does, seen from outside: each behaviour that the daemon's own tests and the demo lean on."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import ollama
import pytest
import pytest_asyncio

from scheduler.standin.process import NotReady, StandIn
from scheduler.standin.stage import BadStage, Stage, StagedModel

QUALITY, CODER, FAST = "qwen-quality-128k:latest", "qwen2.5-coder:32b-instruct", "qwen-fast:latest"
GB = 10**9
HELLO = [{"role": "user", "content": "Hello there"}]


def quick(**more: Any) -> Stage:
    """The documented machine, twenty times as fast, with a small embedding model and a remote one."""
    stage = Stage.documented(tiny=True).faster(20)
    remote = StagedModel("gpt-oss:120b-cloud", size=384, remote=True)
    alias = StagedModel("fast-alias", size=5 * GB, blob=FAST, load_seconds=0.05, num_ctx=32768)
    return replace(stage, models=(*stage.models, remote, alias), **more)


class Client:
    """A few short ways to ask a stand-in."""

    def __init__(self, standin: StandIn, session: aiohttp.ClientSession) -> None:
        self.standin = standin
        self.session = session

    async def ask(
        self, path: str, body: object = None, method: str = "POST", **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers, body."""
        url = self.standin.url + path
        raw = body if isinstance(body, bytes) else None
        value = None if raw is not None else body
        async with self.session.request(method, url, json=value, data=raw, headers=headers) as answer:
            return answer.status, answer.headers, await answer.read()

    async def json(self, path: str, body: object = None, method: str = "POST") -> dict[str, Any]:
        """A body that must come with 200."""
        status, _, raw = await self.ask(path, body, method)
        assert status == 200, raw
        told: dict[str, Any] = json.loads(raw)
        return told

    async def load(self, model: str, **more: object) -> dict[str, Any]:
        """Preload by an empty prompt."""
        return await self.json("/api/generate", {"model": model, "stream": False, **more})

    async def resident(self) -> dict[str, dict[str, Any]]:
        """What /api/ps shows, by name."""
        told = await self.json("/api/ps", method="GET")
        return {model["name"]: model for model in told["models"]}

    async def counts(self) -> dict[str, int]:
        """How often each kind of event happened."""
        return dict((await self.standin.events())["counts"])

    async def happened(self, kind: str) -> list[str]:
        """The models to which it happened, in order."""
        events = (await self.standin.events())["events"]
        return [event["model"] for event in events if event["kind"] == kind]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def standin() -> AsyncIterator[StandIn]:
    """One process for all tests of this file."""
    async with StandIn.start(quick()) as standin:
        yield standin


@pytest_asyncio.fixture(loop_scope="module")
async def client(standin: StandIn) -> AsyncIterator[Client]:
    """A client of a stand-in as good as fresh."""
    await standin.reset()
    async with aiohttp.ClientSession() as session:
        yield Client(standin, session)


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 5.0) -> None:
    """Look every 10 ms until it holds; fails after `seconds`."""
    deadline = monotonic() + seconds
    while not await true():
        assert monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)


async def given_up(client: Client, path: str, body: object, seconds: float = 0.3) -> None:
    """Ask, and hang up without an answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await client.ask(path, body)
            pytest.fail("it was answered")


async def test_reads_look_like_ollamas(client: Client) -> None:
    """The root, version, tags and the marker are there, and nothing of it loads a model."""
    status, headers, body = await client.ask("/", method="GET")
    assert (status, body) == (200, b"Ollama is running")
    assert headers["X-Scheduler-Stand-In"] == "1"
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "Server" not in headers
    status, headers, body = await client.ask("/", method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, "17", b"")
    assert (await client.ask("/api/version", method="GET"))[2] == b'{"version":"0.32.0"}'
    tags = await client.json("/api/tags", method="GET")
    assert {model["name"]: model["size"] for model in tags["models"]}[QUALITY] == 35 * GB
    assert (await client.ask("/api/ps", method="GET"))[2] == b'{"models":[]}'
    listed = await client.json("/v1/models", method="GET")
    assert listed["data"][0] == {"id": QUALITY, "object": "model", "created": 1764000000, "owned_by": "library"}
    assert (await client.json("/v1/models/QWEN-fast", method="GET"))["id"] == "QWEN-fast"
    assert "load" not in await client.counts()


async def test_show_holds_what_the_daemon_reads(client: Client) -> None:
    """Context, weights and blob can be read from /api/show, by `model` or the old `name`, whatever the case."""
    told = await client.json("/api/show", {"model": "", "name": "Qwen-Quality-128K"})
    assert told["parameters"].splitlines()[0].split() == ["num_ctx", "131072"]
    assert "FROM /standin/models/blobs/sha256-" in told["modelfile"]
    assert told["model_info"]["llama.context_length"] == 131072
    assert told["capabilities"] == ["completion", "tools"]
    blobs = [(await client.json("/api/show", {"model": name}))["modelfile"] for name in (FAST, "fast-alias")]
    assert len({line for text in blobs for line in text.splitlines() if line.startswith("FROM ")}) == 1


async def test_the_official_client_reads_it(client: Client) -> None:
    """The `ollama` package parses every read and an answer, so the daemon's own client will."""
    async with ollama.AsyncClient(host=client.standin.url) as official:
        await official.generate(FAST, "", keep_alive=-1)
        [runner] = (await official.ps()).models
        assert (runner.name, runner.size, runner.context_length) == (FAST, 5 * GB, 32768)
        assert runner.expires_at is not None
        assert runner.expires_at.year == 2318
        assert len((await official.list()).models) == 6
        assert (await official.show(FAST)).parameters is not None
        said = [part async for part in await official.chat(FAST, HELLO, stream=True)]
        assert said[-1].done_reason == "stop"
        assert said[-1].eval_count == len(said) == 25  # the token that ends it counts


async def test_native_stream_is_ndjson_with_counts(client: Client) -> None:
    """A stream ends with `done`, the reason, the counts and durations, in Ollama's field order."""
    body = {"model": "qwen-fast", "prompt": "one two three four", "options": {"num_predict": 3}}
    status, headers, raw = await client.ask("/api/generate", body)
    lines = [json.loads(line) for line in raw.splitlines()]
    assert (status, headers["Content-Type"]) == (200, "application/x-ndjson")
    assert [line["response"] for line in lines] == ["This", " answer", " comes", ""]
    assert list(lines[0]) == ["model", "created_at", "response", "done"]
    last = lines[-1]
    assert list(last)[:6] == ["model", "created_at", "response", "done", "done_reason", "context"]
    assert (last["done"], last["done_reason"], last["eval_count"], last["prompt_eval_count"]) == (True, "length", 3, 5)
    assert last["load_duration"] >= 0.04e9


async def test_whole_answers_in_each_dialect(client: Client) -> None:
    """Without streaming each dialect gives one JSON body with its own content type."""
    status, headers, raw = await client.ask("/api/chat", {"model": FAST, "messages": HELLO, "stream": False})
    told = json.loads(raw)
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert told["message"]["content"].startswith("This answer comes from a stand-in")
    status, headers, raw = await client.ask("/v1/chat/completions", {"model": FAST, "messages": HELLO, "max_tokens": 2})
    told = json.loads(raw)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert told["choices"][0]["finish_reason"] == "length"
    assert told["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    told = await client.json("/v1/messages", {"model": FAST, "messages": HELLO, "max_tokens": 200})
    assert (told["type"], told["stop_reason"], told["usage"]["output_tokens"]) == ("message", "end_turn", 25)


async def test_sse_dialects_end_as_they_must(client: Client) -> None:
    """OpenAI ends with the usage asked for and [DONE], Anthropic with message_stop."""
    openai = {"model": FAST, "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    _, headers, raw = await client.ask("/v1/chat/completions", openai)
    events = raw.decode().strip().split("\n\n")
    assert headers["Content-Type"] == "text/event-stream"
    assert events[-1] == "data: [DONE]"
    assert json.loads(events[-2].removeprefix("data: "))["usage"]["completion_tokens"] == 25
    body = {"model": FAST, "messages": HELLO, "stream": True, "max_tokens": 2}
    _, headers, raw = await client.ask("/v1/messages", body)
    kinds = [line.removeprefix("event: ") for line in raw.decode().splitlines() if line.startswith("event: ")]
    assert headers["Cache-Control"] == "no-cache"
    begin, end = ["message_start", "content_block_start"], ["content_block_stop", "message_delta", "message_stop"]
    assert kinds == [*begin, "content_block_delta", "content_block_delta", *end]


async def test_embeddings(client: Client) -> None:
    """An embedding model gives unit vectors on all three routes; another model gives Ollama's 501."""
    told = await client.json("/api/embed", {"model": "all-minilm", "input": ["a", "b"]})
    assert [len(vector) for vector in told["embeddings"]] == [64, 64]
    assert sum(value**2 for value in told["embeddings"][0]) == pytest.approx(1.0, abs=1e-5)
    one = await client.json("/api/embeddings", {"model": "all-minilm", "prompt": "a"})
    assert one["embedding"] == told["embeddings"][0]
    v1 = await client.json("/v1/embeddings", {"model": "all-minilm", "input": "a", "encoding_format": "base64"})
    assert isinstance(v1["data"][0]["embedding"], str)
    assert await client.json("/api/embed", {"model": "all-minilm"}) == {"model": "all-minilm", "embeddings": []}
    assert (await client.ask("/api/embed", {"model": FAST, "input": "a"}))[0] == 501
    status, _, raw = await client.ask("/api/generate", {"model": "all-minilm", "prompt": "a"})
    assert (status, json.loads(raw)["error"]) == (400, '"all-minilm" does not support generate')


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/api/generate", {"model": "x", "prompt": "a"}, 404, {"error": "model 'x' not found"}),
        ("/api/generate", {"prompt": "a"}, 404, {"error": "model '' not found"}),
        ("/api/chat", {"messages": HELLO}, 400, {"error": "model is required"}),
        ("/api/show", {"model": "x"}, 404, {"error": "model 'x:latest' not found"}),
        ("/api/embed", {"model": "x"}, 404, {"error": 'model "x" not found, try pulling it first'}),
        ("/api/generate", b"", 400, {"error": "missing request body"}),
        ("/api/generate", {"model": FAST, "keep_alive": "10"}, 400, {"error": 'time: missing unit in duration "10"'}),
        ("/api/signout", {}, 501, {"error": "the stand-in Ollama does not serve POST /api/signout"}),
        ("/v1/images/edits", {}, 501, {"error": "the stand-in Ollama does not serve POST /v1/images/edits"}),
    ],
)
async def test_native_errors(client: Client, path: str, body: object, status: int, error: object) -> None:
    """Status and text are Ollama's own; what is not served says so."""
    got, _, raw = await client.ask(path, body)
    assert (got, json.loads(raw)) == (status, error)


async def test_v1_errors_wear_their_dialect(client: Client) -> None:
    """OpenAI and Anthropic routes wrap the same errors in their own shapes."""
    status, _, raw = await client.ask("/v1/chat/completions", {"model": "x", "messages": HELLO, "stream": True})
    wanted = {"message": "model 'x' not found", "type": "not_found_error", "param": None, "code": None}
    assert (status, json.loads(raw)) == (404, {"error": wanted})
    status, _, raw = await client.ask("/v1/messages", {"model": FAST, "messages": HELLO})
    told = json.loads(raw)
    assert (status, told["error"]["type"], told["type"]) == (400, "invalid_request_error", "error")
    assert told["error"]["message"] == "max_tokens is required and must be positive"


async def test_go_key_rules(client: Client) -> None:
    """Keys fold case and the last one wins, as the daemon must expect."""
    raw = b'{"model":"qwen-fast:latest","MODEL":"qwen2.5-coder:32b-instruct","KEEP_ALIVE":-1}'
    await client.ask("/api/generate", raw)
    assert list(await client.resident()) == [CODER]


async def test_host_and_origin_are_guarded(client: Client) -> None:
    """Foreign pages and hosts get 403 on any route, local pages pass and get their headers."""
    assert (await client.ask("/", method="GET", Host="evil.example"))[0] == 403
    assert (await client.ask("/api/ps", method="GET", Origin="http://evil.example"))[0] == 403
    assert (await client.ask("/", method="GET", Origin="null"))[0] == 403
    status, headers, _ = await client.ask("/", method="GET", Origin="http://localhost:3000")
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, "http://localhost:3000")
    status, headers, _ = await client.ask("/api/chat", method="OPTIONS", Origin="http://localhost:3000")
    assert status == 204
    assert "POST" in headers["Access-Control-Allow-Methods"]
    assert headers["X-Scheduler-Stand-In"] == "1"


async def test_preload_and_unload(client: Client) -> None:
    """A preload answers once the model is there, an unload answers at once and the model goes after its time."""
    told = await client.load(FAST, keep_alive=-1)
    assert (told["done_reason"], told["response"]) == ("load", "")
    assert (await client.resident())[FAST]["expires_at"].startswith("2318-")
    told = await client.json("/api/chat", {"model": FAST, "messages": [], "keep_alive": "0s"})
    assert (told["done_reason"], told["message"]) == ("unload", {"role": "assistant", "content": ""})

    async def gone() -> bool:
        return not await client.resident()

    await until(gone)
    assert (await client.counts())["unloaded"] == 1


async def test_unload_waits_for_the_answer_under_way(client: Client) -> None:
    """keep_alive 0 never cuts an answer: the runner goes when it is idle."""
    await client.standin.fault("slow_first_token", FAST, seconds=0.2)
    await client.load(FAST)
    asked = asyncio.ensure_future(client.json("/api/generate", {"model": FAST, "prompt": "a", "stream": False}))
    await until(lambda: _busy(client))
    assert (await client.load(FAST, keep_alive=0))["done_reason"] == "unload"
    assert FAST in await client.resident()
    assert (await asked)["done_reason"] == "stop"
    await until(lambda: _away(client, FAST))


async def test_keep_alive_ends(client: Client) -> None:
    """A model leaves by itself once its keep_alive is over, and stays while a later request says nothing."""
    await client.load(FAST, keep_alive="50ms")
    await until(lambda: _away(client, FAST))
    await client.load(FAST, keep_alive=-1)
    await client.load(FAST)
    assert (await client.resident())[FAST]["expires_at"].startswith("2318-")


async def test_eviction_by_memory(client: Client) -> None:
    """The 80 % gate: 40.0 GB would fit into 40.2, and Ollama evicts all the same, in both orders."""
    await client.load(FAST, keep_alive=-1)
    await client.load(QUALITY, keep_alive=-1)
    assert list(await client.resident()) == [QUALITY]
    await client.load(FAST, keep_alive=-1)
    assert list(await client.resident()) == [FAST]
    await client.load(CODER)
    assert sorted(await client.resident()) == [FAST, CODER]
    assert await client.happened("evict") == [FAST, QUALITY]
    assert "overcommit" not in await client.counts()


async def test_eviction_by_number() -> None:
    """One model too many evicts the idle one that would stay shortest, not the oldest."""
    async with StandIn.start(quick(max_loaded_models=2)) as standin, aiohttp.ClientSession() as session:
        client = Client(standin, session)
        await client.load(CODER, keep_alive=-1)
        await client.load(FAST, keep_alive="10m")
        await client.ask("/api/embed", {"model": "all-minilm", "input": "a"})
        assert await client.happened("evict") == [FAST]
        assert sorted(await client.resident()) == ["all-minilm:latest", CODER]


async def test_a_busy_model_is_waited_for(client: Client) -> None:
    """Eviction waits for the answer under way; the next load begins only when the victim is gone."""
    await client.standin.fault("slow_first_token", FAST, seconds=0.2)
    await client.load(FAST)
    asked = asyncio.ensure_future(client.json("/api/generate", {"model": FAST, "prompt": "a", "stream": False}))
    await until(lambda: _busy(client))
    await client.load(QUALITY)
    assert asked.done()
    assert (await asked)["done_reason"] == "stop"
    kinds = [event["kind"] for event in (await client.standin.events())["events"] if event["kind"] != "request"]
    assert kinds[:5] == ["load", "loaded", "serving", "evict", "served"]
    assert kinds[5:] == ["unload", "unloaded", "load", "loaded"]


async def test_loads_come_one_at_a_time(client: Client) -> None:
    """Two cold models asked together load one after the other, in order of arrival."""
    first = asyncio.ensure_future(client.load(CODER))
    await until(lambda: _seen(client, "load"))
    await asyncio.gather(first, client.load(FAST))
    events = (await client.standin.events())["events"]
    order = [(e["kind"], e["model"]) for e in events if e["kind"] in ("load", "loaded")]
    assert order == [("load", CODER), ("loaded", CODER), ("load", FAST), ("loaded", FAST)]


async def test_a_model_too_large_is_seen(client: Client) -> None:
    """Alone, Ollama always tries: a load that does not fit is recorded and lies partly outside the device."""
    stage = quick(device=30 * GB)
    async with StandIn.start(stage) as standin:
        small = Client(standin, client.session)
        await small.load(QUALITY)
        runner = (await small.resident())[QUALITY]
        assert (runner["size"], runner["size_vram"]) == (35 * GB, 30 * GB)
        assert await small.happened("overcommit") == [QUALITY]


async def test_another_context_reloads(client: Client) -> None:
    """A native num_ctx other than the runner's reloads it, and /v1, which cannot say one, reloads it back."""
    await client.load(FAST, options={"num_ctx": 4096})
    assert (await client.resident())[FAST]["context_length"] == 4096
    await client.json("/v1/chat/completions", {"model": FAST, "messages": HELLO, "max_tokens": 1})
    assert (await client.resident())[FAST]["context_length"] == 32768
    await client.load(FAST, options={"num_ctx": 32768, "temperature": 0})
    assert await client.happened("reload") == [FAST]


async def test_aliases_share_a_runner(client: Client) -> None:
    """Two names on one blob have one runner, shown under the name that loaded it."""
    await client.load("FAST-alias")
    await client.load(FAST)
    assert list(await client.resident()) == ["fast-alias"]
    assert (await client.counts())["load"] == 1


async def test_a_client_that_leaves_aborts_its_load(client: Client) -> None:
    """Hanging up kills the load, and the next request in line gets its turn."""
    await client.standin.fault("load_never_ends", QUALITY)
    asked = asyncio.ensure_future(given_up(client, "/api/generate", {"model": QUALITY}))
    await until(lambda: _seen(client, "load"))
    assert (await client.load(FAST))["done_reason"] == "load"
    await asked
    assert await client.happened("load_aborted") == [QUALITY]
    assert list(await client.resident()) == [FAST]


async def test_slots(client: Client) -> None:
    """One slot a model by default: a second request waits inside, which is counted; with two slots none does."""
    await client.load(FAST)
    body = {"model": FAST, "prompt": "a", "stream": False}
    await asyncio.gather(client.json("/api/generate", body), client.json("/api/generate", body))
    assert (await client.counts())["queued"] == 1
    async with StandIn.start(quick(num_parallel=2)) as standin:
        wide = Client(standin, client.session)
        await wide.load(FAST)
        await asyncio.gather(wide.json("/api/generate", body), wide.json("/api/generate", body))
        assert "queued" not in await wide.counts()


async def test_a_full_line_is_refused() -> None:
    """Over OLLAMA_MAX_QUEUE Ollama says that it is busy."""
    async with StandIn.start(quick(max_queue=1)) as standin, aiohttp.ClientSession() as session:
        client = Client(standin, session)
        await standin.fault("load_never_ends", QUALITY)
        asked = [asyncio.ensure_future(given_up(client, "/api/generate", {"model": QUALITY}, 1.0))]
        await until(lambda: _seen(client, "load"))
        asked.append(asyncio.ensure_future(given_up(client, "/api/generate", {"model": QUALITY}, 1.0)))

        async def refused() -> bool:
            status, _, raw = await client.ask("/api/generate", {"model": CODER, "prompt": "a"})
            return (status, json.loads(raw)["error"]) == (
                503,
                "server busy, please try again.  maximum pending requests exceeded",
            )

        await until(lambda: _requests(client, 2))
        assert await refused()
        await asyncio.gather(*asked)


async def test_remote_models_take_no_memory(client: Client) -> None:
    """A remote stub answers with its host's name and is never resident."""
    told = await client.json("/api/chat", {"model": "gpt-oss:120b-cloud", "messages": HELLO, "stream": False})
    assert (told["remote_model"], told["remote_host"]) == ("gpt-oss", "https://ollama.com:443")
    assert await client.resident() == {}


async def test_a_load_that_fails(client: Client) -> None:
    """A failed load is a 500 in the client's dialect, also for a stream; once spent, the next load works."""
    await client.standin.fault("load_error", FAST, times=2, message="out of memory")
    body = {"model": FAST, "messages": HELLO, "stream": True}
    status, headers, raw = await client.ask("/api/chat", body)
    assert (status, json.loads(raw)) == (500, {"error": "out of memory"})
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    status, _, raw = await client.ask("/v1/chat/completions", body)
    assert (status, json.loads(raw)["error"]["type"]) == (500, "api_error")
    assert (await client.load(FAST))["done_reason"] == "load"


async def test_a_crash_in_mid_stream(client: Client) -> None:
    """A dying runner ends the stream with Ollama's error line; /api/ps still shows it, the next request reloads it."""
    await client.standin.fault("crash_serving", FAST, after=2, times=1)
    status, _, raw = await client.ask("/api/generate", {"model": FAST, "prompt": "a"})
    lines = [json.loads(line) for line in raw.splitlines()]
    assert (status, len(lines), list(lines[-1])) == (200, 3, ["error"])
    assert FAST in await client.resident()
    assert (await client.json("/api/generate", {"model": FAST, "prompt": "a", "stream": False}))["done"] is True
    assert await client.happened("reload") == [FAST]


async def test_a_crash_before_the_first_byte(client: Client) -> None:
    """Before the first piece a crash is an honest 500; on SSE in mid-stream it is swallowed, without an end mark."""
    await client.standin.fault("crash_serving", FAST, after=0, times=1)
    status, _, raw = await client.ask("/api/generate", {"model": FAST, "prompt": "a"})
    assert status == 500
    assert json.loads(raw)["error"].startswith("model runner has unexpectedly stopped")
    await client.standin.fault("crash_serving", FAST, after=1)
    body = {"model": FAST, "messages": HELLO, "stream": True, "max_tokens": 9}
    assert b"[DONE]" not in (await client.ask("/v1/chat/completions", body))[2]
    assert b"message_stop" not in (await client.ask("/v1/messages", body))[2]


async def test_a_truncated_answer(client: Client) -> None:
    """The stream ends cleanly without its last line, in every dialect."""
    await client.standin.fault("truncate", FAST, after=2)
    _, _, raw = await client.ask("/api/generate", {"model": FAST, "prompt": "a"})
    assert [json.loads(line)["done"] for line in raw.splitlines()] == [False, False]
    body = {"model": FAST, "messages": HELLO, "stream": True, "max_tokens": 9}
    assert b"[DONE]" not in (await client.ask("/v1/chat/completions", body))[2]
    assert b"message_stop" not in (await client.ask("/v1/messages", body))[2]


async def test_a_silent_runner_is_healed_by_unloading(client: Client) -> None:
    """It accepts and never answers while /api/ps looks fine; a fresh load answers again."""
    await client.standin.fault("silent", FAST, times=1)
    await given_up(client, "/api/generate", {"model": FAST, "prompt": "a"})
    await given_up(client, "/api/generate", {"model": FAST, "prompt": "a"})
    assert FAST in await client.resident()
    await client.load(FAST, keep_alive=0)
    await until(lambda: _away(client, FAST))
    assert (await client.json("/api/generate", {"model": FAST, "prompt": "a", "stream": False}))["done"] is True


async def test_a_wedge_after_a_cut(client: Client) -> None:
    """A client that hangs up can leave the only slot taken for good, until the model is unloaded."""
    await client.standin.fault("slow_first_token", FAST, seconds=0.6, times=1)
    await client.standin.fault("wedge", FAST, times=1)
    await client.load(FAST)
    await given_up(client, "/api/generate", {"model": FAST, "prompt": "a"})
    await until(lambda: _seen(client, "wedge"))
    await given_up(client, "/api/generate", {"model": FAST, "prompt": "a"})
    await client.load(FAST, keep_alive=0)
    await until(lambda: _away(client, FAST))
    assert (await client.json("/api/generate", {"model": FAST, "prompt": "a", "stream": False}))["done"] is True


async def test_ps_that_hangs(client: Client) -> None:
    """/api/ps can be made to hang while everything else answers; healing lets the hung one through."""
    await client.standin.fault("hang_ps")
    hung = asyncio.ensure_future(client.resident())
    await until(lambda: _requests(client, 1))
    assert (await client.ask("/api/version", method="GET"))[0] == 200
    assert not hung.done()
    await client.standin.heal()
    assert await hung == {}


async def test_down_and_back(client: Client) -> None:
    """While it is down every connection is cut, those under way too; told to forget, nothing is resident after."""
    await client.standin.fault("slow_first_token", FAST, seconds=30)
    await client.load(FAST)
    asked = asyncio.ensure_future(client.ask("/api/generate", {"model": FAST, "prompt": "a"}))
    await until(lambda: _busy(client))
    await client.standin.fault("down", forget=True)
    with pytest.raises(aiohttp.ClientConnectionError):
        await asked
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.ask("/", method="GET")
    await client.standin.heal()
    assert await client.resident() == {}


async def test_faults_are_checked(client: Client) -> None:
    """A fault that is not known is refused by name."""
    with pytest.raises(ValueError, match="unknown kind 'nonsense'"):
        await client.standin.fault("nonsense")
    with pytest.raises(ValueError, match="unknown key colour"):
        await client.standin.fault("down", colour="red")


async def test_it_stops_cleanly_and_comes_back_empty() -> None:
    """SIGTERM ends it with exit code 0, SIGKILL at once; started again it has its port and an empty memory."""
    async with StandIn.start(quick()) as standin, aiohttp.ClientSession() as session:
        client, url, pid = Client(standin, session), standin.url, standin.pid
        await client.load(FAST)
        assert await standin.stop() == 0
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.ask("/", method="GET")
        await standin.launch()
        assert (standin.url, standin.pid != pid) == (url, True)
        assert await client.resident() == {}
        assert await standin.kill() == -9
        assert standin.pid is None


async def test_it_stops_with_its_parent() -> None:
    """Told its parent, it ends once that process is gone."""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scheduler.standin", "--with-parent", str(parent.pid)),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    assert child.stdout is not None
    assert json.loads(await child.stdout.readline())["ready"] is True
    await parent.communicate(b"\n")
    async with asyncio.timeout(10):
        await child.communicate()
    assert child.returncode == 0


async def test_a_taken_port_is_said() -> None:
    """A second one on the same port does not start, and says so in time."""
    async with StandIn.start(quick()) as standin:
        with pytest.raises(NotReady):
            async with StandIn.start(quick(), port=standin.port):
                pytest.fail("two on one port")


async def test_stage_files(tmp_path: Path) -> None:
    """A stage is read from TOML or JSON, sizes as text or bytes, and written so that it reads back the same."""
    path = tmp_path / "stage.toml"
    path.write_text('device = "32GiB"\n[models]\nsmall = "1.5GB"\n[models."Big:7b"]\nsize = 9\nnum_ctx = 8192\n')
    stage = Stage.read(os.fspath(path))
    assert (stage.device, [model.size for model in stage.models]) == (32 * 2**30, [1_500_000_000, 9])
    assert stage.find("BIG:7B") is stage.models[1]
    assert stage.find("small:latest") is stage.models[0]
    assert Stage.read(stage.as_json()) == stage


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"models": {"a": {"size": 1, "colour": "red"}}}', "a: unknown key colour"),
        ('{"models": {"a": {}}}', "a: size is missing"),
        ('{"models": {"a": "much"}}', "not a size: 'much'"),
        ('{"models": {"a": 1, "A:latest": 2}}', "installed twice: a:latest"),
        ('{"devices": 1}', "stage: unknown key devices"),
        ("nowhere.toml", "No such file"),
    ],
)
async def test_bad_stages(text: str, why: str) -> None:
    """What cannot be played is said, by name."""
    with pytest.raises(BadStage, match=why):
        Stage.read(text)


async def _busy(client: Client) -> bool:
    counts = await client.counts()
    return counts.get("serving", 0) > counts.get("served", 0)


async def _away(client: Client, model: str) -> bool:
    return model not in await client.resident()


async def _seen(client: Client, kind: str) -> bool:
    return kind in await client.counts()


async def _requests(client: Client, count: int) -> bool:
    return (await client.counts()).get("request", 0) >= count

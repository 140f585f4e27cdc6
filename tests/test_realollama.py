"""The stage under the end-to-end tests is a real Ollama with staged memory, and each fault does what it is named."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio

from tests.realollama import build, fixtures
from tests.realollama.folder import Folder
from tests.realollama.server import Server
from tests.realollama.stage import CODER, EXTRA, FAST, QUALITY, STAGED_MODELS, RealOllama, StagedModel, until

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

EMBED = "tiny-embed:latest"
MODELS = [replace(model, load_seconds=0.3) for model in STAGED_MODELS]
MODELS.append(StagedModel(EMBED, 100_000_000, load_seconds=0.3, num_ctx=2_048, embedding=True))
SIZES = {model.name: model.size_bytes for model in MODELS}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(real_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealOllama]:
    """One Ollama for this file."""
    async with RealOllama.start(tmp_path_factory.mktemp("real"), MODELS) as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def ollama(stage: RealOllama) -> AsyncIterator[RealOllama]:
    """That Ollama, with nothing loaded and no fault set."""
    yield stage
    stage.clear_faults()
    for name in await stage.ps():
        await stage.unload(name)
    await until(lambda: not stage.runners(), what="the runners of the test leave")


@pytest_asyncio.fixture(loop_scope="module")
async def http(ollama: RealOllama) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of that Ollama."""
    async with aiohttp.ClientSession(ollama.url) as session:
        yield session


def question(model: str, **more: Any) -> dict[str, Any]:
    """A chat of one message, as every dialect here takes it."""
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}


async def chat(http: aiohttp.ClientSession, model: str, **more: Any) -> tuple[int, list[dict[str, Any]]]:
    """Status and NDJSON lines of a native chat."""
    async with http.post("/api/chat", json=question(model, **more)) as answer:
        return answer.status, [json.loads(line) for line in (await answer.text()).splitlines()]


async def slots(http: aiohttp.ClientSession, ollama: RealOllama, model: str) -> list[dict[str, Any]]:
    """The engine's slots of a model's runner."""
    async with http.get(f"{ollama.runner_url(model)}/slots") as answer:
        shown: list[dict[str, Any]] = await answer.json()
        return shown


def near(size: int) -> Any:
    """A size up to the rounding of Ollama's log lines."""
    return pytest.approx(size, abs=10_000)


async def test_a_bare_ollama_evicts_when_two_models_do_not_fit(ollama: RealOllama, http: aiohttp.ClientSession) -> None:
    """Quality and coder in turn: the evictor says so each time, the device never holds both, the sizes are staged."""
    before = len(ollama.evictions())
    for model in (QUALITY, CODER, QUALITY):
        status, lines = await chat(http, model)
        assert (status, lines[-1]["done_reason"]) == (200, "stop")
        resident = await ollama.ps()
        assert {name: entry["size_vram"] for name, entry in resident.items()} == {model: near(SIZES[model])}
    assert len(ollama.evictions()) - before == 2
    assert [load.model for load in ollama.loads()[-3:]] == [QUALITY, CODER, QUALITY]
    assert ollama.overcommits() == []
    assert resident[QUALITY]["context_length"] == 131_072


async def test_the_listing_shows_the_staged_sizes(http: aiohttp.ClientSession) -> None:
    """`/api/tags` is the staged size up to template and parameters."""
    async with http.get("/api/tags") as answer:
        sizes = {entry["name"]: entry["size"] for entry in (await answer.json())["models"]}
    assert sizes == {name: near(size) for name, size in SIZES.items()}


async def test_a_fourth_model_evicts_by_count(ollama: RealOllama) -> None:
    """Three models are Ollama's own limit for one device, however small they are; the eviction is seen."""
    before = len(ollama.evictions())
    for model in (CODER, FAST, EXTRA):
        await ollama.load(model)
    assert len(ollama.evictions()) == before
    assert set(await ollama.ps()) == {CODER, FAST, EXTRA}
    async with aiohttp.ClientSession(ollama.url) as http, http.post("/api/embed", json={"model": EMBED}) as answer:
        assert answer.status == 200
    assert len(ollama.evictions()) == before + 1
    assert len(await ollama.ps()) == 3


async def test_a_changed_context_is_a_reload(ollama: RealOllama, http: aiohttp.ClientSession) -> None:
    """A native `num_ctx` and a `/v1` request without one load the model twice, and the stage tells."""
    before = len(ollama.reloads())
    await chat(http, FAST, options={"num_ctx": 4096})
    async with http.post("/v1/chat/completions", json=question(FAST)) as answer:
        assert answer.status == 200
    assert [load.context for load in ollama.loads(FAST)[-2:]] == [4096, 32_768]
    assert len(ollama.reloads()) == before + 1


async def test_the_dialects_stream_the_models_own_words(ollama: RealOllama, http: aiohttp.ClientSession) -> None:
    """Native, OpenAI and Anthropic streams bring the model's sentence word by word and their own end."""
    _, lines = await chat(http, FAST)
    assert "".join(line["message"]["content"] for line in lines).split() == list(MODELS[2].answer)
    async with http.post("/v1/chat/completions", json=question(FAST, stream=True, max_tokens=5)) as answer:
        events = (await answer.text()).split("\n\n")
    words = [json.loads(event[6:])["choices"][0]["delta"].get("content", "") for event in events if "content" in event]
    assert "".join(words).split() == list(MODELS[2].answer[:5])
    assert events[-2] == "data: [DONE]"
    async with http.post("/v1/messages", json=question(FAST, stream=True, max_tokens=5)) as answer:
        text = await answer.text()
    assert text.count("content_block_delta") == 2 * 5
    assert text.rstrip().endswith('data: {"type":"message_stop"}')
    assert [served.ended_at is not None for served in ollama.served(FAST)[-3:]] == [True] * 3


async def test_an_embedding_model_embeds(http: aiohttp.ClientSession) -> None:
    """Vectors on the native and the OpenAI path, different for different texts."""
    async with http.post("/api/embed", json={"model": EMBED, "input": ["one", "two"]}) as answer:
        first, second = (await answer.json())["embeddings"]
    assert len(first) == len(second) == 64
    assert first != second
    async with http.post("/v1/embeddings", json={"model": EMBED, "input": "one"}) as answer:
        assert (await answer.json())["data"][0]["embedding"] == pytest.approx(first, abs=1e-5)


async def test_a_long_prompt_reaches_the_engine_whole(http: aiohttp.ClientSession) -> None:
    """One byte is one token, and none of 6,000 is cut."""
    messages = [{"role": "user", "content": "x" * 6_000}]
    _, lines = await chat(http, FAST, messages=messages, options={"num_predict": 1})
    assert lines[-1]["prompt_eval_count"] > 6_000


async def test_kill_9_leaves_orphans_that_only_the_overcommit_file_sees(
    ollama: RealOllama, http: aiohttp.ClientSession
) -> None:
    """After kill -9 the runner lives on, the next Ollama shows nothing resident and loads over it without evicting."""
    await ollama.load(CODER)
    evictions = len(ollama.evictions())
    (orphan,) = ollama.runners()
    await ollama.kill9()
    assert [runner.pid for runner in ollama.runners()] == [orphan.pid]
    await ollama.restart()
    assert await ollama.ps() == {}
    await ollama.load(QUALITY)
    assert len(ollama.evictions()) == evictions
    (line,) = ollama.overcommits()
    assert (line["model"], line["beside"]) == (QUALITY, [CODER])
    orphan.kill()
    await until(lambda: len(ollama.runners()) == 1, what="the orphan ends")


async def test_stop_ends_orphans_too(real_ollama: fixtures.StartOllama) -> None:
    """Whatever the stage started is gone after stop, and a stop after that is harmless."""
    small = await real_ollama(models=[MODELS[2]])
    await small.load(FAST)
    await small.kill9()
    (orphan,) = small.runners()
    await small.stop()
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    assert small.runners() == []


async def test_a_frozen_ollama_answers_nothing_until_it_thaws(ollama: RealOllama, http: aiohttp.ClientSession) -> None:
    """A frozen server accepts and stays silent; thawed it answers the same request."""
    ollama.freeze()
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(ollama.ps())
        done, _ = await asyncio.wait([asked], timeout=0.3)
        assert not done
        ollama.thaw()
    assert asked.result() == {}


@pytest.mark.parametrize(("kind", "text"), [("crash_loading", "terminated"), ("load_error", "staged")])
async def test_a_load_fails(ollama: RealOllama, http: aiohttp.ClientSession, kind: str, text: str) -> None:
    """A runner that dies or says an error while loading is Ollama's own 500; the next load is fine."""
    ollama.fault(FAST, times=1, **{kind: True})
    status, lines = await chat(http, FAST)
    assert status == 500
    assert text in lines[0]["error"]
    assert ollama.loads(FAST)[-1].ready_at is None
    assert (await chat(http, FAST))[0] == 200


async def test_a_load_never_ends_until_the_fault_is_cleared(ollama: RealOllama, http: aiohttp.ClientSession) -> None:
    """The load hangs beyond its staged time, nothing becomes resident; cleared, it completes."""
    ollama.fault("*", load_never_ends=True)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(chat(http, EXTRA))
        await until(lambda: bool(ollama.loads(EXTRA)) and time.monotonic() - ollama.loads(EXTRA)[-1].at > 1)
        assert not asked.done()
        assert await ollama.ps() == {}
        ollama.clear_faults()
    assert asked.result()[0] == 200


async def test_a_runner_crashes_while_serving(ollama: RealOllama, http: aiohttp.ClientSession) -> None:
    """Before the first byte that is a 500, after three chunks an error line in a stream that began with 200."""
    ollama.fault(FAST, times=1, crash_serving=True)
    status, lines = await chat(http, FAST)
    assert (status, len(lines)) == (500, 1)
    ollama.fault(FAST, times=1, crash_serving=3)
    status, lines = await chat(http, FAST)
    assert status == 200
    assert len(lines) == 4
    assert "error" in lines[-1]
    assert (await chat(http, FAST))[1][-1]["done"] is True


async def collect(http: aiohttp.ClientSession, lines: list[bytes]) -> None:
    """Put the lines of a chat into `lines` as they come."""
    async with http.post("/api/chat", json=question(FAST)) as answer:
        async for line in answer.content:
            lines.append(line)


@pytest.mark.parametrize("chunks", [0, 2])
async def test_a_wedge_is_silent_with_an_idle_engine_and_an_unload_heals_it(
    ollama: RealOllama, http: aiohttp.ClientSession, chunks: int
) -> None:
    """No byte comes (or none after two chunks), health is green, the slot idle; the next runner answers."""
    ollama.fault(FAST, times=1, silent=chunks)
    lines: list[bytes] = []
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(collect(http, lines))
        await until(lambda: bool(ollama.strikes("silent")) and len(lines) == chunks, what="the request is struck")
        struck = time.monotonic()
        await until(lambda: time.monotonic() > struck + 0.5)
        assert len(lines) == chunks
        assert not asked.done()
        assert [slot["is_processing"] for slot in await slots(http, ollama, FAST)] == [False]
        async with http.get(f"{ollama.runner_url(FAST)}/health") as health:
            assert await health.json() == {"status": "ok"}
        asked.cancel()
    await ollama.unload(FAST)
    assert (await chat(http, FAST))[1][-1]["done"] is True


async def test_an_honest_long_prefill_shows_its_progress(ollama: RealOllama, http: aiohttp.ClientSession) -> None:
    """`silent_busy` sends nothing, but the slot is busy and its processed tokens grow; cleared, the answer comes."""
    ollama.fault(FAST, silent_busy=True)
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(chat(http, FAST))
        await until(lambda: bool(ollama.strikes("silent_busy")), what="the request is held")
        (early,) = await slots(http, ollama, FAST)
        await until(lambda: time.monotonic() > ollama.strikes("silent_busy")[-1]["at"] + 0.5)
        (late,) = await slots(http, ollama, FAST)
        assert early["is_processing"]
        assert late["is_processing"]
        assert (
            early["n_prompt_tokens_processed"] < late["n_prompt_tokens_processed"] < late["n_prompt_tokens"] == 100_000
        )
        assert not asked.done()
        ollama.clear_faults("silent_busy")
    assert asked.result()[1][-1]["done"] is True


async def test_first_token_and_pace_are_staged(ollama: RealOllama, http: aiohttp.ClientSession) -> None:
    """A slow first token comes late, a paced stream lasts as long as its tokens, and the slot is busy meanwhile."""
    await ollama.load(FAST)
    ollama.fault(FAST, slow_first_token=0.5, tokens_per_second=20)
    begun = time.monotonic()
    async with http.post("/api/chat", json=question(FAST, options={"num_predict": 10})) as answer:
        await answer.content.readline()
        assert 0.5 <= time.monotonic() - begun < 1.0
        (slot,) = await slots(http, ollama, FAST)
        assert slot["is_processing"]
        lines = (await answer.text()).splitlines()
    assert 0.9 <= time.monotonic() - begun < 2.0
    assert json.loads(lines[-1])["eval_count"] == 10
    (slot,) = await slots(http, ollama, FAST)
    assert not slot["is_processing"]


async def test_a_hang_up_ends_the_request_in_the_runner(ollama: RealOllama, http: aiohttp.ClientSession) -> None:
    """A client that leaves in mid-stream frees the engine at once."""
    ollama.fault(FAST, tokens_per_second=5)
    async with http.post("/api/chat", json=question(FAST)) as answer:
        await answer.content.readline()
    await until(lambda: ollama.served(FAST)[-1].ended_at is not None, 2.0, "the runner sees the hang-up")


async def test_the_engine_reports_an_error(ollama: RealOllama, http: aiohttp.ClientSession) -> None:
    """The engine's own error reaches the client with its status."""
    ollama.fault(FAST, times=1, request_error="staged trouble")
    status, lines = await chat(http, FAST)
    assert status == 500
    assert "staged trouble" in lines[0]["error"]


async def test_shrunken_memory_makes_a_load_that_does_not_fit(ollama: RealOllama) -> None:
    """`free_shrinks` takes memory that Ollama does not know of, so that a model alone no longer fits."""
    before = len(ollama.overcommits())
    assert ollama.free_mib() == 38_338
    ollama.fault("*", free_shrinks=36_000)
    assert ollama.free_mib() == 2_338
    await ollama.load(FAST)
    assert [line["model"] for line in ollama.overcommits()[before:]] == [FAST]


async def test_a_machine_without_go_and_ollama_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The reason names what is missing; where a real Ollama is required the test fails instead of being skipped."""
    (tmp_path / "bash").symlink_to("/bin/bash")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(build.CACHE_KEY, str(tmp_path / "cache"))
    reason = build.ollama_binary()
    assert isinstance(reason, build.Reason)
    assert "neither `go`" in reason
    monkeypatch.delenv(fixtures.REQUIRE_KEY, raising=False)
    with pytest.raises(pytest.skip.Exception, match="neither `go`"):
        fixtures.refuse(reason)
    monkeypatch.setenv(fixtures.REQUIRE_KEY, "1")
    with pytest.raises(pytest.fail.Exception, match="neither `go`"):
        fixtures.refuse(reason)


async def test_an_unknown_fault_is_refused(tmp_path: Path) -> None:
    """A misspelt fault would stage nothing; it is an error that names what there is."""
    folder = Folder(tmp_path)
    folder.prepare(1024, {})
    stage = RealOllama(Server(Path("ollama"), tmp_path, folder, {}), folder)
    with pytest.raises(TypeError, match="silent_busy"):
        stage.fault(FAST, silence=True)

"""What changes Ollama's library through us: streamed, held while the model it names is in memory, and known at once."""

import asyncio
import hashlib
import json
import os
import secrets
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from scheduler.core import messages as m
from tests.live import Live
from tests.realollama.stage import RealOllama, StagedModel

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

CHAT, OTHER = "library-chat:latest", "library-other:latest"
OLD, NEW = "pulled-old:latest", "pulled-new:latest"
MODELS = [StagedModel(name, 100_000_000, load_seconds=0.1, num_ctx=2_048, words=8) for name in (CHAT, OTHER, OLD, NEW)]
MIB = 1 << 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(real_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealOllama]:
    """One real Ollama for this file."""
    async with RealOllama.start(tmp_path_factory.mktemp("real"), MODELS) as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def live(stage: RealOllama, tmp_path: Path) -> AsyncIterator[Live]:
    """A daemon in front of it, with an alias."""
    one: dict[str, Any] = {
        "models": {CHAT: {"num_ctx": 2_048}},
        "sets": {"one": [CHAT]},
        "phases": {"normal": {"sets": ["one"]}},
    }
    async with Live.start(stage.url, tmp_path, aliases={"gpt-4": CHAT}, **one) as live:
        await live.acquainted()
        yield live


async def said(live: Live, model: str) -> str:
    """What a model says."""
    status, answer = await live.chat(model)
    assert status == 200, answer
    text: str = answer["message"]["content"]
    return text


async def lines(answer: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    """The lines of a stream."""
    return [json.loads(line) async for line in answer.content]


def temporary(stage: RealOllama) -> list[int]:
    """Sizes of the blobs that Ollama is writing: their names are no digests yet."""
    return [file.stat().st_size for file in (stage.models / "blobs").glob("sha256-*") if len(file.name) < 71]


# --- blobs -----------------------------------------------------------------------------------------------------------


async def test_a_blob_is_streamed_and_never_held(stage: RealOllama, live: Live) -> None:
    """Ollama writes the first half while the second is not sent yet; digest and answers are its own."""
    half = secrets.token_bytes(8 * MIB)
    digest = f"sha256:{hashlib.sha256(half + half).hexdigest()}"
    more = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield half
        await more.wait()
        yield half

    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(live.http.post(f"/api/blobs/{digest}", data=pieces()))
        await live.until(lambda: any(size > 7 * MIB for size in temporary(stage)))
        assert (await live.status())["verdict"] == "ok"  # nobody waits for it
        assert not sending.done()
        more.set()
    async with sending.result() as answer:
        assert (answer.status, await answer.read()) == (201, b"")
    async with live.http.head(f"/api/blobs/{digest}") as answer:
        assert answer.status == 200
    async with live.http.post(f"/api/blobs/{digest}", data=b"other") as answer:
        assert answer.status == 200  # it is there: Ollama does not read it
    async with live.http.post("/api/blobs/sha256:" + "0" * 64, data=b"other") as answer:
        assert answer.status == 400
        assert (await answer.json())["error"].startswith("digest mismatch, expected")


async def test_an_upload_ends_with_its_client(stage: RealOllama, live: Live) -> None:
    """A client that hangs up in the middle leaves nothing behind, here or in Ollama."""
    never = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield secrets.token_bytes(4 * MIB)
        await never.wait()

    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(live.http.post("/api/blobs/sha256:" + "1" * 64, data=pieces()))
        await live.until(lambda: any(size > 3 * MIB for size in temporary(stage)))
        sending.cancel()
    await live.until(lambda: not temporary(stage))


# --- what replaces a model -------------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(stage: RealOllama, live: Live, model: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """A slow answer of `model`, begun."""
    stage.fault(model, tokens_per_second=8.0)
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    try:
        async with live.http.post("/api/chat", json=body) as answer:
            await answer.content.readline()
            yield answer
    finally:
        stage.clear_faults()


async def test_creating_over_a_busy_model_waits(stage: RealOllama, live: Live) -> None:
    """The answer under way ends whole, then the model is unloaded, then created; the next answer is the new one's."""
    before = await said(live, CHAT)
    async with answering(stage, live, CHAT) as busy, asyncio.TaskGroup() as tasks:
        creating = tasks.create_task(live.http.post("/api/create", json={"model": CHAT, "from": OTHER}))
        await live.until(lambda: any(isinstance(f, m.Arrived) and f.kind == "replace" for f, _ in live.steps))
        assert (await lines(busy))[-1]["done"]
        assert not creating.done()
    async with creating.result() as answer:
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert (await lines(answer))[-1] == {"status": "success"}
    assert [order.model for order in live.orders(m.Unload)] == [CHAT]
    assert CHAT not in await stage.ps()
    after = await said(live, CHAT)
    assert after != before
    assert after == await said(live, OTHER)


async def test_deleting_a_resident_model_leaves_no_runner(stage: RealOllama, live: Live) -> None:
    """A copy is served by the runner there is; deleted, it is gone from memory and from the list at once."""
    async with live.http.post("/api/copy", json={"source": OTHER, "destination": "copied"}) as answer:
        assert (answer.status, await answer.read()) == (200, b"")
    assert await said(live, "copied") == await said(live, OTHER)
    async with live.http.delete("/api/delete", json={"model": "copied"}) as answer:
        assert (answer.status, await answer.read()) == (200, b"")
    status, told = await live.chat("copied")
    assert (status, told) == (404, {"error": "model 'copied' not found"})
    async with live.http.delete("/api/delete", json={"model": "copied"}) as answer:
        assert (answer.status, await answer.json()) == (404, {"error": "model 'copied' not found"})
    assert await said(live, OTHER)
    assert not live.state.unreachable


async def test_an_alias_is_shown_but_not_deleted(live: Live) -> None:
    """It stands for its model where one is asked or shown, never where one is changed."""
    async with live.http.post("/api/show", json={"model": "", "name": "GPT-4"}) as answer:
        by_alias = await answer.read()
    async with live.http.post("/api/show", json={"model": CHAT}) as answer:
        assert await answer.read() == by_alias
    async with live.http.get("/v1/models/gpt-4") as answer:
        assert (answer.status, (await answer.json())["id"]) == (200, CHAT)
    async with live.http.delete("/api/delete", json={"model": "gpt-4"}) as answer:
        assert (answer.status, await answer.json()) == (404, {"error": "model 'gpt-4' not found"})
    assert await said(live, "gpt-4")


# --- the command -----------------------------------------------------------------------------------------------------


async def test_the_ollama_command_works_through_us(live: Live, real_binary: Path, tmp_path: Path) -> None:
    """Create, run, copy, remove, stop: what a person types, an alias included."""
    (tmp_path / "Modelfile").write_text(f"FROM {OTHER}\nSYSTEM Be short.\n")
    env = {**os.environ, "OLLAMA_HOST": live.url.removeprefix("http://"), "HOME": str(tmp_path)}

    async def run(*words: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            real_binary, *words, env=env, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
        )
        out, _ = await process.communicate()
        return process.returncode, out.decode(errors="replace")

    for words, code, told in (
        (("run", "gpt-4", "hello"), 0, "library-"),
        (("create", "mine", "-f", str(tmp_path / "Modelfile")), 0, "success"),
        (("run", "mine", "hello"), 0, "library-other"),
        (("cp", "mine", "yours"), 0, "copied 'mine' to 'yours'"),
        (("rm", "mine"), 0, "deleted 'mine'"),
        (("run", "yours", "hello"), 0, "library-other"),
        (("rm", "yours"), 0, "deleted 'yours'"),
        (("rm", "gpt-4"), 1, "model 'gpt-4' not found"),
        (("run", "gpt-4", "hello"), 0, "library-"),
        (("stop", CHAT), 0, ""),
    ):
        returned, out = await run(*words)
        assert returned == code, (words, out)
        assert told in out, words
    await live.until(lambda: not live.state.present)


# --- pull ------------------------------------------------------------------------------------------------------------


async def test_a_pull_is_seen_and_an_old_runner_is_told(stage: RealOllama, live: Live) -> None:
    """A new blob under a name: it is served at once, and the runner that nothing reaches any more is counted."""
    manifests = {}
    for model in MODELS[2:]:
        file = model.manifest_path(stage.models)
        manifests[model.name] = file.read_bytes()
        file.unlink()
    serving = OLD

    async def manifest(_: web.Request) -> web.Response:
        return web.Response(body=manifests[serving], content_type="application/json")

    app = web.Application()
    app.router.add_get("/v2/library/pulled/manifests/latest", manifest)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    name = f"127.0.0.1:{site.port}/library/pulled:latest"
    pull = {"model": f"http://{name}", "insecure": True}
    try:
        async with live.http.post("/api/pull", json=pull) as answer:
            assert (await lines(answer))[-1] == {"status": "success"}
        first = await said(live, name)
        serving = NEW
        async with live.http.post("/api/pull", json={**pull, "stream": False}) as answer:
            assert await answer.json() == {"status": "success"}
        await live.until(lambda: bool(live.state.unreachable))
        assert await said(live, name) != first
        told = await live.status()
        assert told["memory"]["unreachable"] >= 100_000_000
        assert any("held by runners whose name got another blob" in warning for warning in told["warnings"])
        missing = {"model": f"http://127.0.0.1:{site.port}/library/nobody", "insecure": True}
        async with live.http.post("/api/pull", json=missing) as answer:
            assert (await lines(answer))[-1] == {"error": "pull model manifest: file does not exist"}
    finally:
        await runner.cleanup()

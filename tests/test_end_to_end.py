"""The whole path on a real Ollama: adopted models, wrong contexts, health checks, wishes, restarts, a hung Ollama."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from scheduler.core import messages as m
from tests.live import CODER, FAST, QUALITY, Live
from tests.realollama.stage import EXTRA, RealOllama, StagedModel, until

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
STAGED = (
    StagedModel(QUALITY, 35_000_000_000, load_seconds=0.5, num_ctx=131_072),
    StagedModel(CODER, 20_000_000_000, load_seconds=0.5, num_ctx=32_768),
    StagedModel(FAST, 5_000_000_000, load_seconds=0.3, num_ctx=8_192),
    StagedModel(EXTRA, 100_000_000, load_seconds=0.2, num_ctx=4_096),
)
SETTINGS: dict[str, Any] = {"ollama_settings": {"device": "38338MiB"}}
FEW = {"num_predict": 4}


async def test_the_documented_models_take_turns_and_status_tells_the_truth(
    real_ollama: Any, watchers: None, tmp_path: Path
) -> None:
    """Quality, then coder and fast together, then quality again: each in memory when it answers, never all of them,
    and /status agrees with /api/ps at each stop."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        for alias, model in (("gpt-4", QUALITY), ("claude-3-haiku", FAST), ("claude-3-5-sonnet", CODER)):
            status, told = await live.chat(alias, options=FEW)
            assert (status, told["model"]) == (200, model)
            await live.until(lambda: live.state.transition is None)
            rows = {row["name"]: row for row in (await live.status())["models"] if row["state"] == "ready"}
            assert set(rows) == set(await ollama.ps())
        assert set(live.present()) == {CODER, FAST}
        assert [load.model for load in ollama.loads()] == [QUALITY, FAST, CODER]


async def test_what_is_resident_is_adopted_and_a_restart_of_ours_unloads_nothing(
    real_ollama: Any, watchers: None, tmp_path: Path
) -> None:
    """A model loaded by somebody else is adopted and served without a load; so is our own after our restart, with the
    load seconds we had learned."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    await ollama.load(FAST)
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        await live.acquainted()
        assert live.present() == {FAST: "ready"}
        assert (await live.chat(CODER, options=FEW))[0] == 200
        learned = live.state.models[CODER].load_learned
        assert learned is not None
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        await live.acquainted()
        assert live.present() == {FAST: "ready", CODER: "ready"}
        assert (await live.chat(FAST, options=FEW))[0] == 200
        assert live.orders(m.Load) + live.orders(m.Unload) == []
        assert live.state.models[CODER].load_learned == learned
    assert len(ollama.loads()) == 2


async def test_an_adopted_runner_with_another_context_is_replaced_before_it_serves(
    real_ollama: Any, watchers: None, tmp_path: Path
) -> None:
    """It counts in memory; a request drains, unloads and loads it with the context Ollama chooses unaided, so that
    neither a /v1 request nor a native one with a num_ctx of its own makes Ollama reload."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    await ollama.load(FAST, num_ctx=2048)
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        await live.acquainted()
        assert live.state.models[FAST].wrong_context
        body = {"model": FAST, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        async with live.http.post("/v1/chat/completions", json=body) as answer:
            assert answer.status == 200
        assert (await live.chat(FAST, options={**FEW, "num_ctx": 65536}))[0] == 200
        assert [type(o) for o in live.orders(m.Load | m.Unload) if o.model == FAST] == [m.Unload, m.Load]
        assert "wrong context" in next(o.because for o in live.orders(m.Unload) if o.model == FAST)
        assert (await ollama.ps())[FAST]["context_length"] == 8192
        warned = " ".join((await live.status())["warnings"])
        assert "32768" in warned
        assert "8192" in warned
    assert [load.context for load in ollama.loads(FAST)] == [2048, 8192]
    assert ollama.reloads() == []


async def test_health_checks_load_nothing_and_never_wait(real_ollama: Any, watchers: None, tmp_path: Path) -> None:
    """LiteLLM's probes of all models at once: answered at once, nothing loaded; 404 for what is not installed; a
    resident model's free slot answers for real."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        await live.acquainted()
        for _ in range(3):
            told = await asyncio.gather(*(live.chat(model, "Hey how's it going?") for model in (QUALITY, CODER, FAST)))
            assert [status for status, _ in told] == [200, 200, 200]
        assert (await live.chat("nothing-of-that-name", "Hey how's it going?"))[0] == 404
        assert ollama.loads() == []
        assert (await live.chat(EXTRA, options=FEW))[0] == 200  # in no set: nothing else is loaded beside it
        _, told_by_model = await live.chat(EXTRA, "Hey how's it going?", options=FEW)
        assert "extra" in told_by_model["message"]["content"]
        assert (await live.status())["counters"]["hour"]["probes_absorbed"] >= 9
    assert len(ollama.loads()) == 1


async def test_prompt_less_preload_and_unload_are_wishes(real_ollama: Any, watchers: None, tmp_path: Path) -> None:
    """A preload is answered when its model is there, an unload at once; neither ever reaches Ollama as sent."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        async with live.http.post("/api/generate", json={"model": FAST, "keep_alive": "1s"}) as answer:
            assert (await answer.json())["done_reason"] == "load"
        assert live.present() == {FAST: "ready"}
        assert (await ollama.ps())[FAST]["expires_at"] > "2100", "our keep_alive, not the client's"
        async with live.http.post("/api/generate", json={"model": FAST, "keep_alive": 0}) as answer:
            assert (await answer.json())["done_reason"] == "unload"
        await live.until(lambda: live.present() == {})


async def test_status_answers_within_50_ms_while_ollama_hangs_and_while_a_load_runs(
    real_ollama: Any, watchers: None, tmp_path: Path
) -> None:
    """/status is built from our own memory: a frozen Ollama or a running load does not hold it up."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        await live.acquainted()
        asking = asyncio.ensure_future(live.chat(QUALITY, options=FEW))
        await live.until(lambda: live.present() == {QUALITY: "loading"})
        told = await live.status()
        assert told["verdict"] == "changing"
        assert told["transition"]["stage"] == "loading"
        assert told["requests"][0]["stage"] == "loading"
        ollama.freeze()
        try:
            took = []
            for _ in range(20):
                began = time.perf_counter()
                await live.status()
                took.append(time.perf_counter() - began)
        finally:
            ollama.thaw()
        assert sorted(took)[-2] < 0.05, took  # one may meet a hiccup of this machine
        assert (await asking)[0] == 200


async def test_sigterm_ends_in_order(real_ollama: Any, watchers: None, tmp_path: Path) -> None:
    """On SIGTERM running work finishes, waiting requests get 503 and Retry-After, models stay, exit code 0."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    config = tmp_path / "config.toml"
    config.write_text(
        f'listen = "127.0.0.1:0"\nollama = "{ollama.url}"\n[memory]\nbudget = "38GB"\n'
        f'[ollama_settings]\ndevice = "38338MiB"\n[models."{QUALITY}"]\nsize = "35GB"\n'
        f'[models."{FAST}"]\nsize = "5GB"\n'
    )
    command = [sys.executable, "-m", "scheduler", "serve", "--config", str(config), "--state", str(tmp_path / "state")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OLLAMA_")}
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=environment
    )
    assert process.stdout is not None
    try:
        first = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        url = first.split()[-1]
        async with aiohttp.ClientSession(url) as http:
            ollama.fault(QUALITY, tokens_per_second=10)
            running = asyncio.ensure_future(_post(http, QUALITY, 20))
            await until(lambda: bool(ollama.served(QUALITY)))
            waiting = asyncio.ensure_future(_post(http, FAST, 4))
            await _eventually(http, waiting=1)
            process.send_signal(signal.SIGTERM)
            status, headers, _ = await waiting
            assert (status, "Retry-After" in headers) == (503, True)
            status, _, told = await running
            assert (status, told["done"]) == (200, True)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert set(await ollama.ps()) == {QUALITY}


async def _post(http: aiohttp.ClientSession, model: str, tokens: int) -> tuple[int, Any, Any]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "hello"}],
        "stream": False,
        "options": {"num_predict": tokens},
    }
    async with http.post("/api/chat", json=body) as answer:
        return answer.status, answer.headers, await answer.json()


async def _eventually(http: aiohttp.ClientSession, waiting: int) -> None:
    """Until /status shows so many waiting."""
    async with asyncio.timeout(10):
        while True:
            async with http.get("/status") as answer:
                if (await answer.json())["waiting"] == waiting:
                    return
            await asyncio.sleep(0.02)

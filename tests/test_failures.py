"""The six failures, staged on a real Ollama: what is held, what is answered, what /status says, how it recovers."""

import asyncio
import contextlib
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from scheduler.control_gate import TOKEN
from scheduler.core import messages as m
from tests.live import CODER, FAST, QUALITY, QUICK, Live
from tests.realollama.stage import RealOllama, StagedModel

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
STAGED = (
    StagedModel(QUALITY, 35_000_000_000, load_seconds=0.5, num_ctx=131_072, endless=True),
    StagedModel(CODER, 20_000_000_000, load_seconds=0.5, num_ctx=32_768),
    StagedModel(FAST, 5_000_000_000, load_seconds=0.3, num_ctx=32_768),
)
SETTINGS: dict[str, Any] = {"ollama_settings": {"device": "38338MiB"}}
REFUSED = 503


async def raw_stream(live: Live, model: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The bytes of a stream of `model` whose head has come; a client library would hide those before a reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", live.daemon.port)
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "go on"}]}).encode()
    head = f"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    assert b"200 OK" in await reader.readline()
    return reader, writer


async def everything(reader: asyncio.StreamReader) -> bytes:
    """All bytes up to the end, however it comes."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := await reader.read(65536):
            got += chunk
    return got


def _needs(live: Live) -> str:
    """What /status says a person must do, in one text."""
    return " ".join(f"{need['what']} {need['type_this']}" for need in live.daemon.status()["needs_you"])


async def test_absent_ollama_holds_then_refuses_and_serves_once_it_is_there(real_ollama: Any, tmp_path: Path) -> None:
    """Without Ollama the daemon starts, says so, holds a request for `ollama_wait`, refuses it with 503 and
    Retry-After, and serves one that still waits when Ollama comes."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    await ollama.stop()
    async with Live.start(ollama.url, tmp_path / "state", queue={"ollama_wait": "3s"}, **SETTINGS) as live:
        await live.until(lambda: live.state.ollama == "down")
        told = await live.status()
        assert told["verdict"] == "degraded"
        assert told["ollama"]["state"] == "down"
        assert "does not answer" in _needs(live)
        body = {"model": FAST, "messages": [{"role": "user", "content": "hello"}], "stream": False}
        async with live.http.post("/v1/chat/completions", json=body) as answer:
            assert answer.status == REFUSED
            assert int(answer.headers["Retry-After"]) > 0
            assert "not reachable" in (await answer.json())["error"]["message"]
        held = asyncio.ensure_future(live.chat(FAST, options={"num_predict": 4}))
        await live.until(lambda: bool(live.state.requests))
        await ollama.restart()
        status, answered = await held
        assert (status, answered["done"]) == (200, True)
        assert (await live.status())["ollama"]["state"] == "up"


async def test_a_restart_in_mid_stream_ends_that_answer_with_an_error_and_keeps_the_others(
    real_ollama: Any, watchers: None, tmp_path: Path
) -> None:
    """Ollama restarted under a stream: the stream ends with its dialect's error and a broken connection, never as if
    it were whole; who waited is served after the restart."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        await live.acquainted()
        ollama.fault(QUALITY, tokens_per_second=20)
        reader, writer = await raw_stream(live, QUALITY)
        reading = asyncio.ensure_future(everything(reader))
        waiting = asyncio.ensure_future(live.chat(FAST, options={"num_predict": 4}))
        await live.until(lambda: live.state.models[FAST].waiting == 1)
        await ollama.stop()
        got = await reading
        writer.close()
        assert b'"done":true' not in got
        assert b'{"error":' in got
        assert not got.endswith(b"0\r\n\r\n"), "a broken answer must not look whole"
        await live.until(lambda: live.state.ollama == "down")
        await ollama.restart()
        status, told = await waiting
        assert (status, told["done"]) == (200, True)


async def test_a_load_that_fails_is_tried_again_then_told_and_recovers(
    real_ollama: Any, watchers: None, tmp_path: Path
) -> None:
    """A 500 on a load: tried again with growing pauses, then its waiting requests get the reason; others are served
    meanwhile, and the model is served once it loads again."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        await live.acquainted()
        ollama.fault(QUALITY, load_error="staged: bad magic")
        failing = asyncio.ensure_future(live.chat(QUALITY))
        await live.until(lambda: live.state.models[QUALITY].failures == 1)
        status, _ = await live.chat(FAST, options={"num_predict": 4})
        assert status == 200
        status, told = await failing
        assert status == 500
        assert "staged: bad magic" in told["error"] or "terminated" in told["error"]
        failed = [fact.at for fact, _ in live.steps if isinstance(fact, m.LoadFailed)]
        pauses = [later - earlier for earlier, later in itertools.pairwise(failed)]
        assert len(pauses) == 2
        assert pauses[1] > pauses[0] > 1.5
        ollama.clear_faults()  # the next try is after the third pause, of 30 s
        status, _ = await live.chat(QUALITY, options={"num_predict": 4})
        assert status == 200


async def test_a_load_that_never_ends_is_abandoned_at_its_limit(
    real_ollama: Any, watchers: None, tmp_path: Path
) -> None:
    """A load past `load.limit` has failed: closed, tried again, and the request that waited is answered."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    async with Live.start(ollama.url, tmp_path / "state", load={"limit": "6s"}, **SETTINGS) as live:
        await live.acquainted()
        ollama.fault(CODER, load_never_ends=True, times=1)
        asking = asyncio.ensure_future(live.chat(CODER, options={"num_predict": 4}))
        await live.until(lambda: bool(live.orders(m.AbandonLoad)))
        status, told = await asking
        assert (status, told["done"]) == (200, True)
        failure = next(fact for fact, _ in live.steps if isinstance(fact, m.LoadFailed))
        assert "over 6 s" in failure.error


async def test_a_silent_runner_is_healed_and_its_untouched_request_answered(
    real_ollama: Any, watchers: None, tmp_path: Path
) -> None:
    """A runner that accepts and never sends a byte while its engine is idle is a wedge: healed within seconds by a
    transition, and the request, still untouched, is answered by the new runner."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        await live.acquainted()
        ollama.fault(FAST, silent=0, times=1)
        asking = asyncio.ensure_future(live.chat(FAST, options={"num_predict": 4}))
        await live.until(lambda: live.state.models[FAST].stalled)
        status, told = await asking
        assert (status, told["done"]) == (200, True)
        assert live.state.healed == 1
        assert (await live.status())["healed"] == 1


async def test_a_busy_engine_is_never_called_stalled(real_ollama: Any, watchers: None, tmp_path: Path) -> None:
    """A long prefill is silent and honest: no heal, and its progress stands in /status."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    async with Live.start(
        ollama.url, tmp_path / "state", stall={"silence": "2s", "after_cut": "2s"}, **SETTINGS
    ) as live:
        await live.acquainted()
        ollama.fault(FAST, silent_busy=9.0, times=1)
        asking = asyncio.ensure_future(live.chat(FAST, options={"num_predict": 4}))
        shown: list[tuple[int, int]] = []

        def reading() -> bool:
            for row in live.daemon.status()["requests"]:
                if row["stage"] == "prefill" and row["prompt_done"]:
                    shown.append((row["prompt_done"], row["prompt_total"]))
            return len(set(shown)) >= 2

        await live.until(reading)
        status, told = await asking
        assert (status, told["done"]) == (200, True)
        assert live.state.healed == 0
        assert sorted(set(shown)) == sorted(set(shown), key=lambda pair: pair[0])


async def test_orphans_of_a_kill_that_nobody_noticed_count_too(real_ollama: Any, tmp_path: Path) -> None:
    """Ollama killed and back between two looks: what its runners hold is counted before anything else is loaded."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    pace = replace(QUICK, look=3600.0, memory=2.0, listing=3600.0)
    async with Live.start(ollama.url, tmp_path / "state", pace, **SETTINGS) as live:
        await live.acquainted()
        assert (await live.chat(QUALITY, options={"num_predict": 4}))[0] == 200
        await ollama.kill9()
        orphan = ollama.runners()[0]
        await ollama.restart()
        assert live.state.ollama == "up"
        asking = asyncio.ensure_future(live.chat(CODER, options={"num_predict": 4}))
        await live.until(lambda: live.state.orphans > 30_000_000_000)
        orphan.kill()
        await live.until(lambda: not psutil.pid_exists(orphan.pid) or orphan.status() == psutil.STATUS_ZOMBIE)
        assert (await asking)[0] == 200
    assert ollama.overcommits() == []


@pytest.mark.parametrize("reap", [False, True], ids=["counted", "reaped"])
async def test_orphans_count_until_they_are_gone(
    reap: bool, real_ollama: Any, stages: list[RealOllama], tmp_path: Path
) -> None:
    """`ollama serve` killed with its runners left alive: their bytes count against the budget until they are gone,
    nothing is loaded over them, /status names the process, and only the user's setting lets us end it."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    settings = {"ollama_settings": {"device": "38338MiB", "reap_orphans": reap}}
    async with Live.start(ollama.url, tmp_path / "state", **settings) as live:
        await live.acquainted()
        assert (await live.chat(QUALITY, options={"num_predict": 4}))[0] == 200
        await ollama.kill9()
        orphan = ollama.runners()[0]
        await live.until(lambda: live.state.ollama == "down")
        await ollama.restart()
        asking = asyncio.ensure_future(live.chat(CODER, options={"num_predict": 4}))
        if not reap:
            await live.until(lambda: live.state.ollama == "up" and live.state.orphans > 30_000_000_000)
            await live.until(lambda: live.state.models[CODER].waiting == 1)
            await live.until(lambda: f"kill {orphan.pid}" in _needs(live))
            assert not live.orders(m.Load)[1:]
            orphan.kill()
        status, told = await asking
        assert (status, told["done"]) == (200, True)
        await live.until(lambda: live.state.orphans == 0)
    assert ollama.overcommits() == []


async def test_a_state_folder_deleted_under_the_daemon_is_made_anew(real_ollama: Any, tmp_path: Path) -> None:
    """Somebody cleans up: /status warns, the journal, the key and the token are kept again, requests are served."""
    ollama: RealOllama = await real_ollama(models=STAGED[2:])
    state = tmp_path / "state"
    async with Live.start(ollama.url, state, replace(QUICK, clocks=0.2), **SETTINGS) as live:
        await live.acquainted()
        kept = {name: (state / name).read_bytes() for name in ("key", TOKEN)}
        shutil.rmtree(state)
        await live.until(lambda: any("made anew" in text for text in live.daemon.status()["warnings"]))
        assert {name: (state / name).read_bytes() for name in kept} == kept
        assert (await live.chat(FAST, options={"num_predict": 4}))[0] == 200
        await live.until((state / "learned.json").exists)

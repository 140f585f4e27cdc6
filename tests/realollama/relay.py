"""The runner's port: passes Ollama's requests to the engine, and stages what a request can meet there.

Faults (see `stage.py` for their parameters) strike a request that generates or embeds; `/health` stays green, as it
does for a model that is wedged inside Ollama. `/slots` is llama.cpp's own answer; where this relay holds a request or
paces it, the slot is shown busy, as an engine that really takes that long would show it. A request struck by `silent`
never reaches the engine, whose slots then truly are idle.
"""

import asyncio
import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

from tests.realollama.folder import Blob, Folder

WORK = frozenset({"/completion", "/completions", "/chat/completions", "/embedding", "/embeddings"})
KEEP_HEADERS = frozenset({"content-type", "authorization", "accept"})
LOOK = 0.02  # seconds between two looks while a request is held
LONG_PREFILL = 100_000  # tokens of the prompt that `silent_busy` pretends


@dataclass(eq=False)
class Turn:
    """One request as `/slots` shows it while the relay, not the engine, decides its speed."""

    prompt_tokens: int
    subject: dict[str, str]
    staged: bool = False
    processed: int = 0
    decoded: int = 0


class Relay:
    """llama-server's HTTP face; `open` hands it the engine once the load is over."""

    def __init__(self, folder: Folder, blob: Blob) -> None:
        self._folder, self._blob = folder, blob
        self._engine = ""
        self._turns: list[Turn] = []
        self._wedged = False

    @contextlib.asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator["Relay"]:
        """Listen on the port that Ollama chose, from the first moment of the load on."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1, keepalive_timeout=3600
        )
        await runner.setup()
        # a connection each: the engine closes kept ones after a while, perhaps just as a request is sent on it
        fresh = TCPConnector(limit=0, force_close=True)
        async with ClientSession(connector=fresh, timeout=ClientTimeout(), read_bufsize=1 << 20) as self._session:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            try:
                yield self
            finally:
                await runner.cleanup()

    def open(self, engine: str) -> None:
        self._engine = engine

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if not self._engine:
            error = {"code": 503, "message": "Loading model", "type": "unavailable_error"}
            return web.json_response({"error": error}, status=503)
        if request.path == "/health":
            return web.json_response({"status": "ok"})
        if request.path == "/slots":
            return await self._slots()
        body = await request.read()
        if request.path.removeprefix("/v1") not in WORK:
            return await self._pass(request, body, None)
        return await self._work(request, body)

    async def _slots(self) -> web.Response:
        async with self._session.get(f"{self._engine}/slots") as answer:
            slots: list[dict[str, Any]] = await answer.json()
        for slot, turn in zip(slots, [turn for turn in self._turns if turn.staged], strict=False):
            slot["is_processing"] = True
            slot["n_prompt_tokens"] = turn.prompt_tokens + turn.decoded
            slot["n_prompt_tokens_processed"] = turn.processed
            slot["n_prompt_tokens_cache"] = 0
            slot["next_token"] = [{"has_next_token": True, "n_remain": -1, "n_decoded": turn.decoded}]
        return web.json_response(slots)

    async def _work(self, request: web.Request, body: bytes) -> web.StreamResponse:
        turn = Turn(prompt_length(body), {"model": self._blob.name, "path": request.path, "request": uuid.uuid4().hex})
        self._turns.append(turn)
        self._folder.note("journal", event="request", **turn.subject)
        try:
            return await self._faulty(request, body, turn)
        finally:
            self._end(turn)

    def _end(self, turn: Turn | None) -> None:
        if turn is not None and turn in self._turns:
            self._turns.remove(turn)
            self._folder.note("journal", event="ended", **turn.subject)

    async def _faulty(self, request: web.Request, body: bytes, turn: Turn) -> web.StreamResponse:
        model, folder = self._blob.name, self._folder
        if error := folder.strike(model, "request_error"):
            return web.json_response({"error": {"message": error["text"]}}, status=error["status"])
        if (crash := folder.strike(model, "crash_serving")) and not crash["chunks"]:
            _die()
        silent = folder.strike(model, "silent", once_per_runner=True)
        if self._wedged or (silent and not silent["chunks"]):
            await self._wedge()
        if slow := folder.strike(model, "slow_first_token"):
            await self._hold(turn, time.monotonic() + slow["seconds"], turn.prompt_tokens)
        if busy := folder.strike(model, "silent_busy"):
            seconds = busy["seconds"] or float("inf")
            await self._hold(turn, time.monotonic() + seconds, busy["prompt_tokens"], "silent_busy")
        return await self._pass(request, body, turn, crash, silent)

    async def _wedge(self) -> None:
        """Never send a byte again, in this runner; only an unload or a hang-up ends it."""
        self._wedged = True
        await asyncio.get_running_loop().create_future()

    async def _hold(self, turn: Turn, until: float, prompt_tokens: int, while_set: str = "") -> None:
        """Look like an engine in prefill: busy, its processed tokens growing, for a time or until the fault is gone."""
        turn.staged, turn.prompt_tokens = True, prompt_tokens
        begun = time.monotonic()
        while time.monotonic() < until:
            if while_set and self._folder.fault(self._blob.name, while_set) is None:
                return
            passed = time.monotonic() - begun
            whole = until - begun if until != float("inf") else passed + 600
            turn.processed = int(prompt_tokens * passed / whole)
            await asyncio.sleep(LOOK)

    async def _pass(
        self,
        request: web.Request,
        body: bytes,
        turn: Turn | None,
        crash: dict[str, Any] | None = None,
        silent: dict[str, Any] | None = None,
    ) -> web.StreamResponse:
        """Forward to the engine and its answer back, event by event where a pace or a fault counts them."""
        headers = {key: value for key, value in request.headers.items() if key.lower() in KEEP_HEADERS}
        url = f"{self._engine}{request.path_qs}"
        async with self._session.request(request.method, url, data=body, headers=headers) as upstream:
            kind = upstream.headers.get("Content-Type", "application/json")
            answer = web.StreamResponse(status=upstream.status, headers={"Content-Type": kind})
            await answer.prepare(request)
            if turn is None or not kind.startswith("text/event-stream"):
                async for chunk in upstream.content.iter_any():
                    await answer.write(chunk)
            else:
                async for event in self._paced(_events(upstream.content.iter_any()), turn):
                    if crash and turn.decoded > crash["chunks"]:
                        _die()
                    if silent and turn.decoded > silent["chunks"]:
                        turn.staged = False
                        await upstream.read()
                        await self._wedge()
                    await answer.write(event)
            self._end(turn)  # before the end is seen: the next thing Ollama does may be to kill this process
            await answer.write_eof()
            return answer

    async def _paced(self, events: AsyncIterator[bytes], turn: Turn) -> AsyncIterator[bytes]:
        begun = time.monotonic()
        async for event in events:
            if rate := self._rate():
                turn.staged, turn.processed = True, turn.prompt_tokens
                await asyncio.sleep(begun + turn.decoded / rate - time.monotonic())
            turn.decoded += 1
            yield event

    def _rate(self) -> float | None:
        """Tokens per second as staged now; None: as fast as the engine is."""
        fault = self._folder.fault(self._blob.name, "tokens_per_second")
        return fault["rate"] if fault else self._blob.tokens_per_second


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Server-sent events, each whole with its blank line."""
    kept = b""
    async for chunk in chunks:
        kept += chunk
        while (end := kept.find(b"\n\n")) >= 0:
            yield kept[: end + 2]
            kept = kept[end + 2 :]
    if kept:
        yield kept


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def prompt_length(body: bytes) -> int:
    """Bytes of the prompt in a request to the engine: about its tokens, as one byte is one token here."""
    asked = json.loads(body)
    prompt = asked.get("prompt") or asked.get("input") or asked.get("messages") or ""
    return len(prompt if isinstance(prompt, str) else json.dumps(prompt))

"""A live daemon in this process, on a free port, before any Ollama: `async with Live.start(url, folder) as live`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from scheduler.core import messages as m
from scheduler.core.state import CoreState
from scheduler.daemon import Daemon, Pace
from scheduler.dispatcher import Witness
from scheduler.reload import Source
from scheduler.settings_read import settings_of

QUALITY, CODER, FAST = "qwen-quality-128k:latest", "qwen2.5-coder:32b-instruct", "qwen-fast:latest"
QUICK = Pace(look=1.0, listing=20.0, memory=1.0, runners=0.5, clocks=5.0, save=5.0, stop=10.0)
DOCUMENTED: dict[str, Any] = {
    "listen": "127.0.0.1:0",
    "memory": {"budget": "38GB"},
    "models": {
        QUALITY: {"size": "35GB", "num_ctx": 131072},
        CODER: {"size": "20GB", "num_ctx": 32768},
        FAST: {"size": "5GB", "num_ctx": 32768},
    },
    "sets": {"quality": [QUALITY], "coding": [CODER, FAST]},
    "phases": {
        "normal": {"sets": ["quality", "coding"]},
        "orchestra": {"sets": ["coding", "quality"], "home": "coding", "settle": "1s"},
    },
    "aliases": {
        "claude-sonnet-4-5": QUALITY,
        "gpt-4": {"model": QUALITY, "class": "agent"},
        "claude-3-5-sonnet": {"model": CODER, "class": "agent"},
        "claude-3-haiku": {"model": FAST, "class": "helper"},
    },
}


class Live:
    """A running daemon with a client session at it, and every fact and order it took, in `steps`."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self.daemon = daemon
        self.folder = folder
        self.steps: list[tuple[m.Fact, list[m.Order]]] = []
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls,
        ollama: str,
        folder: Path,
        pace: Pace = QUICK,
        witness: Witness | None = None,
        source: Source | None = None,
        **settings: Any,
    ) -> AsyncIterator["Live"]:
        """Run a daemon with the documented configuration, `settings` laid over it; ends it in order. `source` is where
        it reads its configuration again."""
        content = {**DOCUMENTED, "ollama": ollama, **settings}
        daemon = Daemon(settings_of(content), folder, "test", pace, source=source)
        live = cls(daemon, folder)
        daemon.witnesses.append(lambda fact, orders, _: live.steps.append((fact, list(orders))))
        if witness is not None:
            daemon.witnesses.append(witness)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(daemon.run())
            waiting = tasks.create_task(daemon.ready.wait())
            await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if running.done():
                running.result()
            try:
                async with aiohttp.ClientSession(live.url, connector=aiohttp.TCPConnector(limit=0)) as session:
                    live._session = session
                    yield live
            finally:
                daemon.stop()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.daemon.port}"

    @property
    def http(self) -> aiohttp.ClientSession:
        """A session whose paths are relative to the daemon."""
        assert self._session is not None
        return self._session

    @property
    def state(self) -> CoreState:
        """The core's memory; read only."""
        return self.daemon.state

    async def until(self, condition: Any, seconds: float = 30.0) -> None:
        """Wait until `condition()` holds; fails with the machine's own words after `seconds`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not condition():
            assert loop.time() < end, f"not within {seconds} s: {self.state.verdict}; {self.present()}"
            await asyncio.sleep(0.02)

    def present(self) -> dict[str, str]:
        """Models not absent, with their state."""
        return {name: self.state.models[name].state for name in self.state.present}

    async def acquainted(self) -> None:
        """Wait until Ollama has told what it has and what is resident."""
        await self.until(lambda: self.state.ollama == "up" and not self.state.looking and self.state.listed is not None)

    async def chat(self, model: str, text: str = "hello", **more: Any) -> tuple[int, Any]:
        """One native chat, not streamed: status and JSON."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": False, **more}
        async with self.http.post("/api/chat", json=body) as answer:
            return answer.status, await answer.json()

    async def status(self) -> dict[str, Any]:
        """/status as a client sees it."""
        async with self.http.get("/status") as answer:
            assert answer.status == 200
            told: dict[str, Any] = await answer.json()
            return told

    def orders(self, kind: type[Any]) -> list[Any]:
        """Every order of one kind so far."""
        return [order for _, orders in self.steps for order in orders if isinstance(order, kind)]

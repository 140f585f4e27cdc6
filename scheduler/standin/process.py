"""Start and stop a stand-in Ollama as its own process: `async with StandIn.start(stage) as standin: standin.url`."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from scheduler.standin.stage import Stage

READY_SECONDS = 20.0
STOP_SECONDS = 5.0
_ROOT = Path(__file__).resolve().parents[2]


class NotReady(RuntimeError):
    """The process did not say in time that it listens."""


class StandIn:
    """A running stand-in: its `url`, `port`, `pid` and `stage`; made by `start`."""

    def __init__(self, stage: Stage, port: int = 0) -> None:
        self.stage = stage
        self.port = port
        self._process: Process | None = None

    @classmethod
    @asynccontextmanager
    async def start(cls, stage: Stage | None = None, *, port: int = 0) -> AsyncIterator["StandIn"]:
        """Start one, wait until it listens, stop it at the end. Raises `NotReady`. `port` 0 takes a free one."""
        standin = cls(stage or Stage.documented(), port)
        try:
            await standin.launch()
            yield standin
        finally:
            await standin.stop()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Its process id; None while it does not run."""
        return None if self._process is None else self._process.pid

    async def launch(self) -> None:
        """Start the process; after a `stop` or `kill` on the same port as before, with empty memory."""
        if self._process is not None:
            raise RuntimeError("the stand-in runs already")
        arguments = ["--port", str(self.port), "--stage", self.stage.as_json(), "--with-parent", str(os.getpid())]
        paths = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scheduler.standin", *arguments),
            stdout=PIPE,
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C in a terminal is for whoever started it, who stops it last
        )
        try:
            self.port = await self._ready(self._process)
        except BaseException:
            await self.kill()
            raise

    async def stop(self) -> int | None:
        """End it by SIGTERM, by SIGKILL if it does not obey; its exit code (None: it did not run)."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()
        return await self._buried()

    async def kill(self) -> int | None:
        """End it at once, as a crash would; its exit code (None: it did not run)."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
        return await self._buried()

    async def events(self) -> dict[str, Any]:
        """What it did so far: `counts` by kind and `events`, oldest first, with monotonic times."""
        return await self._control("GET", "events")

    async def forget_events(self) -> None:
        """Begin the record anew."""
        await self._control("DELETE", "events")

    async def fault(self, kind: str, model: str = "", **more: Any) -> None:
        """Make something go wrong (the kinds and their fields are in `faults.py`)."""
        await self._control("POST", "fault", {"kind": kind, "model": model, **more})

    async def heal(self) -> None:
        """Remove all faults."""
        await self._control("DELETE", "fault")

    async def reset(self) -> None:
        """As good as a fresh one: no faults, every connection cut, nothing resident, an empty record."""
        await self._control("POST", "reset")
        await self.forget_events()

    async def _control(self, method: str, what: str, body: object = None) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.request(method, f"{self.url}/standin/{what}", json=body) as answer,
        ):
            told: dict[str, Any] = await answer.json()
            if answer.status != 200:
                raise ValueError(told.get("error", told))
            return told

    async def _ready(self, process: Process) -> int:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(READY_SECONDS):
                line = await process.stdout.readline()
            return int(json.loads(line)["port"])
        except (TimeoutError, ValueError, KeyError, TypeError) as error:
            raise NotReady(f"the stand-in did not start within {READY_SECONDS:.0f} s; see its stderr") from error

    async def _buried(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.communicate()  # also closes its pipe
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()
        return process.returncode

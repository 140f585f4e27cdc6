"""A real Ollama on a staged 48 GB Mac: `async with RealOllama.start(tmp_path) as ollama:` and talk to `ollama.url`.

Its scheduler, evictor, queue and API are Ollama's own, the tokens come from llama.cpp; device, model sizes, load times
and faults are staged. Clean-up ends every process by its id, orphans included.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.realollama.build import Reason, ollama_binary
from tests.realollama.folder import Folder
from tests.realollama.server import Server, until
from tests.realollama.store import StagedModel, lay_out

__all__ = [
    "CODER",
    "DEVICE_MIB",
    "EXTRA",
    "FAST",
    "QUALITY",
    "STAGED_MODELS",
    "Load",
    "RealOllama",
    "Served",
    "StagedModel",
    "Unavailable",
    "until",
]

DEVICE_MIB = 38_338  # what Metal recommends as working set on a 48 GB M2 Max
QUALITY, CODER, FAST = "qwen-quality-128k:latest", "qwen2.5-coder:32b-instruct", "qwen-fast:latest"
EXTRA = "tiny-extra:latest"
STAGED_MODELS = (
    StagedModel(QUALITY, 35_000_000_000, load_seconds=3.0, num_ctx=131_072),
    StagedModel(CODER, 20_000_000_000, load_seconds=2.0, num_ctx=32_768),
    StagedModel(FAST, 5_000_000_000, load_seconds=1.0, num_ctx=32_768),
    StagedModel(EXTRA, 100_000_000, load_seconds=0.5, num_ctx=4_096),
)

# kind → (the parameter a bare value means, every parameter with its default)
FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "crash_loading": ("", {}),
    "load_error": ("text", {"text": "llama_model_load: error loading model: staged"}),
    "load_never_ends": ("", {}),
    "crash_serving": ("chunks", {"chunks": 0}),
    "silent": ("chunks", {"chunks": 0}),
    "silent_busy": ("seconds", {"seconds": None, "prompt_tokens": 100_000}),
    "slow_first_token": ("seconds", {"seconds": 2.0}),
    "request_error": ("text", {"text": "staged engine error", "status": 500}),
    "tokens_per_second": ("rate", {"rate": 20.0}),
    "free_shrinks": ("mib", {"mib": 8_000}),
}


class Unavailable(Exception):
    """There can be no real Ollama here; the text is the reason."""


@dataclass(frozen=True)
class Load:
    """One load that a runner began: `context` per slot, times monotonic, `ready_at` None while (or if never) loaded."""

    model: str
    context: int
    parallel: int
    mib: float
    pid: int
    at: float
    ready_at: float | None


@dataclass(frozen=True)
class Served:
    """One generation or embedding that reached a runner.

    `ended_at` None while it runs, or if its runner died first (after a hang-up it may be killed before it wrote it).
    """

    model: str
    path: str
    pid: int
    at: float
    ended_at: float | None


class RealOllama:
    """The running stage. Attributes: url, port, pid, log (a file), models (the store's folder)."""

    def __init__(self, server: Server, folder: Folder) -> None:
        self._server, self._folder = server, folder
        self._fault_ids = 0
        self.url, self.port = server.url, server.port
        self.log, self.models = server.log, server.models

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls,
        tmp_path: Path,
        models: Sequence[StagedModel] = STAGED_MODELS,
        device_mib: int = DEVICE_MIB,
        env: Mapping[str, str] | None = None,
    ) -> AsyncIterator["RealOllama"]:
        """Run `ollama serve` with these models under `tmp_path`; `env` is added to its environment.

        Raises Unavailable where no Ollama can be had.
        """
        binary = await asyncio.to_thread(ollama_binary)
        if isinstance(binary, Reason):
            raise Unavailable(binary)
        home = tmp_path / "real-ollama"
        folder = Folder(home / "stage")
        folder.prepare(device_mib, await asyncio.to_thread(lay_out, binary, list(models), home / "models"))
        stage = cls(Server(binary, home, folder, env or {}), folder)
        try:
            await stage._server.start()
            yield stage
        finally:
            await stage.stop()
            shutil.rmtree(home / "models", ignore_errors=True)  # its sparse files look like 60 GB to a backup

    @property
    def pid(self) -> int:
        """Process id of `ollama serve`; RuntimeError while it is not running."""
        return self._server.pid

    @property
    def running(self) -> bool:
        """Whether `ollama serve` runs."""
        return self._server.running

    # what happened

    def loads(self, model: str | None = None) -> list[Load]:
        """Every load that began, oldest first; also one that failed or was killed."""
        lines = self._folder.lines("journal")
        ready = {line["pid"]: line["at"] for line in lines if line["event"] == "ready"}
        keys = ("model", "context", "parallel", "mib", "pid", "at")
        return [
            Load(**{key: line[key] for key in keys}, ready_at=ready.get(line["pid"]))
            for line in lines
            if line["event"] == "load" and model in (None, line["model"])
        ]

    def served(self, model: str | None = None) -> list[Served]:
        """Every generation or embedding request that reached a runner, oldest first."""
        lines = self._folder.lines("journal")
        ended = {line["request"]: line["at"] for line in lines if line["event"] == "ended"}
        return [
            Served(line["model"], line["path"], line["pid"], line["at"], ended.get(line["request"]))
            for line in lines
            if line["event"] == "request" and model in (None, line["model"])
        ]

    def overcommits(self) -> list[dict[str, Any]]:
        """Loads that did not fit the staged device beside what live runners (orphans too) held: must stay empty."""
        return self._folder.lines("overcommit")

    def strikes(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Where a fault took place: `at`, `pid`, `model`, `kind`."""
        return [line for line in self._folder.lines("strikes") if kind in (None, line["kind"])]

    def evictions(self) -> list[str]:
        """Log lines in which Ollama's own evictor fired, by memory or by model count: must stay empty behind us."""
        return self._said("evicting", "max runners achieved, unloading")

    def reloads(self) -> list[str]:
        """Log lines in which Ollama reloaded a resident model because a request's runner options differ."""
        return self._said("msg=reloading")

    def _said(self, *texts: str) -> list[str]:
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if any(text in line for text in texts)]

    def runners(self) -> list[psutil.Process]:
        """The runners that are alive, orphans included."""
        return [psutil.Process(holder.pid) for holder in self._folder.holders()]

    def runner_url(self, model: str) -> str:
        """Base URL of the model's runner (`/slots`, `/health`); LookupError when it has none."""
        for holder in self._folder.holders():
            if holder.model == model:
                return f"http://127.0.0.1:{holder.port}"
        raise LookupError(f"no runner of {model}")

    def free_mib(self) -> float:
        """What is free on the staged device now."""
        return self._folder.free_mib()

    # faults

    def fault(self, model: str, *, times: int | None = None, **kinds: Any) -> None:
        """Stage faults for a model (or `*`) from now on: `fault(FAST, silent=True)`, `fault(FAST, crash_serving=3)`.

        A value is True (defaults), the main parameter, or a dict of parameters (see FAULTS). `times`: how many loads,
        requests, or (for `silent`) runners are struck before it is over; None: until cleared.
        crash_loading: dies half-way. load_error: says `text`, exits 1. load_never_ends: loads until cleared.
        crash_serving: dies after `chunks` of an answer. silent: after `chunks` never a byte again from that runner,
        its engine idle (a wedge, healed only by an unload). silent_busy: an honest long prefill, for `seconds` or
        until cleared, then the answer. slow_first_token: the same for `seconds`. request_error: the engine's own
        error. tokens_per_second: pace. free_shrinks: MiB of the device taken by others (give it for `*`).
        """
        faults = self._folder.faults()
        for kind, value in kinds.items():
            if kind not in FAULTS:
                raise TypeError(f"no fault {kind!r}; there are {', '.join(FAULTS)}")
            main, parameters = FAULTS[kind]
            given = value if isinstance(value, dict) else {} if value is True else {main: value}
            self._fault_ids += 1
            faults.setdefault(model, {})[kind] = {"id": self._fault_ids, "times": times, **parameters, **given}
        self._folder.write_faults(faults)

    def clear_faults(self, *kinds: str) -> None:
        """End these kinds of fault for all models, or all of them. A runner that is wedged stays wedged."""
        left = {
            model: {kind: fault for kind, fault in faults.items() if kinds and kind not in kinds}
            for model, faults in self._folder.faults().items()
        }
        self._folder.write_faults(left)

    # its life

    async def kill9(self) -> None:
        """kill -9 of `ollama serve`: its runners stay as orphans and keep their memory."""
        await self._server.kill()

    def freeze(self) -> None:
        """SIGSTOP: Ollama accepts connections and answers nothing, its runners go on; until `thaw` or the end."""
        psutil.Process(self.pid).suspend()

    def thaw(self) -> None:
        """SIGCONT after `freeze`."""
        psutil.Process(self.pid).resume()

    async def restart(self) -> None:
        """End `ollama serve` in order if it runs (its runners go too) and start it again on the same port."""
        await self._server.end()
        await self._server.start()

    async def stop(self) -> None:
        """End it and everything it started."""
        await self._server.end()
        left = self.runners()
        for runner in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                runner.kill()
        await until(lambda: not self._folder.holders(), what="runners end on SIGKILL")

    # bare calls, past any daemon

    async def ps(self) -> dict[str, dict[str, Any]]:
        """`/api/ps`, by model name."""
        async with aiohttp.ClientSession(self.url) as session, session.get("/api/ps") as answer:
            return {entry["name"]: entry for entry in (await answer.json())["models"]}

    async def load(self, model: str, **options: Any) -> None:
        """Load a model for ever by Ollama's own preload request, past any daemon."""
        await self._prompt_less({"model": model, "keep_alive": -1, "options": options})

    async def unload(self, model: str) -> None:
        """Unload a model by Ollama's own request and wait until its runner is gone."""
        await self._prompt_less({"model": model, "keep_alive": 0})
        await until(lambda: all(holder.model != model for holder in self._folder.holders()), what=f"{model} leaves")

    async def _prompt_less(self, body: dict[str, Any]) -> None:
        async with aiohttp.ClientSession(self.url) as session, session.post("/api/generate", json=body) as answer:
            if answer.status != 200:
                raise RuntimeError(f"{answer.status} {await answer.text()}")
            await answer.read()

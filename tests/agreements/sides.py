"""The two Ollamas as the player sees them: the same stage on each, the same ways to look, to hold and to break."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from scheduler.standin.process import StandIn
from scheduler.standin.stage import Stage, StagedModel as StandInModel
from tests.realollama.stage import RealOllama, StagedModel, until

GB = 10**9
WORDS = 12
LOAD_ERROR = "llama-server process has terminated: exit status 1: error loading model: staged"
MODELS = (
    StagedModel("large:latest", 35 * GB, load_seconds=0.3, num_ctx=8192, words=WORDS, tools=True),
    StagedModel("middle:latest", 20 * GB, load_seconds=0.3, num_ctx=8192, words=WORDS, tools=True),
    StagedModel("small:latest", 5 * GB, load_seconds=0.2, num_ctx=8192, words=WORDS, tools=True),
    StagedModel("tiny:1b", GB // 10, load_seconds=0.2, num_ctx=None, words=WORDS),
    StagedModel("embed:latest", GB // 10, load_seconds=0.2, num_ctx=2048, embedding=True),
)


@dataclass(frozen=True)
class Machine:
    """How this Ollama was started; `keep_alive` in seconds."""

    parallel: int = 1
    most_models: int = 3
    queue: int = 512
    keep_alive: float = 300.0
    load_timeout: float = 300.0


STAGES = {
    "plain": Machine(),
    "narrow": Machine(parallel=2, most_models=2, queue=2, keep_alive=1.5),
    "hasty": Machine(load_timeout=0.8),
}

FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # the word of a scenario → what it is on the stage of the real one (`$` stands for the number), and in the stand-in
    "load error": (
        {"load_error": {"text": "error loading model: staged"}},
        {"kind": "load_error", "message": LOAD_ERROR},
    ),
    "load crash": ({"crash_loading": True}, {"kind": "load_error"}),
    "crash": ({"crash_serving": "$"}, {"kind": "crash_serving", "after": "$"}),
    "silent": ({"silent": True}, {"kind": "silent"}),
    "request error": ({"request_error": {"text": "staged", "status": 500}}, {"kind": "request_error"}),
    "slow": ({"tokens_per_second": "$"}, {"kind": "slow_tokens", "per_second": "$"}),
}


class Side(Protocol):
    """One Ollama. `busy` and `loading` speak of what is with the runners now."""

    name: str

    @property
    def url(self) -> str: ...
    async def reset(self) -> None: ...
    async def busy(self, model: str = "") -> int: ...
    async def loading(self, model: str) -> bool: ...
    async def hold(self, model: str) -> None: ...
    async def hold_loads(self, model: str) -> None: ...
    async def release(self) -> None: ...
    async def fault(self, model: str, kind: str, number: int) -> None: ...
    async def restart(self) -> None: ...
    async def happened(self) -> list[str]: ...


class Real:
    """A real Ollama on its stage."""

    name = "real"

    def __init__(self, ollama: RealOllama) -> None:
        self._ollama = ollama
        self._names: set[str] = set()
        self._mark()

    @property
    def url(self) -> str:
        return self._ollama.url

    def _mark(self) -> None:
        self._loads = len(self._ollama.loads())
        self._served = len(self._ollama.served())
        self._log = self._ollama.log.stat().st_size

    async def reset(self) -> None:
        self._ollama.clear_faults()
        if not await self._emptied():
            await self._ollama.restart()
        await until(lambda: not self._ollama.runners(), what="the runners of the scenario leave")
        self._mark()

    async def _emptied(self) -> bool:
        for name in await self._ollama.ps():
            try:
                await self._ollama.unload(name)
            except (RuntimeError, TimeoutError):
                return False  # deleted while resident, or wedged
        return True

    async def busy(self, model: str = "") -> int:
        alive = {process.pid for process in self._ollama.runners()}
        served = self._ollama.served()[self._served :]
        return sum(s.ended_at is None and s.pid in alive and s.model.startswith(model) for s in served)

    async def loading(self, model: str) -> bool:
        alive = {process.pid for process in self._ollama.runners()}
        loads = self._ollama.loads()[self._loads :]
        return any(_short(load.model) == model and load.ready_at is None and load.pid in alive for load in loads)

    async def hold(self, model: str) -> None:
        self._ollama.fault(_full(model), silent_busy={"seconds": None, "prompt_tokens": 100})

    async def hold_loads(self, model: str) -> None:
        self._ollama.fault(_full(model), load_never_ends=True)

    async def release(self) -> None:
        self._ollama.clear_faults()

    async def fault(self, model: str, kind: str, number: int) -> None:
        self._ollama.fault(_full(model), **_with(FAULTS[kind][0], number))

    async def restart(self) -> None:
        await self._ollama.restart()

    async def happened(self) -> list[str]:
        loads = [f"{_short(load.model)}@{load.context}x{load.parallel}" for load in self._ollama.loads()[self._loads :]]
        served = [_short(each.model) for each in self._ollama.served()[self._served :]]
        with self._ollama.log.open(errors="replace") as log:
            log.seek(self._log)
            thrown, reloads = _expelled(log.read())
        return _told(loads, thrown, reloads, served)


class Played:
    """The stand-in."""

    name = "stand-in"

    def __init__(self, standin: StandIn) -> None:
        self._standin = standin
        self._before: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return self._standin.url

    async def reset(self) -> None:
        await self._standin.reset()
        self._before = []

    async def _events(self) -> list[dict[str, Any]]:
        return [*self._before, *(await self._standin.events())["events"]]

    async def busy(self, model: str = "") -> int:
        events = [event for event in await self._events() if str(event.get("model", "")).startswith(model)]
        return sum((event["kind"] == "serving") - (event["kind"] == "served") for event in events)

    async def loading(self, model: str) -> bool:
        ends = ("loaded", "load_failed", "load_aborted")
        events = [event for event in await self._events() if _short(str(event.get("model", ""))) == model]
        return sum((event["kind"] == "load") - (event["kind"] in ends) for event in events) > 0

    async def hold(self, model: str) -> None:
        await self._standin.fault("slow_first_token", model, seconds=3600)

    async def hold_loads(self, model: str) -> None:
        await self._standin.fault("load_never_ends", model)

    async def release(self) -> None:
        await self._standin.heal()

    async def fault(self, model: str, kind: str, number: int) -> None:
        told = _with(FAULTS[kind][1], number)
        await self._standin.fault(told.pop("kind"), model, **told)

    async def restart(self) -> None:
        self._before = await self._events()
        await self._standin.stop()
        await self._standin.launch()

    async def happened(self) -> list[str]:
        parallel = self._standin.stage.num_parallel
        names = {model.key: _short(model.name) for model in self._standin.stage.models}
        events = await self._events()
        loads, thrown, reloads, served = [], [], [], []
        for event in events:
            model = _short(str(event.get("model", "")))
            blob = names.get(str(event.get("key", "")), model)
            if event["kind"] == "load":
                loads.append(f"{blob}@{event['num_ctx']}x{1 if blob == 'embed' else parallel}")
            elif event["kind"] == "evict":
                thrown.append(f"{model} ({'count' if 'models are loaded' in event['because'] else 'memory'})")
            elif event["kind"] == "reload":
                reloads.append(model)
            elif event["kind"] == "serving":
                served.append(blob)
        return _told(loads, thrown, reloads, served)


@asynccontextmanager
async def both(stage: str, home: Path) -> AsyncIterator[tuple[Real, Played]]:
    """The same machine twice. Raises `tests.realollama.stage.Unavailable`."""
    machine = STAGES[stage]
    environment = {
        "OLLAMA_NUM_PARALLEL": f"{machine.parallel}",
        "OLLAMA_MAX_LOADED_MODELS": f"{machine.most_models}",
        "OLLAMA_MAX_QUEUE": f"{machine.queue}",
        "OLLAMA_KEEP_ALIVE": f"{machine.keep_alive}s",
        "OLLAMA_LOAD_TIMEOUT": f"{machine.load_timeout}s",
    }
    async with RealOllama.start(home, MODELS, env=environment) as real, StandIn.start(played_stage(machine)) as standin:
        yield Real(real), Played(standin)


def played_stage(machine: Machine) -> Stage:
    """The stand-in's form of the stage."""
    models = tuple(
        StandInModel(
            model.name,
            model.size_bytes,
            load_seconds=model.load_seconds,
            unload_seconds=0.01,
            tokens_per_second=2000.0,
            prefill_tokens_per_second=100_000.0,
            answer_tokens=WORDS,
            num_ctx=model.num_ctx,
            trained_ctx=262_144,
            layers=1,
            embedding=model.embedding,
            tools=model.tools,
        )
        for model in MODELS
    )
    return replace(
        Stage(models),
        num_parallel=machine.parallel,
        max_loaded_models=machine.most_models,
        max_queue=machine.queue,
        keep_alive_seconds=machine.keep_alive,
        load_timeout_seconds=machine.load_timeout,
    )


def _told(loads: list[str], thrown: list[str], reloads: list[str], served: list[str]) -> list[str]:
    return [
        f"loads: {', '.join(loads) or '-'}",
        f"thrown out: {', '.join(thrown) or '-'}; reloads: {', '.join(reloads) or '-'}",
        f"reached a runner: {', '.join(served) or '-'}",
    ]


_LINES = re.compile(
    r"msg=(?:(reloading)|\"(?:(max runners achieved)|[^\"]*(predicted to exceed)|(resetting model to expire))[^\"]*\")"
    r"(?:.*?runner\.name=(\S+))?"
)


def _expelled(log: str) -> tuple[list[str], list[str]]:
    """Who had to leave for another (and why), and who for its own reload, from Ollama's log (server/sched.go)."""
    thrown, reloads, why = [], [], ""
    for reloading, count, memory, victim, name in _LINES.findall(log):
        if reloading:
            reloads.append(_short(name))
        why = "reload" if reloading else "count" if count else "memory" if memory else why
        if victim and why in ("count", "memory"):
            thrown.append(f"{_short(name)} ({why})")
    return thrown, reloads


def _short(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(":latest")


def _full(model: str) -> str:
    return model if ":" in model else f"{model}:latest"


def _with(told: Mapping[str, Any], number: int) -> dict[str, Any]:
    return {key: number if value == "$" else value for key, value in told.items()}

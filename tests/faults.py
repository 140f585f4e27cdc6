"""The faults, as a table: how each is staged on the real Ollama, what clients hear, what `/status` says meanwhile.

A fault is staged by an async generator: up to its `yield` the fault is made, after it the fault is ended (nothing to do
where it ends by itself). Whoever runs one (`Scene.suffer`) then demands that every request was answered or got an error
of its dialect, that `/status` named the trouble while it lasted and not after it, and that the next request is served,
all by one daemon that is never restarted.
"""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import psutil

from tests.apart import Apart
from tests.heard import Heard, ask
from tests.live import CODER, FAST, QUALITY
from tests.realollama.between import Between
from tests.realollama.stage import EXTRA, RealOllama, StagedModel

STAGED = (
    StagedModel(QUALITY, 35_000_000_000, load_seconds=0.4, num_ctx=131_072),
    StagedModel(CODER, 20_000_000_000, load_seconds=0.4, num_ctx=32_768),
    StagedModel(FAST, 5_000_000_000, load_seconds=0.2, num_ctx=32_768),
    StagedModel(EXTRA, 100_000_000, load_seconds=0.2, num_ctx=4_096),
)
SECONDS = 40.0  # until something must have happened
DIALECTS = ("native", "openai", "anthropic")
OUT_OF_MEMORY = """\
ggml_metal_buffer_type_alloc_buffer: error: failed to allocate buffer, size = 20480.00 MiB
alloc_tensor_range: failed to allocate MTL0 buffer of size 21474836480
llama_model_load: error loading model: unable to allocate MTL0 buffer
llama_model_load_from_file_impl: failed to load model"""  # llama.cpp, ggml-metal and llama-model
NO_ROUTE = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 18\r\n\r\n404 page not found"


@dataclass(frozen=True)
class Suffered:
    """How one fault went."""

    heard: tuple[str, ...]
    wrong: tuple[str, ...]  # what should not have been heard, or was not
    recovery: float  # seconds from the fault's end until all is well and a new request is served


@dataclass
class Scene:
    """The stage: a real Ollama, the wire before it, and one daemon that lives through everything."""

    ollama: RealOllama
    wire: Between
    daemon: Apart
    turn: int = 0  # how often a fault was suffered; each takes another dialect
    asked: list[asyncio.Task[Heard]] = field(default_factory=list)

    def ask(self, model: str = FAST, **more: Any) -> None:
        """One more client, whose answer counts."""
        dialect = DIALECTS[(self.turn + len(self.asked)) % len(DIALECTS)]
        self.asked.append(asyncio.ensure_future(ask(self.daemon.port, dialect, model, **more)))

    async def serve(self, model: str = FAST) -> None:
        """`model` is there and answers: the calm before, or after, the fault."""
        heard = await ask(self.daemon.port, "native", model)
        assert heard.whole, heard

    async def told(self, condition: Callable[[dict[str, Any]], object], what: str) -> dict[str, Any]:
        """The first /status that meets `condition`."""
        deadline = time.monotonic() + SECONDS
        status: dict[str, Any] = {}
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, TimeoutError):
                status = await self.daemon.status()
                if condition(status):
                    return status
            await asyncio.sleep(0.03)
        raise AssertionError(f"/status never told {what}: {judgement(status)}")

    async def streaming(self) -> None:
        """Some words of an answer have come."""
        await self.told(lambda status: any(row["tokens"] > 2 for row in status["requests"]), "of an answer under way")

    async def suffer(self, fault: "Fault") -> Suffered:
        """Live through `fault` once; AssertionError where it is not told, or things do not get well again."""
        self.turn += 1
        self.asked.clear()
        await self.calm(fault)
        before = await self.daemon.status()
        failed, healed = _failed(before), before["healed"]
        staging = fault.staged(self)
        await anext(staging)
        if fault.says:
            told = await self.told(  # or it was over before anybody could look, and that is counted
                lambda status: (
                    re.search(fault.says, judgement(status))
                    or status["healed"] > healed
                    or _failed(status) > failed
                    or "vanished" in str(status["models"])  # Ollama noticed it before us
                ),
                repr(fault.says),
            )
            if re.search(fault.says, judgement(told)):
                assert told["verdict"] in fault.verdicts, f"{told['verdict']}: {judgement(told)}"
        else:  # over before anybody can look: it is counted
            await self.told(lambda status: _failed(status) > failed, "of a request that failed")
        ended = time.monotonic()
        with contextlib.suppress(StopAsyncIteration):
            await anext(staging)
        heard = await asyncio.gather(*self.asked)
        await self.calm(fault)
        wrong = [str(each) for each in heard if not re.fullmatch(fault.sees, str(each))]
        if not any(re.fullmatch(fault.first, str(each)) for each in heard):
            wrong.append(f"nobody heard {fault.first!r}: {', '.join(map(str, heard))}")
        return Suffered(tuple(map(str, heard)), tuple(wrong), time.monotonic() - ended)

    async def calm(self, fault: "Fault") -> None:
        """A request is served, and /status has nothing to complain of any more."""
        await self.serve()
        says = fault.says or "never said"
        await self.told(
            lambda status: status["verdict"] in ("ok", "busy") and not re.search(says, judgement(status)),
            "that all is well",
        )

    async def restore(self) -> None:
        """Whatever a fault that failed has left behind."""
        for task in self.asked:
            task.cancel()
        self.wire.strikes.clear()
        self.ollama.clear_faults()
        self.daemon.free_disk()
        self.daemon.limit_files(None)
        if not self.ollama.running:
            await self.ollama.restart()


def _failed(status: dict[str, Any]) -> int:
    """Requests that failed in the last hour."""
    return sum(outcomes.get("failed", 0) for outcomes in status["counters"]["hour"]["requests"].values())


def judgement(status: dict[str, Any]) -> str:
    """What /status says is wrong, in one text."""
    if not status:
        return "no answer"
    needs = [f"{need['what']} ({need['type_this']})" for need in status["needs_you"]]
    troubles = [f"{model['name']}: {model['trouble']}" for model in status["models"] if model["trouble"]]
    return " | ".join([status["verdict"], status["headline"], *needs, *troubles, *status["warnings"]])


@dataclass(frozen=True)
class Fault:
    """One row: `sees` is what each client may hear, `first` what at least one hears (regular expressions over
    `str(Heard)`), `says` what /status says while it lasts and no longer
    (empty: it is over at once, and counted as a failed request), `verdicts` its verdict then."""

    name: str
    staged: Callable[[Scene], AsyncIterator[None]]
    sees: str
    says: str
    recovers: str
    first: str = ".*"
    verdicts: tuple[str, ...] = ("degraded", "stuck", "changing", "busy")


FAULTS: list[Fault] = []


def fault(**row: Any) -> Callable[[Callable[[Scene], AsyncIterator[None]]], Callable[[Scene], AsyncIterator[None]]]:
    """Put the generator that stages a fault into the table; its name, in words, is the fault's."""

    def enter(staged: Callable[[Scene], AsyncIterator[None]]) -> Callable[[Scene], AsyncIterator[None]]:
        FAULTS.append(Fault(staged.__name__.replace("_", " "), staged, **row))
        return staged

    return enter


# --- Ollama itself -----------------------------------------------------------------------------------------------


@fault(sees="whole", says="does not answer", recovers="knocked at each second; the waiting served")
async def ollama_absent(scene: Scene) -> AsyncIterator[None]:
    await scene.ollama.stop()
    scene.ask()
    scene.ask()
    yield
    await scene.ollama.restart()


@fault(
    sees="whole|broken: .+",
    first="broken: .+",
    says="does not answer",
    recovers="what is resident is read; the waiting are served by a new load",
)
async def ollama_restarted_in_mid_stream(scene: Scene) -> AsyncIterator[None]:
    scene.ollama.fault(FAST, tokens_per_second=20)
    scene.ask(words=50)
    await scene.streaming()
    scene.ask()
    await scene.ollama.stop()
    scene.ollama.clear_faults()
    yield
    await scene.ollama.restart()


@fault(
    sees="whole",
    says="left behind hold .*kill ",
    recovers="counted until they are gone; then the waiting are served",
)
async def orphans(scene: Scene) -> AsyncIterator[None]:
    await scene.serve(QUALITY)
    await scene.ollama.kill9()
    left = scene.ollama.runners()
    await scene.told(lambda status: status["ollama"]["state"] == "down", "that Ollama is away")
    await scene.ollama.restart()
    scene.ask(CODER)
    yield
    for orphan in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            orphan.kill()


@fault(sees="whole", says="does not answer: .*no answer to /api/ps|/api/ps", recovers="read again until it answers")
async def ps_slow(scene: Scene) -> AsyncIterator[None]:
    scene.wire.strike("/api/ps", delay=30.0)
    scene.ask()
    yield
    scene.wire.strikes.clear()


@fault(sees="whole", says="/api/ps", recovers="what it said is believed again at the next reading")
async def ps_without_rows(scene: Scene) -> AsyncIterator[None]:
    scene.wire.strike("/api/ps", edit=lambda _: b'{"models":[]}')
    await scene.told(lambda status: not any(m["state"] == "ready" for m in status["models"]), "that it vanished")
    scene.ask()
    yield
    scene.wire.strikes.clear()


@fault(sees="whole", says="/api/ps", recovers="read again until it makes sense")
async def ps_nonsense(scene: Scene) -> AsyncIterator[None]:
    scene.wire.strike("/api/ps", edit=lambda body: body[: len(body) // 2] + b'"\\ud800')
    scene.ask()
    yield
    scene.wire.strikes.clear()


@fault(sees="whole", says="/api/ps", recovers="the sizes are believed again once they can be true")
async def ps_absurd_sizes(scene: Scene) -> AsyncIterator[None]:
    def swollen(body: bytes) -> bytes:
        told = json.loads(body)
        for row in told["models"]:
            row["size"] = row["size_vram"] = 10**17
        return json.dumps(told).encode()

    scene.wire.strike("/api/ps", edit=swollen)
    scene.ask()
    yield
    scene.wire.strikes.clear()


@fault(sees="whole", says="/api/ps", recovers="asked again until it is there")
async def ps_endpoint_missing(scene: Scene) -> AsyncIterator[None]:
    scene.wire.strike("/api/ps", answer=NO_ROUTE)
    scene.ask()
    yield
    scene.wire.strikes.clear()


@fault(sees="whole", says="cannot show fresh", recovers="asked again with each list of models")
async def show_endpoint_missing(scene: Scene) -> AsyncIterator[None]:
    scene.wire.strike("/api/show", answer=NO_ROUTE)
    fresh = f"fresh-{scene.turn}:latest"  # one whose details are not known yet
    async with aiohttp.ClientSession(scene.ollama.url, raise_for_status=True) as ollama:
        making = {"model": fresh, "from": EXTRA, "parameters": {"temperature": scene.turn / 100}, "stream": False}
        await (await ollama.post("/api/create", json=making)).read()
        scene.ask(fresh)
        yield
        scene.wire.strikes.clear()
        await asyncio.gather(*scene.asked)
        await scene.told(lambda status: not re.search("cannot show", judgement(status)), "that it can show it")
        await (await ollama.post("/api/generate", json={"model": fresh, "keep_alive": 0})).read()
        await ollama.delete("/api/delete", json={"model": fresh})


# --- a load ------------------------------------------------------------------------------------------------------


@fault(sees="whole", says="staged: bad magic|terminated", recovers="tried again after a pause")
async def load_fails(scene: Scene) -> AsyncIterator[None]:
    scene.ollama.fault(QUALITY, load_error="llama_model_load: error loading model: staged: bad magic", times=1)
    scene.ask(QUALITY)
    scene.ask(QUALITY)
    yield


@fault(sees="whole", says="out.of.memory|failed to allocate", recovers="what is resident is read; tried again")
async def out_of_memory_at_load(scene: Scene) -> AsyncIterator[None]:
    scene.ollama.fault(QUALITY, load_error=OUT_OF_MEMORY, times=1)
    scene.ask(QUALITY)
    scene.ask()
    yield


@fault(sees="whole", says="over 8 s", recovers="abandoned at `load.limit` and tried again")
async def load_without_end(scene: Scene) -> AsyncIterator[None]:
    scene.ollama.fault(QUALITY, load_never_ends=True, times=1)
    scene.ask(QUALITY)
    yield


@fault(sees="whole", says="terminated|signal: killed|killed", recovers="tried again after a pause")
async def crash_while_loading(scene: Scene) -> AsyncIterator[None]:
    scene.ollama.fault(QUALITY, crash_loading=True, times=1)
    scene.ask(QUALITY)
    yield


# --- a runner ----------------------------------------------------------------------------------------------------


@fault(sees="whole", says="stalled: .*engine idle", recovers="unloaded and loaded again; the untouched are sent again")
async def silent_runner(scene: Scene) -> AsyncIterator[None]:
    scene.ollama.fault(FAST, silent=0, times=1)
    scene.ask()
    scene.ask()
    yield


@fault(
    sees="whole|broken: .+",
    first="broken: .+",
    says="stalled: .*engine idle",
    recovers="unloaded and loaded again; who had got bytes gets the error",
)
async def runner_falls_silent_in_mid_answer(scene: Scene) -> AsyncIterator[None]:
    scene.ollama.fault(FAST, silent=3, times=1)
    scene.ask(words=20)
    await scene.streaming()
    scene.ask()
    yield


@fault(
    sees="whole|(500|broken:) .*(unexpectedly stopped|before its end).*",
    first="(500|broken:) .+",
    says="runner died",
    recovers="unloaded and loaded again by us, before the next request is sent",
)
async def crash_while_serving(scene: Scene) -> AsyncIterator[None]:
    scene.ollama.fault(FAST, crash_serving=3, times=1)
    scene.ask(words=20)
    scene.ask()
    yield


@fault(
    sees="whole|500 .*unexpectedly stopped.*",
    first="500 .*unexpectedly stopped.*",
    says="runner died",
    recovers="unloaded and loaded again by us, before the next request is sent",
)
async def crash_before_the_first_byte(scene: Scene) -> AsyncIterator[None]:
    scene.ollama.fault(FAST, crash_serving=0, times=1)
    scene.ask()
    scene.ask()
    yield


@fault(sees="whole", says="runner died", recovers="unloaded and loaded again by us before anybody is sent to it")
async def crash_while_idle(scene: Scene) -> AsyncIterator[None]:
    for runner in scene.ollama.runners():
        runner.kill()
    yield
    scene.ask()


@fault(sees="whole", says="1 running", recovers="nothing to mend: a busy engine is never called stalled")
async def slow_first_token(scene: Scene) -> AsyncIterator[None]:
    scene.ollama.fault(FAST, slow_first_token=2.5, times=1)
    scene.ask()
    scene.ask()
    yield


@fault(
    sees="whole|500 .*out of memory.*",
    first="500 .*out of memory.*",
    says="",
    recovers="Ollama expires every model: what is resident is read before the next is sent",
)
async def out_of_memory_while_serving(scene: Scene) -> AsyncIterator[None]:
    scene.ollama.fault(FAST, request_error={"text": "Compute error: out of memory", "status": 500}, times=1)
    scene.ask()
    scene.ask()
    yield


# --- the wire ----------------------------------------------------------------------------------------------------

WORK = "/api/chat|/v1/chat/completions|/v1/messages"


@fault(sees="whole|broken: .+", first="broken: .+", says="", recovers="the runner is looked at; the next is served")
async def truncated_chunk(scene: Scene) -> AsyncIterator[None]:
    scene.wire.strike(WORK, times=1, cut=150)
    scene.ask(words=20)
    scene.ask()
    yield


@fault(sees="whole|502 .+", first="502 .+", says="", recovers="as above")
async def truncated_json(scene: Scene) -> AsyncIterator[None]:
    scene.wire.strike(WORK, times=1, edit=lambda body: body[:-40])
    scene.ask(stream=False)
    scene.ask()
    yield


@fault(sees="whole|502 .+", first="502 .+", says="", recovers="as above")
async def answer_in_one_piece_cut_off(scene: Scene) -> AsyncIterator[None]:
    scene.wire.strike(WORK, times=1, cut=150)
    scene.ask(stream=False)
    scene.ask()
    yield


@fault(sees="whole|(502|broken:) .+", first="(502|broken:) .+", says="", recovers="as above")
async def reset_after_the_head(scene: Scene) -> AsyncIterator[None]:
    scene.wire.strike(WORK, times=1, cut=0, end="reset")
    scene.ask(words=20)
    scene.ask()
    yield


# --- our own machine ---------------------------------------------------------------------------------------------


@fault(sees="whole", says="journal", recovers="a new file, with its own snapshot, begins when there is room")
async def disk_full_for_the_journal(scene: Scene) -> AsyncIterator[None]:
    scene.daemon.fill_disk()
    scene.ask()
    scene.ask()
    yield
    scene.daemon.free_disk()


@fault(
    sees="whole|503 .+",
    first="503 .+",
    says="journal",
    recovers="bodies that do not fit are refused; the next is kept again",
)
async def disk_full_for_bodies(scene: Scene) -> AsyncIterator[None]:
    scene.ollama.fault(FAST, slow_first_token=1.5, times=1)
    scene.daemon.fill_disk()
    scene.ask()
    scene.ask(text="x" * 150_000)
    scene.ask(text="x" * 150_000)
    await asyncio.wait(scene.asked[1:], timeout=SECONDS)  # before there is room again
    yield
    scene.daemon.free_disk()


@fault(sees="whole|503 .+", says="too many open files|Too many open files", recovers="as soon as there are some again")
async def file_descriptors_exhausted(scene: Scene) -> AsyncIterator[None]:
    scene.daemon.limit_files(8)
    for _ in range(16):
        scene.ask()
    yield
    scene.daemon.limit_files(None)

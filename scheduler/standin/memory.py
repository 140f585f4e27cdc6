"""Who is resident: Ollama's scheduler (server/sched.go of 0.32), simplified but true where a front can see it."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from scheduler.standin.faults import Events, Fault, Faults
from scheduler.standin.refusal import Refusal
from scheduler.standin.stage import Stage, StagedModel

RELOADING_OPTIONS = ("num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict", "shift")
BUSY = "server busy, please try again.  maximum pending requests exceeded"
LOAD_FAILED = "llama-server process has terminated: signal: killed"
GIVEN_UP = "timed out waiting for llama-server to start - "


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """What a request asks of the runner itself; any difference means a reload."""

    num_ctx: int
    rest: frozenset[tuple[str, object]] = frozenset()


@dataclass(eq=False)
class Runner:
    """One resident model. `keep` is the seconds it stays once idle; `expires` is wall-clock seconds."""

    model: StagedModel
    options: RunnerOptions
    keep: float
    slots: asyncio.Semaphore
    vram: int
    expires: float
    requests: int = 0
    leaving: bool = False
    crashed: bool = False
    silent: bool = False
    timer: asyncio.TimerHandle | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def serves(self, options: RunnerOptions) -> bool:
        """Whether it can take a request with these options without a reload."""
        return not self.leaving and not self.crashed and self.options == options


@dataclass(eq=False)
class Ask:
    """One request that waits for a runner; `gone` says that its client left."""

    model: StagedModel
    options: RunnerOptions
    keep: float | None
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    runner: Runner | None = None
    refusal: Refusal | None = None


class Memory:
    """All runners and the one line of requests that wait for a load. `run` must be running."""

    def __init__(self, stage: Stage, faults: Faults, events: Events, tasks: asyncio.TaskGroup) -> None:
        self.stage = stage
        self.runners: dict[str, Runner] = {}
        self._faults = faults
        self._events = events
        self._tasks = tasks
        self._own: set[asyncio.Task[None]] = set()
        self._pending: asyncio.Queue[Ask] = asyncio.Queue()
        self._loading_size = 0

    def start(self) -> None:
        """Begin to place requests."""
        self._spawn(self._place_in_turn())

    def close(self) -> None:
        """Stop everything it does."""
        for runner in self.runners.values():
            if runner.timer is not None:
                runner.timer.cancel()
        for task in self._own:
            task.cancel()

    @asynccontextmanager
    async def lease(self, model: StagedModel, options: RunnerOptions, keep: float | None) -> AsyncIterator[Runner]:
        """A runner for one request, loaded first if need be; raises `Refusal`. Leaving early aborts its load."""
        runner = self.runners.get(model.key)
        if runner is None or not runner.serves(options):
            runner = await self._wait_for(Ask(model, options, keep))
        else:
            self._lend(runner, keep)
        try:
            yield runner
        finally:
            self._take_back(runner)

    @asynccontextmanager
    async def slot(self, runner: Runner) -> AsyncIterator[None]:
        """One of the runner's places; a wait for it is noted, since a good front never causes one."""
        if runner.slots.locked():
            self._events.note("queued", model=runner.model.name)
        await runner.slots.acquire()
        self._events.note("serving", model=runner.model.name, key=runner.model.key)
        wedged = False
        try:
            yield
        except (asyncio.CancelledError, ConnectionError):
            wedged = self._faults.strike("wedge", runner.model.name) is not None
            if wedged:
                self._events.note("wedge", model=runner.model.name)
            raise
        finally:
            self._events.note("served", model=runner.model.name)
            if not wedged:
                runner.slots.release()

    def expire(self, model: StagedModel) -> None:
        """Unload as soon as idle; nothing happens to a model that is still loading, or absent."""
        runner = self.runners.get(model.key)
        if runner is not None:
            self._let_go(runner)

    def elsewhere(self, model: StagedModel, options: RunnerOptions) -> Runner:
        """What answers for a remote model: it takes no memory here, and as many requests as come."""
        return Runner(model, options, 0.0, asyncio.Semaphore(1000), 0, 0.0)

    def forget(self) -> None:
        """Everything resident is gone at once, as after a restart of Ollama."""
        for runner in list(self.runners.values()):
            self._drop(runner, "the stand-in was told to forget")

    # One request after the other, as Ollama's processPending does it.

    async def _wait_for(self, ask: Ask) -> Runner:
        if self._pending.qsize() >= self.stage.max_queue:
            raise Refusal(503, BUSY)
        self._pending.put_nowait(ask)
        try:
            await ask.settled.wait()
        except asyncio.CancelledError:
            ask.gone.set()
            if ask.runner is not None:
                self._take_back(ask.runner)
            raise
        if ask.runner is None:
            raise ask.refusal or Refusal(499, "request canceled")
        return ask.runner

    async def _place_in_turn(self) -> None:
        while True:
            ask = await self._pending.get()
            if not ask.gone.is_set():
                await self._place(ask)
            ask.settled.set()

    async def _place(self, ask: Ask) -> None:
        while not ask.gone.is_set():
            runner = self.runners.get(ask.model.key)
            if runner is not None and runner.serves(ask.options):
                ask.runner = self._lend(runner, ask.keep)
                return
            victim = self._victim(ask) if runner is None else self._outdated(runner)
            if victim is None:
                await self._load(ask)
                return
            self._let_go(victim)
            await victim.gone.wait()

    def _outdated(self, runner: Runner) -> Runner:
        if not runner.leaving:
            why = "it crashed" if runner.crashed else "other runner options"
            self._events.note("reload", model=runner.model.name, because=why)
        return runner

    def _victim(self, ask: Ask) -> Runner | None:
        """Whom Ollama throws out for this request: idle ones first, shortest stay first; None if it may load now."""
        if not self.runners:
            return None
        predicted = ask.model.predicted(ask.options.num_ctx, self.stage.num_parallel)
        free = self.stage.device - self._held()
        if len(self.runners) >= self.stage.max_loaded_models:
            why = f"{len(self.runners)} models are loaded, a place for {ask.model.name} is needed"
        elif predicted > free * 80 // 100:
            why = f"{ask.model.name} predicted to exceed available memory: {predicted} of {free} bytes free"
        else:
            return None
        victim = min(self.runners.values(), key=lambda r: (r.requests > 0, r.keep, r.model.key))
        self._events.note("evict", model=victim.model.name, because=why)
        return victim

    async def _load(self, ask: Ask) -> None:
        model, room = ask.model, self.stage.device - self._held()
        self._events.note("load", model=model.name, key=model.key, num_ctx=ask.options.num_ctx)
        if model.resident_size > room:
            self._events.note("overcommit", model=model.name, size=model.resident_size, room=room)
        self._loading_size = model.resident_size
        try:
            failed = await self._load_time(ask)
        finally:
            self._loading_size = 0
        if ask.gone.is_set():
            self._events.note("load_aborted", model=model.name)
        elif failed is not None:
            ask.refusal = Refusal(500, failed.message or LOAD_FAILED)
            self._events.note("load_failed", model=model.name)
        else:
            keep = self.stage.keep_alive_seconds if ask.keep is None else ask.keep
            runner = Runner(model, ask.options, keep, self._slots(model), min(model.resident_size, max(room, 0)), 0.0)
            self.runners[model.key] = runner
            ask.runner = self._lend(runner, ask.keep)
            runner.expires = _wall_end(runner.keep)
            self._events.note("loaded", model=model.name)

    async def _load_time(self, ask: Ask) -> Fault | None:
        """Wait as long as the load takes or its client stays; the fault if it fails."""
        failing = self._faults.strike("load_error", ask.model.name)
        endless = self._faults.strike("load_never_ends", ask.model.name)
        began = time.monotonic()
        if endless is not None and await self._first_of(ask.gone, endless.cleared, self.stage.load_timeout_seconds):
            return Fault("load_error", message=GIVEN_UP)
        seconds = (failing and failing.seconds) or ask.model.load_seconds
        try:
            async with asyncio.timeout(max(0.0, began + seconds - time.monotonic())):
                await ask.gone.wait()
        except TimeoutError:
            return failing
        return None

    async def _first_of(self, one: asyncio.Event, other: asyncio.Event, seconds: float) -> bool:
        """Wait for either of them; whether the time was over before."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (one, other)]
        try:
            done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return not done

    # What a runner lives through.

    def _lend(self, runner: Runner, keep: float | None) -> Runner:
        if runner.timer is not None:
            runner.timer.cancel()
            runner.timer = None
        runner.requests += 1
        if keep is not None:
            runner.keep = keep
        return runner

    def _take_back(self, runner: Runner) -> None:
        runner.requests -= 1
        if runner.requests or runner.leaving:
            return
        runner.expires = _wall_end(runner.keep)
        if runner.keep <= 0:
            self._let_go(runner)
        elif math.isfinite(runner.keep):
            runner.timer = asyncio.get_running_loop().call_later(runner.keep, self._let_go, runner)

    def _let_go(self, runner: Runner) -> None:
        runner.keep = 0
        if runner.requests == 0 and not runner.leaving:
            if runner.timer is not None:
                runner.timer.cancel()
            runner.leaving = True
            self._spawn(self._unload(runner))

    async def _unload(self, runner: Runner) -> None:
        self._events.note("unload", model=runner.model.name)
        await asyncio.sleep(runner.model.unload_seconds)
        self._drop(runner, "unloaded")

    def _drop(self, runner: Runner, because: str) -> None:
        runner.leaving = True
        if self.runners.get(runner.model.key) is runner:
            del self.runners[runner.model.key]
            self._events.note("unloaded", model=runner.model.name, because=because)
        runner.gone.set()

    def _held(self) -> int:
        return self._loading_size + sum(runner.model.resident_size for runner in self.runners.values())

    def _slots(self, model: StagedModel) -> asyncio.Semaphore:
        return asyncio.Semaphore(1 if model.embedding else self.stage.num_parallel)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = self._tasks.create_task(work)
        self._own.add(task)
        task.add_done_callback(self._own.discard)


def _wall_end(keep: float) -> float:
    return time.time() + keep

"""What the chores look at: memory and orphans, silent runners, the clocks; each look becomes one fact."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from scheduler import memory
from scheduler.core import messages as m
from scheduler.core.state import CoreState
from scheduler.engine import Engine, Engines

log = logging.getLogger(__name__)

SILENT = 1.0  # seconds without a byte before a runner is asked what it does
FEW_FILES = 16  # a request may need several: its client, Ollama, a body on disk
GAP = 5.0  # seconds by which the wall clock must run ahead to be called sleep


class Outstanding(Protocol):
    """What the forwarder tells of a model's requests: seconds of silence, largest body in bytes, ids; and which of them
    got no byte for so many seconds."""

    def outstanding(self, model: str) -> tuple[float, int, tuple[str, ...]]: ...
    def quiet(self, model: str, seconds: float) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory as configured: `budget` and `device` in bytes, None for "auto"."""

    budget: int | None
    device: int | None
    reap_orphans: bool = False
    heed: bool = False  # the system's word that memory is short
    shares: Mapping[str, float] = field(default_factory=dict)  # of the budget that are left then, by how short it is


class Watch:
    """Looks at the machine and posts what it sees."""

    def __init__(
        self,
        budget: Budget,
        post: Callable[[m.Fact], None],
        now: Callable[[], float],
        state: Callable[[], CoreState],
        forwarder: Outstanding,
        blobs: dict[str, str],
        staged: Callable[[], int | None],
    ) -> None:
        self._budget = budget
        self._post = post
        self._now = now
        self._state = state
        self._forwarder = forwarder
        self._blobs = blobs
        self._staged = staged
        self._engines = Engines()
        self.engines: dict[str, Engine] = {}  # the last look at each silent runner, for /status
        self.orphans: tuple[memory.Orphan, ...] = ()
        self.on_death: Callable[[], None] | None = None  # a runner is gone of which Ollama says that it is there
        self._clock_gap = time.time() - now()

    def reckoned(self, budget: Budget) -> tuple[int, str]:
        """The bytes that `budget` comes to on this machine, and where they are from."""
        given, staged = budget.budget, self._staged()
        if staged is not None and given in (None, staged):
            return staged, "the staged size of the stand-in"
        return memory.auto_budget() if given is None else (given, "configured")

    def _left(self, budget: int, pressure: m.Pressure) -> int:
        """Of `budget`, the bytes that are left under `pressure`."""
        return int(budget * self._budget.shares.get(pressure, 1.0))

    async def pressure(self) -> None:
        """Look at memory anew where the system says something else of it than it did."""
        if await self._pressure() != self._state().pressure:
            await self.memory()

    async def _pressure(self) -> m.Pressure:
        """How short memory is; it is never short in front of a stand-in, whose memory is made up."""
        if not self._budget.heed or self._staged() is not None:
            return "normal"
        return await asyncio.to_thread(memory.pressure)

    def rebudget(self, budget: Budget) -> None:
        """Go by `budget` from now on, and post at once what it comes to."""
        self._budget = budget
        state = self._state()
        whole, source = self.reckoned(budget)
        given = self._left(whole, state.pressure)
        device = state.device if budget.device is None else budget.device
        if state.budget is not None and (given, source, device) != (_seen(state), state.budget_source, state.device):
            seen = m.MemorySeen(self._now(), given, source, state.orphans, device, state.orphan_pids, state.pressure)
            self._post(replace(seen, whole=whole if given < whole else 0, configured=True))

    async def memory(self) -> None:
        """Post the budget in force, and what orphans hold; ends orphans only where the user allowed it."""
        pressure = await self._pressure()
        whole, source = self.reckoned(self._budget)
        budget = self._left(whole, pressure)
        device = self._budget.device
        if device is None:
            device = await asyncio.to_thread(memory.metal_working_set)
        folders = {str(Path(file).parent) for file in self._blobs.values() if file}
        found: list[memory.Orphan] = []
        for folder in sorted(folders):  # none before the first list: a stranger's runners are not ours to count
            found += await asyncio.to_thread(memory.orphans, folder)
        self.orphans = tuple(found)
        if found and self._budget.reap_orphans:
            for orphan in found:
                log.warning("ending orphan pid=%d size=%d", orphan.pid, orphan.size)
                with contextlib.suppress(ProcessLookupError, PermissionError):  # gone by itself, or not ours to end
                    os.kill(orphan.pid, signal.SIGTERM)
        held = sum(orphan.size for orphan in found)
        state = self._state()
        seen = m.MemorySeen(self._now(), budget, source, held, device, tuple(o.pid for o in found), pressure)
        if budget < whole:
            seen = replace(seen, whole=whole)
        known = (_seen(state), state.budget_source, state.orphans, state.orphan_pids, state.device, state.pressure)
        if known != (budget, source, held, seen.orphan_pids, device, pressure):
            self._post(seen)

    async def runners(self) -> None:
        """Ask every runner that owes us an answer and is silent whether it works."""
        await self._deaths()
        state = self._state()
        for name in self.engines.keys() - state.present.keys():
            del self.engines[name]
        for name in list(state.present):
            model = state.models.get(name)
            silent, body, ids = self._forwarder.outstanding(name)
            if model is None or not ids or not self._forwarder.quiet(name, SILENT):
                self.engines.pop(name, None)
                continue
            engine = await self._engines.look(self._blobs.get(name, ""))
            silent, body, ids = self._forwarder.outstanding(name)
            if not ids or engine is None:
                self.engines.pop(name, None)
            else:
                self.engines[name] = engine
            if not ids:
                continue
            busy, working = (None, 0) if engine is None else (engine.busy, engine.working)
            quiet = self._forwarder.quiet(name, SILENT)
            self._post(m.EngineSeen(self._now(), name, busy, silent, body, working, quiet))

    def troubles(self) -> list[str]:
        """What runs out on this machine, for /status."""
        left, limit = memory.files_left()
        few = f"too many open files: {left} of {limit} are left, so clients wait to be let in"
        return [few] if left < FEW_FILES else []

    async def is_dead(self, model: str) -> bool:
        """Whether the process of the model's runner is gone."""
        return await self._engines.is_dead(self._blobs.get(model, ""))

    async def _deaths(self) -> None:
        """Have /api/ps read where a runner died: nobody is to be sent to it."""
        for name, model in list(self._state().models.items()):
            if model.state == "absent":
                self._engines.forget(self._blobs.get(name, ""))
            elif model.usable and self.on_death is not None and await self.is_dead(name):
                self.on_death()

    def clocks(self) -> None:
        """Notice that the machine slept: the wall clock went on, the monotonic one did not."""
        gap = time.time() - self._now()
        ahead, self._clock_gap = gap - self._clock_gap, gap
        if ahead > GAP:
            self._post(m.ClockGap(self._now(), ahead))

    async def close(self) -> None:
        """Close the connections."""
        await self._engines.close()


def _seen(state: CoreState) -> int | None:
    """The budget that the core was told last, trusted by now or not."""
    return state.budget if state.growing is None else state.growing.budget

"""Asks a runner's own engine whether it works: the difference between a long prefill and a wedge. Only ever GET.

`GET /slots` of llama-server gives per slot `is_processing`, `n_prompt_tokens`, `n_prompt_tokens_processed` and
`next_token[0].n_decoded`; prefill progress means something only while nothing is decoded yet. Runners that differ
simply do not answer, and nobody depends on it. A slot is idle while the runner still cuts a long prompt into tokens
(`/tokenize`: many seconds), so a runner that burns processor time works too.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, replace

import httpx
import psutil

from scheduler import memory

SEEK_AGAIN = 30.0  # seconds until a runner that was not found is sought again: that looks at every process
WORKING = 0.2  # share of one processor above which a runner with idle slots works; one that is wedged sleeps


@dataclass(frozen=True, slots=True)
class Engine:
    """One look at a runner: whether it works, and how far the prompts of those that do have come."""

    busy: bool
    working: int = 0  # slots at work
    prefill: tuple[tuple[int, int], ...] = ()  # (tokens done, tokens in all) of each slot that decodes nothing yet


class Engines:
    """Finds runners and asks them."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, int]] = {}  # by model file: process id and port
        self._processes: dict[str, psutil.Process] = {}  # by model file: the runner that was seen alive last
        self._sought: dict[str, float] = {}  # by model file: when no runner of it was found
        self._spent: dict[int, tuple[float, float]] = {}  # by process id: when it was looked at, its processor seconds
        self._client = httpx.AsyncClient(timeout=2.0, trust_env=False)

    async def look(self, model_file: str) -> Engine | None:
        """The engine that serves `model_file`; None where it cannot be asked."""
        if not model_file:
            return None
        place = self._places.get(model_file)
        slots = await self._slots(place[1]) if place else None
        if slots is None:
            self._spent.clear()  # an id may come again
            try:
                place = await asyncio.to_thread(memory.runner_place, model_file)
            except OSError:  # no file is left to look with
                place = None
            if place is None:
                return None
            self._places[model_file] = place
            slots = await self._slots(place[1])
        if slots is None or place is None:
            return None
        works = self._works(place[0])
        engine = _engine(slots)
        return replace(engine, busy=engine.busy or works)

    async def is_dead(self, model_file: str) -> bool:
        """Whether the runner of `model_file` has been seen alive, its process is gone, and there is no other. False for
        one that cannot be found: another user's, or one of another kind."""
        known = self._processes.get(model_file)
        if known is None and time.monotonic() < self._sought.get(model_file, 0.0) + SEEK_AGAIN:
            return False
        try:
            if known is not None and _lives(known):
                return False
            place = await asyncio.to_thread(memory.runner_place, model_file) if model_file else None
        except OSError:  # no file is left to look with: nothing is known
            return False
        if place is None:
            self._sought[model_file] = time.monotonic()
            return known is not None
        with contextlib.suppress(psutil.NoSuchProcess, OSError):
            self._processes[model_file] = psutil.Process(place[0])
        return False

    def forget(self, model_file: str) -> None:
        """The model has left memory: its next runner is another process."""
        self._processes.pop(model_file, None)
        self._sought.pop(model_file, None)

    def _works(self, pid: int) -> bool:
        """Whether the process has burnt processor time since it was looked at last; False at the first look."""
        try:
            times = psutil.Process(pid).cpu_times()
        except (psutil.Error, OSError):
            return False
        now, spent = time.monotonic(), times.user + times.system
        then, before = self._spent.get(pid, (now, spent))
        self._spent[pid] = now, spent
        return spent - before > WORKING * (now - then)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _slots(self, port: int) -> list[dict[str, object]] | None:
        try:
            answer = await self._client.get(f"http://127.0.0.1:{port}/slots")
            slots = answer.json() if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError, RecursionError):
            return None
        return [s for s in slots if isinstance(s, dict)] if isinstance(slots, list) else None


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _engine(slots: list[dict[str, object]]) -> Engine:
    working = [slot for slot in slots if slot.get("is_processing")]
    prefill = tuple(progress for slot in working if (progress := _prefill(slot)) is not None)
    return Engine(bool(working), len(working), prefill)


def _prefill(slot: dict[str, object]) -> tuple[int, int] | None:
    match slot:
        case {"next_token": [{"n_decoded": int(decoded)}, *_]} if decoded > 0:
            return None
        case {"n_prompt_tokens_processed": int(done), "n_prompt_tokens": int(total)}:
            return done, total
    return None

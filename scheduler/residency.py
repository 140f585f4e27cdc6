"""Loads and unloads models and reads what is resident, by the official Ollama client; each order ends in one fact.

A load is a request of our own that no client can cancel. A load is believed when /api/ps shows the model, an unload
when it no longer does. `/api/ps` can block behind Ollama's own locks, so every reading has a limit and a timeout means
"unknown", never "empty".
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import httpx
import ollama

from scheduler import reading
from scheduler.core import messages as m
from scheduler.core.state import CoreState
from scheduler.installed import Installed
from scheduler.reading import NONSENSE, Away, Patience, Unclear, readable, within

log = logging.getLogger(__name__)
T = TypeVar("T")


class Residency:
    """Carries out the core's residency orders."""

    def __init__(
        self,
        url: str,
        tasks: asyncio.TaskGroup,
        post: Callable[[m.Fact], None],
        now: Callable[[], float],
        state: Callable[[], CoreState],
        patience: Patience | None = None,
    ) -> None:
        # Made once, and only where it is needed: reading the certificates holds the loop up for 50 ms.
        self._tls = httpx.create_ssl_context() if url.startswith("https:") else False
        self._client = ollama.AsyncClient(host=url, timeout=None, trust_env=False, verify=self._tls)
        self._http = httpx.AsyncClient(
            base_url=url, timeout=None, trust_env=False, follow_redirects=True, verify=self._tls
        )
        self._url = url
        self._tasks = tasks
        self._post = post
        self._now = now
        self._state = state
        self.patience = patience or Patience()
        self._under_way: set[asyncio.Task[None]] = set()
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._abandoned: dict[str, str] = {}  # by model: why its load was given up
        self._look_again = False
        self._looking: asyncio.Task[None] | None = None
        self._knocking: asyncio.Task[None] | None = None
        self.installed = Installed(self._http, self.patience, post, now, state, self._begin, self._away)
        self._unanswered = 0  # readings of /api/ps in a row that got no answer
        self.staged: int | None = None  # bytes of the device that a stand-in plays
        self.before_up: Callable[[], Awaitable[None]] | None = None  # done before Ollama is up, or a model gone
        self.is_dead: Callable[[str], Awaitable[bool]] | None = None  # whether the process of a model's runner is gone
        self.unread = ""  # why it is not known what is resident; empty while it is

    def take(self, order: m.Load | m.AbandonLoad | m.Unload | m.Look) -> None:
        """Begin to carry out `order`."""
        match order:
            case m.Load():
                self._loads[order.model] = self._begin(self._load(order.model))
            case m.AbandonLoad():
                task = self._loads.get(order.model)
                if task is not None:
                    self._abandoned[order.model] = order.because
                    task.cancel()
            case m.Unload():
                self._begin(self._unload(order.model))
            case m.Look():
                self.look()

    def look(self) -> None:
        """Read /api/ps soon, unless that is under way already; comes back as `Residents` or `OllamaDown`."""
        if self._looking is None or self._looking.done():
            self._looking = self._begin(self._looks())
        else:
            self._look_again = True  # the reading under way may have been asked before what is to be seen

    async def listing(self) -> None:
        """Read what is installed; a reading under way is shared. Comes back as `ModelsListed`."""
        await self.installed.read()

    def troubles(self) -> list[str]:
        """What of Ollama's answers cannot be made sense of now, for /status."""
        unread = [f"what is in memory is not known, because of {self.unread}"] if self.unread else []
        return unread + [f"Ollama cannot show {name}: {why}" for name, why in self.installed.unshown.items()]

    def start(self) -> None:
        """Knock at Ollama until it answers."""
        self._knock()

    async def close(self) -> None:
        """End every reading and every load under way, and close the connections; models stay as they are."""
        self._abandoned.clear()
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._client.close()  # type: ignore[no-untyped-call]
        await self._http.aclose()

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _looks(self) -> None:
        self._look_again = True
        while self._look_again:
            self._look_again = False
            await self._look()

    async def _look(self) -> None:
        asked = self._now()
        try:
            rows = await self._resident()
        except Unclear as error:
            log.warning("what is resident is not known: %s", self.unread)
            self._unanswered += 1
            if self._unanswered >= self.patience.unanswered and not self._loads:  # a load of some runners blocks it
                self._unanswered = 0
                self._away(OSError(self.unread), isinstance(error, TimeoutError))
                return
            await asyncio.sleep(self.patience.back)
            self._look_again = True
        except Away as error:
            self._away(error)
        else:
            self._unanswered = 0
            rows = tuple([replace(row, dead=await self._is_dead(row.name)) for row in rows])
            there = {row.name for row in rows}
            if any(model.state == "ready" and name not in there for name, model in self._state().models.items()):
                await self._count_memory()  # Ollama may have been killed and be back, its runners left behind
            self._post(m.Residents(self._now(), asked, rows))

    async def _count_memory(self) -> None:
        try:
            if self.before_up is not None:
                await self.before_up()
        except Exception:  # a chore does it again
            log.exception("memory could not be counted")

    async def _resident(self) -> tuple[m.Resident, ...]:
        """/api/ps, read."""

        async def read() -> tuple[m.Resident, ...]:
            return tuple(reading.resident(row) for row in (await self._client.ps()).models)

        try:
            rows = await within(self.patience.reading, read())
        except Unclear as error:
            self.unread = f"/api/ps: {reading.reason(error)}"
            raise
        self.unread = ""
        return rows

    async def _is_dead(self, model: str) -> bool:
        return self.is_dead is not None and await self.is_dead(model)

    async def _load(self, model: str) -> None:
        began, called_done = self._now(), ""
        try:
            await self._ask_to_load(model)
            called_done = "ollama called the load done, but /api/ps does not list the model"
            row = await self._seen(model)
            if row is not None:
                took = self._now() - began
                await self._is_dead(model)  # its process is learnt now, while it surely lives
                self._post(m.Loaded(self._now(), model, row.size, row.context, took))
                return
            error = called_done
        except asyncio.CancelledError:
            if model not in self._abandoned:  # the daemon is ending: nobody is left to tell
                raise
            error = "; ".join(filter(None, (self._abandoned[model], called_done)))
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        except Unclear as unclear:
            error = reading.reason(unclear)
        except Away as away:
            error = f"ollama went away: {away}"
            self._away(away)
        finally:
            self._loads.pop(model, None)
            self._abandoned.pop(model, None)
        self._post(m.LoadFailed(self._now(), model, error, self._now() - began))
        self.look()

    async def _ask_to_load(self, model: str) -> None:
        """Load with the context Ollama chooses unaided, kept for ever: only we say when it leaves."""
        known = self._state().models.get(model)
        if known is not None and known.embedding:
            await readable(self._client.embed(model=model, input=[], keep_alive=-1))
        else:
            await readable(self._client.generate(model=model, keep_alive=-1))

    async def _seen(self, model: str) -> m.Resident | None:
        """The model's row once /api/ps shows it; None if that takes too long."""
        async for rows in self._watch(self.patience.seen):
            for row in rows:
                if reading.is_of(self._state(), row, model):
                    return row
        return None

    async def _unload(self, model: str) -> None:
        began = asked = self._now()
        try:
            await within(self.patience.reading, self._client.generate(model=model, keep_alive=0))
            async for rows in self._watch(self.patience.unload):
                if not any(reading.is_of(self._state(), row, model) for row in rows):
                    took = self._now() - began
                    await self._count_memory()  # an Ollama that was killed and is back has nothing to unload
                    self._post(m.Unloaded(self._now(), model, took))
                    return
                if self._now() - asked > self.patience.unload_again:
                    asked = self._now()
                    await within(self.patience.reading, self._client.generate(model=model, keep_alive=0))
            error = f"still listed by /api/ps after {self.patience.unload:.0f} s"
        except Unclear as unclear:
            error = reading.reason(unclear)
        except Away as away:
            error = f"ollama went away: {away}"
            self._away(away)
        self._post(m.UnloadFailed(self._now(), model, error))
        self.look()

    async def _watch(self, limit: float) -> AsyncIterator[tuple[m.Resident, ...]]:
        """/api/ps again and again for `limit` seconds."""
        until, pause = self._now() + limit, self.patience.poll
        while self._now() < until:
            with contextlib.suppress(*Unclear):  # unknown: neither there nor gone
                yield await self._resident()
            await asyncio.sleep(pause)
            pause = min(pause * 2, self.patience.poll_longest)

    def _away(self, error: Exception, hung: bool = False) -> None:
        """Ollama cannot be spoken to: say so and knock until it answers."""
        self._post(m.OllamaDown(self._now(), reading.why(error), hung))
        self._knock()

    def _knock(self) -> None:
        if self._knocking is None or self._knocking.done():
            self._knocking = self._begin(self._until_it_answers())

    async def _until_it_answers(self) -> None:
        async with httpx.AsyncClient(
            base_url=self._url, trust_env=False, timeout=self.patience.reading, verify=self._tls
        ) as client:
            while True:
                try:
                    answer = await client.get("/api/version")
                    answer.raise_for_status()
                    version = str(answer.json()["version"])
                    stand_in = answer.headers.get("X-Scheduler-Stand-In") == "1"
                    staged = int((await client.get("/standin/stage")).json()["device"]) if stand_in else None
                except (httpx.HTTPError, *NONSENSE) as error:
                    hung = isinstance(error, httpx.ReadTimeout)
                    self._post(m.OllamaDown(self._now(), reading.why(error), hung))
                    await asyncio.sleep(self.patience.back)
                    continue
                self.staged, listed = staged, self.installed.listed_at
                await self.listing()
                if self.installed.listed_at != listed and await self._readable_again():
                    break
                await asyncio.sleep(self.patience.back)
        await self._count_memory()
        self._post(m.OllamaUp(self._now(), version, stand_in))

    async def _readable_again(self) -> bool:
        """Whether what is resident can be read, without which nothing may be decided; told if not."""
        try:
            await self._resident()
        except (*Unclear, *Away) as error:
            hung = isinstance(error, TimeoutError)
            self._post(m.OllamaDown(self._now(), self.unread or reading.why(error), hung))
            return False
        return True

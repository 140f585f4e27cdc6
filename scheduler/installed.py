"""Reads what is installed: /api/tags, and /api/show once for each model; each reading ends in one fact."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import httpx

from scheduler import reading
from scheduler.core import messages as m
from scheduler.core.state import CoreState
from scheduler.names import normal_name
from scheduler.reading import Away, Patience, Unclear, within

log = logging.getLogger(__name__)

AT_ONCE = 8  # models asked about side by side


class Installed:
    """The list of models. `begin` starts its work, `away` is told where Ollama cannot be spoken to."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        patience: Patience,
        post: Callable[[m.Fact], None],
        now: Callable[[], float],
        state: Callable[[], CoreState],
        begin: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        away: Callable[[Exception], None],
    ) -> None:
        self._http = http
        self.patience = patience
        self._post = post
        self._now = now
        self._state = state
        self._begin = begin
        self._away = away
        self._shown: dict[str, tuple[m.Listed, str]] = {}  # by digest: what /api/show told, and the model's file
        self.blobs: dict[str, str] = {}  # by model: the file its runner is started with
        self.unshown: dict[str, str] = {}  # by model: why /api/show tells nothing of it
        self.listed_at: float | None = None
        self._reading: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Read what is installed; a reading under way is shared. Comes back as `ModelsListed`."""
        if self._reading is None or self._reading.done():
            self._reading = self._begin(self._list())
        await asyncio.shield(self._reading)

    async def read_again(self) -> None:
        """Read what is installed once more, so that what came a moment ago is known; gives up after a second."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                if self.listed_at is not None:
                    await asyncio.sleep(max(0.0, self.listed_at + self.patience.relist - self._now()))
                await self.read()

    async def _list(self) -> None:
        asked = self._now()
        try:
            tags = await within(self.patience.reading, reading.tags(self._http))
            rows = await self._all_known(tags.models)
        except Unclear as error:
            log.warning("ollama did not list its models: %s", error or f"{self.patience.reading:.0f} s passed")
        except Away as error:
            self._away(error)
        else:
            self.listed_at = self._now()
            self.unshown = {row.name: self.unshown[row.name] for row in rows if row.name in self.unshown}
            self._post(m.ModelsListed(self._now(), tuple(rows), asked))
            if any(model.replaced_at is not None for model in self._state().models.values()):
                await self._list()  # something was replaced while this was read

    async def _all_known(self, rows: Sequence[reading.Row]) -> list[m.Listed]:
        """What is known of each, several asked for at a time: who waits at the start waits for the last of them. Names
        of one digest are one question."""
        ahead = list({row.digest: row for row in rows}.values())
        known: dict[int, m.Listed] = {}
        for start in range(0, len(ahead), AT_ONCE):
            some = ahead[start : start + AT_ONCE]
            told = await asyncio.gather(*(self._known(row) for row in some))
            known.update((id(row), listed) for row, listed in zip(some, told, strict=True))
        return [known[id(row)] if id(row) in known else await self._known(row) for row in rows]

    async def _known(self, row: reading.Row) -> m.Listed:
        """A row of /api/tags with what /api/show adds; shown once per digest, since that never changes."""
        name, size, digest = normal_name(row.model or ""), int(row.size or 0), row.digest or ""
        if row.remote_model:  # nothing of it is ever in this memory, and with its cloud off Ollama cannot show it
            return m.Listed(name, size, digest=digest, remote=True)
        known = self._shown.get(digest)
        if known is None:
            try:
                known = await within(self.patience.reading, reading.show(self._http, row.model or ""))
            except Unclear as error:  # this one hides neither the others nor itself; asked again with the next list
                log.warning("ollama cannot show %s: %s", name, reading.reason(error))
                self.unshown[name] = reading.reason(error)
                plain = m.Listed(name, size, digest=digest)
                return next((row for row in self._state().listed or () if row.name == name), plain)
            self._shown[digest] = known
        self.unshown.pop(name, None)
        shown, self.blobs[name] = known
        return replace(shown, name=name, size=size, digest=digest)

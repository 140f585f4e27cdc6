"""Play a scenario against one Ollama and write down what came back, in the same words for either."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import aiohttp

from tests.agreements.normal import body_lines, header_line, part
from tests.agreements.script import Deed, Request, Scenario
from tests.agreements.sides import Side

LOOK = 0.01
STAYS = (0, 60, 120, 300, 600, 3600, 5400, 7200)
"""The stays that scenarios ask for, far enough apart for a slow machine, in seconds."""
SECONDS = 30.0
"""The longest that any one step waits; then the scenario fails with its name."""


class Stuck(AssertionError):
    """A step whose condition did not come true."""


class Exchange:
    """One request on its way: what came of the answer so far."""

    def __init__(self, session: aiohttp.ClientSession, request: Request, tasks: asyncio.TaskGroup) -> None:
        self.request = request
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self.raw = b""
        self.end = ""
        self._type = ""
        self.ended = 0.0
        self.task = tasks.create_task(self._run(session))

    async def _run(self, session: aiohttp.ClientSession) -> None:
        asked = self.request
        headers = {"Content-Type": "application/json"} if asked.body else {}
        headers.update(asked.headers)
        try:
            async with session.request(
                asked.method, asked.path, data=asked.body, headers=headers, allow_redirects=False
            ) as answer:
                self._type = answer.headers.get("Content-Type", "")
                self._headers, self._status = answer.headers.copy(), answer.status
                async for chunk in answer.content.iter_any():
                    self.raw += chunk
        except aiohttp.ClientError:
            self.end = "  the connection is cut"
        finally:
            self.ended = time.monotonic()

    @property
    def lines(self) -> int:
        """Whole lines of the body so far."""
        return self.raw.count(b"\n")

    async def over(self) -> list[str]:
        """Wait for the end, and tell all of it."""
        try:
            async with asyncio.timeout(SECONDS):
                await asyncio.shield(self.task)
        except TimeoutError:
            raise Stuck(f"no whole answer within {SECONDS:.0f} s: {self.request.line}; so far {self.raw!r}") from None
        head = [f"  {self._status} {header_line(self._headers, self._head_length())}"] if self._status else []
        return [*head, *(f"  {line}" for line in body_lines(self.raw, self._type)), *filter(None, [self.end])]

    def _head_length(self) -> int:
        """How long the body is, or would be if it were not left out."""
        return len(self.raw) if self.request.method != "HEAD" else int(self._headers.get("Content-Length", 0))

    async def hang_up(self) -> None:
        """Close the connection now."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


class Player:
    """One scenario on one side."""

    def __init__(self, side: Side, session: aiohttp.ClientSession) -> None:
        self._side = side
        self._session = session
        self._under_way: dict[str, Exchange] = {}
        self.told: list[str] = []

    async def play(self, scenario: Scenario) -> list[str]:
        """Every step in turn; the transcript."""
        async with asyncio.TaskGroup() as tasks:
            try:
                for step in scenario.steps:
                    self.told.append(step.line)
                    if isinstance(step, Request):
                        await self._ask(step, tasks)
                    else:
                        await self._do(step)
            finally:
                for exchange in self._under_way.values():
                    await exchange.hang_up()
        return self.told

    async def _ask(self, request: Request, tasks: asyncio.TaskGroup) -> None:
        exchange = Exchange(self._session, request, tasks)
        if not request.name:
            self.told += await exchange.over()
            return
        self._under_way[request.name] = exchange
        # It has to stand in Ollama's line before the next one comes: these come after it, all the way to its scheduler.
        for _ in range(20):
            async with self._session.post("/api/show", json={"model": "small"}) as answer:
                await answer.read()

    async def _do(self, deed: Deed) -> None:
        deeds: dict[str, Callable[..., Awaitable[None]]] = {
            "answers": self._answers,
            "hang up": self._hang_up,
            "lines": self._lines,
            "until loading": self._until_loading,
            "until gone": self._until_gone,
            "until busy": self._until_busy,
            "until idle": self._until_idle,
            "hold": self._side.hold,
            "hold loads": self._side.hold_loads,
            "release": self._side.release,
            "fault": self._fault,
            "restart": self._side.restart,
            "ps": self._ps,
            "happened": self._happened,
        }
        await deeds[deed.word](*deed.about)

    async def _answers(self, *names: str) -> None:
        for name in names:
            self.told += [f"  {name}:", *await self._under_way[name].over()]
        if len(names) > 1:
            order = sorted(names, key=lambda name: self._under_way[name].ended)
            self.told.append(f"  ended in the order {' '.join(order)}")
        for name in names:
            del self._under_way[name]

    async def _hang_up(self, name: str) -> None:
        exchange = self._under_way.pop(name)
        whole = exchange.task.done()
        await exchange.hang_up()
        self.told.append("  it was over already" if whole else "  it was on its way")

    async def _lines(self, name: str, count: str) -> None:
        await self._until(lambda: _now(self._under_way[name].lines >= int(count)), f"{count} lines of {name}")

    async def _until_loading(self, model: str) -> None:
        await self._until(lambda: self._side.loading(model), f"{model} loads")

    async def _until_gone(self, model: str) -> None:
        async def gone() -> bool:
            return not await self._shown(model)

        await self._until(gone, f"{model} is gone")

    async def _until_busy(self, model: str, count: str = "1") -> None:
        async def busy() -> bool:
            return await self._side.busy(model) >= int(count)

        await self._until(busy, f"{count} requests are with {model}")

    async def _until_idle(self) -> None:
        async def idle() -> bool:
            return await self._side.busy() == 0

        await self._until(idle, "no request is with a runner")

    async def _fault(self, model: str, *words: str) -> None:
        number = int(words[-1]) if words[-1].isdigit() else 0
        await self._side.fault(model, " ".join(word for word in words if not word.isdigit()), number)

    async def _ps(self) -> None:
        """What is resident; read until it stays, as Ollama sets a new end only after it has answered."""
        before, shown = [""], list[str]()
        while before != shown:
            before = shown
            await asyncio.sleep(2 * LOOK)
            shown = [part(_entry(model)) for model in await self._resident()]
        self.told += [f"  {line}" for line in sorted(shown)] or ["  nothing is resident"]

    async def _resident(self) -> list[dict[str, Any]]:
        async with self._session.get("/api/ps") as answer:
            models: list[dict[str, Any]] = (await answer.json())["models"]
            return models

    async def _happened(self) -> None:
        self.told += [f"  {line}" for line in await self._side.happened()]

    async def _shown(self, model: str) -> bool:
        return any(entry["name"].removesuffix(":latest") == model for entry in await self._resident())

    async def _until(self, true: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not await true():
            if time.monotonic() > deadline:
                raise Stuck(
                    f"{self._side.name}: never within {SECONDS:.0f} s: {what}; so far:\n" + "\n".join(self.told)
                )
            await asyncio.sleep(LOOK)


def _entry(model: dict[str, Any]) -> str:
    """One model of /api/ps; in place of the date when it ends, the stay of `STAYS` that is not over yet."""
    left = datetime.fromisoformat(str(model["expires_at"])).timestamp() - time.time()
    stay = next((f"at most {stay} s" for stay in STAYS if left < stay + 1), "for ever")
    return json.dumps({**model, "expires_at": stay})


async def _now(value: bool) -> bool:
    return value

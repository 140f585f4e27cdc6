"""The scene that `demo` plays: requests to watch, each told as its client sees it and as /status explains it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp

from scheduler.outlook import short

NAMES = ("claude-sonnet-4-5", "claude-3-5-sonnet", "claude-3-haiku")  # of the documented routing table
LOOK = 0.1  # seconds between two looks at /status
SAME = 0.005  # seconds between two tellings of one time: /status rounds to milliseconds
LIMIT = 60.0  # seconds one answer may take before the scene has failed
TOLD = {"Load": "load", "Unload": "unload", "Refuse": "refused", "stalled": "stalled", "adopted": "adopted"}
PROBE = "What's 1 + 1?"  # what LiteLLM's GET /health says, and how many words it wants
PROBE_WORDS = 16
FEW = 24  # words of an answer that nobody interrupts


class Spoilt(Exception):
    """Something went otherwise than the scene tells it."""


@dataclass(slots=True)
class Answer:
    """One request as its client saw it; times in seconds."""

    name: str
    took: float
    text: str


@dataclass(slots=True)
class Scene:
    """Plays at the daemon at `url`; `say` gets each line, `show` each /status; `names` are the aliases in use."""

    url: str
    say: Callable[[str], None]
    show: Callable[[Mapping[str, Any]], None] = lambda status: None
    names: tuple[str, str, str] = NAMES
    _heard: dict[tuple[str, str, str], float] = field(default_factory=dict, init=False)
    _began: float = field(default=0.0, init=False)
    _http: aiohttp.ClientSession = field(init=False)

    async def play(self) -> None:
        """The whole scene. Raises Spoilt where something went otherwise, aiohttp.ClientError where nothing answers."""
        self._began = asyncio.get_running_loop().time()
        timeout = aiohttp.ClientTimeout(total=LIMIT)
        async with aiohttp.ClientSession(self.url, timeout=timeout) as self._http:
            self._fresh(await self._status())
            async with self._watched():
                await self._question()
            async with self._watched():
                await self._pair()
            await self._burst()
            async with self._watched():
                await self._swap()
            await self._sum_up()

    async def _question(self) -> None:
        self._title(f"1. Nothing is in memory. Somebody asks {self.names[0]} a question.")
        await self._chat(self.names[0], "Why is the sky blue?", FEW)

    async def _pair(self) -> None:
        quality, coder, fast = self.names
        self._title(
            f"2. An agent asks {coder}, its helper {fast}: together they are a set, beside {quality} they are not."
        )
        async with asyncio.TaskGroup() as tasks:
            for name in (coder, fast):
                tasks.create_task(self._chat(name, "Write a test.", FEW))

    async def _burst(self) -> None:
        self._title("3. A health check asks every model at once, as LiteLLM's GET /health does.")
        before = await self._status()
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._probe(name)) for name in self.names for _ in range(3)]
        after = await self._status()
        longest = max(each.result().took for each in asked)
        hour, then = after["counters"]["hour"], before["counters"]["hour"]
        absorbed = hour["probes_absorbed"] - then["probes_absorbed"]
        if hour["loads"] != then["loads"] or hour["changes"] != then["changes"] or after["transition"] is not None:
            raise Spoilt("a health check changed what is in memory")
        self._line(
            f"{len(asked)} probes succeeded, the slowest in {longest * 1000:.0f} ms; nothing was loaded for them"
        )
        self._line(f"{absorbed} of them met no free slot and got a canned success: a health check never loads or waits")

    async def _swap(self) -> None:
        quality, coder, _ = self.names
        self._title(f"4. {coder} is in the middle of an answer when {quality} is asked again; and somebody hangs up.")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._chat(coder, "Write a parser."))
            await self._until(lambda status: status["running"] == 1)
            tasks.create_task(self._chat(quality, "And why is it dark at night?", FEW))
            leaving = tasks.create_task(self._chat(quality, "Never mind."))
            status = await self._until(lambda status: status["waiting"] == 2)
            leaving.cancel()
            held = next(each for each in status["requests"] if each["stage"] == "held")
            self._line(f"{quality} is held; it waits for: {held['waits_for']}")
            await self._until(lambda status: status["waiting"] < 2)
            self._line("one of the two hung up and left the queue")

    async def _sum_up(self) -> None:
        status = await self._status()
        hour = status["counters"]["hour"]
        self._title("What /status says of it:")
        self._line(status["headline"])
        self._line(
            f"{hour['changes']} changes, {hour['seconds_loading']:.0f} s lost to loads, "
            f"{hour['probes_absorbed']} probes absorbed, worst wait {hour['worst_wait']:.0f} s"
        )

    async def _chat(self, name: str, text: str, most: int | None = None) -> None:
        """A streamed question in Ollama's own dialect, read to its end and told then."""
        options = {} if most is None else {"num_predict": most}
        said = ""
        began = asyncio.get_running_loop().time()
        body = {"model": name, "messages": [{"role": "user", "content": text}], "options": options}
        async with self._http.post("/api/chat", json=body) as reply:
            async for line in reply.content:
                told = json.loads(line)
                if "error" in told:
                    raise Spoilt(f"{name}: {told['error']}")
                said += told["message"]["content"]
        self._told(Answer(name, asyncio.get_running_loop().time() - began, said))

    async def _probe(self, name: str) -> Answer:
        messages = [{"role": "user", "content": PROBE}]
        body = {"model": name, "messages": messages, "options": {"num_predict": PROBE_WORDS}, "stream": False}
        began = asyncio.get_running_loop().time()
        async with self._http.post("/api/chat", json=body) as reply:
            told = await reply.json()
            if reply.status != 200:
                raise Spoilt(f"a health check of {name} failed: {told.get('error')}")
        return Answer(name, asyncio.get_running_loop().time() - began, told["message"]["content"])

    async def _status(self) -> dict[str, Any]:
        async with self._http.get("/status") as reply:
            status: dict[str, Any] = await reply.json()
        self.show(status)
        return status

    async def _until(self, true: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
        """The first /status of which `true` holds. Raises Spoilt if that takes too long."""
        try:
            async with asyncio.timeout(LIMIT):
                while not true(status := await self._status()):  # noqa: ASYNC110 - a client can only ask again
                    await asyncio.sleep(LOOK / 5)
                return status
        except TimeoutError:
            raise Spoilt("what was to happen did not happen") from None

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        """Tell every decision that /status shows meanwhile, with its reason."""
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch())
            yield
            watching.cancel()
        self._decisions(await self._status())

    async def _watch(self) -> None:
        while True:
            self._decisions(await self._status())
            await asyncio.sleep(LOOK)

    def _decisions(self, status: Mapping[str, Any]) -> None:
        for each in self._fresh(status):
            if each["order"] in TOLD:
                self._line(f"{TOLD[each['order']]} {short(each['model'])}, because {each['because']}")

    def _fresh(self, status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The decisions not seen before, oldest first."""
        fresh = []
        for each in reversed(status["decisions"]):
            what, when = (each["order"], each["model"], each["because"]), _when(each)
            if when > self._heard.get(what, 0.0) + SAME:
                self._heard[what] = when
                fresh.append(each)
        return fresh

    def _told(self, answer: Answer) -> None:
        begin = " ".join(answer.text.split()[:6])
        self._line(f"{answer.name} answered after {answer.took:.1f} s: {begin} …")

    def _title(self, text: str) -> None:
        self.say("")
        self.say(text)

    def _line(self, text: str) -> None:
        self.say(f"   {asyncio.get_running_loop().time() - self._began:5.1f} s  {text}")


def _when(told: Mapping[str, Any]) -> float:
    """When a decision was taken, in seconds since 1970."""
    return datetime.fromisoformat(told["at"]).timestamp()

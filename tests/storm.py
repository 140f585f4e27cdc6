"""A storm of requests at a live daemon, seeded: four dialects, hang-ups, probe bursts; and what became of each."""

import asyncio
import json
import random
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp

Fate = Literal["stays", "leaves waiting", "leaves streaming"]
DIALECTS = ("/api/generate", "/api/chat", "/v1/chat/completions", "/v1/messages")
PROBE = "What's 1 + 1?"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of the storm; `at` seconds after its begin."""

    at: float
    path: str
    model: str
    stream: bool
    fate: Fate
    text: str
    num_ctx: int | None


@dataclass
class Outcome:
    """What clients saw: answers by status, and everything that was not as it should be."""

    answered: int = 0
    told: int = 0  # refused or ended because a person said so, and told by whom
    left: int = 0
    probes: int = 0
    wrong: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    longest: float = 0.0


def asks(seed: int, count: int, seconds: float, models: list[str]) -> list[Ask]:
    """`count` requests over `seconds`; one in ten hangs up while waiting, one in ten in mid-stream."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        fate: Fate = chance.choices(("stays", "leaves waiting", "leaves streaming"), (80, 10, 10))[0]
        path = chance.choice(DIALECTS)
        model = chance.choices(models, [2, 3, 4, 1][: len(models)])[0]
        stream = fate == "leaves streaming" or chance.random() < 0.5
        num_ctx = chance.choice((None, 2048, 4096, 131072)) if path.startswith("/api") else None
        found.append(Ask(chance.uniform(0, seconds), path, model, stream, fate, f"question {number}", num_ctx))
    return sorted(found, key=lambda ask: ask.at)


TOLD = (b"pinned by ada", b"paused by ada", b"cancelled by ada")
"""What a client reads whom a command of the person in the storm kept out or ended."""


async def rage(session: aiohttp.ClientSession, storm: list[Ask], models: list[str], burst_each: float) -> Outcome:
    """Play `storm` at `session`, with a burst of health checks for every model each `burst_each` seconds."""
    outcome = Outcome()
    begin = asyncio.get_running_loop().time()
    ended = asyncio.Event()

    async def probes() -> None:
        while not ended.is_set():
            await asyncio.gather(*(_probe(session, model, outcome) for model in models))
            try:
                async with asyncio.timeout(burst_each):
                    await ended.wait()
            except TimeoutError:
                continue

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(probes())
        async with asyncio.TaskGroup() as clients:
            for ask in storm:
                clients.create_task(_ask(session, ask, begin, outcome))
        ended.set()
    return outcome


async def _ask(session: aiohttp.ClientSession, ask: Ask, begin: float, outcome: Outcome) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(max(0.0, begin + ask.at - loop.time()))
    asked = loop.time()
    patience = None if ask.fate != "leaves waiting" else 0.05 + (zlib.crc32(ask.text.encode()) % 7) / 10
    try:
        async with asyncio.timeout(patience):
            async with session.post(ask.path, json=_body(ask)) as answer:
                if ask.fate == "leaves streaming":
                    await answer.content.readany()
                    outcome.left += 1
                    return
                text, whole = await _read(answer)
                outcome.statuses[answer.status] += 1
                problem = _problem(ask, answer.status, text)
                outcome.longest = max(outcome.longest, loop.time() - asked)
                if any(words in text for words in TOLD) and (answer.status in (403, 503) or not whole):
                    outcome.told += 1
                elif problem or not whole:
                    outcome.wrong.append(f"{ask}: {problem}")
                else:
                    outcome.answered += 1
    except TimeoutError:
        outcome.left += 1
    except aiohttp.ClientError as error:
        outcome.wrong.append(f"{ask}: {error!r}")


async def _read(answer: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """The body as far as it came, and whether that is all of it."""
    text = b""
    try:
        while piece := await answer.content.readany():
            text += piece
    except aiohttp.ClientPayloadError:
        answer.close()
        return text, False
    return text, True


async def _probe(session: aiohttp.ClientSession, model: str, outcome: Outcome) -> None:
    """A health check as LiteLLM sends it; it must succeed, and at once."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": PROBE, "images": []}],
        "options": {"num_predict": 16},
        "stream": False,
    }
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with session.post("/api/chat", json=body) as answer:
        told = await answer.json()
        outcome.probes += 1
        if answer.status != 200 or told.get("done") is not True:
            outcome.wrong.append(f"probe of {model}: {answer.status} {told}")
        if loop.time() - began > 10.0:
            outcome.wrong.append(f"probe of {model} took {loop.time() - began:.1f} s")


def _body(ask: Ask) -> dict[str, Any]:
    few = 24 if ask.fate == "leaves streaming" else 6
    messages = [{"role": "user", "content": ask.text}]
    body: dict[str, Any] = {"model": ask.model, "stream": ask.stream}
    match ask.path:
        case "/api/generate":
            body |= {"prompt": ask.text, "options": {"num_predict": few, "temperature": 0.9}, "keep_alive": "5s"}
        case "/api/chat":
            body |= {"messages": messages, "options": {"num_predict": few, "temperature": 0.9}, "keep_alive": 0}
        case _:
            body |= {"messages": messages, "max_tokens": few, "temperature": 0.9}
    if ask.num_ctx is not None:
        body["options"]["num_ctx"] = ask.num_ctx
    return body


def _problem(ask: Ask, status: int, text: bytes) -> str | None:
    """What is wrong with this answer; None if it is whole."""
    if status != 200:
        return f"status {status}: {text[:200]!r}"
    if not ask.stream:
        told = json.loads(text)
        native = ask.path.startswith("/api")
        whole = told.get("done") is True if native else bool(told.get("choices") or told.get("content") is not None)
        return None if whole else f"not whole: {text[:200]!r}"
    marks = {"/v1/chat/completions": b"data: [DONE]", "/v1/messages": b"message_stop"}
    mark = marks.get(ask.path, b'"done":true')
    if text.count(mark) < 1:
        return f"its end is missing: {text[-200:]!r}"
    return None

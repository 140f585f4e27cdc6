"""A person in a storm: 200 commands at random points, seeded, each over HTTP as the command line sends it."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

KINDS = {
    "load": 18,
    "unload": 12,
    "unload --all": 4,
    "pin": 18,
    "unpin": 16,
    "pause": 4,
    "resume": 10,
    "cancel": 24,
    "phase": 8,
    "reload": 8,
}
"""What is said, and how often in proportion."""
SECONDS = 10.0  # an answer is built from memory: one that takes longer is wrong


@dataclass(frozen=True, slots=True)
class Said:
    """One command; `at` seconds after the begin. `body` None: it depends on what is there by then."""

    at: float
    command: str
    body: dict[str, Any] | None


@dataclass
class Heard:
    """What the person heard: answers by command and status, and all that was not as it should be."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0

    @property
    def followed(self) -> int:
        """How many were done."""
        return sum(count for (_, status), count in self.statuses.items() if status == 200)


def commands(seed: int, count: int, seconds: float, models: list[str]) -> list[Said]:
    """`count` commands over `seconds`."""
    chance = random.Random(seed)
    every = chance.choices(list(KINDS), list(KINDS.values()), k=count)
    said = [_one(chance, kind, chance.uniform(0, seconds), models) for kind in every]
    return sorted(said, key=lambda each: each.at)


def _one(chance: random.Random, kind: str, at: float, models: list[str]) -> Said:
    model, others = chance.choice(models), chance.choices(("wait", "refuse"), (3, 1))[0]
    match kind:
        case "load" | "unload" | "unpin":
            return Said(at, kind, {"model": model})
        case "unload --all":
            return Said(at, "unload", {"all": True})
        case "pin":
            return Said(at, kind, {"model": model, "for": round(chance.uniform(0.2, 1.5), 3), "others": others})
        case "pause":
            return Said(at, kind, {"for": round(chance.uniform(0.1, 0.6), 3), "others": others})
        case "phase":
            return Said(at, kind, {"phase": chance.choice(("normal", "orchestra"))})
        case "cancel":
            return Said(at, kind, None)
    return Said(at, kind, {})


async def command_all(
    session: aiohttp.ClientSession, token: str, said: list[Said], requests: Callable[[], list[str]], seed: int
) -> Heard:
    """Say all of it at its time; `requests` are the ids of those that may be cancelled by then."""
    heard = Heard()
    begin = asyncio.get_running_loop().time()
    chance = random.Random(seed)

    async def one(each: Said) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, begin + each.at - loop.time()))
        body = each.body
        if body is None:
            body = {"request": chance.choice(requests() or ["r0000-0"])}
        asked = loop.time()
        headers = {"Authorization": f"Bearer {token}"}
        async with session.post(f"/control/{each.command}", json={**body, "by": "ada"}, headers=headers) as answer:
            told = await answer.json()
        took = loop.time() - asked
        heard.slowest = max(heard.slowest, took)
        heard.statuses[each.command, answer.status] += 1
        if answer.status not in (200, 409) or not (told.get("done") or told.get("error")) or took > SECONDS:
            heard.wrong.append(f"{each}: {answer.status} {told} in {took:.1f} s")

    async with asyncio.TaskGroup() as tasks:
        for each in said:
            tasks.create_task(one(each))
    return heard

"""Clients that leave, at every point where one can: nothing is stuck, nothing is left over, every promise holds."""

import asyncio
import json
import os
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from scheduler.core import messages as m
from tests.live import CODER, FAST, QUALITY, Live
from tests.realollama.stage import EXTRA, StagedModel
from tests.test_storm import Auditor

MODELS = (QUALITY, CODER, FAST, EXTRA)
STAGED = (
    StagedModel(QUALITY, 35_000_000_000, load_seconds=0.4, num_ctx=131_072),
    StagedModel(CODER, 20_000_000_000, load_seconds=0.3, num_ctx=32_768),
    StagedModel(FAST, 5_000_000_000, load_seconds=0.2, num_ctx=8_192),
    StagedModel(EXTRA, 100_000_000, load_seconds=0.2, num_ctx=4_096),
)
POINTS = (
    "before the head",
    "in the head",
    "before the body",
    "in the body",
    "in a chunk",
    "asked first",
    "at once",
    "waiting",
    "in the stream",
    "after the answer",
    "half closed",
    "a second request under way",
    "in an upload",
    "in a listing",
)


class Leaver:
    """One client that leaves at one point."""

    def __init__(self, port: int, chance: random.Random, point: str) -> None:
        self._port = port
        self._chance = chance
        self._point = point

    def _request(self) -> tuple[bytes, bytes]:
        """Head without its end, and body, of a question to some model, in some dialect."""
        path = self._chance.choice(("/api/generate", "/api/chat", "/v1/chat/completions", "/v1/messages"))
        body = json.dumps(
            {
                "model": self._chance.choice(MODELS),
                "prompt": "hello",
                "messages": [{"role": "user", "content": "hello"}],
                "stream": self._chance.random() < 0.7,
                "max_tokens": 30,
                "options": {"num_predict": 30},
            }
        ).encode()
        return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n".encode(), body

    def _sent(self) -> bytes:
        """All that is sent before it leaves."""
        head, body = self._request()
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        half = self._chance.randrange(1, len(body))
        match self._point:
            case "before the head":
                return b""
            case "in the head":
                return (head + length)[: self._chance.randrange(1, len(head + length))]
            case "before the body":
                return head + length
            case "in the body":
                return head + length + body[:half]
            case "in a chunk":
                return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body[:half]
            case "asked first":
                return head + b"Expect: 100-continue\r\n" + length
            case "in an upload":
                blob = b"POST /api/blobs/sha256:%064x HTTP/1.1\r\nHost: localhost\r\n" % self._chance.getrandbits(250)
                return blob + b"Content-Length: 9000000\r\n\r\n" + bytes(self._chance.randrange(1_000_000))
            case "in a listing":
                return b"GET /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n"
            case "a second request under way":
                return head + length + body + head + length + body
        return head + length + body

    async def leave(self) -> None:
        """Come, and go again: with a reset or in good order."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        with suppress(ConnectionError):
            writer.write(self._sent())
            await self._stay(reader, writer)
        if self._chance.random() < 0.5:
            writer.transport.abort()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _stay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Stay as long as the point takes; never longer than a little while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._chance.choice((0.001, 0.05, 0.5)) if self._point == "waiting" else 3.0):
                match self._point:
                    case "waiting":
                        await reader.read()
                    case "in the stream":
                        await reader.readuntil(b"\r\n\r\n")
                        await reader.read(self._chance.randrange(1, 600))
                    case "after the answer" | "a second request under way":
                        await reader.readuntil(b"\r\n\r\n")
                        await reader.read(1 << 20)
                    case "half closed":
                        writer.write_eof()
                        await reader.read()
                    case "asked first":
                        await reader.readline()
                    case _:
                        await asyncio.sleep(self._chance.choice((0, 0.002, 0.02)))


@pytest.mark.real
@pytest.mark.parametrize(
    ("count", "seed"),
    [
        pytest.param(200, 4, id="200", marks=pytest.mark.timeout(120)),
        pytest.param(1000, 1004, id="1000", marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
async def test_who_leaves_leaves_nothing_behind(
    count: int, seed: int, real_ollama: Any, watchers: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hang-ups at random points, before a real Ollama: 0 stuck requests, 0 tasks, connections and bodies left over,
    nothing loaded for the dead, no busy model unloaded; and whoever comes next is served."""
    ollama = await real_ollama(models=STAGED)
    chance = random.Random(seed)
    auditor = Auditor()
    points: Counter[str] = Counter()
    async with Live.start(
        ollama.url, tmp_path / "state", witness=auditor, ollama_settings={"device": "38338MiB"}
    ) as live:
        await live.acquainted()
        listener = live.daemon._own._listener
        dispatcher, forwarder = live.daemon._dispatch, listener._forwarder
        upstream = forwarder._upstream
        await live.chat(FAST)
        tasks = len(asyncio.all_tasks())
        clients = len(listener.door.connections)
        places = asyncio.Semaphore(24)

        async def one(number: int) -> None:
            async with places:
                point = POINTS[number % len(POINTS)]
                points[point] += 1
                await Leaver(live.daemon.port, random.Random(chance.random()), point).leave()

        async with asyncio.TaskGroup() as going:
            for number in range(count):
                going.create_task(one(number))

        await live.until(lambda: not live.state.requests, 60)
        await live.until(lambda: not forwarder.runs() and not listener.exchanges and not dispatcher._exchanges)
        await live.until(lambda: len(listener.door.connections) <= clients)
        await live.until(lambda: upstream._all == set(upstream._idle))
        await live.until(lambda: len(asyncio.all_tasks()) <= tasks)
        await live.until(lambda: _open(live.daemon.port) <= clients)
        assert (listener._bodies.memory, listener._bodies.disk, listener._coming.taken) == (0, 0, 0)
        for model in MODELS:
            assert (await live.chat(model, options={"num_predict": 2}))[0] == 200
        arrived = sum(isinstance(fact, m.Arrived) for fact, _ in live.steps)
        left = sum(isinstance(fact, m.Left) for fact, _ in live.steps)
        loads = live.orders(m.Load)
    with capsys.disabled():
        print(f"\n{count} hang-ups: {arrived} became requests, {left} of them left, {len(loads)} loads")  # noqa: T201
    assert set(points) == set(POINTS)
    assert left > count / 10
    assert (auditor.busy_unloads, auditor.dead_loads) == ([], [])
    assert max(auditor.answers.values()) == 1
    assert ollama.reloads() == []
    assert len(ollama.loads()) == len(loads), "every load was ordered by us"


def _open(port: int) -> int:
    """Connections of this process to clients of `port`, in whatever state that holds a descriptor."""
    seen = psutil.Process(os.getpid()).net_connections("tcp")
    return sum(bool(c.laddr) and c.laddr.port == port and c.status not in ("LISTEN", "NONE") for c in seen)

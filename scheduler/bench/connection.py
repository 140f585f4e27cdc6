"""The client's side of a measurement: kept connections that stamp what they hear, and a tally of what came back."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import httptools

WARM_UP = 3  # requests of each connection before anything counts
Result = dict[str, float]
"""What a measurement says of itself: counts, and times in seconds, by name."""


def request(port: int, model: str, size: int = 1000, stream: bool = False, chunks: int = 0) -> bytes:
    """A chat whose body has `size` bytes; a stream answers it in `chunks` chunks."""
    asked: dict[str, Any] = {"model": model, "stream": stream}
    if stream:
        asked["options"] = {"num_predict": chunks}
    asked["messages"] = [{"role": "user", "content": ""}]
    text = "tell me more about it " * (size // 22 + 1)
    asked["messages"][0]["content"] = text[: max(0, size - len(json.dumps(asked)))]
    body = json.dumps(asked).encode()
    head = f"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection(asyncio.Protocol):
    """One kept connection with at most one request on it. `heard(when, lines)` is called for each piece of a body,
    `answered(when, status)` at the end of an answer, status 0 where the connection broke instead."""

    def __init__(self) -> None:
        self.heard: Callable[[float, int], None] = _nothing
        self.answered: Callable[[float, int], None] = _nothing
        self.busy = False
        self._now = 0.0
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, data: bytes) -> None:
        """Send one request."""
        if self._transport.is_closing():
            self.answered(time.monotonic(), 0)
            return
        self.busy = True
        self._transport.write(data)

    def close(self) -> None:
        """Hang up."""
        self.answered = _nothing
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._now = time.monotonic()
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy:
            self.busy = False
            self.answered(time.monotonic(), 0)

    # httptools calls these.

    def on_body(self, data: bytes) -> None:
        self.heard(self._now, data.count(b"\n"))

    def on_message_complete(self) -> None:
        self.busy = False
        self.answered(self._now, self._parser.get_status_code())


def _nothing(when: float, what: int) -> None:
    """Nobody listens."""


@asynccontextmanager
async def connected(port: int, count: int) -> AsyncIterator[list[Connection]]:
    """`count` open connections."""
    loop = asyncio.get_running_loop()
    made: list[Connection] = []
    try:
        for _ in range(count):
            made.append((await loop.create_connection(Connection, "127.0.0.1", port))[1])
        yield made
    finally:
        for connection in made:
            connection.close()
        await asyncio.sleep(0)  # transports close in the next turn of the loop


async def warm(connections: Sequence[Connection], data: bytes) -> None:
    """Send some requests on each connection, one by one; what follows finds everything in place."""
    loop = asyncio.get_running_loop()
    for connection in connections:
        for _ in range(WARM_UP):
            done: asyncio.Future[int] = loop.create_future()
            connection.answered = lambda _, status, done=done: done.set_result(status)  # type: ignore[misc]
            connection.ask(data)
            await done


class Tally:
    """How many answers are still owed, and how it went."""

    def __init__(self, owed: int) -> None:
        self.owed = owed
        self.failed = 0
        self.took: list[float] = []
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def note(self, took: float, status: int) -> None:
        """One answer came."""
        if status == 200:
            self.took.append(took)
        else:
            self.failed += 1
        self.owed -= 1
        if self.owed == 0:
            self.over.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Until every answer came; those that did not within `seconds` have failed."""
        try:
            async with asyncio.timeout(seconds):
                await self.over
        except TimeoutError:
            self.failed += self.owed

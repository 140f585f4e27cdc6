"""Whoever is let in is heard or sees the connection end: nobody waits for ever, whatever goes wrong within."""

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import Any

import pytest

from scheduler.client import Client
from scheduler.connection import Connection
from scheduler.door import Door
from scheduler.heads import read_head
from scheduler.request import Request
from scheduler.wire import WireConfig
from tests.wired import PATIENCE, wired

NOWHERE = "http://127.0.0.1:9"
LIMITS = WireConfig(port=0)


class Interrupted(set[Connection]):
    """A door's connections; `then` happens to each as it is let in, before its socket is the loop's."""

    def __init__(self, then: Callable[[Connection], object]) -> None:
        super().__init__()
        self._then = then

    def add(self, connection: Connection) -> None:
        """Let it in, and be interrupted."""
        super().add(connection)
        self._then(connection)


async def test_who_is_just_let_in_is_not_taken_for_silent() -> None:
    """The look for the silent, or a search for room at another address, may come before its socket is the loop's."""
    async with wired(NOWHERE) as world:
        door, loop = world.listener.door, asyncio.get_running_loop()

        def look(connection: Connection) -> None:
            connection.look(loop.time())
            door._send_away(1)

        door.connections = Interrupted(look)
        answer = await (await world.ask("/healthz", method="GET")).answer()
        assert answer.status == 200
        assert door.sent_away == 0


async def test_who_is_closed_before_the_socket_is_the_loops_sees_the_end() -> None:
    """A connection that was closed so early is closed as soon as it is there."""
    async with wired(NOWHERE) as world:
        door = world.listener.door
        door.connections = Interrupted(Connection.close)
        client = await world.ask("/healthz", method="GET")
        async with asyncio.timeout(PATIENCE):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await client.reader.readexactly(1)
            assert not door.connections


async def test_what_breaks_before_the_route_is_known_is_answered_too(caplog: pytest.LogCaptureFixture) -> None:
    """A bug in the border's rules, or in anything before a route is known, is a 500 and a line of the log."""
    async with wired(NOWHERE) as world:

        def broken(*_: object) -> Any:
            raise RuntimeError("a bug of ours")

        sound, world.listener._check = world.listener._check, broken  # type: ignore[assignment]
        client = await world.ask("/healthz", method="GET")
        assert (await client.answer()).status == 500
        assert "a bug of ours" in caplog.text
        world.listener._check = sound
        assert (await client.ask("/healthz", method="GET").answer()).status == 200


@pytest.mark.parametrize("error", [RuntimeError("a bug of ours"), asyncio.CancelledError()])
async def test_a_hearing_that_fails_ends_its_connection(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Where not even an error can be said the connection ends: it neither hangs open nor counts as busy."""

    async def hear(_: Request) -> Client:
        raise error

    door = Door(hear, LIMITS)
    await door.open("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            assert not door.connections
            assert ("a bug of ours" in caplog.text) == isinstance(error, Exception)
    finally:
        writer.close()
        await asyncio.wait_for(door.close(), PATIENCE)


@pytest.mark.parametrize(
    ("error", "troubled"),
    [
        (RuntimeError("a bug of ours"), True),
        (OSError(errno.EMFILE, "Too many open files"), True),
        (OSError(errno.EINVAL, "Invalid argument"), False),
    ],
    ids=["bug", "no files", "gone"],
)
async def test_a_failed_accept_shuts_nobody_out(
    error: Exception, troubled: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever accepting one client raises, the next is let in; one that has left by then is no trouble of ours."""
    async with wired(NOWHERE) as world:
        loop = asyncio.get_running_loop()
        accept, failures = loop.connect_accepted_socket, [error]

        async def failing(*args: Any, **more: Any) -> Any:
            if failures:
                raise failures.pop()
            return await accept(*args, **more)

        monkeypatch.setattr(loop, "connect_accepted_socket", failing)
        with caplog.at_level(logging.WARNING):
            lost = await world.connect()
            async with asyncio.timeout(PATIENCE):
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await lost.reader.readexactly(1)
            assert (await (await world.ask("/healthz", method="GET")).answer()).status == 200
        assert bool(world.listener.door.ran_out) == troubled
        assert bool(caplog.records) == troubled
        assert not world.listener.door.trouble


async def test_a_next_request_that_cannot_be_begun_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The second of two requests in a row is begun where the first has ended: a bug there is no silence either."""
    heads = 0

    def broken(block: bytes) -> Any:
        nonlocal heads
        heads += 1
        if heads == 2:
            raise RuntimeError("a bug of ours")
        return read_head(block)

    monkeypatch.setattr("scheduler.connection.read_head", broken)
    async with wired(NOWHERE) as world:
        client = (await world.ask("/healthz", method="GET")).ask("/healthz", method="GET")
        assert (await client.answer()).status == 200
        async with asyncio.timeout(PATIENCE):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await client.reader.readexactly(1)
            assert not world.listener.door.connections
        assert "a bug of ours" in caplog.text

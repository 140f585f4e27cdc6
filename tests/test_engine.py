"""A runner's own engine, asked: busy, idle, how far it is, or that it cannot be asked; never an error."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from scheduler import memory
from scheduler.engine import Engine, Engines
from tests.scarce import NoFiles
from tests.stub_upstream import Call, Script, StubUpstream

FILE = "/models/blobs/sha256-1"


@pytest.fixture
async def engines() -> AsyncIterator[Engines]:
    """Engines, closed at the end."""
    made = Engines()
    yield made
    await made.close()


@pytest.fixture
def sleeper() -> Any:
    """A process that does nothing."""
    with subprocess.Popen(["/bin/sh", "-c", "read _; exit"], stdin=subprocess.PIPE) as process:
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()


def says(body: bytes, status: bytes = b"200 OK") -> Script:
    """A /slots that says this."""

    async def script(call: Call) -> None:
        await call.whole(body, status)

    return script


def place(patch: pytest.MonkeyPatch, stub: StubUpstream, pid: int) -> None:
    """The runner of FILE is the stub."""
    found = pid, int(stub.url.rpartition(":")[2])
    patch.setattr(memory, "runner_place", lambda file: found if file == FILE else None)


IDLE = b'{"is_processing": false}'
READING = b'{"is_processing": true, "n_prompt_tokens": 900, "n_prompt_tokens_processed": 300, "next_token": []}'
FIRST = (
    b'{"is_processing": true, "n_prompt_tokens": 9, "n_prompt_tokens_processed": 3, "next_token": [{"n_decoded": 0}]}'
)
WRITING = (
    b'{"is_processing": true, "n_prompt_tokens": 9, "n_prompt_tokens_processed": 9, "next_token": [{"n_decoded": 5}]}'
)
STRANGERS = b'{"is_processing": true}'


@pytest.mark.parametrize(
    ("slots", "seen"),
    [
        (b"[]", Engine(False)),
        (b"[%b]" % IDLE, Engine(False)),
        (b"[%b, %b]" % (IDLE, READING), Engine(True, 1, ((300, 900),))),
        (b"[%b, %b]" % (READING, FIRST), Engine(True, 2, ((300, 900), (3, 9)))),
        (b"[%b]" % WRITING, Engine(True, 1)),
        (b"[%b]" % STRANGERS, Engine(True, 1)),
        (b"[%b, 7, null]" % IDLE, Engine(False)),
        (b'[{"is_processing": true, "n_prompt_tokens": "9", "n_prompt_tokens_processed": Infinity}]', Engine(True, 1)),
    ],
)
async def test_what_slots_say(
    monkeypatch: pytest.MonkeyPatch, engines: Engines, sleeper: int, slots: bytes, seen: Engine
) -> None:
    """Busy where any slot works; progress only of those that have decoded nothing yet; only ever GET."""
    async with StubUpstream({"/slots": says(slots)}) as stub:
        place(monkeypatch, stub, sleeper)
        assert await engines.look(FILE) == seen
        assert await engines.look(FILE) == seen
        assert [(call.method, call.target, call.body) for call in stub.calls] == [("GET", "/slots", b"")] * 2


STRANGE = [
    says(b"<html>"),
    says(b""),
    says(b'{"slots": []}'),
    says(b"null"),
    says(b"\xff\xfe"),
    says(b"[" * 200_000),
    says(
        b'{"error": {"code": 501, "message": "This server does not support slots endpoint."}}', b"501 Not Implemented"
    ),
]


@pytest.mark.parametrize("script", STRANGE)
async def test_a_runner_that_differs_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch, engines: Engines, sleeper: int, script: Script
) -> None:
    """Another program, or a runner without /slots: nothing is known of it, and nothing breaks."""
    async with StubUpstream({"/slots": script}) as stub:
        place(monkeypatch, stub, sleeper)
        assert await engines.look(FILE) is None


async def test_a_runner_that_hangs_up_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch, engines: Engines, sleeper: int
) -> None:
    """A reset is no answer, nor is half of one."""

    async def half(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[")
        call.reset()

    async with StubUpstream({"/slots": half}) as stub:
        place(monkeypatch, stub, sleeper)
        assert await engines.look(FILE) is None


async def test_a_runner_that_does_not_answer_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch, engines: Engines, sleeper: int
) -> None:
    """A wedged HTTP server costs two seconds, not the chore."""

    async def never(call: Call) -> None:
        await call.hung_up()

    async with StubUpstream({"/slots": never}) as stub:
        place(monkeypatch, stub, sleeper)
        began = time.monotonic()
        assert await engines.look(FILE) is None
        assert time.monotonic() - began < 4


async def test_without_a_file_or_a_runner_nobody_is_asked(monkeypatch: pytest.MonkeyPatch, engines: Engines) -> None:
    """A model whose file is not known, and one that no process was started from."""
    looked: list[str] = []

    def nowhere(file: str) -> None:
        looked.append(file)

    monkeypatch.setattr(memory, "runner_place", nowhere)
    assert await engines.look("") is None
    assert await engines.look(FILE) is None
    assert looked == [FILE]


async def test_a_runner_that_moved_is_found_again(
    monkeypatch: pytest.MonkeyPatch, engines: Engines, sleeper: int
) -> None:
    """Loaded anew it has another port: the old one is refused, and the process is looked for."""
    async with StubUpstream({"/slots": says(b"[%b]" % WRITING)}) as stub:
        place(monkeypatch, stub, sleeper)
        assert await engines.look(FILE) == Engine(True, 1)
    async with StubUpstream({"/slots": says(b"[%b]" % IDLE)}) as stub:
        place(monkeypatch, stub, sleeper)
        assert await engines.look(FILE) == Engine(False)


async def test_a_runner_that_burns_processor_time_works(monkeypatch: pytest.MonkeyPatch, engines: Engines) -> None:
    """Its slots are idle while it still cuts a long prompt into tokens: that is no wedge. The first look knows no
    before."""
    async with StubUpstream({"/slots": says(b"[%b]" % IDLE)}) as stub:
        place(monkeypatch, stub, os.getpid())
        assert await engines.look(FILE) == Engine(False)
        end = time.process_time() + 0.15
        while time.process_time() < end:
            sum(range(1000))
        assert await engines.look(FILE) == Engine(True)


async def test_a_runner_that_is_gone_burns_nothing(monkeypatch: pytest.MonkeyPatch, engines: Engines) -> None:
    """Its port answers, its process cannot be looked at: what its slots say holds."""
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit")
    await process.wait()
    async with StubUpstream({"/slots": says(b"[%b]" % IDLE)}) as stub:
        place(monkeypatch, stub, process.pid)
        assert await engines.look(FILE) == Engine(False)


async def test_a_runner_is_dead_once_its_process_is_gone(monkeypatch: pytest.MonkeyPatch, engines: Engines) -> None:
    """Seen alive and then gone it is dead, until another one of the same file is found; a model that left is
    forgotten."""
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "read _", stdin=subprocess.PIPE)
    places = {FILE: (process.pid, 1)}
    monkeypatch.setattr(memory, "runner_place", places.get)
    assert not await engines.is_dead(FILE)
    process.kill()
    await process.wait()
    places.clear()
    assert await engines.is_dead(FILE)
    places[FILE] = (os.getpid(), 1)
    assert not await engines.is_dead(FILE)
    places.clear()
    assert not await engines.is_dead(FILE)
    engines.forget(FILE)
    assert not await engines.is_dead(FILE)


async def test_a_runner_that_was_never_seen_is_not_called_dead(
    monkeypatch: pytest.MonkeyPatch, engines: Engines
) -> None:
    """Another user's, or one of another kind: nothing is known of it, and it is not sought at each look."""
    sought: list[str] = []

    def nowhere(file: str) -> None:
        sought.append(file)

    monkeypatch.setattr(memory, "runner_place", nowhere)
    assert not await engines.is_dead("")
    for _ in range(3):
        assert not await engines.is_dead(FILE)
    assert sought == [FILE]


async def test_without_a_file_to_look_with_nothing_is_known(
    engines: Engines, sleeper: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where open files have run out no runner is called dead or at work, and whoever asks meets no error."""
    monkeypatch.setattr(memory, "runner_place", lambda _: (sleeper, 1))
    assert not await engines.is_dead(FILE)
    monkeypatch.undo()
    await asyncio.get_running_loop().run_in_executor(None, bool)  # a thread is there already
    no_files = NoFiles()
    try:
        no_files(True)
        assert not await engines.is_dead(FILE)
        assert not await engines.is_dead("/models/blobs/sha256-2")
        assert await engines.look(FILE) is None
        assert not engines._works(sleeper)
    finally:
        no_files(False)
    assert not await engines.is_dead(FILE)

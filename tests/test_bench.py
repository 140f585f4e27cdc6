"""The bench measures what it says: the stub is an Ollama to its clients, the generator counts honestly. No timings."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import httpx
import ollama
import psutil
import pytest

from policies import foresee
from scheduler.bench import ahead_bench, core_bench, load, processes, stub
from scheduler.bench.connection import request
from scheduler.bench.processes import NotMeasured, Serving
from scheduler.bench.report import Row, table
from scheduler.core import messages as m
from scheduler.core.machine import Machine
from scheduler.simulator.generate import host_for, make
from scheduler.simulator.run import simulate

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(name="upstream")
def _upstream() -> Iterator[Serving]:
    with processes.stub() as serving:
        yield serving


class Answering(asyncio.Protocol):
    """Gives each request the same bytes after some seconds; no bytes: no answer. `close` hangs up behind them."""

    def __init__(self, answer: bytes, after: float, close: bool) -> None:
        self._answer, self._after, self._close = answer, after, close
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._heard += data
        head, end, body = self._heard.partition(b"\r\n\r\n")
        if end and len(body) == int(head.partition(b"Content-Length: ")[2]):
            self._heard = b""
            asyncio.get_running_loop().call_later(self._after, self._give)

    def _give(self) -> None:
        self._transport.write(self._answer)
        if self._close:
            self._transport.close()


@asynccontextmanager
async def answering(answer: bytes, after: float = 0.0, close: bool = False) -> AsyncIterator[int]:
    """The port of such a server."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(answer, after, close), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_the_official_client_sees_one_resident_model(upstream: Serving) -> None:
    """Everything the daemon reads of an Ollama is there, with the sizes and the context staged."""
    client = ollama.AsyncClient(host=f"http://127.0.0.1:{upstream.port}", trust_env=False)
    resident = (await client.ps()).models
    assert [(row.model, row.size, row.context_length) for row in resident] == [(stub.RESIDENT, 5 * 10**9, 32768)]
    assert {row.model for row in (await client.list()).models} == {stub.RESIDENT, stub.AWAY}
    assert "num_ctx" in ((await client.show(stub.RESIDENT)).parameters or "")
    assert (await client.generate(model=stub.RESIDENT, keep_alive=0)).done_reason == "unload"
    assert (await client.ps()).models == []
    assert (await client.generate(model=stub.RESIDENT, keep_alive=-1)).done_reason == "load"
    assert len((await client.ps()).models) == 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.generate(model=stub.AWAY, keep_alive=-1), 0.3)
    await client.close()  # type: ignore[no-untyped-call]


def test_a_chat_is_ninety_bytes_and_a_stream_has_the_chunks_asked_for(upstream: Serving) -> None:
    """What the figures count is what was sent."""
    with httpx.Client(base_url=f"http://127.0.0.1:{upstream.port}", trust_env=False) as client:
        whole = client.post("/api/chat", json={"model": stub.RESIDENT, "stream": False})
        assert len(whole.content) == stub.ANSWER_BYTES
        assert whole.json()["done"]
        streamed = client.post("/api/chat", json={"model": stub.RESIDENT, "options": {"num_predict": 5}})
        lines = [json.loads(line) for line in streamed.text.splitlines()]
        assert [line["done"] for line in lines] == [False] * 4 + [True]
        assert client.get("/metrics").status_code == 404


@pytest.mark.parametrize("size", [1_000, 120_000])
def test_a_body_has_the_size_asked_for(size: int) -> None:
    """A row that says 1 kB sends 1 kB."""
    head, _, body = request(1, stub.RESIDENT, size).partition(b"\r\n\r\n")
    assert len(body) == size
    assert f"Content-Length: {size}".encode() in head
    assert json.loads(body)["model"] == stub.RESIDENT


def test_each_mode_sends_what_it_promises(upstream: Serving) -> None:
    """Counts of the open loop and of the streams follow from rate, connections and seconds; nothing fails."""
    got = processes.generate("open", upstream.port, connections=4, rate=20, seconds=0.5)
    assert (got["count"], got["failed"]) == (40, 0)
    assert 0 < got["p50"] <= got["p99"]
    got = processes.generate("streams", upstream.port, connections=10, seconds=0.5)
    assert (got["first_count"], got["chunks"], got["failed"]) == (10, 100, 0)
    assert got["first_p50"] > 0
    got = processes.generate("closed", upstream.port, connections=4, seconds=0.3)
    assert got["failed"] == 0
    assert got["count"] > 4
    assert got["rate"] > 0


async def test_the_open_loop_counts_from_when_a_request_was_due() -> None:
    """An upstream slower than the rate shows as waiting that grows, not as its own service time."""
    async with answering(OK, after=0.05) as port:
        got = await load.open_loop(port, connections=1, rate=100, seconds=0.2)
    assert got["count"] == 20
    assert got["p99"] > 10 * 0.05


@pytest.mark.parametrize(
    ("answer", "close"), [(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", False), (OK[:-1], True)]
)
async def test_errors_and_broken_answers_are_failures(answer: bytes, close: bool) -> None:
    """A refusal is no fast answer, and half an answer is none."""
    async with answering(answer, close=close) as port:
        got = await load.open_loop(port, connections=1, rate=50, seconds=0.1)
    assert (got["count"], got["failed"]) == (0, 5)


async def test_a_stream_that_lacks_a_chunk_has_failed() -> None:
    """A relay that loses or adds a chunk does not pass as fast."""
    line = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n0\r\n\r\n"
    async with answering(line) as port:
        got = await load.streams(port, connections=1, seconds=0.1)
    assert (got["failed"], got["chunks"]) == (1, 1)


async def test_held_requests_stay_until_told(upstream: Serving) -> None:
    """Holding ends in peace where nobody answers, and with a complaint where somebody does."""
    async with answering(b"") as port:
        await asyncio.to_thread(_hold, port)
    with pytest.raises(NotMeasured, match="3 of the requests to hold were answered"):
        _hold(upstream.port, settle=True)


def _hold(port: int, settle: bool = False) -> None:
    with processes.holding(port, connections=3, size=1_000):
        if settle:  # answers to the held ones are on their way before this one's
            processes.generate("open", port, connections=1, rate=10, seconds=0.1)


@pytest.mark.parametrize(
    ("policy", "crowd"),
    [("default", core_bench.DOCUMENTED), ("fifo", core_bench.DOCUMENTED), ("default", core_bench.MANY)],
)
def test_the_core_has_as_many_waiting_as_the_row_says(policy: str, crowd: core_bench.Crowd) -> None:
    """Requests leave the queue, models change places, and the queue is as full as before."""
    stage = core_bench.Stage(policy, crowd)
    stage.run(2_000, crowd.waiting)
    assert stage.waiting == crowd.waiting
    assert len(stage.took) >= 2_000
    assert stage.changes > 2


def test_looks_and_guesses_are_timed_from_outside() -> None:
    """One guess for each group of arrivals and many looks, all with their seconds; afterwards nothing is timed."""
    name, groups = "alternate-40s", 0

    def count(fact: m.Fact, orders: Sequence[m.Order], machine: Machine) -> None:
        nonlocal groups
        groups = len(machine.state.groups)

    before = foresee.best, foresee.stays, foresee.expected
    with ahead_bench.timed() as seen:
        simulate(make(name, ahead_bench.SEED), host_for(name), witness=count)
    assert (foresee.best, foresee.stays, foresee.expected) == before
    assert len(seen.took["expected"]) == groups > 100
    assert len(seen.took["best"]) > groups
    assert seen.total == pytest.approx(sum(sum(took) for took in seen.took.values()))
    assert seen.total > 0


def test_the_rows_on_looking_ahead_have_median_and_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows a workload, each with two figures in their order and the calls a request."""
    monkeypatch.setattr(ahead_bench, "WORKLOADS", ("few-agents",))
    looks, guesses = ahead_bench.measure(1)
    for row, counted in ((looks, r"\d+ best, \d+ stays"), (guesses, r"\d+ expected")):
        found = re.fullmatch(r"(\d+\.\d\d) ms, (\d+\.\d\d) ms", row.through)
        assert found is not None, row.through
        assert 0 <= float(found[1]) <= float(found[2])
        assert float(found[2]) > 0
        assert re.search(rf"0\.\d\d calls a request \({counted}; \d+ requests\)", row.note)


def test_what_was_started_has_ended() -> None:
    """Nothing outlives its block, even where the block fails."""
    started: list[int] = []
    with pytest.raises(ZeroDivisionError):
        _fail_beside_a_stub(started)
    assert len(started) == 1
    assert not psutil.pid_exists(started[0])


def _fail_beside_a_stub(started: list[int]) -> None:
    with processes.stub() as serving:
        assert psutil.pid_exists(serving.pid)
        started.append(serving.pid)
        raise ZeroDivisionError


def test_the_table_lines_up() -> None:
    """Cells are under their headings and each note has the number of its row."""
    text = table([Row("one", "1 ms", "2 ms", "+1 ms", "≤ 1 ms"), Row("another", through="3", note="why")])
    head, rule, one, another, *rest = text.splitlines()
    assert one.index("+1 ms") == head.index("added")
    assert another.index("3") == head.index("through")
    assert len(rule) >= len(another)
    assert rest[-1] == "2  why"


def test_the_command_measures_through_a_daemon() -> None:
    """`python -m scheduler.bench` starts a daemon, measures through it, and says so; exit code 0."""
    command = [sys.executable, "-m", "scheduler.bench", "--rounds", "1", "--seconds", "0.5", "--only", "open"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed direct, 0 failed through" in done.stdout
    assert "not measured" not in done.stdout

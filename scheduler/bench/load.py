"""The load generator, a process of its own: `python -m scheduler.bench.load MODE --port N` says its result as JSON.

`open` sends at fixed times whatever came back, and counts from the time a request was due; `streams` starts streams one
after the other and times every chunk; `closed` sends the next request when the last was answered; `held` sends requests
that nobody answers and keeps them until stdin ends. Seconds everywhere.

The paced modes run on select(), whose timeout is exact to some 0.1 ms; uvloop and epoll know only whole milliseconds.
"""

import argparse
import asyncio
import gc
import json
import selectors
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from itertools import pairwise
from statistics import quantiles

import uvloop

from scheduler.bench.connection import Connection, Result, Tally, connected, request, warm
from scheduler.bench.stub import AWAY, CHUNKS_A_SECOND, RESIDENT

GRACE = 5.0  # seconds for what is still under way at the end
HEAD_START = 0.05  # seconds before the first request is due


class Paced:
    """One connection that sends at the given times. A request due while the last is unanswered waits: that counts."""

    def __init__(self, connection: Connection, data: bytes, times: Sequence[float], tally: Tally) -> None:
        self._connection = connection
        self._data = data
        self._times = deque(times)
        self._due: deque[float] = deque()
        self._asked = 0.0
        self._tally = tally
        self._loop = asyncio.get_running_loop()
        connection.answered = self._answered
        self._schedule()

    def _schedule(self) -> None:
        if self._times:
            self._loop.call_at(self._times[0], self._is_due)

    def _is_due(self) -> None:
        self._due.append(self._times.popleft())
        self._schedule()
        self._send()

    def _send(self) -> None:
        if self._due and not self._connection.busy:
            self._asked = self._due.popleft()
            self._connection.ask(self._data)

    def _answered(self, when: float, status: int) -> None:
        self._tally.note(when - self._asked, status)
        self._send()


async def open_loop(port: int, connections: int, rate: float, seconds: float) -> Result:
    """`connections` x `rate` requests a second, evenly spread: p50, p99 of the time to the whole answer."""
    data = request(port, RESIDENT)
    count = round(rate * seconds)
    async with connected(port, connections) as made:
        await warm(made, data)
        tally = Tally(connections * count)
        began = time.monotonic() + HEAD_START
        for number, connection in enumerate(made):
            first = began + number / (rate * connections)
            Paced(connection, data, [first + turn / rate for turn in range(count)], tally)
        await tally.wait(seconds + GRACE)
    return _result(tally, {"": tally.took})


async def streams(port: int, connections: int, seconds: float) -> Result:
    """Streams of `seconds`, started one after the other and each in a phase of its own: p50, p99 of the time to the
    first chunk, and of the gaps between chunks."""
    chunks = max(2, round(seconds * CHUNKS_A_SECOND))
    apart = 19 / connections / CHUNKS_A_SECOND  # 19 has no divisor in common with usual counts: all phases differ
    loop = asyncio.get_running_loop()
    async with connected(port, connections) as made:
        await warm(made, request(port, RESIDENT))
        tally = Tally(connections)
        began = time.monotonic() + HEAD_START
        heard = [Stream(connection, chunks, began + n * apart, tally) for n, connection in enumerate(made)]
        data = request(port, RESIDENT, stream=True, chunks=chunks)
        for stream in heard:
            loop.call_at(stream.due, stream.ask, data)
        await tally.wait(apart * connections + seconds + GRACE)
    firsts = [stream.chunks[0] - stream.due for stream in heard if stream.chunks]
    gaps = [later - earlier for stream in heard for earlier, later in pairwise(stream.chunks)]
    return _result(tally, {"first_": firsts, "gap_": gaps}) | {"chunks": len(firsts) + len(gaps)}


class Stream:
    """One stream of `count` chunks, to be asked for when it is `due`; a line of JSON is a chunk."""

    def __init__(self, connection: Connection, count: int, due: float, tally: Tally) -> None:
        self.due = due
        self.chunks: list[float] = []  # when each came
        self._connection = connection
        self._count = count
        self._tally = tally
        connection.heard = self._heard
        connection.answered = self._answered

    def ask(self, data: bytes) -> None:
        """Ask for it now."""
        self._connection.ask(data)

    def _heard(self, when: float, lines: int) -> None:
        self.chunks += [when] * lines

    def _answered(self, when: float, status: int) -> None:
        self._tally.note(when - self.due, status if len(self.chunks) == self._count else 0)


async def closed_loop(port: int, connections: int, seconds: float) -> Result:
    """As many requests as come back: how many a second, p50, p99."""
    data = request(port, RESIDENT)
    took: list[float] = []
    async with connected(port, connections) as made:
        await warm(made, data)
        tally = Tally(connections)
        began = time.monotonic()
        for connection in made:
            _go_round(connection, data, began + seconds, tally, took)
        await tally.wait(seconds + GRACE)
        lasted = time.monotonic() - began
    return _result(tally, {"": took}) | {"rate": len(took) / lasted}


def _go_round(connection: Connection, data: bytes, until: float, tally: Tally, took: list[float]) -> None:
    """Ask again and again on one connection until the time is over."""
    asked = time.monotonic()

    def answered(when: float, status: int) -> None:
        nonlocal asked
        if status != 200 or when >= until:
            tally.note(when - asked, status)
            return
        took.append(when - asked)
        asked = when
        connection.ask(data)

    connection.answered = answered
    connection.ask(data)


async def held(port: int, connections: int, size: int) -> Result:
    """Requests for a model that never comes, kept until stdin ends; says on stdout when all are sent."""
    data = request(port, AWAY, size)
    answered = 0

    def count(when: float, status: int) -> None:
        nonlocal answered
        answered += 1

    async with connected(port, connections) as made:
        for connection in made:
            connection.answered = count
            connection.ask(data)
        _say({"sent": len(made)})
        reader = asyncio.StreamReader()
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        await reader.read()
        pipe.close()
    return {"answered": answered}


def _result(tally: Tally, samples: dict[str, list[float]]) -> Result:
    """Median and 99th percentile of each series."""
    result: Result = {"failed": tally.failed}
    for name, values in samples.items():
        cuts = quantiles(values, n=100, method="inclusive") if len(values) > 1 else [float("nan")] * 99
        result |= {f"{name}count": len(values), f"{name}p50": cuts[49], f"{name}p99": cuts[98]}
    return result


def _say(result: Result) -> None:
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run one mode and print its result."""
    parser = argparse.ArgumentParser(prog="python -m scheduler.bench.load", description=__doc__)
    parser.add_argument("mode", choices=("open", "streams", "closed", "held"))
    parser.add_argument("--port", type=int, required=True, help="where on 127.0.0.1 to send to")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rate", type=float, default=10.0, help="open: requests a second on each connection")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--size", type=int, default=1000, help="held: bytes of a body")
    given = parser.parse_args()
    work: Callable[[], Coroutine[None, None, Result]] = {
        "open": lambda: open_loop(given.port, given.connections, given.rate, given.seconds),
        "streams": lambda: streams(given.port, given.connections, given.seconds),
        "closed": lambda: closed_loop(given.port, given.connections, given.seconds),
        "held": lambda: held(given.port, given.connections, given.size),
    }[given.mode]
    gc.disable()  # a short life with little garbage: no pauses of ours in the figures
    paced = given.mode in ("open", "streams")
    with asyncio.Runner(loop_factory=_exact_loop if paced else uvloop.new_event_loop) as runner:
        _say(runner.run(work()))


def _exact_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    main()

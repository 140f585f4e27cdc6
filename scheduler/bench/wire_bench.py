"""What forwarding costs: the same load direct and through the daemon, in turn and in one run, medians of all rounds."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from scheduler.bench import processes
from scheduler.bench.connection import Result
from scheduler.bench.processes import NotMeasured, Serving
from scheduler.bench.report import Row, milliseconds

CLOSED_SECONDS = 2.0  # at most, of a closed-loop round: it takes both processors whole
CONNECTIONS, RATE, STREAMS = 16, 10, 100


@dataclass(slots=True)
class Measured:
    """The results of all rounds at one place."""

    results: list[Result] = field(default_factory=list)

    def median(self, key: str) -> float:
        """Median over the rounds; NaN where there is none."""
        return median(result[key] for result in self.results) if self.results else float("nan")

    def failed(self) -> int:
        """Requests without their answer, all rounds together."""
        return int(sum(result["failed"] for result in self.results))


class Wire:
    """The places to be measured: the stub itself, the daemon and nginx before it, as far as they are there."""

    def __init__(self, rounds: int, seconds: float, say: Callable[[str], None]) -> None:
        self._rounds = rounds
        self._seconds = seconds
        self._say = say
        self._stack = ExitStack()
        self._places: dict[str, Serving] = {}
        self._missing: list[str] = []

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, folder: Path) -> None:
        """Start everything; what cannot be is left out and named in the notes."""
        stub = self._stack.enter_context(processes.stub())
        self._places["direct"] = stub
        try:
            through = self._stack.enter_context(processes.daemon(stub, folder))
            processes.served(through)
            self._places["through"] = through
        except NotMeasured as error:
            self._missing.append(str(error))
        try:
            self._places["nginx"] = self._stack.enter_context(processes.nginx(stub, folder))
        except NotMeasured as error:
            self._missing.append(str(error))

    def open_loop(self) -> list[Row]:
        """16 connections x 10 requests/s to a resident model."""
        options = {"connections": CONNECTIONS, "rate": RATE, "seconds": self._seconds}
        got = self._in_turn("open", ("direct", "through"), options)
        figure = f"open loop, {CONNECTIONS} x {RATE} requests/s"
        count = f"{got['direct'].median('count'):.0f} requests a round; {self._failures(got)}"
        return [
            _compared(f"{figure}: p50", got, "p50", "≤ +1 ms", count),
            _compared(f"{figure}: p99", got, "p99"),
        ]

    def streams(self) -> list[Row]:
        """100 streams of 20 chunks/s."""
        options = {"connections": STREAMS, "seconds": self._seconds}
        got = self._in_turn("streams", ("direct", "through"), options)
        figure = f"{STREAMS} streams x 20 chunks/s"
        count = f"{got['direct'].median('chunks'):.0f} chunks a round; {self._failures(got)}"
        cpu, chunks = got["through"].median("cpu"), got["through"].median("chunks")
        share = cpu / (self._seconds + 1)  # they start within the first second
        spent = f"{cpu / chunks * 1e6:.0f} µs a chunk, {share:.0%} of one processor, the daemon's own chores included"
        return [
            _compared(f"{figure}: first chunk, p50", got, "first_p50", "≤ +1 ms", count),
            _compared(f"{figure}: first chunk, p99", got, "first_p99"),
            _compared(f"{figure}: gap, p50", got, "gap_p50"),
            _compared(f"{figure}: gap, p99", got, "gap_p99"),
            Row(
                f"{figure}: processor time",
                through=f"{cpu:.2f} s",
                note=spent,
            ),
        ]

    def closed_loop(self) -> list[Row]:
        """As fast as 16 connections go."""
        options = {"connections": CONNECTIONS, "seconds": min(self._seconds, CLOSED_SECONDS)}
        got = self._in_turn("closed", ("direct", "through", "nginx"), options)
        figure = f"closed loop, {CONNECTIONS} connections"
        limit = "generator and stub are Python and share the processors: direct is their limit, not HTTP's"
        rows = [
            Row(
                f"{figure}: requests/s",
                f"{got['direct'].median('rate'):.0f}",
                f"{got['through'].median('rate'):.0f}",
                note=f"{self._failures(got)}; {limit}",
            ),
            _compared(f"{figure}: p50", got, "p50"),
            _compared(f"{figure}: p99", got, "p99"),
        ]
        if got["nginx"].results:
            beside = f"p50 {milliseconds(got['nginx'].median('p50'))}, p99 {milliseconds(got['nginx'].median('p99'))}"
            rate = f"{got['nginx'].median('rate'):.0f}"
            rows.append(Row(f"{figure}: requests/s through nginx, 1 worker", through=rate, note=beside))
        return rows

    def _in_turn(self, mode: str, names: tuple[str, ...], options: Mapping[str, float]) -> dict[str, Measured]:
        """Every place in each round, the order turned round each time; processor seconds of each beside."""
        got = {name: Measured() for name in names}
        here = [name for name in names if name in self._places]
        for number in range(self._rounds):
            for name in here if number % 2 == 0 else reversed(here):
                self._say(f"{mode}: round {number + 1} of {self._rounds}, {name}")
                place = self._places[name]
                before = place.cpu()
                result = processes.generate(mode, place.port, **options)
                got[name].results.append(result | {"cpu": place.cpu() - before})
        return got

    def _failures(self, got: Mapping[str, Measured]) -> str:
        told = [f"{measured.failed()} failed {name}" for name, measured in got.items() if measured.results]
        return "; ".join([", ".join(told), *self._missing])


def _compared(figure: str, got: Mapping[str, Measured], key: str, target: str = "", note: str = "") -> Row:
    direct, through = got["direct"].median(key), got["through"].median(key)
    if not got["through"].results:
        return Row(figure, milliseconds(direct), target=target, note=note)
    return Row(figure, milliseconds(direct), milliseconds(through), milliseconds(through - direct, "+"), target, note)

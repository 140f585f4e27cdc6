"""What holding costs: the daemon's resident memory above idle with 500 requests held, and its time to be ready."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from scheduler.bench import processes
from scheduler.bench.processes import NotMeasured, Serving
from scheduler.bench.report import NOTHING, Row, megabytes
from scheduler.bench.stub import AWAY

HELD = 500
BODIES = ((1_000, "≤ +40 MB"), (120_000, "≤ +110 MB"))  # bytes, target
ARRIVE_SECONDS = 20.0  # for all of them to be in the queue
WATCH_SECONDS = 2.0  # how long memory is looked at once they are
POLL = 0.05


def measure(rounds: int, folder: Path, say: Callable[[str], None]) -> list[Row]:
    """A fresh daemon each time. Raises NotMeasured where it cannot be measured."""
    with processes.stub() as stub:
        rows = [_ready(rounds, stub, folder, say)]
    for size, target in BODIES:
        say(f"memory: {HELD} held, {size} bytes each")
        with processes.stub() as stub, processes.daemon(stub, folder) as daemon:
            rows.append(_held(daemon, size, target))
    return rows


def _ready(rounds: int, stub: Serving, folder: Path, say: Callable[[str], None]) -> Row:
    took = []
    for number in range(rounds):
        say(f"start: round {number + 1} of {rounds}")
        with processes.daemon(stub, folder) as daemon:
            took.append(daemon.ready_after)
    note = f"from the start of the process to 200 of /readyz; slowest {max(took):.2f} s"
    return Row("time to ready", through=f"{median(took):.2f} s", target="≤ 1 s", note=note)


def _held(daemon: Serving, size: int, target: str) -> Row:
    """Memory before, and the most seen until some time after the last request was in the queue."""
    processes.served(daemon)
    idle = highest = daemon.memory()
    with processes.holding(daemon.port, connections=HELD, size=size):
        until = time.perf_counter() + ARRIVE_SECONDS
        while (waiting := _waiting(daemon)) < HELD:
            highest = max(highest, daemon.memory())
            if time.perf_counter() > until:
                raise NotMeasured(f"only {waiting} of {HELD} requests are held")
            time.sleep(POLL)
        until = time.perf_counter() + WATCH_SECONDS
        while time.perf_counter() < until:
            highest = max(highest, daemon.memory())
            time.sleep(POLL)
        settled = daemon.memory()
    note = f"idle {megabytes(idle)}; the most seen; settled at {megabytes(settled - idle, '+')}"
    figure = f"{HELD} held, bodies of {size // 1000} kB: memory"
    return Row(figure, NOTHING, megabytes(highest), megabytes(highest - idle, "+"), target, note)


def _waiting(daemon: Serving) -> int:
    """How many requests /status says wait for the model that never comes."""
    models = json.loads(daemon.get("/status")[1])["models"]
    return sum(int(model["waiting"]) for model in models if model["name"] == AWAY)

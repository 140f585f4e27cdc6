"""Measure and print: `python -m scheduler.bench`, or only some of it with `--only NAME`; nothing is asserted."""

import argparse
import http.client
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

import psutil

from scheduler.bench import ahead_bench, core_bench, memory_bench, simulate_bench
from scheduler.bench.processes import NotMeasured
from scheduler.bench.report import Row, table
from scheduler.bench.wire_bench import Wire

PARTS = ("open", "streams", "closed", "core", "ahead", "simulate", "memory")
LIMIT = 300  # seconds for all of it
FILES = 4096  # 500 held requests need more open files than some systems allow unasked
BROKEN = (NotMeasured, OSError, http.client.HTTPException, psutil.Error, subprocess.SubprocessError)
"""What keeps one part from being measured and leaves the others alone: a process that did not start, or died."""


class TooLong(Exception):
    """The whole bench ran into its limit."""


def main() -> int:
    """Run the parts asked for, print the table; exit code 1 if something could not be measured."""
    given = _arguments()
    _allow_files()
    busy = os.getloadavg()[0]
    rows: list[Row] = []
    troubles: list[str] = []
    with _limited(given.limit), tempfile.TemporaryDirectory(prefix="scheduler-bench-") as folder:
        try:
            with closing(_parts(given, Path(folder))) as parts:
                for part in parts:
                    _measure(part, rows, troubles)
        except (TooLong, KeyboardInterrupt) as error:
            troubles.append(f"stopped early: {str(error) or 'interrupted'}")
    _show(rows, troubles, given.rounds, busy)
    return 1 if troubles else 0


def _measure(part: Callable[[], list[Row]], rows: list[Row], troubles: list[str]) -> None:
    try:
        rows += part()
    except BROKEN as error:
        troubles.append(str(error) or type(error).__name__)


def _parts(given: argparse.Namespace, folder: Path) -> Generator[Callable[[], list[Row]], None, None]:
    """Each part to be measured; what several share is started before them and ended after."""
    wanted = given.only or PARTS
    if {"open", "streams", "closed"} & set(wanted):
        with Wire(given.rounds, given.seconds, _say) as wire:
            wire.start(folder)
            for name, part in (("open", wire.open_loop), ("streams", wire.streams), ("closed", wire.closed_loop)):
                if name in wanted:
                    yield part
    if "core" in wanted:
        _say("core")
        yield lambda: core_bench.measure(given.rounds)
    if "ahead" in wanted:
        _say("looking ahead")
        yield lambda: ahead_bench.measure(given.rounds)
    if "simulate" in wanted:
        _say("simulate")
        yield lambda: simulate_bench.measure(given.rounds)
    if "memory" in wanted:
        yield lambda: memory_bench.measure(given.rounds, folder, _say)


def _show(rows: list[Row], troubles: list[str], rounds: int, busy: float) -> None:
    where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    head = f"medians of {rounds}; {where}; load average before: {busy:.1f} (what else ran makes every figure worse)"
    sys.stdout.write(f"{head}\n\n{table(rows)}\n")
    for trouble in troubles:
        sys.stdout.write(f"not measured: {trouble}\n")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """Raise TooLong after `seconds`, and on SIGTERM, so that whatever was started is ended."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLong(f"{seconds} s passed" if number == signal.SIGALRM else "told to end")

    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scheduler.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement (5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a round (5)")
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this; may be given again")
    parser.add_argument("--limit", type=int, default=LIMIT, help=f"seconds for everything ({LIMIT})")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""Measure and print: `python -m scheduler.bench`, or only some of it with `--only NAME`; nothing is asserted."""

import argparse
import os
import platform
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from scheduler.bench import core_bench, memory_bench
from scheduler.bench.processes import NotStarted
from scheduler.bench.report import Row, table
from scheduler.bench.wire_bench import Wire

PARTS = ("open", "streams", "closed", "core", "memory")
LIMIT = 300  # seconds for all of it
FILES = 4096  # 500 held requests need more open files than some systems allow unasked


class TooLong(Exception):
    """The whole bench ran into its limit."""


def main() -> int:
    """Run the parts asked for, print the table; exit code 1 if something could not be measured."""
    given = _arguments()
    _allow_files()
    rows: list[Row] = []
    troubles: list[str] = []
    with _limited(given.limit), tempfile.TemporaryDirectory(prefix="scheduler-bench-") as folder:
        try:
            for part in _parts(given, Path(folder)):
                try:
                    rows += part()
                except NotStarted as error:
                    troubles.append(str(error))
        except (TooLong, KeyboardInterrupt) as error:
            troubles.append(f"stopped early: {error or 'interrupted'}")
    _show(rows, troubles, given.rounds)
    return 1 if troubles else 0


def _parts(given: argparse.Namespace, folder: Path) -> Iterator[Callable[[], list[Row]]]:
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
    if "memory" in wanted:
        yield lambda: memory_bench.measure(given.rounds, folder, _say)


def _show(rows: list[Row], troubles: list[str], rounds: int) -> None:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    sys.stdout.write(f"medians of {rounds}; {where}; load averages {load}\n\n{table(rows)}\n")
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

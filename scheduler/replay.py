"""Replay one journal file alone and compare every order with what was written (promise 7)."""

from dataclasses import dataclass
from pathlib import Path

from scheduler.core import messages as m
from scheduler.core.machine import Machine
from scheduler.journal_lines import Snapshot, Step, Unreadable, read_snapshot, read_step


@dataclass(frozen=True, slots=True)
class Difference:
    """The first step whose orders are not the written ones. `broke` is the error where the core gave none."""

    line: int
    fact: m.Fact
    written: tuple[m.Order, ...] | None
    given: tuple[m.Order, ...] | None
    broke: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of a replay. `facts` and `orders` count up to the difference, if there is one."""

    file: Path
    version: str  # of the daemon that wrote it
    wall: str
    facts: int
    orders: int
    difference: Difference | None = None
    torn: bool = False  # the last line was never finished: the writer was killed


class BadFile(Exception):
    """A file that cannot be replayed; the message names file and line."""


def verify(file: Path) -> Verified:
    """Replay `file`. Raises BadFile where it cannot be read."""
    facts = orders = 0
    number = 1
    torn = False
    try:
        with file.open("rb") as lines:
            snapshot = _first(lines.readline())
            machine = Machine(snapshot.state)
            for number, line in enumerate(lines, 2):
                if not line.endswith(b"\n"):
                    torn = True
                    break
                step = read_step(line)
                difference = _compare(machine, step, number)
                if difference is not None:
                    return Verified(file, snapshot.version, snapshot.wall, facts, orders, difference)
                facts += 1
                orders += len(step.orders or ())
    except OSError as error:
        raise BadFile(f"{file}: {error.strerror or error}") from None
    except Unreadable as error:
        raise BadFile(f"{file}:{number}: {error}") from None
    return Verified(file, snapshot.version, snapshot.wall, facts, orders, torn=torn)


def _first(line: bytes) -> Snapshot:
    if not line:
        raise Unreadable("the file is empty")
    return read_snapshot(line)


def _compare(machine: Machine, step: Step, line: int) -> Difference | None:
    written = None if step.orders is None else tuple(step.orders)
    try:
        given = tuple(machine.step(step.fact))
    except Exception as error:  # whatever the core broke on is what is asked for
        return Difference(line, step.fact, written, None, f"{type(error).__name__}: {error}")
    return None if given == written else Difference(line, step.fact, written, given)

"""The journal: every fact and the orders it gave, one JSON line each, in files that replay alone; prompts never.

The event loop only makes lines; a thread writes them, so a slow disk holds nobody up. Where a disk cannot be written
the daemon goes on: what is lost is counted, and once it can be written again a new file begins with its own snapshot.
"""

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scheduler.core import messages as m
from scheduler.core.state import CoreState
from scheduler.journal_lines import FORMAT, Snapshot, snapshot_line, step_line

log = logging.getLogger(__name__)

FILES = 8  # `keep` is shared among this many files
LARGEST = 64_000_000  # bytes of one file at most
FILL = 0.9  # of a file's share at which the next begins: a last line may be long
BACKLOG = 16_000_000  # bytes that may wait for a disk that hangs
PATTERN = "*.jsonl"


class Journal:
    """Takes each step of the core; join `before` and `note` to the dispatcher. Nothing here blocks or raises."""

    def __init__(
        self,
        folder: Path,
        keep: int,
        version: str,
        *,
        flush: float = 1.0,
        retry: float = 10.0,
        wall: Callable[[], float] = time.time,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write into `folder` (made if need be), `keep` bytes in all; lines reach the disk within `flush` seconds, and
        a disk that failed is tried again every `retry` seconds."""
        self._full = _full(keep)
        self._version = version
        self._retry = retry
        self._wall = wall
        self._now = now
        self._pending: deque[bytes | _Begin] = deque()
        self._files = _Files(folder, keep)
        self._size: int | None = None  # bytes of the file under way; None: none is
        self._limit = self._full
        self._handed = 0  # bytes given to the thread
        self._broken_at: float | None = None
        self._open_fact: m.Fact | None = None
        self._closing = threading.Event()
        self._flush = flush
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Steps that could not be kept since the start."""
        return self._files.lost

    @property
    def trouble(self) -> str:
        """Why nothing is being kept now; empty while all is well."""
        return self._files.trouble

    def resize(self, keep: int) -> None:
        """Keep `keep` bytes in all from now on; older files go when the next one begins."""
        self._files.keep = keep
        self._full = self._limit = _full(keep)

    def before(self, fact: m.Fact, state: CoreState) -> None:
        """Begin a new file where one is due: its snapshot is the state that `fact` finds."""
        self._open_fact = fact
        if self._files.trouble:
            self._size = None
            if self._broken_at is None:
                self._broken_at = self._now()
            if self._now() >= self._broken_at + self._retry and not self._hangs():
                self._begin(state)
        elif self._size is None or self._size >= self._limit:
            self._begin(state)

    def note(self, fact: m.Fact, orders: list[m.Order], _machine: object = None) -> None:
        """Keep one step, after it was taken."""
        self._open_fact = None
        self._append(fact, orders)

    def close(self, limit: float = 5.0) -> None:
        """Write what is left; gives up on a disk that hangs after `limit` seconds."""
        if self._open_fact is not None:  # its step raised: the last line says so, and a replay shows where
            self._append(self._open_fact, None)
            self._open_fact = None
        self._closing.set()
        self._thread.join(limit)
        if self._thread.is_alive():
            log.warning("journal: the disk hangs; the last lines are lost")

    def _begin(self, state: CoreState) -> None:
        moment = datetime.fromtimestamp(self._wall(), UTC)
        snapshot = Snapshot(FORMAT, self._version, moment.isoformat(), self._now(), state)
        try:
            line = snapshot_line(snapshot)
        except ValueError as error:
            self._files.give_up(f"a snapshot cannot be written: {error}")
            self._broken_at = self._now()
            return
        self._files.trouble = ""
        self._broken_at = None
        self._size = 0
        self._limit = max(self._full, 2 * len(line))
        room = int(self._limit / FILL)
        self._hand_over(_Begin(moment.strftime("%Y%m%dT%H%M%SZ"), line, room), len(line))

    def _append(self, fact: m.Fact, orders: list[m.Order] | None) -> None:
        if self._size is None or self._files.trouble:
            self._files.unmade += 1
            return
        try:
            line = step_line(fact, orders)
        except ValueError as error:
            self._files.give_up(f"a line cannot be written: {error}")
            self._files.unmade += 1
            return
        if self._hangs():
            self._files.give_up("the disk hangs")
            self._files.unmade += 1
            return
        self._hand_over(line, len(line))

    def _hangs(self) -> bool:
        return self._handed - self._files.taken > BACKLOG

    def _hand_over(self, item: "bytes | _Begin", size: int) -> None:
        self._handed += size
        self._size = (self._size or 0) + size
        self._pending.append(item)

    def _run(self) -> None:
        """The thread: write what waits, every `flush` seconds and once more at the end."""
        while not self._closing.wait(self._flush):
            self._drain()
        self._drain()
        self._files.close()

    def _drain(self) -> None:
        lines: list[bytes] = []
        while self._pending:
            item = self._pending.popleft()
            if isinstance(item, _Begin):
                self._files.write(lines)
                lines = []
                self._files.begin(item)
            else:
                lines.append(item)
        self._files.write(lines)


def _full(keep: int) -> int:
    """Bytes of one file after which the next begins."""
    return int(max(1, min(LARGEST, keep // FILES)) * FILL)


@dataclass(frozen=True, slots=True)
class _Begin:
    """The order to go on in a new file."""

    stamp: str
    snapshot: bytes
    room: int  # bytes it may come to hold


class _Files:
    """The thread's side: the file under way, and the folder's size. Remembers a failure until `begin` succeeds."""

    def __init__(self, folder: Path, keep: int) -> None:
        """`folder` may hold `keep` bytes."""
        self._folder = folder
        self.keep = keep
        self._file: int | None = None
        self._count = 0
        self._good = 0  # bytes of the file that are whole lines
        self._told = False
        self.trouble = ""
        self.unmade = 0  # steps of which no line was made; counted by the loop
        self._dropped = 0  # steps handed over and not written; counted by the thread
        self.taken = 0  # bytes handed over and dealt with

    @property
    def lost(self) -> int:
        """Steps that could not be kept."""
        return self.unmade + self._dropped

    def begin(self, begin: _Begin) -> None:
        """Go on in a new file, making room for it first."""
        self.close()
        self.taken += len(begin.snapshot)
        path: Path | None = None
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._prune(self.keep - begin.room)
            path = self._create(begin.stamp)
            self._put(begin.snapshot)
        except OSError as error:
            self.close()
            if path is not None:
                with contextlib.suppress(OSError):
                    path.unlink()
            self.give_up(str(error))
            return
        if self._told:
            self._told = False
            log.warning("journal: kept again, after %d steps were lost", self.lost)

    def write(self, lines: list[bytes]) -> None:
        """Append whole lines; what cannot be written is lost and counted."""
        if not lines:
            return
        data = b"".join(lines)
        self.taken += len(data)
        if self._file is not None and not os.fstat(self._file).st_nlink:  # a line more would be kept nowhere
            self.close()
            self.give_up("its file was deleted")
            self._dropped += len(lines)
            return
        if self._file is None:
            self._dropped += len(lines)
            return
        good = self._good
        try:
            self._put(data)
        except OSError as error:
            self._dropped += self._undo(lines, good)
            self.close()
            self.give_up(str(error))

    def give_up(self, reason: str) -> None:
        """Nothing more is kept until a new file begins; said once."""
        self.trouble = reason
        if not self._told:
            self._told = True
            log.warning("journal: not kept for now: %s", reason)

    def close(self) -> None:
        """The file under way is done."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _create(self, stamp: str) -> Path:
        while True:
            self._count += 1
            path = self._folder / f"{stamp}-{self._count:04d}.jsonl"
            try:
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            self._good = 0
            return path

    def _put(self, data: bytes) -> None:
        assert self._file is not None
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]
        self._good += len(data)

    def _undo(self, lines: list[bytes], good: int) -> int:
        """Cut a write that failed half way back to its last whole line; answers how many lines are lost."""
        assert self._file is not None
        kept = 0
        with contextlib.suppress(OSError):
            size = os.fstat(self._file).st_size
            for line in lines:
                if good + len(line) > size:
                    break
                good += len(line)
                kept += 1
            os.ftruncate(self._file, good)
        return len(lines) - kept

    def _prune(self, keep: int) -> None:
        """Remove the oldest files until what remains is within `keep` bytes."""
        sizes = []
        for path in sorted(self._folder.glob(PATTERN)):
            with contextlib.suppress(FileNotFoundError):  # another daemon keeps house here too
                sizes.append((path, path.stat().st_size))
        total = sum(size for _, size in sizes)
        for path, size in sizes:
            if total <= keep:
                break
            path.unlink(missing_ok=True)
            total -= size

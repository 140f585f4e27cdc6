"""The state folder: kept for one daemon by a lock, and made anew where somebody deletes it under us."""

import fcntl
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

log = logging.getLogger(__name__)

LOCK = "lock"
TOLD = 600.0  # seconds for which /status tells that it was deleted


class StateFolder:
    """Enter it before anything is kept there. Raises OSError where it cannot be had."""

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._now = now
        self._lock: IO[str] | None = None
        self._upon_anew: list[Callable[[], object]] = []
        self._anew_at: float | None = None
        self._trouble = ""

    def __enter__(self) -> Self:
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def upon_anew(self, put: Callable[[], object]) -> None:
        """Have `put` keep again what the folder must hold, whenever it was made anew."""
        self._upon_anew.append(put)

    def look(self) -> None:
        """Make it anew if it was deleted; that may fail, and is tried again with the next look."""
        if self._there():
            return
        try:
            self._take()
        except OSError as error:
            self._trouble = f"the state folder {self.path} was deleted and cannot be made anew: {error}"
            log.warning("%s", self._trouble)
            return
        log.warning("the state folder %s was deleted; it is made anew", self.path)
        self._trouble, self._anew_at = "", self._now()
        for put in self._upon_anew:
            put()

    def troubles(self) -> list[str]:
        """What is wrong with it, or was a while ago, for /status."""
        if self._trouble:
            return [self._trouble]
        if self._anew_at is None or self._now() > self._anew_at + TOLD:
            return []
        return [f"the state folder {self.path} was deleted under the daemon and made anew: what it held is gone"]

    def _there(self) -> bool:
        """Whether the lock that we hold is the one that lies in the folder."""
        if self._lock is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._lock.fileno()), (self.path / LOCK).stat())
        except OSError:
            return False

    def _take(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (self.path / LOCK).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise OSError(f"another daemon keeps its state in {self.path}; give one of them --state DIR") from error
        if self._lock is not None:
            self._lock.close()
        self._lock = lock

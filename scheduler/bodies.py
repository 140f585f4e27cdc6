"""Keep the bodies of waiting requests: in memory up to a limit, then in unlinked files, then not at all."""

import asyncio
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import IO

from scheduler.demand import Body


class NoRoom(Exception):
    """Neither memory nor disk may hold another body: the request is refused as over the limit."""


class Kept:
    """One body in the store's care. Load it as often as needed; drop it once it is not needed again."""

    __slots__ = ("_body", "_cut", "_file", "_shape", "_store", "size")

    def __init__(self, store: "BodyStore", body: Body) -> None:
        self.size = len(body)
        self._store = store
        self._body: Body | None = body
        self._file: IO[bytes] | None = None
        self._cut = len(body.before)
        self._shape = replace(body, before=b"", after=b"")

    @property
    def on_disk(self) -> bool:
        """True while the body lies in a file."""
        return self._file is not None

    async def load(self) -> Body:
        """The body. Raises OSError if its file cannot be read; must not be cancelled and dropped while it reads."""
        if self._body is not None:
            return self._body
        if self._file is None:
            raise ValueError("the body was dropped")
        content = await asyncio.to_thread(_read, self._file.fileno(), self.size)
        return replace(self._shape, before=content[: self._cut], after=content[self._cut :])

    def drop(self) -> None:
        """Forget the body and free its room; a second call does nothing."""
        if self._body is not None:
            self._body = None
            self._store.memory -= self.size
        elif self._file is not None:
            self._file.close()
            self._file = None
            self._store.disk -= self.size

    def keep_in(self, file: IO[bytes]) -> None:
        """The body lies in `file` now."""
        self._body, self._file = None, file


class BodyStore:
    """At most `memory_bytes` in memory and `disk_bytes` in files of `folder` that have no name and mode 0600."""

    def __init__(self, memory_bytes: int, disk_bytes: int, folder: Path | None = None) -> None:
        self._memory_limit = memory_bytes
        self._disk_limit = disk_bytes
        self._folder = folder
        self.memory = 0  # bytes held
        self.disk = 0

    def resize(self, memory_bytes: int, disk_bytes: int) -> None:
        """Hold at most so much from now on; what is held stays."""
        self._memory_limit, self._disk_limit = memory_bytes, disk_bytes

    async def store(self, body: Body) -> Kept:
        """Take a body. Raises NoRoom when both limits are reached or the disk is full."""
        kept = Kept(self, body)
        if self.memory + kept.size <= self._memory_limit:
            self.memory += kept.size
            return kept
        if self.disk + kept.size > self._disk_limit:
            raise NoRoom(f"{kept.size} bytes more than the {self._disk_limit} that may wait on disk")
        self.disk += kept.size
        try:
            kept.keep_in(await self._spill(body))
        except OSError as error:
            self.disk -= kept.size
            raise NoRoom(f"a waiting body could not be written: {error.strerror}") from error
        except BaseException:
            self.disk -= kept.size
            raise
        return kept

    async def _spill(self, body: Body) -> IO[bytes]:
        file: IO[bytes] = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115 - closed by drop
        writing = asyncio.get_running_loop().run_in_executor(None, _write, file, body)
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            writing.add_done_callback(lambda _: file.close())
            raise
        except BaseException:
            file.close()
            raise
        return file


def _write(file: IO[bytes], body: Body) -> None:
    for part in (body.before, body.after):
        rest = memoryview(part)
        while rest:
            rest = rest[file.write(rest) :]


def _read(descriptor: int, size: int) -> bytes:
    parts: list[bytes] = []
    at = 0
    while at < size:
        part = os.pread(descriptor, size - at, at)
        if not part:
            raise OSError(f"a waiting body ends after {at} of {size} bytes")
        parts.append(part)
        at += len(part)
    return b"".join(parts)

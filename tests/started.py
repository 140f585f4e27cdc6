"""Programs that a test starts and watches: `async with Started.run("demo", "--port", "0") as demo`."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import STDOUT
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 60.0  # until something expected must have been said; a loaded machine is slow


class Started:
    """One run of the command line; everything it says is in `said`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""
        self._news = asyncio.Event()
        self._over = False

    @classmethod
    @asynccontextmanager
    async def run(
        cls, *arguments: str, home: Path, terminal: bool = False, **environment: str
    ) -> AsyncIterator["Started"]:
        """Start `ollama-scheduler ARGUMENTS` with `home` as its home, perhaps on a terminal; ends it, and what it
        started, at the end."""
        ours, theirs = os.openpty() if terminal else os.pipe()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scheduler", *arguments),
            stdout=theirs,
            stderr=STDOUT,
            cwd=ROOT,
            env=surroundings(home, environment),
            start_new_session=True,
        )
        os.close(theirs)
        started = cls(process)
        reading = asyncio.ensure_future(started._read(ours))  # no task group: a test's own failure stays plain
        try:
            yield started
        finally:
            for each in started.family():
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            await process.wait()
            await reading

    def family(self) -> list[psutil.Process]:
        """The process and all it started that still run."""
        try:
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    async def hears(self, pattern: str) -> re.Match[str]:
        """Wait until it has said what matches `pattern`; fails with what it said if it ends or takes too long."""
        async with asyncio.timeout(SECONDS):
            while (match := re.search(pattern, self.said)) is None:
                assert not self._over, f"ended without {pattern!r}:\n{self.said}"
                self._news.clear()
                await self._news.wait()
        return match

    async def ends(self) -> int:
        """Wait until it has ended; its exit code."""
        async with asyncio.timeout(SECONDS):
            return await self.process.wait()

    def interrupt(self) -> None:
        """Ctrl-C in its terminal: everything in its process group gets SIGINT."""
        os.killpg(self.process.pid, signal.SIGINT)

    async def _read(self, ours: int) -> None:
        loop = asyncio.get_running_loop()
        stream = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(ours, "rb"))
        with suppress(OSError):  # how a terminal ends
            while data := await stream.read(1 << 16):
                self.said += data.decode("utf-8", "replace")
                self._news.set()
        transport.close()
        self._over = True
        self._news.set()


def surroundings(home: Path, more: Mapping[str, str]) -> dict[str, str]:
    """The environment of a fresh user whose home is `home`, with the program on the PATH."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OLLAMA_", "XDG_", "COLUMNS")) and name not in ("HOME", "TERM")
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**kept, "HOME": str(home), "PATH": path, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **more}

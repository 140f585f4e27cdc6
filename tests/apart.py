"""A daemon in a process of its own, so that the kernel can be made to fail it: `async with Apart.run(content, home)`.

Its chores run in the quick rhythm of `tests.live`. The state folder is a small file system of its own where user
namespaces are to be had, so that its disk can really be full.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.started import ROOT, surroundings

SECONDS = 30.0
MOUNT = 'mount -t tmpfs -o size="$0" state "$1" && shift && exec "$@"'  # $0 size, $1 folder
ISOLATED = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT)


def can_mount() -> bool:
    """Whether an unprivileged file system of one's own is to be had here."""
    try:
        tried = subprocess.run(
            [*ISOLATED[:-1], "mount -t tmpfs -o size=4k x /tmp"], capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return tried.returncode == 0


class Apart:
    """The running daemon."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, mounted: bool) -> None:
        self.process = process
        self.port = 0
        self.mounted = mounted
        self._folder = folder

    @classmethod
    @asynccontextmanager
    async def run(cls, content: dict[str, Any], home: Path, disk: int = 4_000_000) -> AsyncIterator["Apart"]:
        """Start it with this configuration and a state folder of `disk` bytes; ends it, which must be in order."""
        state = home / "state"
        state.mkdir(parents=True)
        mounted = await asyncio.to_thread(can_mount)
        isolation = [*ISOLATED, str(disk), str(state)] if mounted else []
        log = (home / "daemon.log").open("wb")
        process = await asyncio.create_subprocess_exec(
            *isolation,
            *(sys.executable, "-m", "tests.apart", json.dumps(content), str(state), str(home / "port")),
            stderr=log,
            cwd=ROOT,
            env=surroundings(home, {}),
        )
        apart = cls(process, state, mounted)
        try:
            async with asyncio.timeout(SECONDS):
                while not (home / "port").exists():
                    assert process.returncode is None, (home / "daemon.log").read_text()
                    await asyncio.sleep(0.02)
            apart.port = int((home / "port").read_text())
            yield apart
            process.terminate()
            async with asyncio.timeout(SECONDS):
                assert await process.wait() == 0, (home / "daemon.log").read_text()[-3000:]
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            log.close()

    @property
    def folder(self) -> Path:
        """Its state folder, as it sees it."""
        return Path(f"/proc/{self.process.pid}/root{self._folder}") if self.mounted else self._folder

    async def status(self) -> dict[str, Any]:
        """/status as a client sees it; raises what a client meets where it cannot be asked."""
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.get(f"http://127.0.0.1:{self.port}/status") as answer,
        ):
            told: dict[str, Any] = await answer.json()
            return told

    def fill_disk(self) -> None:
        """Leave no byte on its disk; without a disk of its own, let the kernel refuse that any file grows."""
        if not self.mounted:
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            return
        for size in (65536, 4096, 1):
            handle = os.open(self.folder / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                while os.write(handle, bytes(size)):
                    pass
            except OSError:
                pass
            finally:
                os.close(handle)

    def free_disk(self) -> None:
        """There is room again."""
        if not self.mounted:
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        else:
            (self.folder / "filler").unlink(missing_ok=True)

    def limit_files(self, more: int | None) -> None:
        """Let it open no more than `more` files beside those it has; None: as many as it may."""
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)
        soft = (
            min(hard, 4096) if more is None else sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir()) + more
        )
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (soft, hard))


def _tell(file: Path, port: int) -> None:
    fresh = file.with_suffix(".fresh")
    fresh.write_text(str(port))
    fresh.replace(file)


def main() -> int:
    """The process: `python -m tests.apart CONFIGURATION FOLDER PORTFILE`."""
    import logging
    import signal
    from dataclasses import replace

    from scheduler.daemon import Daemon
    from scheduler.settings_read import settings_of
    from tests.live import QUICK

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)

    async def serve() -> None:
        daemon = Daemon(settings_of(json.loads(sys.argv[1])), Path(sys.argv[2]), "test", replace(QUICK, listing=3.0))

        async def told() -> None:
            await asyncio.to_thread(_tell, Path(sys.argv[3]), daemon.port)

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, daemon.stop)
        await daemon.run(told)

    asyncio.run(serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())

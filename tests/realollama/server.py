"""One `ollama serve` on a loopback port with a home of its own: start it, wait for it, end it, kill it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp

from tests.realollama.folder import ENVIRONMENT_KEY, Folder

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0
END_SECONDS = 15.0
LOOK = 0.02
# becomes the given program, which gets SIGTERM when this process dies without having ended it (PR_SET_PDEATHSIG)
END_WITH_US = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"


async def until(condition: Callable[[], bool], seconds: float = 10.0, what: str = "") -> None:
    """Poll a condition about real processes; TimeoutError with `what` when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what or condition}")
        await asyncio.sleep(LOOK)


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """The process; it may be started again after it ended, on the same port, models and log."""

    def __init__(self, binary: Path, home: Path, folder: Folder, env: Mapping[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.models = home / "models"
        self.log = home / "ollama.log"
        self._binary, self._home = binary, home
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(home),
            "OLLAMA_HOST": f"127.0.0.1:{self.port}",
            "OLLAMA_MODELS": str(self.models),
            "OLLAMA_NO_CLOUD": "1",
            "OLLAMA_NOPRUNE": "1",
            "OLLAMA_DEBUG": "1",  # the line of an eviction by model count is a debug line
            ENVIRONMENT_KEY: str(folder.path),
            "OLLAMA_STAGE_PYTHON": sys.executable,
            "OLLAMA_STAGE_PYTHONHOME": sys.base_prefix,
            "OLLAMA_STAGE_PYTHONPATH": f"{ROOT}{os.pathsep}{sysconfig.get_path('platlib')}",
            "OLLAMA_STAGE_SHIM": str(Path(__file__).with_name("shim.py")),
            **env,
        }

    @property
    def pid(self) -> int:
        """Process id of the running `ollama serve`."""
        if self._process is None:
            raise RuntimeError("ollama serve is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start it and wait until it answers; RuntimeError with the end of its log when it does not."""
        self._spawn()
        deadline = time.monotonic() + READY_SECONDS
        while not await self._answers():
            if not self.running or time.monotonic() > deadline:
                raise RuntimeError("ollama serve does not answer; its log ends:\n" + self.log.read_text()[-2000:])
            await asyncio.sleep(LOOK)

    def _spawn(self) -> None:
        self.models.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-E", "-c", END_WITH_US, self._binary, "serve"],
                env=self._environment,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _answers(self) -> bool:
        try:
            timeout = aiohttp.ClientTimeout(total=2)
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{self.url}/api/version") as got:
                return got.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def end(self) -> None:
        """SIGTERM: Ollama ends its runners; SIGKILL if it does not end in time. Does nothing when it is not running."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)  # it may be frozen
        try:
            await until(lambda: not self.running, END_SECONDS, "ollama serve ends on SIGTERM")
        except TimeoutError:
            self._process.kill()
        self._process.wait()
        self._process = None

    async def kill(self) -> None:
        """SIGKILL: its runners stay alive as orphans."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

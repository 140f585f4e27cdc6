"""A user's Mac as far as launchd goes, in a folder: `launchctl` on the PATH, a home, a configuration, a free port."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from scheduler.launchd_list import LABEL
from tests.started import ROOT, surroundings

FAKE = ROOT / "tests" / "fake_launchctl.py"
SECONDS = 60.0


class Mac:
    """One user's home and launchd; `knobs` are the fake's environment variables."""

    def __init__(self, folder: Path, ollama: str, **knobs: str) -> None:
        self.home = folder / "home"
        self.root = folder / "launchd"
        self.listen = f"127.0.0.1:{free_port()}"
        self.config = self.home / ".config" / "ollama-scheduler" / "config.toml"
        self.state = self.home / ".local" / "state" / "ollama-scheduler"
        self.log = self.home / "Library" / "Logs" / "ollama-scheduler" / "daemon.log"
        self.list = self.home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        self.gui, self.user = (f"{kind}/{os.getuid()}" for kind in ("gui", "user"))
        self.job = f"{self.gui}/{LABEL}"
        programs = folder / "bin"
        programs.mkdir()
        (programs / "launchctl").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n', "utf-8")
        (programs / "launchctl").chmod(0o755)
        self.environment = surroundings(self.home, {"FAKE_LAUNCHD": str(self.root), "FAKE_LAUNCHD_THROTTLE": "0.3"})
        self.environment |= {name: value for name, value in knobs.items()}
        self.environment["PATH"] = f"{programs}{os.pathsep}{self.environment['PATH']}"
        self.configure(f'listen = "{self.listen}"\nollama = "{ollama}"\n[memory]\nbudget = "38GB"\n')

    def configure(self, text: str) -> None:
        """Write the configuration."""
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(text, "utf-8")

    def shell(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a line as this user types it."""
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS * 2,
        )

    def launchctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `launchctl`."""
        return subprocess.run(
            ["launchctl", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )

    @property
    def memory(self) -> dict[str, Any]:
        """All that launchd knows."""
        file = self.root / "memory.json"
        known: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {"jobs": {}, "said": []}
        return known

    @property
    def said(self) -> list[str]:
        """Every launchctl so far, but for looks and where each follows itself."""
        lines = [" ".join(each) for each in self.memory["said"]]
        return [line for before, line in zip(["", *lines], lines, strict=False) if line != before]

    def pid(self, job: str = "") -> int:
        """The process of a job that runs; 0 for none."""
        return int(self.memory["jobs"].get(job or self.job, {}).get("pid", 0))

    def ready(self) -> dict[str, Any]:
        """What the daemon says at /readyz; empty while nobody answers."""
        try:
            return told(f"http://{self.listen}/readyz")
        except httpx.HTTPError:
            return {}

    def end(self) -> None:
        """Kill, by their ids, what this launchd started."""
        jobs = self.memory["jobs"].values()
        for pid in [*(job["keeper"] for job in jobs), *(job["pid"] for job in jobs)]:
            with suppress(psutil.NoSuchProcess):
                if pid:
                    psutil.Process(pid).kill()


def eventually(look: Callable[[], Any], what: str = "it") -> Any:
    """Look until there is something; fails with what was seen last after a while."""
    end = time.monotonic() + SECONDS
    while not (seen := look()):
        assert time.monotonic() < end, f"{what}: {seen!r}"
        time.sleep(0.02)
    return seen


def told(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a URL answers to GET, or to this body. Raises httpx.HTTPError."""
    with httpx.Client(trust_env=False, timeout=SECONDS) as client:
        answer = client.get(url) if body is None else client.post(url, json=body)
    content: dict[str, Any] = answer.json()
    return content


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def mac(folder: Path, ollama: str = "http://127.0.0.1:9", **knobs: str) -> Iterator[Mac]:
    """A Mac whose Ollama is at `ollama`, by default nowhere (port 9 discards)."""
    own = Mac(folder, ollama, **knobs)
    try:
        yield own
    finally:
        own.end()


def shell_blocks(page: Path) -> list[str]:
    """The shell blocks of a page that speak of the agent."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [block for block in blocks if "ollama-scheduler install" in block]

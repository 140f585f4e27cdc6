"""The stage folder: what the test tells the running shims (sizes, faults) and what they write down for the test.

Standard library and psutil only: the shim imports it on every start. Times are `time.monotonic()`, which on Linux is
one clock for all processes.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

ENVIRONMENT_KEY = "OLLAMA_STAGE_FOLDER"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Blob:
    """What the shim must pretend about one model file; `real_bytes` is where its true content ends."""

    name: str
    mib: float
    kv_mib: float = 0.0
    load_seconds: float = 0.3
    tokens_per_second: float | None = None
    real_bytes: int | None = None


@dataclass(frozen=True)
class Holder:
    """A running shim: the process that holds `mib` of the staged device."""

    pid: int
    created: float
    model: str
    mib: float
    port: int


class Folder:
    """One stage on disk. Every read is fresh, so a fault takes effect at the shim's next look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._running = path / "running"
        self._facts: dict[str, Any] | None = None

    def prepare(self, device_mib: int, blobs: dict[str, Blob]) -> None:
        """Write the stage's facts; this process becomes its owner: when it dies, the shims end themselves."""
        self._running.mkdir(parents=True, exist_ok=True)
        owner = psutil.Process()
        facts = {
            "device_mib": device_mib,
            "owner": [owner.pid, owner.create_time()],
            "blobs": {file: asdict(blob) for file, blob in blobs.items()},
        }
        _write(self.path / "stage.json", facts)
        self.write_faults({})

    def _stage(self) -> dict[str, Any]:
        if self._facts is None:
            self._facts = json.loads((self.path / "stage.json").read_text())
        return self._facts

    @property
    def device_mib(self) -> int:
        return int(self._stage()["device_mib"])

    def owner_lives(self) -> bool:
        pid, created = self._stage()["owner"]
        return self.path.is_dir() and _lives(pid, created)

    def blob(self, file: Path) -> Blob:
        """The staged facts of a model file, by its name `sha256-…`; a file made by the test itself is what it is."""
        facts = self._stage()["blobs"].get(file.name)
        return Blob(**facts) if facts else Blob(file.name, file.stat().st_size / MIB)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the stage: what is read and written inside is one step for every shim."""
        with (self.path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # who holds the device

    def enter(self, blob: Blob, port: int) -> Holder:
        """Book this process on the device."""
        me = psutil.Process()
        holder = Holder(me.pid, me.create_time(), blob.name, blob.mib + blob.kv_mib, port)
        _write(self._running / f"{me.pid}.json", asdict(holder))
        return holder

    def holders(self) -> list[Holder]:
        """The shims that are alive; a file left by a killed one is ignored."""
        found = []
        for file in sorted(self._running.glob("*.json")):
            holder = Holder(**json.loads(file.read_text()))
            if _lives(holder.pid, holder.created):
                found.append(holder)
        return found

    def free_mib(self) -> float:
        """The staged device minus what live shims hold minus what a `free_shrinks` fault takes."""
        shrunk = self.faults().get("*", {}).get("free_shrinks", {}).get("mib", 0)
        return float(self.device_mib - shrunk - sum(holder.mib for holder in self.holders()))

    # what happened

    def note(self, file: str, **line: Any) -> None:
        """Append one JSON line to `journal`, `overcommit` or `strikes`, stamped with time and process."""
        text = json.dumps({"at": time.monotonic(), "pid": os.getpid(), **line})
        with (self.path / file).open("a") as out:
            out.write(text + "\n")

    def lines(self, file: str) -> list[dict[str, Any]]:
        """The lines of one of those files, in the order written."""
        path = self.path / file
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]

    # faults

    def faults(self) -> dict[str, dict[str, dict[str, Any]]]:
        """model (or `*`) → kind → its parameters, as they are now."""
        faults: dict[str, dict[str, dict[str, Any]]] = json.loads((self.path / "faults.json").read_text())
        return faults

    def write_faults(self, faults: dict[str, dict[str, dict[str, Any]]]) -> None:
        _write(self.path / "faults.json", faults)

    def fault(self, model: str, kind: str) -> dict[str, Any] | None:
        """The fault of this kind that is set for the model (its own before `*`), or None."""
        faults = self.faults()
        return faults.get(model, {}).get(kind) or faults.get("*", {}).get(kind)

    def strike(self, model: str, kind: str, *, once_per_runner: bool = False) -> dict[str, Any] | None:
        """Let a fault happen here, if it is set and its `times` are not used up; the strike is written down.

        With `once_per_runner` a runner that was struck before stays struck without using up another time.
        """
        if self.fault(model, kind) is None:
            return None
        with self.locked():
            fault = self.fault(model, kind)
            if fault is None:
                return None
            before = [line for line in self.lines("strikes") if line["fault"] == fault["id"]]
            if once_per_runner and any(line["pid"] == os.getpid() for line in before):
                return fault
            if fault["times"] is not None and len(before) >= fault["times"]:
                return None
            self.note("strikes", fault=fault["id"], model=model, kind=kind)
            return fault


def _lives(pid: int, created: float) -> bool:
    try:
        process = psutil.Process(pid)
        return process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _write(path: Path, value: Any) -> None:
    """Replace a file in one step: a shim never reads half of it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(value))
    fresh.replace(path)

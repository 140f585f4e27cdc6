"""Reads a workload: one JSON object a line, each a request that arrives at a time or after others have ended."""

import gzip
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLASSES = {
    "chat": "interactive",
    "tool": "helper",
    "health": "probe",
    **{name: name for name in ("interactive", "agent", "helper", "batch", "probe")},
}
"""The names of classes that a workload may use, and ours."""


class WorkloadError(ValueError):
    """A workload that cannot be played: file, line, field, value and what would be right."""


@dataclass(frozen=True, slots=True)
class Job:
    """One request: `service` seconds in a slot, alone; it arrives at `t` (seconds), or `think` seconds after the last
    of `after` has ended. An empty session is anonymous."""

    id: str
    model: str
    service: float
    cls: str
    session: str = ""
    t: float | None = None
    after: tuple[str, ...] = ()
    think: float = 0.0


def read(path: Path) -> list[Job]:
    """The jobs of a .jsonl or .jsonl.gz file. Raises WorkloadError."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    jobs = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            jobs.append(_job(line, f"{path}, line {number}"))
    check(jobs, str(path))
    return jobs


def write(jobs: Iterable[Job], path: Path) -> None:
    """Write `jobs` as `read` reads them; compressed if the name ends in .gz."""
    lines = []
    for job in jobs:
        row: dict[str, Any] = {"id": job.id, "model": job.model, "service": round(job.service, 3), "class": job.cls}
        if job.session:
            row["session"] = job.session
        if job.t is not None:
            row["t"] = round(job.t, 3)
        else:
            row |= {"after": list(job.after), "think": round(job.think, 3)}
        lines.append(json.dumps(row))
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def check(jobs: Sequence[Job], where: str) -> None:
    """Raise WorkloadError where an id comes twice, or one is waited for that never comes."""
    ids: set[str] = set()
    for job in jobs:
        if job.id in ids:
            raise WorkloadError(f"{where}: id {job.id!r} comes twice; every id must be its own")
        ids.add(job.id)
    for job in jobs:
        for other in job.after:
            if other not in ids:
                raise WorkloadError(f"{where}: id {job.id!r} comes after {other!r}, which is not there")
    _check_order(jobs, where)


def _check_order(jobs: Sequence[Job], where: str) -> None:
    """Nobody may wait for himself, by whatever way round."""
    waits = {job.id: len(set(job.after)) for job in jobs}
    behind: dict[str, list[str]] = {}
    for job in jobs:
        for other in set(job.after):
            behind.setdefault(other, []).append(job.id)
    free = [name for name, count in waits.items() if not count]
    while free:
        for name in behind.get(free.pop(), ()):
            waits[name] -= 1
            if not waits[name]:
                free.append(name)
    if stuck := [name for name, count in waits.items() if count]:
        raise WorkloadError(f"{where}: id {stuck[0]!r} waits for itself through `after`")


def _job(line: str, where: str) -> Job:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise WorkloadError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise WorkloadError(f"{where}: {line.strip()[:40]!r} is no JSON object")
    ident = row.get("id")
    if isinstance(ident, bool) or not isinstance(ident, int | str) or ident == "":
        raise WorkloadError(f"{where}: id is {ident!r}; a string or a whole number is needed")
    cls = _text(row, "class", where, "interactive")
    if cls not in CLASSES:
        raise WorkloadError(f"{where}: class is {cls!r}; one of {', '.join(CLASSES)} is needed")
    after = row.get("after")
    named = tuple(map(str, after)) if isinstance(after, list) else () if after is None else (str(after),)
    if ("t" in row) == bool(named):
        raise WorkloadError(f"{where}: one of t (seconds) and after (ids) is needed, not {'both' if named else 'none'}")
    return Job(
        str(ident),
        _text(row, "model", where),
        _seconds(row, "service", where),
        CLASSES[cls],
        _text(row, "session", where, ""),
        None if named else _seconds(row, "t", where),
        named,
        _seconds(row, "think", where) if "think" in row else 0.0,
    )


def _text(row: dict[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = row.get(key, default)
    if not isinstance(value, str) or (default is None and not value):
        raise WorkloadError(f"{where}: {key} is {value!r}; a string is needed")
    return value


def _seconds(row: dict[str, Any], key: str, where: str) -> float:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise WorkloadError(f"{where}: {key} is {value!r}; seconds, zero or more, are needed")
    return float(value)

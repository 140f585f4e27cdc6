"""Rows that are tests: what needs adversaries or a real Ollama is proved in tests/, and played from here."""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scheduler.proof.frame import Finding, Form, Row, Task

ROOT = Path(__file__).parents[2]
LIMIT = 3_000.0  # seconds
BOUND: Mapping[str, tuple[str, ...]] = {
    "2,100 random runs, adversaries and failures among them": ("tests/test_bound.py", "tests/test_promises.py"),
}
ALIVE: Mapping[str, tuple[str, ...]] = {"a live journal, replayed and simulated": ("tests/test_true_to_life.py",)}
_SUMMARY = re.compile(r"(\d+) (passed|failed|errors?|skipped)")


def play_tests(files: tuple[str, ...], long: bool) -> tuple[int, str]:
    """Exit code of pytest on these files, and its last line."""
    missing = [file for file in files if not (ROOT / file).is_file()]
    if missing:
        return -1, f"not there: {', '.join(missing)}"
    chosen = ["-m", "long or not long"] if long else []
    words = [sys.executable, "-m", "pytest", *files, *chosen, "-q", "--no-header", "--timeout", "3600"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("PROOF ")]
    return done.returncode, "; ".join([*(line.removeprefix("PROOF ") for line in told), lines[-1] if lines else ""])


def _tasks(rows: Mapping[str, tuple[str, ...]], long: bool, form: Form) -> list[Task]:
    return [] if form.short else [Task(play_tests, (files, long)) for files in rows.values()]


def _judge(rows: Mapping[str, tuple[str, ...]], form: Form, values: Sequence[Any]) -> list[Finding]:
    if form.short:
        return [Finding(subject, f"played by itself: {' '.join(files)}") for subject, files in rows.items()]
    return [_finding(subject, *value) for subject, value in zip(rows, values, strict=True)]


def _finding(subject: str, code: int, said: str) -> Finding:
    counts = {word: int(number) for number, word in _SUMMARY.findall(said)}
    if code == 0 and counts.get("passed"):
        return Finding(subject, said, "all pass", True)
    if code == 0 or code == 5:  # nothing ran: no real Ollama is here
        return Finding(subject, f"NOT SHOWN: {said}", "all pass")
    return Finding(subject, said, "all pass", False)


PROMISED = Row(
    "bound",
    "the stated bound B in random runs (and in every simulation above)",
    partial(_tasks, BOUND, False),
    partial(_judge, BOUND),
)
TRUE_TO_LIFE = Row(
    "alive",
    "the simulator is true to life: ten minutes on a real Ollama, replayed and simulated",
    partial(_tasks, ALIVE, True),
    partial(_judge, ALIVE),
)

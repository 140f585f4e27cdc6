"""Boots an agent in and out of launchd by `launchctl`, in the order and with the patience that launchd needs.

Order and codes: launchctl(1) and what people met (macOS 13 to 26): bootout ends at once but the job is gone only later,
a bootstrap in between fails with 5 or 37, and a login without a screen has no gui/ domain (125 or 112), only user/.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

GONE = 75.0  # seconds until a job that was booted out must be gone: launchd's longest ExitTimeOut, and some more
IN = 20.0  # seconds in which a bootstrap that fails for now is tried again
PAUSE = 0.25  # seconds between two looks
CALL = 90.0  # seconds one launchctl may take

NOT_THERE = frozenset({3, 113})  # No such process; Could not find service
NO_DOMAIN = frozenset({112, 125})  # Could not find domain; Domain does not support specified action
UNDER_WAY = frozenset({36})  # Operation now in progress: the job is on its way out
FOR_NOW = frozenset({5, 37})  # Input/output error; Operation already in progress: the old one is not gone yet

Say = Callable[[str], None]


class LaunchdError(Exception):
    """launchd did not do what it was asked; its text names the command, its code and what it said."""


@dataclass(frozen=True, slots=True)
class Job:
    """What launchd tells of a job; its output is not an interface, so anything may be unknown."""

    state: str
    pid: int | None
    last_exit: str
    """"" if it never ended, else as launchd says it: "1", "78: EX_CONFIG", "Killed: 9"."""


def available() -> bool:
    """Whether this machine has launchd."""
    return shutil.which("launchctl") is not None


def domains() -> tuple[str, str]:
    """Where an agent of this user may be: the login at the screen, then the user as such."""
    return f"gui/{os.getuid()}", f"user/{os.getuid()}"


def commands(label: str, file: Path) -> list[str]:
    """What `boot_out` and `boot_in` run, as lines to read."""
    gui, user = domains()
    return [
        f"launchctl bootout {gui}/{label}",
        f"launchctl bootout {user}/{label}",
        f"launchctl print {gui}/{label}  # until it is gone",
        f"launchctl enable {gui}/{label}",
        f"launchctl bootstrap {gui} {shlex.quote(str(file))}  # or {user}, where nobody is logged in at the screen",
    ]


def look(domain: str, label: str) -> Job | None:
    """The job as launchd has it in this domain; None if it is not there."""
    done = _launchctl("print", f"{domain}/{label}")
    return job(done.stdout) if done.returncode == 0 else None


def job(printed: str) -> Job:
    """What `launchctl print` says of the job itself: lines behind one tab; those of its sockets stand behind more."""
    told: dict[str, str] = {}
    for name, value in re.findall(r"^\t(\w[\w ]*) = (.*)$", printed, re.MULTILINE):
        told.setdefault(name, value)
    pid, ended = told.get("pid", ""), told.get("last terminating signal") or told.get("last exit code", "")
    return Job(told.get("state", ""), int(pid) if pid.isdigit() else None, "" if ended.startswith("(never") else ended)


def found(label: str) -> tuple[str, Job] | None:
    """Where the job is and how it is there; None if it is in neither domain."""
    for domain in domains():
        if (there := look(domain, label)) is not None:
            return domain, there
    return None


def boot_out(label: str, say: Say, limit: float = GONE) -> bool:
    """Take the job out of both domains and wait until it is gone; whether there was one. Raises LaunchdError."""
    there = False
    for domain in domains():
        done = _launchctl("bootout", f"{domain}/{label}")
        if done.returncode in NOT_THERE | NO_DOMAIN:
            continue
        if done.returncode != 0 and done.returncode not in UNDER_WAY:
            raise _failed(done)
        there = True
        say(f"booted {domain}/{label} out; waiting until its answers are finished and it is gone")
        end = time.monotonic() + limit
        while look(domain, label) is not None:
            if time.monotonic() > end:
                raise LaunchdError(f"{domain}/{label} is still there {limit:.0f} s after it was booted out")
            time.sleep(PAUSE)
    return there


def boot_in(label: str, file: Path, say: Say, limit: float = IN) -> str:
    """Enable and bootstrap the job; the domain that took it. Raises LaunchdError."""
    for domain in domains():
        done = _launchctl("enable", f"{domain}/{label}")
        if done.returncode == 0:
            done = _bootstrapped(domain, file, limit)
        if done.returncode == 0:
            say(f"booted {domain}/{label} in")
            return domain
        if done.returncode not in NO_DOMAIN:
            raise _failed(done)
        say(f"nobody is logged in at the screen ({domain}: code {done.returncode})")
    raise _failed(done)


def _bootstrapped(domain: str, file: Path, limit: float) -> subprocess.CompletedProcess[str]:
    """The last try: until it is taken, fails for good, or has failed for now for too long."""
    end = time.monotonic() + limit
    while True:
        done = _launchctl("bootstrap", domain, str(file))
        if done.returncode not in FOR_NOW or time.monotonic() > end:
            return done
        time.sleep(2 * PAUSE)


def _launchctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["launchctl", *arguments], capture_output=True, text=True, errors="replace", check=False, timeout=CALL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchdError(f"`launchctl {' '.join(arguments)}`: {error}") from None


def _failed(done: subprocess.CompletedProcess[str]) -> LaunchdError:
    said = " ".join((done.stderr or done.stdout).split()) or "it said nothing"
    return LaunchdError(f"`{' '.join(done.args)}` ended with code {done.returncode}: {said}")

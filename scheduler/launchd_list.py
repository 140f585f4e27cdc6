"""The property list of our launch agent: filled in from the template in launchd/, written where launchd looks."""

from __future__ import annotations

import os
import plistlib
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

LABEL = "local.ollama-scheduler"
TEMPLATE = Path(__file__).resolve().parents[1] / "launchd" / f"{LABEL}.plist"
MODE = 0o644  # launchd turns away a list that anybody else may write


@dataclass(frozen=True, slots=True)
class Places:
    """What differs from one machine to another; all absolute."""

    python: Path
    """The interpreter of our environment, its links not followed."""
    config: Path
    state: Path
    logs: Path


class Unreadable(Exception):
    """A file that is no property list; its text says why."""


def list_file() -> Path:
    """Where launchd looks for the agent of this user."""
    return Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"


def log_folder() -> Path:
    """Where the agent's log is, beside those of other programs."""
    return Path.home() / "Library" / "Logs" / "ollama-scheduler"


def filled(places: Places) -> dict[str, Any]:
    """The template's content with these places in it."""
    names = {
        "PYTHON": str(places.python),
        "CONFIG": str(places.config),
        "STATE": str(places.state),
        "LOGS": str(places.logs),
    }
    content: dict[str, Any] = _filled(plistlib.loads(TEMPLATE.read_bytes()), names)
    return content


def _filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        return string.Template(value).substitute(names)
    if isinstance(value, list):
        return [_filled(each, names) for each in value]
    if isinstance(value, dict):
        return {key: _filled(each, names) for key, each in value.items()}
    return value


def text(content: dict[str, Any]) -> str:
    """The list as XML, its keys in the template's order."""
    return plistlib.dumps(content, sort_keys=False).decode("utf-8")


def write(path: Path, content: dict[str, Any]) -> None:
    """Put the list in its place whole or not at all, for its owner to write and everybody to read. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")  # launchd loads what ends in .plist, at the next login too
    try:
        with beside.open("wb") as file:
            os.fchmod(file.fileno(), MODE)
            plistlib.dump(content, file, sort_keys=False)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def read(path: Path) -> dict[str, Any]:
    """The content of a list. Raises Unreadable where it is none, OSError where it cannot be read."""
    try:
        content = plistlib.loads(path.read_bytes())
    except (ExpatError, ValueError, AttributeError, OverflowError) as error:
        raise Unreadable(f"{path} is no property list ({str(error) or type(error).__name__})") from None
    if not isinstance(content, dict):
        raise Unreadable(f"{path} holds no table")
    return content


def argument(content: dict[str, Any], option: str) -> Path | None:
    """What stands after `option` in a list's ProgramArguments; None where it does not."""
    arguments = content.get("ProgramArguments")
    if not isinstance(arguments, list) or option not in arguments[:-1]:
        return None
    value = arguments[arguments.index(option) + 1]
    return Path(value) if isinstance(value, str) else None

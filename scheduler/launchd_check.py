"""Checks a property list before launchd sees it: each fault names the key, the value, and what would be right.

launchd itself is lenient where it hurts: it drops what it does not know, and tells of a bad path by exit code 78. What
is required here is what *our* agent needs, which is more than what launchd would take.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from scheduler import launchd_keys as keys
from scheduler.settings_problems import Problem

LONGEST = 60  # seconds: launchd cuts a longer ExitTimeOut (macOS 26)
SPARE = 5  # seconds between the end of our own drain and SIGKILL
FEWEST_FILES = 4096
PRIVATE = 0o077  # what the umask must take from others
SHELLS = frozenset({"sh", "bash", "zsh", "dash", "ksh", "fish", "csh", "tcsh", "env", "login"})
_SECRET = re.compile(r"secret|token|passw|credential|api_?key|private|(^|_)key(_|$)|(^|_)auth(_|$)", re.IGNORECASE)
_LABEL = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")


def faults(content: Mapping[str, Any], file: Path, *, drain: float, made: Collection[Path] = ()) -> list[Problem]:
    """Everything wrong with a list that is to stand in `file`. `drain`: seconds we may take to stop. `made`: folders
    that need not be there yet, since install makes them."""
    wrong = list(_kinds(content))
    bad = {each.where for each in wrong}
    sound = {key: value for key, value in content.items() if key not in bad}
    wrong += [
        Problem(key, "", "is missing", f"write it as {keys.KEYS[key].words}")
        for key in keys.NEEDED
        if key not in content
    ]
    for check in (_arguments, _expansions, _keep_alive, _type, _environment, _limits, _sessions, _umask):
        wrong += check(sound)
    return [*wrong, *_label(sound, file), *_stop(sound, drain), *_paths(sound, made)]


def file_faults(file: Path) -> list[Problem]:
    """What launchd would hold against the file itself: whose it is, who may write it, where it lies."""
    wrong: list[Problem] = []
    for path in (file.parent, file):
        try:
            about = path.lstat()
        except OSError as error:
            return [*wrong, Problem(str(path), "", f"cannot be read ({error.strerror})", "write it")]
        mode = stat.S_IMODE(about.st_mode)
        if about.st_uid != os.getuid():
            wrong.append(Problem(str(path), f"user {about.st_uid}", "is somebody else's", f"chown {os.getuid()}"))
        if not stat.S_ISLNK(about.st_mode) and mode & 0o022:
            wrong.append(Problem(str(path), f"{mode:04o}", "may be written by others", f"chmod {mode & ~0o022:04o}"))
    if not stat.S_ISREG(file.lstat().st_mode):
        wrong.append(Problem(str(file), "", "is no plain file", "write a file there"))
    if file.suffix != ".plist":
        wrong.append(Problem(str(file), file.name, "is not looked at by launchd", "end its name in .plist"))
    return wrong


def private_place(path: Path) -> str | None:
    """The folder that macOS guards and `path` lies in (TCC); None if it lies in none, links followed or not."""
    home = Path.home()
    guarded = [home / name for name in ("Documents", "Desktop", "Downloads", "Library/Mobile Documents")]
    for each in (path, path.resolve()):
        for folder in [*guarded, Path("/Volumes")]:
            if each.is_relative_to(folder) or each.is_relative_to(folder.resolve()):
                return str(folder)
    return None


def _kinds(content: Mapping[str, Any]) -> Iterator[Problem]:
    """Unknown keys, unwanted ones, and values of another kind."""
    for key, value in content.items():
        if key not in keys.KEYS:
            near = difflib.get_close_matches(str(key), keys.KEYS, 1, 0.5)
            yield Problem(str(key), "", "is no key of launchd", f"the nearest is {near[0]}" if near else "leave it out")
        elif key in keys.UNWANTED:
            yield Problem(key, _typed(value), *keys.UNWANTED[key])
        elif not keys.KEYS[key].holds(value):
            yield Problem(key, _typed(value), "is of another kind", f"write {keys.KEYS[key].words}")


def _label(content: Mapping[str, Any], file: Path) -> Iterator[Problem]:
    label = content.get("Label")
    if label is None:
        return
    if not _LABEL.fullmatch(label):
        yield Problem("Label", _typed(label), "is no name in reverse order", "write one like local.ollama-scheduler")
    if label != file.stem:
        yield Problem("Label", _typed(label), f"is not how the file is called ({file.name})", f"write {file.stem}")


def _arguments(content: Mapping[str, Any]) -> Iterator[Problem]:
    arguments = content.get("ProgramArguments")
    if arguments is None:
        return
    if not arguments:
        yield Problem("ProgramArguments", "", "is empty", "name the interpreter and what it runs")
        return
    yield from _program(arguments[0])
    for number, text in enumerate(arguments[1:], 1):
        if not text:
            yield Problem(f"ProgramArguments.{number}", '""', "is empty", "leave it out")
    for option in ("--config", "--state"):
        if option in arguments and not Path(_after(arguments, option)).is_absolute():
            yield Problem(f"ProgramArguments {option}", _after(arguments, option), "is not absolute", "write it whole")


def _program(text: str) -> Iterator[Problem]:
    path, where = Path(text), "ProgramArguments.0"
    if path.name in SHELLS:
        yield Problem(where, _typed(text), "would get the SIGTERM that is ours", "name the interpreter")
    elif not path.is_absolute():
        yield Problem(where, _typed(text), "is not absolute", "write the whole path: launchd has no PATH of yours")
    elif not (path.is_file() and os.access(path, os.X_OK)):
        yield Problem(where, _typed(text), "is no program", "name the interpreter of the environment")
    if "/Cellar/" in text:
        yield Problem(where, _typed(text), "is gone after `brew upgrade`", "name the path in opt/")


def _after(arguments: list[str], option: str) -> str:
    place = arguments.index(option) + 1
    return arguments[place] if place < len(arguments) else ""


def _expansions(content: Mapping[str, Any]) -> Iterator[Problem]:
    """A ~ or $NAME anywhere: launchd hands it on as it stands."""
    for where, text in _texts(content, ()):
        if "$" in text or text.startswith("~") or "=~" in text:
            yield Problem(where, _typed(text), "is not expanded by launchd", "write the path or value itself")


def _texts(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield ".".join(path), value
    elif isinstance(value, Mapping | list):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, each in pairs:
            yield from _texts(each, (*path, str(name)))


def _keep_alive(content: Mapping[str, Any]) -> Iterator[Problem]:
    keep = content.get("KeepAlive")
    right = "write <dict> with SuccessfulExit <false/>"
    if isinstance(keep, bool):
        what = "starts it again after an orderly end too" if keep else "does not start it again after a crash"
        yield Problem("KeepAlive", _typed(keep), what, right)
    elif keep is not None:
        yield from _members("KeepAlive", keep, keys.KEEP_ALIVE)
        if keep.get("SuccessfulExit") is not False:
            yield Problem("KeepAlive.SuccessfulExit", _typed(keep.get("SuccessfulExit")), "is not false", right)
        for other in keep.keys() & (keys.KEEP_ALIVE.keys() - {"SuccessfulExit"}):
            yield Problem(f"KeepAlive.{other}", _typed(keep[other]), "is one more reason to start it", "leave it out")
    if content.get("RunAtLoad") is False:
        yield Problem("RunAtLoad", _typed(False), "does not start it at login", "write <true/>")


def _members(key: str, table: Mapping[str, Any], known: Mapping[str, keys.Kind]) -> Iterator[Problem]:
    for name, value in table.items():
        if name not in known:
            yield Problem(f"{key}.{name}", _typed(value), "is not known to launchd", f"known: {', '.join(known)}")
        elif not known[name].holds(value):
            yield Problem(f"{key}.{name}", _typed(value), "is of another kind", f"write {known[name].words}")


def _type(content: Mapping[str, Any]) -> Iterator[Problem]:
    kind = content.get("ProcessType")
    if kind is not None and kind not in keys.TYPES:
        yield Problem("ProcessType", _typed(kind), "is not known to launchd", "write Interactive")
    elif kind not in (None, "Interactive"):
        yield Problem("ProcessType", _typed(kind), "is throttled in CPU and I/O", "write Interactive")


def _environment(content: Mapping[str, Any]) -> Iterator[Problem]:
    for name, value in content.get("EnvironmentVariables", {}).items():
        where = f"EnvironmentVariables.{name}"
        if not isinstance(value, str):
            yield Problem(where, _typed(value), "is no text, and launchd drops it", "write <string>")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            yield Problem(where, "", "is no name of a variable", "letters, digits and _ only")
        elif _SECRET.search(name):
            yield Problem(where, "(not shown)", "looks like a secret", "keep it in a file that only you can read")


def _limits(content: Mapping[str, Any]) -> Iterator[Problem]:
    for key in ("SoftResourceLimits", "HardResourceLimits"):
        yield from _members(key, content.get(key, {}), keys.LIMITS)
        files = content.get(key, {}).get("NumberOfFiles", FEWEST_FILES if key in content else None)
        if keys.NUMBER.holds(files) and files < FEWEST_FILES:
            yield Problem(f"{key}.NumberOfFiles", _typed(files), "is too few", f"write {FEWEST_FILES} or more")
    if "NumberOfFiles" not in content.get("SoftResourceLimits", {"NumberOfFiles": 0}):
        where = "SoftResourceLimits.NumberOfFiles"
        yield Problem(where, "", "is missing, and launchd's own is 256", f"write {FEWEST_FILES} or more")


def _sessions(content: Mapping[str, Any]) -> Iterator[Problem]:
    sessions = content.get("LimitLoadToSessionType")
    if sessions is None:
        return
    named = [sessions] if isinstance(sessions, str) else sessions
    for each in named:
        if each not in keys.SESSIONS:
            known = ", ".join(sorted(keys.SESSIONS))
            yield Problem("LimitLoadToSessionType", _typed(each), "is no kind of session", f"known: {known}")
    for each in sorted({"Aqua", "Background"} - set(named)):
        where = "a login at the screen" if each == "Aqua" else "a login without a screen"
        yield Problem("LimitLoadToSessionType", _typed(sessions), f"leaves out {where}", f"add {each}")


def _umask(content: Mapping[str, Any]) -> Iterator[Problem]:
    mask = content.get("Umask")
    if mask is None:
        return
    try:
        value = int(mask, 8) if isinstance(mask, str) else mask
    except ValueError:
        value = -1
    if not 0 <= value <= 0o777:
        yield Problem("Umask", _typed(mask), "is no umask", "write 63, which is 077")
    elif value & PRIVATE != PRIVATE:
        yield Problem("Umask", _typed(mask), f"is {value:03o}: others may read the journal", "write 63, which is 077")


def _stop(content: Mapping[str, Any], drain: float) -> Iterator[Problem]:
    limit, least = content.get("ExitTimeOut"), int(drain + SPARE)
    right = f"write {least} to {LONGEST}"
    if limit == 0:
        yield Problem("ExitTimeOut", "0", "waits for ever for a daemon that hangs", right)
    elif limit is not None and limit < least:
        yield Problem("ExitTimeOut", str(limit), f"kills answers that may run for {drain:g} s more", right)
    elif limit is not None and limit > LONGEST:
        yield Problem("ExitTimeOut", str(limit), f"is cut to {LONGEST} by launchd", right)
    pause = content.get("ThrottleInterval")
    if pause is not None and not 1 <= pause <= 600:
        yield Problem("ThrottleInterval", str(pause), "is no pause between two starts", "leave it out: 10 s are right")


def _paths(content: Mapping[str, Any], made: Collection[Path]) -> Iterator[Problem]:
    """Absolute, there, and where macOS lets an agent read."""
    for key, text, kind in _places(content):
        path = Path(text)
        if "$" in text or text.startswith("~"):
            continue  # said already
        if not path.is_absolute():
            yield Problem(key, _typed(text), "is not absolute", "write the whole path")
            continue
        if not _there(path, kind, made):
            what = "such file" if kind == "file" else "such folder"
            yield Problem(key, _typed(text), f"there is no {what}", "make it, or name another")
        if guarded := private_place(path):
            yield Problem(key, _typed(text), f"lies in {guarded}, which macOS keeps from agents", "move it elsewhere")


def _there(path: Path, kind: str, made: Collection[Path]) -> bool:
    """Whether a file, a folder, or the folder that a log is to be written to is there or will be."""
    if kind == "file":
        return path.is_file()
    folder = path.parent if kind == "log" else path
    return folder in made or folder.is_dir()


def _places(content: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Each path of the list: its key, the path, and whether it is a file, a folder or a log."""
    for key in ("StandardOutPath", "StandardErrorPath"):
        if key in content:
            yield key, content[key], "log"
    for key, kind in (("StandardInPath", "file"), ("WorkingDirectory", "folder")):
        if key in content:
            yield key, content[key], kind
    arguments = content.get("ProgramArguments", [])
    if arguments and Path(arguments[0]).is_file():
        yield "ProgramArguments.0", arguments[0], "file"
    for option, kind in (("--config", "file"), ("--state", "folder")):
        if option in arguments and Path(_after(arguments, option)).is_absolute():
            yield f"ProgramArguments {option}", _after(arguments, option), kind


def _typed(value: Any) -> str:
    """A value as a property list writes it, near enough to recognise it."""
    if isinstance(value, bool):
        return f"<{str(value).lower()}/>"
    return "" if value is None else f'"{value}"' if isinstance(value, str) else str(value)

"""The validator of the property list: ours passes, and each way to be wrong is named with what would be right."""

import copy
import os
import plistlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scheduler import launchd_keys, launchd_list
from scheduler.launchd_check import faults, file_faults, private_place
from scheduler.launchd_list import LABEL, Places
from scheduler.settings_problems import Problem

DRAIN = 30.0
GONE = object()  # the key is taken out


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with everything that the list names."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("state", "Library/Logs/ollama-scheduler", "Library/LaunchAgents", "Documents/x", "Desktop"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "config.toml").touch()
    (tmp_path / "plain").touch()
    return tmp_path


def ours(user: Path) -> dict[str, Any]:
    """The list as it would be installed."""
    places = Places(Path(sys.executable), user / "config.toml", user / "state", launchd_list.log_folder())
    return launchd_list.filled(places)


def wrong(content: dict[str, Any], user: Path, name: str = LABEL) -> list[Problem]:
    """What the validator says of a list in the file of this name."""
    return faults(content, user / "Library" / "LaunchAgents" / f"{name}.plist", drain=DRAIN)


def test_ours_is_right(user: Path) -> None:
    """The template, filled in, has no fault, also after a way through XML."""
    content = ours(user)
    assert wrong(content, user) == []
    assert wrong(plistlib.loads(launchd_list.text(content).encode()), user) == []


def test_folders_that_install_makes_need_not_be_there(user: Path) -> None:
    """State and logs may be missing if they are to be made; a configuration beside the state may not."""
    places = Places(Path(sys.executable), user / "new" / "config.toml", user / "new", user / "newer")
    content = launchd_list.filled(places)
    file = user / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    assert {each.where for each in faults(content, file, drain=DRAIN)} == {
        "ProgramArguments --config",
        "ProgramArguments --state",
        "StandardErrorPath",
        "StandardOutPath",
        "WorkingDirectory",
    }
    made = (user / "new", user / "newer")
    assert [each.where for each in faults(content, file, drain=DRAIN, made=made)] == ["ProgramArguments --config"]


def arguments(place: int, text: str) -> Callable[[dict[str, Any]], None]:
    """Another argument at this place."""

    def change(content: dict[str, Any]) -> None:
        content["ProgramArguments"][place] = text

    return change


def within(key: str, name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Another value inside a table; GONE takes it out."""

    def change(content: dict[str, Any]) -> None:
        if value is GONE:
            del content[key][name]
        else:
            content[key][name] = value

    return change


# What is changed (a key and its new value, or a change), where the fault is, and parts of what is said of it.
BAD: list[tuple[str, Any, str, str, str]] = [
    ("Lable", "x", "Lable", "is no key of launchd", "the nearest is Label"),
    ("Zzzzzz", 1, "Zzzzzz", "is no key of launchd", "leave it out"),
    ("Label", GONE, "Label", "is missing", "<string>"),
    ("ProgramArguments", GONE, "ProgramArguments", "is missing", "<array> of <string>"),
    ("RunAtLoad", GONE, "RunAtLoad", "is missing", "<true/>"),
    ("KeepAlive", GONE, "KeepAlive", "is missing", "<dict>"),
    ("ExitTimeOut", GONE, "ExitTimeOut", "is missing", "<integer>"),
    ("ProcessType", GONE, "ProcessType", "is missing", "<string>"),
    ("StandardErrorPath", GONE, "StandardErrorPath", "is missing", "<string>"),
    ("WorkingDirectory", GONE, "WorkingDirectory", "is missing", "<string>"),
    ("Umask", GONE, "Umask", "is missing", "<integer> or <string>"),
    ("Label", 7, "Label", "is of another kind", "<string>"),
    ("RunAtLoad", "true", "RunAtLoad", "is of another kind", "<true/> or <false/>"),
    ("ExitTimeOut", "45", "ExitTimeOut", "is of another kind", "<integer>"),
    ("ExitTimeOut", True, "ExitTimeOut", "is of another kind", "<integer>"),
    ("ProgramArguments", "/bin/python -m scheduler", "ProgramArguments", "is of another kind", "<array>"),
    ("ProgramArguments", ["/bin/python", 5], "ProgramArguments", "is of another kind", "<array> of <string>"),
    ("EnvironmentVariables", ["A=1"], "EnvironmentVariables", "is of another kind", "<dict>"),
    ("SoftResourceLimits", 4096, "SoftResourceLimits", "is of another kind", "<dict>"),
    ("Label", "org.example.other", "Label", f"is not how the file is called ({LABEL}.plist)", f"write {LABEL}"),
    ("Label", "scheduler", "Label", "is no name in reverse order", "local.ollama-scheduler"),
    ("Label", "local.ollama scheduler", "Label", "is no name in reverse order", "local.ollama-scheduler"),
    ("ProgramArguments", [], "ProgramArguments", "is empty", "name the interpreter"),
    ("", arguments(0, "python3"), "ProgramArguments.0", "is not absolute", "the whole path"),
    ("", arguments(0, ".venv/bin/python"), "ProgramArguments.0", "is not absolute", "the whole path"),
    ("", arguments(0, "/nowhere/bin/python"), "ProgramArguments.0", "is no program", "name the interpreter"),
    ("", arguments(0, "HOME/plain"), "ProgramArguments.0", "is no program", "name the interpreter"),
    ("", arguments(0, "/bin/sh"), "ProgramArguments.0", "would get the SIGTERM", "name the interpreter"),
    ("", arguments(0, "/usr/bin/env"), "ProgramArguments.0", "would get the SIGTERM", "name the interpreter"),
    ("", arguments(0, "/opt/homebrew/Cellar/p/3.12/bin/python"), "ProgramArguments.0", "brew upgrade", "opt/"),
    ("", arguments(0, "~/.venv/bin/python"), "ProgramArguments.0", "is not expanded by launchd", "itself"),
    ("", arguments(3, ""), "ProgramArguments.3", "is empty", "leave it out"),
    ("", arguments(5, "config.toml"), "ProgramArguments --config", "is not absolute", "write it whole"),
    ("", arguments(5, "HOME/none.toml"), "ProgramArguments --config", "there is no such file", "make it"),
    ("", arguments(7, "HOME/plain"), "ProgramArguments --state", "there is no such folder", "make it"),
    ("", arguments(7, "$HOME/state"), "ProgramArguments.7", "is not expanded by launchd", "itself"),
    ("", arguments(7, "HOME/Documents/x"), "ProgramArguments --state", "keeps from agents", "move it"),
    ("RunAtLoad", False, "RunAtLoad", "does not start it at login", "<true/>"),
    ("KeepAlive", True, "KeepAlive", "after an orderly end too", "SuccessfulExit"),
    ("KeepAlive", False, "KeepAlive", "does not start it again", "SuccessfulExit"),
    ("KeepAlive", {"Crashed": True}, "KeepAlive.SuccessfulExit", "is not false", "SuccessfulExit"),
    ("", within("KeepAlive", "SuccessfulExit", True), "KeepAlive.SuccessfulExit", "is not false", "SuccessfulExit"),
    ("", within("KeepAlive", "SuccessfulExit", "no"), "KeepAlive.SuccessfulExit", "is of another kind", "<true/>"),
    ("", within("KeepAlive", "NetworkState", True), "KeepAlive.NetworkState", "is not known", "SuccessfulExit"),
    ("", within("KeepAlive", "Crashed", True), "KeepAlive.Crashed", "one more reason", "leave it out"),
    ("ExitTimeOut", 5, "ExitTimeOut", "kills answers", "35 to 60"),
    ("ExitTimeOut", 34, "ExitTimeOut", "kills answers", "35 to 60"),
    ("ExitTimeOut", 61, "ExitTimeOut", "is cut to 60", "35 to 60"),
    ("ExitTimeOut", 0, "ExitTimeOut", "waits for ever", "35 to 60"),
    ("ExitTimeOut", -1, "ExitTimeOut", "kills answers", "35 to 60"),
    ("ThrottleInterval", 0, "ThrottleInterval", "is no pause", "leave it out"),
    ("ProcessType", "Background", "ProcessType", "is throttled", "Interactive"),
    ("ProcessType", "Standard", "ProcessType", "is throttled", "Interactive"),
    ("ProcessType", "interactive", "ProcessType", "is not known to launchd", "Interactive"),
    ("", within("EnvironmentVariables", "N", 1), "EnvironmentVariables.N", "launchd drops it", "<string>"),
    ("", within("EnvironmentVariables", "A B", "x"), "EnvironmentVariables.A B", "is no name", "letters"),
    ("", within("EnvironmentVariables", "AN_API_KEY", "x"), "EnvironmentVariables.AN_API_KEY", "secret", "file"),
    ("", within("EnvironmentVariables", "hf_token", "x"), "EnvironmentVariables.hf_token", "secret", "file"),
    ("", within("EnvironmentVariables", "DB_PASSWORD", "x"), "EnvironmentVariables.DB_PASSWORD", "secret", "file"),
    ("", within("EnvironmentVariables", "PATH", "$PATH:/x"), "EnvironmentVariables.PATH", "is not expanded", "itself"),
    ("", within("SoftResourceLimits", "NumberOfFiles", 256), "SoftResourceLimits.NumberOfFiles", "too few", "4096"),
    ("", within("SoftResourceLimits", "NumberOfFiles", GONE), "SoftResourceLimits.NumberOfFiles", "missing", "4096"),
    ("", within("SoftResourceLimits", "NumberOfFiles", "8192"), "SoftResourceLimits.NumberOfFiles", "kind", "<int"),
    ("", within("SoftResourceLimits", "Files", 8192), "SoftResourceLimits.Files", "is not known", "NumberOfFiles"),
    ("HardResourceLimits", {"NumberOfFiles": 1}, "HardResourceLimits.NumberOfFiles", "too few", "4096"),
    ("LimitLoadToSessionType", "Aqua", "LimitLoadToSessionType", "without a screen", "add Background"),
    ("LimitLoadToSessionType", ["Background"], "LimitLoadToSessionType", "at the screen", "add Aqua"),
    ("LimitLoadToSessionType", ["Aqua", "Background", "X"], "LimitLoadToSessionType", "is no kind", "Aqua"),
    ("Umask", 77, "Umask", "is 115", "write 63"),
    ("Umask", "022", "Umask", "is 022", "write 63"),
    ("Umask", "9", "Umask", "is no umask", "write 63"),
    ("StandardOutPath", "daemon.log", "StandardOutPath", "is not absolute", "the whole path"),
    ("StandardErrorPath", "~/Library/Logs/x.log", "StandardErrorPath", "is not expanded", "itself"),
    ("StandardErrorPath", "/nowhere/x.log", "StandardErrorPath", "there is no such folder", "make it"),
    ("StandardErrorPath", "HOME/Desktop/x.log", "StandardErrorPath", "keeps from agents", "move it"),
    ("WorkingDirectory", "HOME/plain", "WorkingDirectory", "there is no such folder", "make it"),
    ("WorkingDirectory", "/Volumes", "WorkingDirectory", "keeps from agents", "move it"),
    *((key, value, key, what, right) for key, value, (what, right) in (
        (key, {"<string>": "x", "<integer>": 1}.get(launchd_keys.KEYS[key].words, True), why)
        for key, why in launchd_keys.UNWANTED.items()
    )),
]  # fmt: skip


def _home(value: Any, user: Path) -> Any:
    """The value with HOME at its head made this user's."""
    if isinstance(value, list):
        return [_home(each, user) for each in value]
    return str(user) + value[4:] if isinstance(value, str) and value.startswith("HOME/") else value


@pytest.mark.parametrize(
    ("key", "value", "where", "said", "right"), BAD, ids=[f"{number}-{row[2]}" for number, row in enumerate(BAD)]
)
def test_bad_lists(user: Path, key: str, value: Any, where: str, said: str, right: str) -> None:
    """Each is found, at its place, with what is wrong and what would be right."""
    content = copy.deepcopy(ours(user))
    if callable(value):
        value(content)
        content = {key: _home(value, user) for key, value in content.items()}
    elif value is GONE:
        del content[key]
    else:
        content[key] = _home(value, user)
    found = wrong(content, user)
    told = [each for each in found if each.where == where and said in each.problem and right in each.mend]
    assert told, "\n".join(map(str, found))
    assert "  " not in str(told[0])


def test_secrets_are_not_repeated(user: Path) -> None:
    """A fault about a secret does not show it."""
    content = ours(user)
    content["EnvironmentVariables"]["API_KEY"] = "sk-very-secret"
    assert "sk-very-secret" not in "\n".join(map(str, wrong(content, user)))


def test_all_faults_are_told_at_once(user: Path) -> None:
    """Who mends a list need not run the check once for each fault."""
    content = ours(user) | {"Label": "x", "ExitTimeOut": 3, "ProcessType": "Background", "Nice": 5}
    assert {each.where for each in wrong(content, user)} >= {"Label", "ExitTimeOut", "ProcessType", "Nice"}


def test_every_known_key_is_of_one_kind(user: Path) -> None:
    """No key is wanted and unwanted, and each needed one is known."""
    assert set(launchd_keys.NEEDED) <= set(launchd_keys.KEYS)
    assert set(launchd_keys.UNWANTED) <= set(launchd_keys.KEYS)
    assert not set(launchd_keys.UNWANTED) & set(ours(user))


def test_links_into_a_guarded_folder_are_seen(user: Path) -> None:
    """macOS looks where a link leads."""
    (user / "link").symlink_to(user / "Documents")
    assert private_place(user / "link" / "x") == str(user / "Documents")
    assert private_place(user / "Documents" / "x" / "y") == str(user / "Documents")
    assert private_place(user / "Documents2") is None


# --- the file itself ---------------------------------------------------------------------------------------------


def _written(user: Path) -> Path:
    file = user / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    launchd_list.write(file, ours(user))
    return file


def test_what_is_written_is_right(user: Path) -> None:
    """Mode, owner and place are what launchd takes, whatever the umask."""
    before = os.umask(0)
    try:
        assert file_faults(_written(user)) == []
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
def test_a_file_that_others_may_write_is_wrong(user: Path, mode: int) -> None:
    """The mode that would be right is named."""
    file = _written(user)
    file.chmod(mode)
    (fault,) = file_faults(file)
    assert (fault.where, fault.value, fault.mend) == (str(file), f"{mode:04o}", "chmod 0644")


def test_a_folder_that_others_may_write_is_wrong(user: Path) -> None:
    """Whoever may write it may put another file in its place."""
    file = _written(user)
    file.parent.chmod(0o775)
    (fault,) = file_faults(file)
    assert (fault.where, fault.mend) == (str(file.parent), "chmod 0755")


def test_a_link_or_a_file_that_is_not_there_is_wrong(user: Path) -> None:
    """launchd takes files."""
    file = _written(user)
    link = file.with_name("a.b.plist")
    link.symlink_to(file)
    assert [each.problem for each in file_faults(link)] == ["is no plain file"]
    assert "cannot be read" in str(file_faults(file.with_name("none.plist"))[0])
    text = file.rename(file.with_name(f"{LABEL}.xml"))
    assert [each.problem for each in file_faults(text)] == ["is not looked at by launchd"]


def test_somebody_elses_file_is_wrong(user: Path) -> None:
    """The owner is named by number."""
    file = _written(user)
    if os.geteuid() != 0:
        pytest.skip("only root may give a file away")
    os.chown(file, 12345, -1)
    (fault,) = file_faults(file)
    assert (fault.value, fault.problem) == ("user 12345", "is somebody else's")

"""The `launchctl` that the tests play with is as strict as launchd: wrong orders fail, and what it starts is real."""

import plistlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.launchd import Mac, eventually, mac

NAME = "local.waits"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Mac]:
    """A Mac with no job."""
    with mac(tmp_path) as own:
        yield own


def put(here: Mac, script: str = "exec sleep 600", **more: Any) -> Path:
    """A list that runs this shell script."""
    content = {"Label": NAME, "ProgramArguments": ["/bin/sh", "-c", script], "RunAtLoad": True, **more}
    path = here.home / f"{NAME}.plist"
    path.write_bytes(plistlib.dumps({key: value for key, value in content.items() if value is not None}))
    path.chmod(0o644)
    return path


def job(here: Mac) -> dict[str, Any]:
    """What is known of it; empty when it is gone."""
    known: dict[str, Any] = here.memory["jobs"].get(f"{here.gui}/{NAME}", {})
    return known


def runs(here: Mac, number: int) -> int:
    """Wait for the so-manieth start; the process."""
    eventually(lambda: job(here).get("runs", 0) >= number and job(here)["pid"], f"run {number}: {job(here)}")
    return int(job(here)["pid"])


def code(here: Mac, *arguments: str) -> int:
    """The exit code of a launchctl."""
    return here.launchctl(*arguments).returncode


def test_wrong_orders_fail(here: Mac) -> None:
    """In while it is in: 5; in while it leaves: 37; out while it leaves: 36; out, looked at or started when it is not
    there: 3 or 113; disabled: 119; load and unload, which say 0 whatever happens on a Mac, are not there at all."""
    path, name = str(put(here)), f"{here.gui}/{NAME}"
    assert code(here, "bootout", name) == 3
    assert code(here, "bootout", f"{here.user}/{NAME}") == 113
    assert code(here, "print", name) == 113
    assert code(here, "kickstart", name) == 113
    assert code(here, "disable", name) == 0
    assert code(here, "bootstrap", here.gui, path) == 119
    assert code(here, "enable", name) == 0
    assert code(here, "bootstrap", here.gui, path) == 0
    assert code(here, "bootstrap", here.gui, path) == 5
    process = psutil.Process(runs(here, 1))
    assert code(here, "bootout", name) == 0
    assert code(here, "bootstrap", here.gui, path) == 37
    assert code(here, "bootout", name) == 36
    eventually(lambda: code(here, "print", name) == 113, "gone")
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert code(here, "load", path) == 64
    assert code(here, "bootstrap", here.gui, path) == 0


def test_lists_that_launchd_refuses(here: Mac) -> None:
    """Not there or no list: 5; others may write it: 122; not for this kind of session: 134; no such domain: 112."""
    assert code(here, "bootstrap", here.gui, str(here.home / "none.plist")) == 5
    path = put(here, LimitLoadToSessionType=["Background"])
    assert code(here, "bootstrap", here.gui, str(path)) == 134
    assert code(here, "bootstrap", here.user, str(put(here))) == 134
    assert code(here, "bootstrap", "gui/54321", str(path)) == 112
    path = put(here)
    path.chmod(0o664)
    assert code(here, "bootstrap", here.gui, str(path)) == 122
    path.write_text("no list", "utf-8")
    assert code(here, "bootstrap", here.gui, str(path)) == 5
    assert not here.memory["jobs"]


@pytest.mark.parametrize(
    ("keep", "script", "again"),
    [
        ({"SuccessfulExit": False}, "exit 0", False),
        ({"SuccessfulExit": False}, "exit 2", True),
        ({"SuccessfulExit": False}, "kill -9 $$", True),
        ({"Crashed": True}, "exit 2", False),
        ({"Crashed": True}, "kill -11 $$", True),
        (True, "exit 0", True),
        (None, "exit 1", False),
    ],
)
def test_keep_alive(here: Mac, keep: Any, script: str, again: bool) -> None:
    """It is started again exactly by the reasons of its list."""
    path = put(here, script, KeepAlive=keep)
    assert code(here, "bootstrap", here.gui, str(path)) == 0
    if again:
        eventually(lambda: job(here)["runs"] >= 3, "started again")
    else:
        eventually(lambda: job(here)["last"] != "(never exited)", "ended")
        assert (job(here)["runs"], job(here)["state"]) == (1, "not running")


def test_between_two_starts_there_is_a_pause(tmp_path: Path) -> None:
    """An exit before ThrottleInterval is not answered at once: the job waits as "spawn scheduled"."""
    with mac(tmp_path, FAKE_LAUNCHD_THROTTLE="600") as here:
        assert code(here, "bootstrap", here.gui, str(put(here, "exit 1", KeepAlive=True))) == 0
        eventually(lambda: job(here)["state"] == "spawn scheduled", "ended")
        assert job(here)["runs"] == 1
        assert "\tlast exit code = 1\n" in here.launchctl("print", f"{here.gui}/{NAME}").stdout


@pytest.mark.parametrize("key", ["StandardErrorPath", "WorkingDirectory"])
def test_a_path_that_is_not_there_ends_it_before_it_begins(here: Mac, key: str) -> None:
    """Exit code 78, and the program never ran."""
    path = put(here, f"touch {here.home}/ran; exec sleep 600", **{key: "/nowhere/x"})
    assert code(here, "bootstrap", here.gui, str(path)) == 0
    eventually(lambda: job(here)["last"] == "78: EX_CONFIG", "78")
    assert not (here.home / "ran").exists()


def test_who_does_not_hear_sigterm_is_killed(here: Mac) -> None:
    """After ExitTimeOut comes SIGKILL, for what it started too."""
    path = put(here, "trap '' TERM; sleep 601 & sleep 602; sleep 603", ExitTimeOut=1)
    assert code(here, "bootstrap", here.gui, str(path)) == 0
    process = psutil.Process(runs(here, 1))
    children = eventually(lambda: len(found := process.children()) == 2 and found, "children")
    assert code(here, "bootout", f"{here.gui}/{NAME}") == 0
    eventually(lambda: code(here, "print", f"{here.gui}/{NAME}") == 113, "gone")
    for each in (process, *children):
        assert not each.is_running() or each.status() == psutil.STATUS_ZOMBIE


def test_its_surroundings_are_launchds(here: Mac) -> None:
    """No variable of the shell, none that is no text; 256 files; the umask and the logs of the list, appended to."""
    log = here.home / "log"
    log.write_text("before\n", "utf-8")
    script = 'umask; ulimit -n; echo "$A|$B|$FAKE_LAUNCHD|$XPC_SERVICE_NAME|$PATH" >&2; exec sleep 600'
    more = {"StandardOutPath": str(log), "StandardErrorPath": str(log), "Umask": 0o077}
    path = put(here, script, EnvironmentVariables={"A": "a", "B": 1}, **more)
    assert code(here, "bootstrap", here.gui, str(path)) == 0
    eventually(lambda: log.read_text("utf-8").count("\n") == 4, "said")
    said = log.read_text("utf-8").splitlines()
    assert said == ["before", "0077", "256", f"a|||{NAME}|/usr/bin:/bin:/usr/sbin:/sbin"]


def test_kickstart_takes_the_old_list(here: Mac) -> None:
    """`kickstart -k` starts anew what launchd has read, not what the file says now."""
    path = put(here)
    assert code(here, "bootstrap", here.gui, str(path)) == 0
    first = runs(here, 1)
    put(here, "exit 1")
    assert code(here, "kickstart", "-k", f"{here.gui}/{NAME}") == 0
    assert runs(here, 2) != first
    eventually(lambda: psutil.Process(runs(here, 2)).cmdline() == ["sleep", "600"], "the old list's program")


def test_without_a_gui_domain_every_verb_fails(tmp_path: Path) -> None:
    """As over SSH: 125 for whatever names the gui domain."""
    with mac(tmp_path, FAKE_LAUNCHD_NO_GUI="125") as here:
        name = f"{here.gui}/{NAME}"
        for verb in (("print", name), ("bootout", name), ("enable", name), ("bootstrap", here.gui, str(put(here)))):
            assert code(here, *verb) == 125
        path = put(here, LimitLoadToSessionType=["Aqua", "Background"])
        assert code(here, "bootstrap", here.user, str(path)) == 0

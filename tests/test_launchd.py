"""`install` and `uninstall` before a launchctl that really starts the daemon: what is refused, the order, the crash."""

import os
import plistlib
import re
import shutil
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from scheduler import launchd_boot, launchd_list, own
from scheduler.daemon import Pace
from scheduler.install_command import KEPT
from scheduler.launchd_boot import Job, LaunchdError, commands, job
from scheduler.launchd_check import LONGEST, SPARE
from scheduler.launchd_list import LABEL
from scheduler.standin.process import StandIn
from scheduler.standin.stage import Stage
from tests.launchd import Mac, eventually, mac, shell_blocks, told
from tests.started import ROOT, surroundings

OURS = version("ollama-scheduler")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Mac]:
    """A Mac without an Ollama."""
    with mac(tmp_path) as there:
        yield there


# --- from nothing to a service and back --------------------------------------------------------------------------


async def test_a_service_lives_through_a_crash_an_upgrade_and_its_end(tmp_path: Path) -> None:
    """Installed it answers; killed it is started again; installed again it is another process; uninstalled it is gone,
    and what was in memory, its state and its log stay; `--purge` removes those, and never the configuration."""
    async with StandIn.start(Stage.documented().faster(20)) as ollama:
        with mac(tmp_path, ollama.url) as here:
            done = here.shell("ollama-scheduler install")
            assert done.returncode == 0, done.stderr
            assert f"ollama-scheduler {OURS} answers on http://{here.listen}" in done.stdout
            assert here.ready() == {"status": "ready", "version": OURS}
            order = [f"bootout {here.job}", f"bootout {here.user}/{LABEL}", f"enable {here.job}"]
            order += [f"bootstrap {here.gui} {here.list}"]
            assert [line for line in here.said if not line.startswith("print")] == order
            assert all(f"launchctl {line}" in " ".join(commands(LABEL, here.list)) for line in order)
            _as_the_list_says(here)
            assert told(f"http://{here.listen}/status")["service"] == LABEL
            asked = {"model": "qwen-fast", "prompt": "Hi", "stream": False}
            assert told(f"http://{here.listen}/api/generate", asked)["done"]

            first = here.pid()
            (here.state / "learned.json").write_text("half a fil", "utf-8")
            psutil.Process(first).send_signal(signal.SIGKILL)
            second = eventually(lambda: here.pid() not in (0, first) and here.pid(), "started again")
            eventually(lambda: here.ready().get("status") == "ready", "answers again")
            assert here.memory["jobs"][here.job]["last"] == "Killed: 9"

            done = here.shell("ollama-scheduler install")
            assert done.returncode == 0, done.stderr
            assert here.pid() not in (0, first, second)
            again = here.said[-here.said[::-1].index(f"bootout {here.job}") - 1 :]
            assert again[:2] == [f"bootout {here.job}", f"print {here.job}"]
            assert [line for line in again if not line.startswith("print")] == order
            assert not psutil.pid_exists(second) or psutil.Process(second).status() == psutil.STATUS_ZOMBIE

            last = here.pid()
            done = here.shell("ollama-scheduler uninstall")
            assert done.returncode == 0, done.stderr
            assert not here.memory["jobs"], done.stdout
            assert not here.list.exists()
            assert here.ready() == {}
            assert not psutil.pid_exists(last) or psutil.Process(last).status() == psutil.STATUS_ZOMBIE
            assert f"kept: state in {here.state}, log in {here.log.parent}" in done.stdout
            there = told(f"{ollama.url}/api/ps")["models"]
            assert "qwen-fast:latest" in [model["name"] for model in there]

            assert (here.state / "journal").is_dir()
            assert (here.state / "learned.json.bad").is_file()
            assert {path.name for path in here.state.iterdir()} <= set(KEPT)
            (here.state / "config.toml").write_text("# on a Mac it lies here\n", "utf-8")
            done = here.shell("ollama-scheduler uninstall --purge")
            assert done.returncode == 0, done.stderr
            assert "nothing was installed" in done.stdout
            assert [path.name for path in here.state.iterdir()] == ["config.toml"]
            assert not here.log.parent.exists()
            assert here.config.exists()


def _as_the_list_says(here: Mac) -> None:
    """The process has the environment, folder, limits, umask and log of the list, and its modes are right."""
    process = psutil.Process(here.pid())
    content = plistlib.loads(here.list.read_bytes())
    assert stat.S_IMODE(here.list.stat().st_mode) == 0o644
    assert process.cmdline() == content["ProgramArguments"]
    assert process.cwd() == content["WorkingDirectory"] == str(here.state)
    environment = process.environ()
    assert environment["XPC_SERVICE_NAME"] == LABEL
    assert content["EnvironmentVariables"].items() <= environment.items()
    assert not [name for name in environment if name.startswith(("FAKE_", "OLLAMA"))]
    soft, hard = process.rlimit(psutil.RLIMIT_NOFILE)
    assert soft == min(8192, hard)
    for private in (here.log.parent, here.state):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert f"listening port={here.listen.rpartition(':')[2]}" in here.log.read_text("utf-8")
    assert [path.name for path in here.list.parent.iterdir()] == [here.list.name]


def test_uninstall_of_nothing_is_done(here: Mac) -> None:
    """Twice, or where nothing ever was: exit code 0, and nothing is made."""
    for _ in range(2):
        done = here.shell("ollama-scheduler uninstall")
        assert done.returncode == 0, done.stderr
        assert "nothing was installed" in done.stdout
    assert not here.list.parent.exists()


def test_what_somebody_made_of_the_list_does_not_stop_uninstall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that can no longer be read is removed, and so is its job."""
    with waiting(tmp_path, monkeypatch) as here:
        launchd_boot.boot_in(LABEL, here.list, _said)
        _removed_though_spoilt(here)


def _removed_though_spoilt(here: Mac) -> None:
    here.list.write_text("<plist><dict><key>Label</key></dict></plist>", "utf-8")
    done = here.shell("ollama-scheduler uninstall")
    assert done.returncode == 0, done.stderr
    assert not here.list.exists()
    assert not here.memory["jobs"]


# --- refused, with nothing changed -------------------------------------------------------------------------------


def _refused(here: Mac, told: str, arguments: str = "") -> None:
    before = sorted(path for path in here.home.rglob("*"))
    done = here.shell(f"ollama-scheduler install {arguments}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path for path in here.home.rglob("*")) == before
    assert not [each for each in here.memory["said"] if each[0] != "print"]


def test_a_bad_configuration_is_refused(here: Mac) -> None:
    """Each problem of it is told, as `config check` tells it."""
    here.configure('listne = "x"\n[memory]\nbudget = "much"\n')
    _refused(here, "listne: there is no such setting; the nearest known is listen")
    _refused(here, 'memory.budget: "much"')


def test_no_configuration_is_refused(here: Mac) -> None:
    """A service for models that nobody named would refuse them all: `init` is named."""
    here.config.unlink()
    _refused(here, "`ollama-scheduler init` writes one")


def test_a_port_of_chance_is_refused(here: Mac) -> None:
    """Clients could not find it."""
    here.configure('listen = "127.0.0.1:0"\n')
    _refused(here, "port 0 is another one at each start")


async def test_ollamas_own_port_is_refused(tmp_path: Path) -> None:
    """Where the Ollama app listens already, both cannot: said with its version and what to do."""
    async with StandIn.start(Stage.documented()) as ollama:
        with mac(tmp_path) as here:
            here.configure(f'listen = "{ollama.url.partition("//")[2]}"\nollama = "http://127.0.0.1:9"\n')
            _refused(here, "itself listens on")
            assert "Ollama 0." in here.shell("ollama-scheduler install --dry-run || true").stderr


def test_a_strangers_port_is_refused(here: Mac) -> None:
    """Something that speaks no HTTP has the port."""
    host, _, port = here.listen.partition(":")
    with socket.create_server((host, int(port))):
        _refused(here, f"another program listens on {here.listen}")


def test_a_daemon_that_somebody_started_by_hand_is_refused(tmp_path: Path) -> None:
    """Two daemons in front of one Ollama would undo each other's work."""
    (tmp_path / "other").mkdir()
    with mac(tmp_path / "other") as other, mac(tmp_path) as here:
        assert other.shell("ollama-scheduler install").returncode == 0
        here.configure(f'listen = "{other.listen}"\nollama = "http://127.0.0.1:9"\n')
        _refused(here, "an ollama-scheduler that launchd did not start listens on")


def test_a_state_folder_that_macos_guards_is_refused(here: Mac) -> None:
    """Below Documents an agent may not read, and nobody is there to allow it."""
    _refused(here, "which macOS keeps from agents", f"--state {here.home}/Documents/state")


def test_where_there_is_no_launchd_it_says_so(tmp_path: Path) -> None:
    """On Linux: exit code 2, macOS is named, and `--dry-run` and `--print` work all the same."""
    if shutil.which("launchctl") is not None:
        pytest.skip("this machine has launchd")
    with mac(tmp_path) as here:
        here.environment = surroundings(here.home, {})
        for command in ("install", "uninstall"):
            done = here.shell(f"ollama-scheduler {command}")
            assert done.returncode == 2
            assert "launchd is macOS's" in done.stderr
        done = here.shell("ollama-scheduler install --dry-run; ollama-scheduler uninstall --dry-run --purge")
        assert done.returncode == 0, done.stderr
        for command in commands(LABEL, here.list):
            assert command in done.stdout
        printed = here.shell("ollama-scheduler install --print").stdout
        content = plistlib.loads(printed.encode())
        assert content["ProgramArguments"][-4:] == ["--config", str(here.config), "--state", str(here.state)]
        assert printed in done.stdout
        assert {path for path in here.home.rglob("*") if path.is_file()} == {here.config}


def test_variables_of_the_shell_are_warned_of(here: Mac) -> None:
    """The agent does not see them, and reads the configuration without them."""
    here.environment["OLLAMA_SCHEDULER_LISTEN"] = "127.0.0.1:1"
    done = here.shell("ollama-scheduler install --dry-run")
    assert done.returncode == 0, done.stderr
    assert "OLLAMA_SCHEDULER_LISTEN is set in this shell, and the agent will not see it" in done.stderr
    assert f"curl http://{here.listen}/readyz" in done.stdout


def test_sudo_is_refused(here: Mac) -> None:
    """An agent of root is not the user's."""
    if os.geteuid() != 0:
        pytest.skip("only root can be mistaken for sudo")
    here.environment["SUDO_USER"] = "somebody"
    _refused(here, "without sudo")


# --- what goes wrong later ---------------------------------------------------------------------------------------


def test_a_daemon_that_ends_at_once_is_told_with_its_log(here: Mac) -> None:
    """Exit code 1; the code it ended with and its own last words are shown."""
    here.state.parent.mkdir(parents=True)
    here.state.mkdir()
    (here.state / "lock").mkdir()  # the daemon cannot open it
    done = here.shell("ollama-scheduler install")
    assert done.returncode == 1, done.stdout
    assert "it ended with 2" in done.stderr
    assert f"cannot keep anything in {here.state}: Is a directory" in done.stderr
    assert "`uninstall`" in done.stderr
    assert here.shell("ollama-scheduler uninstall").returncode == 0


def test_a_folder_that_others_may_write_is_told(tmp_path: Path) -> None:
    """launchd would not take a list from there: said before it is asked."""
    with mac(tmp_path) as here:
        here.list.parent.mkdir(parents=True)
        here.list.parent.chmod(0o777)
        done = here.shell("ollama-scheduler install")
        assert done.returncode == 1
        assert re.search(r"LaunchAgents: 0777 may be written by others; chmod 0755", done.stderr)
        assert not [each for each in here.memory["said"] if each[0] == "bootstrap"]


# --- in and out, with a program that only waits ------------------------------------------------------------------


@contextmanager
def waiting(folder: Path, monkeypatch: pytest.MonkeyPatch, **knobs: str) -> Iterator[Mac]:
    """A Mac that this process is on, with a list that starts `sleep`."""
    with mac(folder, **knobs) as here:
        for name, value in here.environment.items():
            monkeypatch.setenv(name, value)
        launchd_list.write(
            here.list,
            {
                "Label": LABEL,
                "ProgramArguments": ["/bin/sleep", "600"],
                "RunAtLoad": True,
                "LimitLoadToSessionType": ["Aqua", "Background"],
            },
        )
        yield here


def _said(_: str) -> None:
    """Nobody listens."""


def test_launchd_takes_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that stays visible after its end, and bootstraps that fail for now: waited for, and tried again."""
    with waiting(tmp_path, monkeypatch, FAKE_LAUNCHD_PRINTS="4", FAKE_LAUNCHD_BUSY="2") as here:
        assert launchd_boot.boot_in(LABEL, here.list, _said) == here.gui
        assert sum(each[0] == "bootstrap" for each in here.memory["said"]) == 3
        eventually(here.pid, "started")
        before = len(here.memory["said"])
        assert launchd_boot.boot_out(LABEL, _said)
        assert [each[0] for each in here.memory["said"][before:]].count("print") >= 5
        assert launchd_boot.found(LABEL) is None


@pytest.mark.parametrize("code", ["125", "112"])
def test_without_a_screen_it_lives_in_the_users_domain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Over SSH there is no gui domain: it is booted into the user's, and found and booted out there."""
    with waiting(tmp_path, monkeypatch, FAKE_LAUNCHD_NO_GUI=code) as here:
        assert launchd_boot.boot_in(LABEL, here.list, _said) == here.user
        there = launchd_boot.found(LABEL)
        assert there is not None
        assert there[0] == here.user
        assert launchd_boot.boot_out(LABEL, _said)
        assert not here.memory["jobs"]


def test_a_disabled_label_is_enabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`launchctl disable` outlives reboots; who installs wants it on."""
    with waiting(tmp_path, monkeypatch) as here:
        assert here.launchctl("disable", here.job).returncode == 0
        assert here.launchctl("bootstrap", here.gui, str(here.list)).returncode == 119
        assert launchd_boot.boot_in(LABEL, here.list, _said) == here.gui


def test_what_launchd_refuses_is_told_with_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bootstrap that fails for good: the command, the code and what launchctl said."""
    with waiting(tmp_path, monkeypatch) as here:
        here.list.chmod(0o666)
        told = r"`launchctl bootstrap \S+ \S+` ended with code 122: Bootstrap failed: 122: Path had bad ownership"
        with pytest.raises(LaunchdError, match=told):
            launchd_boot.boot_in(LABEL, here.list, _said)


def test_what_fails_for_now_for_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code 5 may also mean that launchd will never take it: after a while it is an error."""
    with waiting(tmp_path, monkeypatch, FAKE_LAUNCHD_BUSY="1000") as here:
        with pytest.raises(LaunchdError, match="code 5: Bootstrap failed: 5: Input/output error"):
            launchd_boot.boot_in(LABEL, here.list, _said, limit=0.6)
        assert sum(each[0] == "bootstrap" for each in here.memory["said"]) >= 2


def test_a_job_that_never_goes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Booted out and still there after the limit: an error that names it, not a wait for ever."""
    with waiting(tmp_path, monkeypatch, FAKE_LAUNCHD_PRINTS="1000") as here:
        launchd_boot.boot_in(LABEL, here.list, _said)
        with pytest.raises(LaunchdError, match=f"{here.job} is still there 1 s after it was booted out"):
            launchd_boot.boot_out(LABEL, _said, limit=1.0)
        with pytest.raises(LaunchdError, match="is still there"):  # on its way already
            launchd_boot.boot_out(LABEL, _said, limit=0.1)


# --- the parts ---------------------------------------------------------------------------------------------------


def test_the_list_leaves_time_to_drain() -> None:
    """SIGKILL comes after our own drain and 5 s more, and within what launchd grants."""
    content = plistlib.loads(launchd_list.TEMPLATE.read_bytes())
    assert Pace().stop + SPARE <= content["ExitTimeOut"] <= LONGEST
    assert content["Label"] == LABEL == launchd_list.TEMPLATE.stem


def test_every_key_of_the_template_says_why() -> None:
    """A comment stands right before each key, or before the pair it belongs to; none holds a home or a secret."""
    text = launchd_list.TEMPLATE.read_text("utf-8")
    commented = set(re.findall(r"-->\n\t<key>(\w+)</key>", text))
    assert set(plistlib.loads(text.encode())) - commented == {"StandardErrorPath"}
    assert not re.search(r"/Users/|/home/", text)


def test_the_list_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves the old list, and nothing beside it that launchd could load."""
    path = tmp_path / "agents" / "a.b.plist"
    launchd_list.write(path, {"Label": "a.b"})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        launchd_list.write(path, {"Label": "a.c"})
    assert launchd_list.read(path) == {"Label": "a.b"}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "text", ["", "no xml", "<plist><dict><key>Label</key></dict></plist>", "<plist><array/></plist>", "<plist/>"]
)
def test_what_is_no_list_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    """Broken XML, a key without a value, no table: one sentence with the file's name."""
    path = tmp_path / "a.plist"
    path.write_text(text, "utf-8")
    with pytest.raises(launchd_list.Unreadable, match=re.escape(str(path))):
        launchd_list.read(path)


@pytest.mark.parametrize(
    ("name", "told"), [("", ""), ("0", ""), ("application.com.apple.Terminal.123", ""), (LABEL, LABEL)]
)
def test_who_started_it(name: str, told: str) -> None:
    """A shell in a window is no service, though launchd names its app."""
    assert own.service(name) == told


PRINTED = """gui/501/a.b = {
\tactive count = 1
\tstate = running

\tprogram = /x
\tpid = 4711
\tlast exit code = 78: EX_CONFIG
\tevent channels = {
\t\t"x" = {
\t\t\tstate = active
\t\t\tpid = 1
\t\t}
\t}
}
"""


def test_print_is_read_at_its_first_level() -> None:
    """State, pid and exit code are the job's own, not those of what it listens to."""
    assert job(PRINTED) == Job("running", 4711, "78: EX_CONFIG")
    fresh = PRINTED.replace("78: EX_CONFIG", "(never exited)").replace("\tpid = 4711\n", "")
    assert job(fresh) == Job("running", None, "")
    killed = PRINTED.replace("last exit code = 78: EX_CONFIG", "last terminating signal = Killed: 9")
    assert job(killed).last_exit == "Killed: 9"


@pytest.mark.parametrize("page", ["README.md", "launchd/README.md"])
def test_every_command_about_the_agent_works(here: Mac, page: str) -> None:
    """The blocks of the pages that install and uninstall run as written, in their order."""
    blocks = shell_blocks(ROOT / page)
    assert blocks
    for block in blocks:
        done = here.shell(block)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    assert not here.memory["jobs"]

"""What the machine tells about memory: Metal's working set against measured values, and runners without an Ollama."""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from scheduler import memory

GIB = memory.GIB
WAIT = 10.0
MEASURED = [  # RAM in GiB, macOS, recommendedMaxWorkingSetSize in GiB: users' logs and issues, as docs/design.md says
    (8, 15, 5.33),
    (16, 14, 10.67),
    (24, 15, 16.00),
    (32, 14, 21.33),
    (36, 15, 27.00),
    (64, 15, 48.00),
    (96, 15, 72.00),
    (128, 15, 96.00),
    (512, 15, 384.00),
    (16, 26, 11.84),
    (24, 26, 17.76),
    (32, 26, 24.96),
    (36, 26, 28.08),
    (48, 26, 37.44),
    (64, 26, 51.84),
    (96, 26, 77.76),
    (128, 26, 107.52),
    (192, 26, 161.28),
]


@pytest.mark.parametrize(("ram", "macos", "measured"), MEASURED)
def test_the_working_set_is_what_was_measured(ram: int, macos: int, measured: float) -> None:
    """Within half a percent of what Metal recommended on machines of that size."""
    assert memory.recommended(ram * GIB, macos) / GIB == pytest.approx(measured, rel=0.005)


@pytest.mark.parametrize("macos", [0, 27])
def test_an_unknown_machine_gets_no_more_than_is_known(macos: int) -> None:
    """A release or a size without a measured value: two thirds, or what the nearest known release gives."""
    assert memory.recommended(1024 * GIB, macos) <= 768 * GIB
    assert memory.recommended(16 * GIB, macos) <= 11.84 * GIB


def machine(patch: pytest.MonkeyPatch, system: str, ram: int, macos: str = "") -> None:
    """Play a machine of `ram` GiB."""
    patch.setattr(platform, "system", lambda: system)
    patch.setattr(platform, "mac_ver", lambda: (macos, ("", "", ""), "arm64"))
    patch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=ram * GIB))


@pytest.mark.parametrize(
    ("system", "ram", "budget", "told"),
    [
        ("Darwin", 64, 48 * GIB, "0.75 of physical memory"),
        ("Darwin", 8, 6 * GIB, "0.75 of physical memory"),
        ("Linux", 64, 64 * GIB - 4 * memory.GB, "less 4 GB"),
        ("Linux", 4, 2 * GIB, "less 4 GB"),
    ],
)
def test_auto_budget(monkeypatch: pytest.MonkeyPatch, system: str, ram: int, budget: int, told: str) -> None:
    """Three quarters on a Mac; elsewhere all but 4 GB, and never less than half."""
    machine(monkeypatch, system, ram)
    assert memory.auto_budget()[0] == budget
    assert told in memory.auto_budget()[1]


def said(text: str, name: str = "iogpu.wired_limit_mb") -> Callable[..., Any]:
    """A sysctl that says this."""

    def run(command: list[str], **_: Any) -> Any:
        assert command == ["/usr/sbin/sysctl", "-n", name]
        return SimpleNamespace(stdout=text, returncode=0 if text else 1)

    return run


@pytest.mark.parametrize(
    ("told", "level"),
    [("1\n", "normal"), ("2\n", "warning"), ("4\n", "critical"), ("", "normal"), ("sysctl: unknown oid\n", "normal")],
)
def test_pressure_on_a_mac(monkeypatch: pytest.MonkeyPatch, told: str, level: str) -> None:
    """The kernel's word: 1, 2 or 4; where it cannot be read, nothing is short."""
    machine(monkeypatch, "Darwin", 32)
    monkeypatch.setattr(subprocess, "run", said(told, "kern.memorystatus_vm_pressure_level"))
    assert memory.pressure() == level


@pytest.mark.parametrize(
    ("some", "full", "level"),
    [
        ("0.00", "0.00", "normal"),
        ("9.99", "4.99", "normal"),
        ("10.00", "0.00", "warning"),
        ("40.00", "5.00", "critical"),
    ],
)
def test_pressure_on_linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, some: str, full: str, level: str) -> None:
    """By how much of the last ten seconds tasks waited for memory; a kernel that does not tell is never short."""
    machine(monkeypatch, "Linux", 32)
    psi = tmp_path / "memory"
    monkeypatch.setattr(memory, "PSI", psi)
    assert memory.pressure() == "normal"
    rest = "avg60=50.00 avg300=50.00 total=123456"
    psi.write_text(f"some avg10={some} {rest}\nfull avg10={full} {rest}\n")
    assert memory.pressure() == level
    psi.write_text("nothing known\n")
    assert memory.pressure() == "normal"


def broken(error: Exception) -> Callable[..., Any]:
    """A sysctl that cannot be run."""

    def run(*_: Any, **__: Any) -> Any:
        raise error

    return run


def test_the_users_own_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sysctl iogpu.wired_limit_mb=57344` moves the working set, in MiB."""
    machine(monkeypatch, "Darwin", 64, "15.4")
    monkeypatch.setattr(subprocess, "run", said("57344\n"))
    assert memory.metal_working_set() == 56 * GIB


@pytest.mark.parametrize(
    "run",
    [
        said("0\n"),  # the default, not unlimited
        said(""),  # macOS 13 does not know it
        said("sysctl: unknown oid"),
        said("-1\n"),
        broken(FileNotFoundError("/usr/sbin/sysctl")),
        broken(PermissionError("sandboxed")),
        broken(subprocess.TimeoutExpired("sysctl", 5)),
    ],
)
@pytest.mark.parametrize(("macos", "share"), [("15.4", 48 / 64), ("26.1", 0.81), ("", 48 / 64)])
def test_without_a_limit_of_his_metals_default_counts(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any], macos: str, share: float
) -> None:
    """Zero, unknown, unreadable or a sysctl that cannot be run: what this release recommends, and never an error."""
    machine(monkeypatch, "Darwin", 64, macos)
    monkeypatch.setattr(subprocess, "run", run)
    assert memory.metal_working_set() == int(64 * GIB * share)


def test_without_metal_there_is_no_working_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere nothing is asked."""
    machine(monkeypatch, "Linux", 64)
    monkeypatch.setattr(subprocess, "run", broken(AssertionError("nobody may ask")))
    assert memory.metal_working_set() == 0


# --- runners, real processes -------------------------------------------------------------------------------------

# A shell that looks like a runner and lives until its input ends (so it never outlives the tests); its starter says
# its process id, and waits for it or not.
RUNNER = 'exec 3<&0; /bin/sh -c "read _ <&3; exit" llama-server --model "$1" --port "$2" & echo $!; '


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Start a runner of a file; its process id."""
    started: list[subprocess.Popen[str]] = []

    def begin(file: Path, *, parent: str = "/bin/sh", stays: bool, port: str = "4567") -> int:
        script = RUNNER + ("wait" if stays else "exit")
        process = subprocess.Popen(
            [parent, "-c", script, "sh", str(file), port], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        if not stays:
            process.wait(WAIT)
        reached(lambda: "--port" in psutil.Process(pid).cmdline())
        return pid

    yield begin
    for process in started:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        process.wait(WAIT)


def reached(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A model file of 50 GB that takes no room."""
    path = tmp_path / "blobs" / "sha256-1234"
    path.parent.mkdir()
    with path.open("wb") as made:
        made.truncate(50 * memory.GB)
    return path


def test_a_runner_whose_parent_died_is_an_orphan(start: Callable[..., int], file: Path) -> None:
    """It is found by its file, with its id, and its mapped file counts where it is larger than what shows."""
    pid = start(file, stays=False)
    assert memory.orphans(str(file.parent)) == [memory.Orphan(pid, 50 * memory.GB, str(file))]
    assert memory.Orphan(pid, 50 * memory.GB, str(file)) in memory.orphans("")
    assert memory.runner_place(str(file)) is None  # it serves nobody: there is nobody to ask


def test_a_runner_of_another_folder_is_a_strangers(start: Callable[..., int], file: Path, tmp_path: Path) -> None:
    """Another Ollama's models lie elsewhere, even where the folder's name begins alike."""
    start(file, stays=False)
    assert memory.orphans(str(tmp_path / "blob")) == []
    assert memory.orphans(str(tmp_path / "else")) == []
    assert len(memory.orphans(str(tmp_path))) == 1


def test_what_shows_counts_where_the_file_is_smaller_or_gone(start: Callable[..., int], file: Path) -> None:
    """A deleted model's runner still holds what it holds."""
    pid = start(file, stays=False)
    file.unlink()
    (orphan,) = memory.orphans(str(file.parent))
    assert orphan.pid == pid
    assert 0 < orphan.size < memory.GB


@pytest.mark.skipif(sys.platform == "darwin", reason="a link's name is not its process's name there")
def test_a_runner_of_a_living_ollama_is_no_orphan(start: Callable[..., int], file: Path, tmp_path: Path) -> None:
    """While its parent is an Ollama it serves, and can be asked at its port."""
    ollama = tmp_path / "ollama"
    ollama.symlink_to("/bin/sh")
    pid = start(file, parent=str(ollama), stays=True)
    assert memory.orphans(str(file.parent)) == []
    assert memory.runner_place(str(file)) == (pid, 4567)


def test_a_runner_of_a_living_stranger_is_an_orphan(start: Callable[..., int], file: Path) -> None:
    """What took it over, such as a service manager, is no Ollama."""
    pid = start(file, stays=True)
    assert [orphan.pid for orphan in memory.orphans(str(file.parent))] == [pid]


@pytest.mark.parametrize("arguments", [["--model", "FILE"], ["--port", "1"], ["--model", "plain", "--port", "1"]])
def test_what_only_resembles_a_runner_is_none(file: Path, arguments: list[str]) -> None:
    """A port, a model and a file named by its digest: all three, or it is somebody else's program."""
    words = [str(file) if word == "FILE" else word for word in arguments]
    process = subprocess.Popen(["/bin/sh", "-c", "read _; exit", "llama-server", *words], stdin=subprocess.PIPE)
    assert process.stdin is not None
    reached(lambda: "llama-server" in psutil.Process(process.pid).cmdline())
    assert process.pid not in [found.pid for found, _ in memory.runners("")]
    process.stdin.close()
    process.wait(WAIT)


def test_a_dead_runner_holds_nothing(file: Path) -> None:
    """A zombie has given its memory back, whoever forgot to bury it."""
    command = ["/bin/sh", "-c", "read _; exit", "llama-server", "--model", str(file), "--port", "1"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    reached(lambda: len(memory.orphans(str(file.parent))) == 1)
    os.kill(process.pid, signal.SIGKILL)
    reached(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert memory.orphans(str(file.parent)) == []
    process.stdin.close()
    process.wait(WAIT)


# --- runners, played ---------------------------------------------------------------------------------------------


def played(patch: pytest.MonkeyPatch, parent: Callable[[int], Any], **told: Any) -> None:
    """Play one runner, whose parent `parent` gives or refuses."""
    info = {
        "cmdline": ["llama-server", "--model", "/models/blobs/sha256-1", "--port", "1"],
        "ppid": 1,
        "memory_info": SimpleNamespace(rss=700),
        "status": psutil.STATUS_SLEEPING,
        **told,
    }
    patch.setattr(psutil, "process_iter", lambda *_: iter([SimpleNamespace(pid=77, info=info)]))
    patch.setattr(psutil, "Process", parent)


def named(name: str) -> Callable[[int], Any]:
    """A parent of this name, whatever its id."""
    return lambda _: SimpleNamespace(name=lambda: name)


def refuses(error: Exception) -> Callable[[int], Any]:
    """A parent that cannot be looked at."""

    def look(_: int) -> Any:
        raise error

    return look


def test_an_ollama_that_is_process_one_is_a_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container Ollama is process 1: its runners are no orphans."""
    played(monkeypatch, named("ollama"))
    assert memory.orphans("/models/blobs") == []
    played(monkeypatch, named("launchd"))
    assert memory.orphans("/models/blobs") == [memory.Orphan(77, 700, "/models/blobs/sha256-1")]


def test_a_zombie_that_still_shows_its_command_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every system forgets the command line of the dead."""
    played(monkeypatch, named("launchd"), status=psutil.STATUS_ZOMBIE)
    assert memory.orphans("") == []


def test_ollama_is_known_in_any_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app's process is called `Ollama`."""
    played(monkeypatch, named("Ollama"))
    assert memory.orphans("") == []


def test_a_parent_that_went_a_moment_ago_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gone between the list and the look."""
    played(monkeypatch, refuses(psutil.NoSuchProcess(1)))
    assert [orphan.pid for orphan in memory.orphans("")] == [77]


def test_what_cannot_be_judged_is_no_orphan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent that may not be looked at, or is not told: nobody is ended on a guess."""
    played(monkeypatch, refuses(psutil.AccessDenied(1)))
    assert memory.orphans("") == []
    played(monkeypatch, named("python"), ppid=None)  # psutil takes "no id" for our own process
    assert memory.orphans("") == []


@pytest.mark.parametrize("told", [{"cmdline": None}, {"cmdline": []}, {"cmdline": ["x", "--port", "1", "--model"]}])
def test_a_process_that_tells_nothing_is_no_runner(monkeypatch: pytest.MonkeyPatch, told: dict[str, Any]) -> None:
    """Other users' processes do not show their command line."""
    played(monkeypatch, named("launchd"), **told)
    assert memory.orphans("") == []


def test_a_runner_whose_memory_is_not_told_counts_by_its_file(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Access to a process's figures may be denied; its file still says what it maps."""
    command = ["llama-server", "--model", str(file), "--port", "1"]
    played(monkeypatch, named("launchd"), cmdline=command, memory_info=None)
    assert [orphan.size for orphan in memory.orphans("")] == [50 * memory.GB]


@pytest.mark.parametrize("port", ["none", ""])
def test_a_port_that_is_no_number_is_not_asked(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    """A runner that hides its port cannot be asked."""
    played(monkeypatch, named("ollama"), cmdline=["x", "--model", "/b/sha256-1", "--port", port])
    assert memory.runner_place("/b/sha256-1") is None


def test_open_files_are_counted() -> None:
    """What this process may still open is what it may have open less what it has; one more takes one."""
    left, limit = memory.files_left()
    with Path("/dev/null").open():
        fewer, same = memory.files_left()
    assert 0 < left < limit
    assert (fewer, same) == (left - 1, limit)

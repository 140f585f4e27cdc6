"""`serve` to its end: what stops it before it serves and the one line it says then, and how it ends when told to."""

import fcntl
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from scheduler.__main__ import command_line
from scheduler.control_gate import TOKEN
from scheduler.core.lifecycle import IllegalMove
from scheduler.core.machine import Machine
from scheduler.serve_command import BAD, BUG, run
from scheduler.settings import Settings
from scheduler.settings_read import settings_of
from tests.started import Started


@pytest.fixture
def nobody() -> Iterator[str]:
    """An Ollama that is not there: a port that is kept and refuses."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{kept.getsockname()[1]}"


@pytest.fixture
def settings(nobody: str) -> Settings:
    """A configuration that can be served anywhere."""
    return settings_of({"listen": "127.0.0.1:0", "ollama": nobody, "memory": {"budget": "40GB"}})


def one_line(told: str) -> str:
    """The only line on stderr, apart from the log."""
    assert "Traceback" not in told
    (line,) = [line for line in told.splitlines() if line.startswith(("cannot", "a bug"))]
    return line


def test_a_taken_port_ends_it_with_two_and_says_which(
    nobody: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and the address with the reason."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert run(settings_of({"listen": listen, "ollama": nobody}), tmp_path) == BAD == 2
    line = one_line(capsys.readouterr().err)
    assert line.startswith(f"cannot serve on {listen}: ")
    assert "address already in use" in line.lower()
    assert line.endswith("set another `listen`")


@pytest.mark.parametrize("below", [False, True])
def test_a_state_folder_that_cannot_be_ends_it_with_two_and_says_which(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], below: bool
) -> None:
    """A file stands in its place: the folder is named, not the address, which is in order."""
    (tmp_path / "file").write_text("not a folder", "utf-8")
    folder = tmp_path / "file" / "state" if below else tmp_path / "file"
    assert run(settings, folder) == BAD
    line = one_line(capsys.readouterr().err)
    assert line.startswith(f"cannot keep anything in {folder}: ")
    assert settings.listen not in line


def test_a_state_folder_that_may_not_be_written_ends_it_with_two(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another user's folder: said before anything is served."""
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(0o500)
    try:
        (folder / "probe").touch()
    except PermissionError:
        assert run(settings, folder) == BAD
        assert one_line(capsys.readouterr().err) == f"cannot keep anything in {folder}: Permission denied"
    else:
        pytest.skip("this user may write everywhere")
    finally:
        folder.chmod(0o700)


def test_a_state_folder_that_another_daemon_has_ends_it_with_two(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two journals in one folder would be none that replays; when the other has ended, its folder is free."""
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(settings, tmp_path) == BAD
    line = one_line(capsys.readouterr().err)
    assert f"another daemon keeps its state in {tmp_path}" in line
    assert "--state" in line
    assert not (tmp_path / "journal").exists()


def test_a_bug_of_the_core_ends_it_with_one_and_says_how_to_replay_it(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1, so that whoever started it starts it again; nothing is left running."""

    def step(*_: object) -> list[object]:
        raise IllegalMove("a: absent -> leaving")

    monkeypatch.setattr(Machine, "step", step)
    before = threading.active_count()
    assert run(settings, tmp_path) == BUG == 1
    line = one_line(capsys.readouterr().err)
    assert line.startswith("a bug ended the daemon: a: absent -> leaving; ")
    assert "journal verify" in line
    assert threading.active_count() <= before + 1  # the loop's pool may keep a thread


def configured(tmp_path: Path, nobody: str, more: str = "") -> str:
    """A configuration file."""
    path = tmp_path / "config.toml"
    path.write_text(f'listen = "127.0.0.1:0"\nollama = "{nobody}"\n{more}', "utf-8")
    return str(path)


def test_a_bad_configuration_ends_it_with_two_and_names_the_place(nobody: str, tmp_path: Path) -> None:
    """Every problem is a line that says what stands there and what would be right; nothing was served."""
    config = configured(tmp_path, nobody, 'listne = "x"\n[memory]\nbudget = "much"\n')
    arguments = ["serve", "--config", config, "--state", str(tmp_path / "state")]
    done = CliRunner().invoke(command_line(arguments), arguments)
    assert done.exit_code == BAD
    assert "config.toml cannot be used:" in done.stderr
    assert "listne: there is no such setting; the nearest known is listen" in done.stderr
    assert 'memory.budget: "much"' in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("content", [None, b"= nothing", b"\xff\xfe", b"a=" + b"[" * 9999, b"a=" + b"9" * 9999])
def test_a_configuration_that_cannot_be_read_ends_it_with_two(tmp_path: Path, content: bytes | None) -> None:
    """A file that was named must exist, and be TOML."""
    config = tmp_path / "mine.toml"
    if content is not None:
        config.write_bytes(content)
    arguments = ["serve", "--config", str(config), "--state", str(tmp_path / "state")]
    done = CliRunner().invoke(command_line(arguments), arguments)
    assert done.exit_code == BAD
    assert str(config) in done.stderr
    assert not (tmp_path / "state").exists()


# --- as a user runs it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_told_to_stop_it_ends_with_nought(nobody: str, tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM are orders: it ends in order, keeps what it learned, and that is no failure, even where
    Ollama was never there."""
    config, state = configured(tmp_path, nobody), tmp_path / "state"
    async with Started.run("serve", "--config", config, "--state", str(state), home=tmp_path) as serve:
        await serve.hears(r"listening port=\d+")
        await serve.hears(rf"waiting for the Ollama at {nobody}")
        assert "listens on" not in serve.said  # that comes when Ollama has told what it has, or has not for long
        assert (state / TOKEN).is_file()
        psutil.Process(serve.process.pid).send_signal(number)
        assert await serve.ends() == 0, serve.said
    assert "stopped unfinished=0" in serve.said
    assert "Traceback" not in serve.said
    assert not (state / TOKEN).exists()  # it commands nobody any more
    assert (state / "learned.json").is_file()
    assert list((state / "journal").iterdir())

"""Ollama is restarted by the service that runs it, where there is one; what came of it is told in every case."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scheduler import restart
from scheduler.core import messages as m
from scheduler.core.config import Config
from scheduler.core.state import CoreState
from scheduler.restart import UNKNOWN, Restarts, Service, find, service_of
from scheduler.settings import StallSettings

PLAYED = """#!{python}
import pathlib, sys
said = pathlib.Path(__file__ + ".said")
said.write_text((said.read_text() if said.exists() else "") + " ".join(sys.argv[1:]) + "\\n")
sys.exit(0 if any(known in sys.argv for known in {known!r}) else 113)
"""


def played(path: Path, *known: str) -> Path:
    """A launchctl, or a systemctl, that knows these services; what it was asked is in `.said`."""
    path.write_text(PLAYED.format(python=sys.executable, known=known))
    path.chmod(0o755)
    return path


def said(program: Path) -> list[str]:
    """What it was asked."""
    return Path(f"{program}.said").read_text().splitlines()


@asynccontextmanager
async def restarts(service: Service | None, stall: StallSettings | None = None) -> AsyncIterator[Restarts]:
    """Restarts whose facts are in `.facts`."""
    facts: asyncio.Queue[m.Fact] = asyncio.Queue()
    async with asyncio.TaskGroup() as tasks:
        made = Restarts(service, stall or StallSettings(), tasks, facts.put_nowait, lambda: 7.0)
        made.facts = facts  # type: ignore[attr-defined]
        yield made
        await made.close()


async def fact(made: Restarts) -> m.Fact:
    """The next one."""
    async with asyncio.timeout(10):
        return await made.facts.get()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("known", "name", "target"),
    [
        ("gui/501/homebrew.mxcl.ollama", "", "gui/501/homebrew.mxcl.ollama"),
        ("user/501/com.ollama.ollama", "", "user/501/com.ollama.ollama"),
        ("gui/501/org.example.ollama", "org.example.ollama", "gui/501/org.example.ollama"),
        ("gui/501/homebrew.mxcl.ollama", "org.example.ollama", None),
    ],
)
async def test_a_mac_knows_it_by_launchd(
    known: str, name: str, target: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual labels, or the one that is configured and no other, in the session at the screen or the user's own."""
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    launchctl = played(tmp_path / "launchctl", known)
    monkeypatch.setattr(restart, "LAUNCHCTL", str(launchctl))
    service = await find((), name, 501)
    if target is None:
        assert service is None
        return
    assert service == Service(target, (str(launchctl), "kickstart", "-k", target))
    async with restarts(service) as made:
        made.take(m.RestartOllama("it hangs"))
        assert await fact(made) == m.Restarted(7.0, "")
    assert said(launchctl)[-1] == f"kickstart -k {target}"


@pytest.mark.parametrize("scope", ["--user", ""])
async def test_linux_knows_it_by_systemd(scope: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's unit before the machine's; restarted without asking anybody for a password."""
    monkeypatch.setattr("platform.system", lambda: "Linux")
    systemctl = played(tmp_path / "systemctl", scope or "is-active")
    if not scope:  # only the machine's: the user's systemd does not answer
        systemctl.write_text(
            systemctl.read_text().replace("sys.exit(0 if", "sys.exit(0 if '--user' not in sys.argv and")
        )
    monkeypatch.setattr("shutil.which", lambda _: str(systemctl))
    service = await find((), "")
    assert service is not None
    words = [str(systemctl), *([scope] if scope else []), "--no-ask-password", "restart", "ollama.service"]
    assert list(service.command) == words


async def test_a_command_goes_before_any_service() -> None:
    """Who gives a command is not asked what service it is."""
    assert await service_of(StallSettings(action="restart-ollama", restart_command=("true",))) == Service(
        "true", ("true",)
    )
    assert await service_of(StallSettings(restart_command=("true",))) is None


async def test_no_service_is_a_warning_at_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Wanted and not possible: the log and /status say so, and nothing is ever restarted."""
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("shutil.which", lambda _: None)
    stall = StallSettings(action="restart-ollama")
    assert await service_of(stall) is None
    assert UNKNOWN in caplog.text
    async with restarts(None, stall) as made:
        assert made.troubles(CoreState(Config())) == [UNKNOWN]
        made.take(m.RestartOllama("a journal of other times"))
        assert await fact(made) == m.Restarted(7.0, "no service of Ollama is known")


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (("sh", "-c", "echo no such thing >&2; echo at all >&2; exit 3"), "sh ended with 3: at all"),
        (("false",), "false ended with 1"),
        (("true", "a\0b"), "true cannot be run: embedded null byte"),
        (("/no/such/command",), "/no/such/command cannot be run: No such file or directory"),
        (("sleep", "60"), "sleep did not end within 0 s"),
    ],
)
async def test_a_restart_that_fails_is_told(
    command: tuple[str, ...], error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the command does, one fact comes of it, with what it said last."""
    monkeypatch.setattr(restart, "RESTARTING", 0.3 if command[0] == "sleep" else 10.0)
    async with restarts(Service("a test", command)) as made:
        made.take(m.RestartOllama("it hangs"))
        assert await fact(made) == m.Restarted(7.0, error)


async def test_another_service_is_the_one_that_is_restarted(tmp_path: Path) -> None:
    """After a renewal the old one is left alone, and so is what was said against it."""
    old, new = tmp_path / "old", tmp_path / "new"
    stall = StallSettings(action="restart-ollama")
    async with restarts(Service("old", ("touch", str(old))), stall) as made:
        made.renew(Service("new", ("touch", str(new))), stall)
        made.take(m.RestartOllama("it hangs"))
        assert await fact(made) == m.Restarted(7.0, "")
        assert (old.exists(), new.exists()) == (False, True)
        made.renew(None, stall)
        assert made.troubles(CoreState(Config())) == [UNKNOWN]
        made.renew(None, StallSettings())
        assert made.troubles(CoreState(Config())) == []


async def test_what_is_under_way_is_told() -> None:
    """Wanted, done now, failed: /status has it."""
    state = CoreState(Config(), restart_wanted="it hangs", restart_error="false ended with 1")
    async with restarts(Service("a test", ("true",)), StallSettings(action="restart-ollama")) as made:
        assert made.troubles(state) == [
            "Ollama is to be restarted: it hangs",
            "Ollama could not be restarted: false ended with 1",
        ]
        state.restarting = True
        assert "Ollama is being restarted" in made.troubles(state)

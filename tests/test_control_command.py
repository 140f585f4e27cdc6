"""The commands as programs, against a daemon in front of the stand-in: what they say, as JSON too, and exit codes."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from scheduler.__main__ import COMMANDS, command_line
from scheduler.control_bodies import SHAPES
from tests.started import ROOT, Started, surroundings

SECONDS = 60.0
APP = command_line([])


class Shell:
    """Somebody at a terminal beside a daemon."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.url = url
        self.state = home / "state"

    async def run(self, *words: str, state: bool = True) -> tuple[int, str, str]:
        """One command line in this process, which is quicker: exit code, what it printed, what it complained of."""
        result = await asyncio.to_thread(CliRunner().invoke, APP, self._line(words, state))
        return result.exit_code, result.stdout, result.stderr

    async def starts(self, *words: str, state: bool = True) -> tuple[int, str, str]:
        """The same as a program of its own."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scheduler", *self._line(words, state)),
            stdout=PIPE,
            stderr=PIPE,
            cwd=ROOT,
            env=surroundings(self.home, {"LOGNAME": "ada"}),
        )
        async with asyncio.timeout(SECONDS):
            said, complained = await process.communicate()
        return process.returncode or 0, said.decode(), complained.decode()

    def _line(self, words: tuple[str, ...], state: bool) -> list[str]:
        return [*words, "--url", self.url, *(["--state", str(self.state)] if state else [])]

    async def does(self, *words: str) -> str:
        """A command that is followed: what it printed."""
        code, said, complained = await self.run(*words)
        assert code == 0, f"{words}: {code} {said} {complained}"
        return said

    async def reads(self, *words: str) -> tuple[int, Any]:
        """The same with --json: exit code and JSON."""
        code, said, _ = await self.run(*words, "--json")
        return code, json.loads(said)

    async def status(self) -> Any:
        """/status."""
        return json.loads((await self.run("status", "--json", state=False))[1])


@asynccontextmanager
async def _shell(home: Path) -> AsyncIterator[Shell]:
    arguments = ("demo", "--stay", "--port", "0", "--speed", "20", "--state", str(home / "state"))
    async with Started.run(*arguments, home=home) as demo:
        url = (await demo.hears(r"listens on (http://127\.0\.0\.1:\d+)"))[1]
        await demo.hears("Ctrl-C ends all of it")
        yield Shell(home, url)
        demo.interrupt()
        assert await demo.ends() == 0, demo.said


@pytest.mark.timeout(180)
async def test_a_day_at_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command does what it says, and says what comes of it, as JSON too; what is refused ends with 1."""
    monkeypatch.setenv("LOGNAME", "ada")
    async with _shell(tmp_path) as ada:
        code, said, _ = await ada.starts("load", "claude-sonnet-4-5")
        assert code == 0
        assert "load qwen-quality-128k" in said
        assert said.splitlines()[-1] == "It is done."
        assert list((await ada.status())["memory"]["models"]) == ["qwen-quality-128k:latest"]

        code, told = await ada.reads("pin", "claude-3-haiku", "--for", "90s", "--others", "refuse")
        assert (code, told["command"], told["by"], told["model"]) == (0, "pin", "ada", "qwen-fast:latest")
        assert told["next"]
        code, told = await ada.reads("load", "gpt-4")
        assert (code, "pinned by ada" in told["error"]) == (1, True)
        assert "pinned by ada" in (await ada.run("why", "claude-3-haiku", state=False))[1]
        assert "pinned by ada for" in (await ada.run("status", state=False))[1]
        await ada.does("unpin", "claude-3-haiku")

        said = await ada.does("unload", "--all", "--by", "eve")
        assert said.splitlines()[-1] == "It is done."
        assert (await ada.status())["memory"]["models"] == {}
        code, _, complained = await ada.starts("unload", "qwen-fast")
        assert (code, complained.strip()) == (1, "'qwen-fast:latest' is not in memory")

        await ada.does("pause", "--for", "1h")
        asking = asyncio.ensure_future(asyncio.to_thread(_ask, ada.url))
        request = await _first_request(ada)
        told = await _why(ada, request)
        assert (told["state"], told["model"]) == ("waiting", "qwen-fast:latest")
        await ada.does("cancel", request)
        assert await asking == 403
        assert "cancelled by ada" in (await ada.run("why", request, state=False))[1]
        assert (await ada.run("why", request, state=False))[0] == 1
        await ada.does("resume")

        await ada.does("phase", "orchestra")
        assert (await ada.run("phase", "nowhere"))[0] == 1
        assert (await ada.status())["phase"]["name"] == "orchestra"
        await ada.does("passthrough", "on")
        code, said, _ = await ada.run("status", state=False)
        assert (code, said.startswith("PASSTHROUGH")) == (1, True)
        await ada.does("passthrough", "off")
        assert "Nothing in it has changed." in await ada.does("reload")
        assert "nothing is loaded unasked" in await ada.does("quiet", "on")
        assert (await ada.status())["quiet"] == "ada"
        assert (await ada.run("quiet", "on"))[0] == 1
        await ada.does("quiet", "off")
        assert (await ada.status())["quiet"] == ""
        code, said, _ = await ada.run("bounds", state=False)
        assert (code, "Unbounded: the longest running request" in said) == (0, True)
        told = json.loads((await ada.run("bounds", "--json", state=False))[1])
        assert [each["cls"] for each in told["classes"]] == ["interactive", "agent", "helper", "batch"]
        assert {each["set"] for each in told["contended"]} == {"quality", "coding"}
        assert (await ada.run("pin", "gpt-4", "--for", "25h"))[2].startswith('for "25h" is longer than a day')


@pytest.mark.timeout(120)
async def test_what_ends_with_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token, or no daemon: exit code 2, and what to do about it; as JSON too."""
    monkeypatch.setattr("scheduler.ask.state_folder", lambda: tmp_path / "usual")
    async with _shell(tmp_path) as ada:
        (ada.state / "token").rename(ada.state / "aside")
        code, _, complained = await ada.run("resume")
        assert (code, "--state DIR" in complained) == (2, True)
        (ada.state / "token").write_text("wrong\n")
        code, told = await ada.reads("resume")
        assert (code, "another daemon's token" in told["error"]) == (2, True)
        (ada.state / "aside").replace(ada.state / "token")
        code, _, complained = await ada.run("phase", "orchestra", state=False)
        assert (code, complained) == (0, ""), "the daemon names its folder"
        _, said, complained = await ada.run("journal", "verify", state=False)
        assert str(ada.state) in said + complained, "its journal is looked for where it says, written yet or not"
        (ada.state / "token").chmod(0o644)
        code, _, complained = await ada.run("resume", state=False)
        assert (code, str(ada.state) in complained) == (2, False), "only a private file is taken where it says"
        url = ada.url
    gone = Shell(tmp_path, url)
    code, told = await gone.reads("resume")
    assert (code, f"no scheduler answers at {url}" in told["error"]) == (2, True)
    assert (await gone.run("passthrough", "maybe"))[0] == 2
    assert (await gone.run("quiet", "maybe"))[0] == 2


def test_every_command_is_offered() -> None:
    """Each command of the HTTP side has its word at the terminal."""
    assert set(SHAPES) <= set(COMMANDS)


async def _first_request(shell: Shell) -> str:
    async with asyncio.timeout(SECONDS):
        while not (requests := (await shell.status())["requests"]):
            pass
    return str(requests[0]["id"])


async def _why(shell: Shell, request: str) -> Any:
    return json.loads((await shell.run("why", request, "--json", state=False))[1])


def _ask(url: str) -> int:
    body = {"model": "claude-3-haiku", "messages": [{"role": "user", "content": "hello"}], "stream": False}
    return httpx.post(f"{url}/api/chat", json=body, timeout=SECONDS, trust_env=False).status_code

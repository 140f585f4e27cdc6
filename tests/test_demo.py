"""The demo plays, stays and ends as promised; `run` chooses rightly; the banner says what was found."""

import asyncio
import os
import re
import shlex
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner

from scheduler import banner
from scheduler.__main__ import command_line
from scheduler.demo_command import UNTOLD_SIZE, before, staged
from scheduler.settings_read import settings_of
from scheduler.standin.process import StandIn
from scheduler.standin.stage import Stage
from tests.started import Started

LISTENS = r"listens on (http://127\.0\.0\.1:\d+)\n"
STOP_SECONDS = 2.0 * 2  # what is promised, for a machine that is busy with other tests


async def test_demo_plays_its_scene_to_the_end(tmp_path: Path) -> None:
    """The scene is told with its reasons, ends by itself with exit code 0 and leaves no process behind."""
    async with Started.run("demo", "--port", "0", "--speed", "4", home=tmp_path) as demo:
        await demo.hears(LISTENS)
        family = demo.family()
        assert await demo.ends() == 0, demo.said
    assert len(family) == 2  # the daemon and its stand-in
    assert not any(each.is_running() for each in family)
    assert "STAND-IN" in demo.said
    for told in (
        r"load qwen-quality-128k, because 1 waiting for qwen-quality-128k:latest \(interactive",
        r"unload qwen-quality-128k, because \d waiting for .*qwen-quality-128k.* drained",
        r"9 probes succeeded, .*nothing was loaded for them",
        r"claude-sonnet-4-5 is held; it waits for: \S+",
        r"one of the two hung up",
        r"[34] changes, ",
        r"The end\.",
    ):
        assert re.search(told, demo.said), f"{told}\n{demo.said}"
    written, asked = (float(at) for at in re.findall(r"([\d.]+) s  claude-\S+ answered", demo.said)[-2:])
    assert asked - written > 0.5, "an answer is told when it comes, not when the load behind it has ended"
    assert not os.listdir(tmp_path), "the demo left something in its user's home"  # noqa: PTH208 - one read, no waiting


async def test_demo_on_a_terminal_shows_status_below_the_scene(tmp_path: Path) -> None:
    """On a terminal the scene scrolls above what `status` shows, which is gone at the end."""
    async with Started.run("demo", "--port", "0", "--speed", "8", home=tmp_path, terminal=True, TERM="xterm") as demo:
        assert await demo.ends() == 0, demo.said
    assert re.search(r"memory .*█", demo.said)
    assert demo.said.count("1. Nothing is in memory.") == 1
    last = demo.said.rpartition("\x1b[2K")[2]
    assert "The end." in last
    assert "memory" not in last


async def test_ctrl_c_ends_the_scene_in_the_middle_of_a_load(tmp_path: Path) -> None:
    """Ctrl-C while a model is being loaded ends everything within the promised time, without a traceback."""
    async with Started.run("demo", "--port", "0", home=tmp_path) as demo:
        await demo.hears(r"load qwen-quality-128k, because")
        family = demo.family()
        began = time.monotonic()
        demo.interrupt()
        assert await demo.ends() == 0, demo.said
        took = time.monotonic() - began
    assert took < STOP_SECONDS
    assert "Traceback" not in demo.said
    assert not any(each.is_running() for each in family)


async def test_demo_that_stays_marks_every_answer(tmp_path: Path) -> None:
    """The printed curl line works as pasted; answers, refusals and /status all carry the stand-in's mark."""
    async with Started.run("demo", "--stay", "--port", "0", "--speed", "10", home=tmp_path) as demo:
        url = (await demo.hears(LISTENS))[1]
        line = (await demo.hears(r"try +(curl .*)\n"))[1]
        await demo.hears("Ctrl-C ends all of it")
        program, address, data, body = shlex.split(line)
        assert (program, address, data) == ("curl", f"{url}/api/chat", "-d")
        async with aiohttp.ClientSession(url) as http:
            async with http.post("/api/chat", data=body) as answer:
                assert answer.status == 200
                assert (await answer.text()).count('"done":true') == 1
                assert answer.headers.getall("X-Scheduler-Stand-In") == ["1"]
            for method, path, status in (
                ("GET", "/api/tags", 200),
                ("GET", "/status", 200),
                ("POST", "/api/pull", 400),
                ("POST", "/api/chat", 400),
            ):
                async with http.request(method, path) as answer:
                    assert answer.status == status, path
                    assert answer.headers.getall("X-Scheduler-Stand-In") == ["1"], path
            async with http.get("/status") as answer:
                told = await answer.json()
        assert told["ollama"]["stand_in"] is True
        assert told["memory"]["budget"] == Stage.documented().device
        demo.interrupt()
        assert await demo.ends() == 0, demo.said
    assert "Traceback" not in demo.said


async def test_a_taken_address_is_told(tmp_path: Path) -> None:
    """Where the port is taken the demo says so and ends with exit code 2, its stand-in with it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with Started.run("demo", "--stay", "--port", str(port), home=tmp_path) as demo:
            assert await demo.ends() == 2, demo.said
    assert f"cannot serve on 127.0.0.1:{port}" in demo.said
    assert "set another `listen`; `--port 0` takes any free one" in demo.said
    assert "Traceback" not in demo.said


async def test_run_tells_a_taken_address_before_it_waits(tmp_path: Path, unused_tcp_port: int) -> None:
    """Whoever has to choose another port need not wait for an Ollama first; the advice is that of `serve`."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        config = tmp_path / "config.toml"
        config.write_text(f'listen = "{listen}"\nollama = "http://127.0.0.1:{unused_tcp_port}"\n', "utf-8")
        async with Started.run("run", "--config", str(config), home=tmp_path) as run:
            assert await run.ends() == 2, run.said
    assert f"cannot serve on {listen}: " in run.said
    assert "end who listens there, or set another `listen`" in run.said
    assert "waiting" not in run.said
    assert "Traceback" not in run.said


async def test_run_serves_in_front_of_an_ollama_that_answers(tmp_path: Path) -> None:
    """`run` finds the configured Ollama, serves in front of it, and Ctrl-C leaves that Ollama alone."""
    async with StandIn.start(Stage.documented().faster(10)) as ollama:
        config = tmp_path / "config.toml"
        text = f'listen = "127.0.0.1:0"\nollama = "{ollama.url}"\nmemory.budget = "40GB"\n'
        config.write_text(text, "utf-8")
        async with Started.run("run", "--config", str(config), "--state", str(tmp_path), home=tmp_path) as run:
            await run.hears(f"Ollama answers at {re.escape(ollama.url)}")
            line = (await run.hears(r"try +(curl .*)\n"))[1]
            _, address, _, body = shlex.split(line)
            async with aiohttp.ClientSession() as http, http.post(address, data=body) as answer:
                assert answer.status == 200
                assert b'"done":true' in await answer.read()
            run.interrupt()
            assert await run.ends() == 0, run.said
        assert "Traceback" not in run.said
        residents = {each["model"] async for each in _ps(ollama.url)}
        assert "qwen-fast:latest" in residents, "models stay when the scheduler ends"


async def _ps(url: str) -> AsyncIterator[dict[str, Any]]:
    """The rows of /api/ps at `url`."""
    async with aiohttp.ClientSession(url) as http, http.get("/api/ps") as answer:
        for row in (await answer.json())["models"]:
            yield row


async def test_run_waits_for_ollama_and_then_shows_the_stand_in(tmp_path: Path, unused_tcp_port: int) -> None:
    """Where no Ollama answers in time `run` says what it waits for, then plainly that this is the stand-in."""
    config = tmp_path / "config.toml"
    config.write_text(f'listen = "127.0.0.1:0"\nollama = "http://127.0.0.1:{unused_tcp_port}"\n', "utf-8")
    async with Started.run("run", "--config", str(config), "--wait", "1s", home=tmp_path) as run:
        await run.hears(rf"waiting up to 1 s for the Ollama at http://127\.0\.0\.1:{unused_tcp_port}")
        await run.hears(r"No Ollama answered .* STAND-IN")
        url = (await run.hears(r"listens on (http://127\.0\.0\.1:\d+)"))[1]
        folder = (await run.hears(r"find it with --state (\S+)"))[1]
        await run.hears("Ctrl-C ends all of it")
        words = ["reload", "--url", url, "--state", folder]
        done = await asyncio.to_thread(CliRunner().invoke, command_line([]), words)
        assert (done.exit_code, "Nothing in it has changed." in done.stdout) == (0, True), done.output
        run.interrupt()
        assert await run.ends() == 0, run.said
    assert "Traceback" not in run.said


async def test_ctrl_c_while_run_waits(tmp_path: Path, unused_tcp_port: int) -> None:
    """Ctrl-C while `run` still waits for Ollama ends it at once and quietly."""
    config = tmp_path / "config.toml"
    config.write_text(f'ollama = "http://127.0.0.1:{unused_tcp_port}"\n', "utf-8")
    async with Started.run("run", "--config", str(config), home=tmp_path) as run:
        await run.hears("waiting up to 15 s")
        run.interrupt()
        assert await run.ends() == 0, run.said
    assert "Traceback" not in run.said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "--wait", "soon"), "soon"),
        (("run", "--config", "missing.toml"), "missing.toml"),
        (("demo", "--config", "missing.toml"), "missing.toml"),
        (("demo", "--config", "own.toml"), "the scene needs the aliases"),
    ],
)
def test_bad_words_are_told(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    """A bad duration, a missing file and a configuration without the scene's aliases end with exit code 2."""
    (tmp_path / "own.toml").write_text('[models."m:latest"]\nsize = "1GB"\n', "utf-8")
    given = [str(tmp_path / word) if word.endswith(".toml") else word for word in arguments]
    done = CliRunner().invoke(command_line([]), given)
    assert done.exit_code == 2, done.output
    assert told in done.output


def test_the_stage_holds_what_the_configuration_names() -> None:
    """Documented models keep their staged speed, others get their declared size; the device is the budget."""
    own = {
        "qwen-fast:latest": {"size": "5GB", "num_ctx": 32768},
        "mine:7b": {"size": "12GB"},
        "small": {},
    }
    stage = staged(settings_of({"models": own, "ollama_settings": {"max_loaded_models": 2}}))
    by_name = {model.name: model for model in stage.models}
    assert by_name["qwen-fast:latest"].load_seconds == 1.0
    assert (by_name["mine:7b"].size, by_name["mine:7b"].load_seconds) == (12 * 10**9, 1.0)
    assert by_name["small:latest"].size == UNTOLD_SIZE
    assert stage.max_loaded_models == 2
    settings = before(settings_of({"models": own}), stage, "http://127.0.0.1:1")
    assert settings.memory.budget == settings.ollama_settings.device == stage.device
    assert settings.ollama == "http://127.0.0.1:1"


def _status(**more: Any) -> dict[str, Any]:
    """What the banner reads of /status, with an Ollama that answers and one set that fits."""
    model = {"name": "m:latest", "size": 5 * 10**9, "size_source": "listed", "trouble": ""}
    fits = {"name": "one", "models": ["m:latest"], "allowed": True, "size": 5 * 10**9, "fit": "fits"}
    return {
        "version": "1.2",
        "ollama": {"stand_in": False, "state": "up", "version": "0.32.0", "address": "http://127.0.0.1:1", "error": ""},
        "memory": {"budget": 38 * 10**9, "source": "configured", "models": {}},
        "models": [model],
        "phase": {"name": "normal", "home": None, "sets": [fits]},
        "warnings": [],
        "needs_you": [],
        **more,
    }


def test_banner_tells_what_was_found() -> None:
    """Version, address, Ollama, budget, models and sets each have their line, and nothing of a stand-in."""
    text = "\n".join(banner.lines(_status(), "127.0.0.1:99"))
    for told in (
        "1.2 listens on http://127.0.0.1:99",
        "Ollama 0.32.0 at http://127.0.0.1:1",
        "38.0 GB budget (configured)",
    ):
        assert told in text
    assert "m: 5.0 GB listed" in text
    assert "one (m): 5.0 GB fits" in text
    assert "STAND-IN" not in text


def test_banner_tells_what_is_wrong() -> None:
    """An Ollama that is away, a set too large, a set outside the phase, warnings and needs are all said."""
    big = {"name": "big", "models": ["m:latest"], "allowed": True, "size": 50 * 10**9, "fit": "too_large"}
    other = {"name": "other", "models": ["m:latest"], "allowed": False, "size": 5 * 10**9, "fit": "no_order"}
    away = {"stand_in": False, "state": "down", "version": None, "address": "http://127.0.0.1:1", "error": "refused"}
    need = {"what": "Ollama does not answer", "since": "", "type_this": "ollama serve"}
    status = _status(
        ollama=away, phase={"name": "p", "home": "big", "sets": [big, other]}, warnings=["w"], needs_you=[need]
    )
    text = "\n".join(banner.lines(status))
    for told in (
        "does not answer (refused); requests are held",
        "big (m): 50.0 GB TOO LARGE",
        "Ollama's own gates let its models in in no order; not in this phase",
        "p, home big",
        "warning   w",
        "needs you Ollama does not answer; type: ollama serve",
    ):
        assert told in text, told


@pytest.mark.parametrize("name", ["plain", "it's:latest", "größe"])
def test_first_request_survives_a_shell(name: str) -> None:
    """The curl line is one command with four words for a shell, whatever the model is called."""
    words = shlex.split(banner.first_request("http://127.0.0.1:1", name))
    assert words[:3] == ["curl", "http://127.0.0.1:1/api/chat", "-d"]
    assert f'"model": "{name}"' in words[3]


def test_banner_asks_a_model_that_can_answer() -> None:
    """The first request goes to the smallest model of a set that fits, never to an embedding model."""
    tiny = {"name": "nomic-embed-text:latest", "size": 10**8, "size_source": "listed", "trouble": ""}
    loose = {"name": "loose:1b", "size": 10**9, "size_source": "listed", "trouble": ""}
    gone = {"name": "gone:1b", "size": 10**8, "size_source": "declared", "trouble": "not installed"}
    models = [tiny, loose, gone, *_status()["models"]]
    assert '"model": "m"' in banner.lines(_status(models=models))[-1]
    assert '"model": "loose:1b"' in banner.lines(_status(models=models[:3]))[-1]
    assert '"model": "MODEL"' in banner.lines(_status(models=[]))[-1]
    large = {"name": "large", "models": ["m:latest"], "allowed": True, "size": 10**12, "fit": "too_large"}
    status = _status(models=models[1:], phase={"name": "normal", "home": None, "sets": [large]})
    assert '"model": "loose:1b"' in banner.lines(status)[-1]

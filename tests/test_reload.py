"""A configuration read again: a good one takes effect, a bad one is refused, the waiting keep their place; SIGHUP."""

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scheduler.control_gate import TOKEN
from scheduler.core import messages as m
from scheduler.reload import Reload, Source
from scheduler.restart import UNKNOWN
from scheduler.settings import Settings
from scheduler.settings_problems import Problem, SettingsError
from scheduler.settings_read import Read, read_settings, settings_of
from tests.live import CODER, DOCUMENTED, FAST, QUALITY, Live
from tests.realollama.stage import RealOllama, StagedModel
from tests.started import Started

STAGED = (
    StagedModel(QUALITY, 35_000_000_000, load_seconds=0.3, num_ctx=131_072),
    StagedModel(CODER, 20_000_000_000, load_seconds=0.3, num_ctx=32_768),
    StagedModel(FAST, 5_000_000_000, load_seconds=0.2, num_ctx=8_192),
)


class File:
    """A configuration file that a test writes, and what was put in force of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.put: list[Settings] = []
        self.fails: Exception | None = None
        self.stops = False  # the daemon, while this is prepared
        self.moment = itertools.count(100)
        self.write('listen = "127.0.0.1:11450"\n')
        self.reload = Reload(
            Source(lambda: read_settings(path), path), read_settings(path).settings, self._prepare, self._now
        )

    def write(self, text: str) -> None:
        """What the file holds now."""
        self.path.write_text(text, "utf-8")

    async def _prepare(self, settings: Settings) -> Callable[[], None]:
        if self.stops:
            self.reload.stop()
        return lambda: self._put(settings)

    def _put(self, settings: Settings) -> None:
        if self.fails is not None:
            raise self.fails
        self.put.append(settings)

    def _now(self) -> float:
        return float(next(self.moment))


@pytest.fixture
def file(tmp_path: Path) -> File:
    """A good file, read once."""
    return File(tmp_path / "config.toml")


async def test_a_good_file_is_put_in_force_and_says_what_changed(file: File) -> None:
    """What differs is named, the rest is not; the state says which file holds since when."""
    file.write('[queue]\nlimit = 7\n[aliases]\n"a" = "qwen-fast"\n')
    outcome = await file.reload.again("ada")
    assert outcome.refused == outcome.restart == []
    assert "queue.limit" in outcome.changed
    assert "aliases.a" in outcome.changed
    assert not any(name.startswith(("stall", "models", "memory")) for name in outcome.changed)
    assert file.put[0].queue.limit == 7
    assert file.reload.settings.queue.limit == 7
    assert (file.reload.state.file, file.reload.state.refused) == (file.path, [])
    assert file.reload.state.loaded > 101
    assert (await file.reload.again("ada")).changed == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[queue]\nlimt = 7\n", "queue.limit"),
        ("queue = [", "line 1"),
        ("a = " + "[" * 5000 + "]" * 5000, "too deep"),
        ("[queue]\nlimit = " + "9" * 5000, "thousands of digits"),
        (None, "is not there"),
    ],
)
async def test_a_bad_file_is_refused_and_the_old_one_stays(file: File, text: str | None, said: str) -> None:
    """Nothing is put in force, the state says why and when; the next good one clears that."""
    before = file.reload.settings
    if text is None:
        file.path.unlink()
    else:
        file.write(text)
    outcome = await file.reload.again("ada")
    assert said in outcome.refused[0]
    assert file.put == []
    assert file.reload.settings is before
    state = file.reload.state
    assert state.refused == outcome.refused
    assert state.tried > state.loaded
    file.write("")
    assert (await file.reload.again("ada")).refused == []
    assert file.reload.state.refused == []


async def test_a_file_that_no_check_foresaw_is_refused(file: File) -> None:
    """Whatever reading it meets, the old one stays and the state says why."""
    before = file.reload.settings

    def read() -> Read:
        raise MemoryError("too much of it")

    reload = Reload(Source(read, file.path), before, file._prepare, file._now)
    assert "too much of it" in (await reload.again("ada")).refused[0]
    assert (reload.settings, file.put) == (before, [])
    assert "too much of it" in reload.state.refused[0]


async def test_what_cannot_change_is_named_and_the_rest_takes_effect(file: File) -> None:
    """A new address to listen on, or another Ollama, waits for a restart; everything else of the file holds."""
    file.write('listen = "127.0.0.1:1"\nollama = "http://127.0.0.1:2"\n[queue]\nlimit = 7\n')
    outcome = await file.reload.again("ada")
    assert [line.split(" = ")[0] for line in outcome.restart] == ["listen", "ollama"]
    assert all("needs a restart" in line for line in outcome.restart)
    assert outcome.changed == ["queue.limit"]
    assert (file.put[0].listen, file.put[0].ollama) == ("127.0.0.1:11450", "http://127.0.0.1:11434")
    assert file.reload.state.restart == outcome.restart
    file.write("")
    assert (await file.reload.again("ada")).restart == []


async def test_a_part_that_cannot_take_it_is_a_refusal(file: File) -> None:
    """What no check foresaw is told as a bad file is; the old one stays."""
    file.write("[queue]\nlimit = 7\n")
    file.fails = ValueError("no such border")
    assert (await file.reload.again("ada")).refused == ["no such border"]
    assert file.reload.settings.queue.limit == 1000


async def test_a_daemon_that_stops_changes_nothing(file: File) -> None:
    """What was read and prepared after the daemon began to stop is forgotten."""
    file.write("[queue]\nlimit = 7\n")
    file.stops = True
    assert (await file.reload.again("ada")).refused == ["the daemon is stopping"]
    assert file.put == []


class Changing:
    """A configuration of a live daemon that the test changes."""

    def __init__(self) -> None:
        self.more: dict[str, Any] = {}
        self.bad = ""

    def read(self) -> Read:
        """The documented configuration with `more` laid over it."""
        if self.bad:
            raise SettingsError([Problem("sets", "", self.bad, "mend it")])
        return Read(settings_of({**DOCUMENTED, **self.more}), None, {}, ())


def reloads(live: Live) -> int:
    """How often its core was given a configuration."""
    return sum(isinstance(fact, m.Reloaded) for fact, _ in live.steps)


async def test_what_restarts_ollama_is_looked_for_again(tmp_path: Path) -> None:
    """An action, a service or a command that changes is in force with the reload, for the core and for who restarts."""
    config = Changing()
    config.more = base = {"ollama": "http://127.0.0.1:1"}
    async with Live.start(base["ollama"], tmp_path, source=Source(config.read)) as live:
        await live.until(lambda: live.state.ollama == "down")
        for stall, every, unknown in (
            ({"action": "restart-ollama", "service": "no-such-thing.service"}, None, True),
            ({"action": "restart-ollama", "restart_command": ["true"], "restart_every": "90s"}, 90.0, False),
            ({"action": "report", "restart_command": ["true"]}, None, False),
        ):
            config.more = {**base, "stall": stall}
            before = reloads(live)
            live.daemon.reload()
            await live.until(lambda before=before: reloads(live) > before)
            assert live.state.config.restart_every == every
            assert (UNKNOWN in (await live.status())["warnings"]) == unknown


@pytest.mark.real
@pytest.mark.timeout(120)
async def test_those_who_wait_keep_their_place(real_ollama: Any, watchers: None, tmp_path: Path) -> None:
    """Under way: new aliases, probe texts, sizes, limits and origins hold from now on; nothing is unloaded, who waits
    is served in the order of arrival, a budget and sizes that grow together refuse nobody; a bad one is told."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    config = Changing()
    settings: dict[str, Any] = {"ollama_settings": {"device": "38338MiB"}}
    base: dict[str, Any] = {"ollama": ollama.url, **settings}
    config.more = dict(base)
    async with Live.start(ollama.url, tmp_path / "state", source=Source(config.read), **settings) as live:
        await live.acquainted()
        few = {"num_predict": 3}
        assert (await live.chat(FAST, options=few))[0] == 200
        await live.until(lambda: live.state.transition is None)
        there = live.present()
        headers = {"Authorization": f"Bearer {(live.folder / TOKEN).read_text().strip()}"}

        async def command(name: str, **body: Any) -> tuple[int, Any]:
            async with live.http.post(f"/control/{name}", json=body, headers=headers) as answer:
                return answer.status, await answer.json()

        assert (await command("pause"))[0] == 200
        await live.until(lambda: not live.present())
        asking = []
        for number in range(4):
            asking.append(asyncio.ensure_future(live.chat(QUALITY, f"question {number}", options=few)))
            await live.until(lambda number=number: len(live.state.requests) == number + 1)
        places = list(live.state.requests)

        config.more = {
            **base,
            "memory": {"budget": "39GB"},
            "models": {**DOCUMENTED["models"], QUALITY: {"size": "38.5GB", "num_ctx": 131072}},
            "aliases": {"new-name": FAST},
            "probes": {"texts": ["Are you there?"]},
            "classes": {"interactive": {"patience": "77s"}},
            "queue": {"limit": 4},
        }
        config.more["ollama_settings"] = {"device": "38338MiB", "origins": ["http://ui.example.com"]}
        status, told = await command("reload")
        assert status == 200, told
        assert "aliases.new-name" in told["done"]
        assert list(live.state.requests) == places
        assert all(request.place == "waiting" for request in live.state.requests.values())
        assert dict(live.state.config.patience)["interactive"] == 77.0
        assert live.state.budget == 39_000_000_000
        status, busy = await live.chat(FAST, options=few)
        assert (status, "server busy" in busy["error"]) == (503, True)
        async with live.http.get("/api/version", headers={"Origin": "http://ui.example.com"}) as answer:
            assert answer.status == 200
        status, _ = await live.chat("new-name", "Are you there?", options=few)
        assert status == 200, "a health check by the new text gets its canned success while nobody is served"

        config.bad = "names a model twice"
        status, told = await command("reload")
        assert (status, "names a model twice" in told["error"]) == (409, True)
        told = (await live.status())["configuration"]
        assert (told["state"], len(told["problems"])) == ("refused", 1)
        assert any("names a model twice" in each for each in (await live.status())["warnings"])
        assert dict(live.state.config.patience)["interactive"] == 77.0
        config.bad = ""
        assert (await command("reload"))[0] == 200
        assert (await live.status())["configuration"]["state"] == "in force"

        assert (await command("resume"))[0] == 200
        answers = await asyncio.gather(*asking)
        assert [status for status, _ in answers] == [200] * 4, answers
        served = [order.id for order in live.orders(m.Forward) if order.id in places]
        assert served == places
        assert set(there) == {FAST, CODER}
        unloads = len(live.orders(m.Unload))
        config.more = dict(base)
        assert (await command("reload"))[0] == 200
        await live.until(lambda: live.state.budget == 38_000_000_000)
        assert len(live.orders(m.Unload)) == unloads
        assert set(live.present()) == {QUALITY}


def _config(tmp_path: Path, text: str = "") -> Path:
    path = tmp_path / "config.toml"
    path.write_text(f'listen = "127.0.0.1:0"\nollama = "http://127.0.0.1:9"\n{text}', "utf-8")
    return path


async def test_sighup_reads_it_again_and_never_ends_us(tmp_path: Path) -> None:
    """A storm of SIGHUPs from the first moment to the last: the daemon starts, reads good and bad files, and stops with
    exit code 0 when it is told to."""
    path = _config(tmp_path)
    async with Started.run("serve", "--config", str(path), "--state", str(tmp_path / "s"), home=tmp_path) as serve:

        def hup() -> None:
            os.kill(serve.process.pid, signal.SIGHUP)

        await serve.hears("listening port=")
        hup()
        await serve.hears(r"configuration file=\S+ in force, asked by SIGHUP: changed nothing")
        _config(tmp_path, "[queue]\nlimit = 7\n")
        hup()
        await serve.hears(r"asked by SIGHUP: changed queue.limit")
        _config(tmp_path, "[queue]\nlimt = 7\n")
        hup()
        await serve.hears(r"asked by SIGHUP refused, the old one stays: queue.limt")
        serve.process.terminate()
        for _ in range(200):
            if serve.process.returncode is not None:
                break
            with contextlib.suppress(ProcessLookupError):
                hup()
            await asyncio.sleep(0.005)
        assert await serve.ends() == 0, serve.said


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc tells when SIGHUP may be sent")
async def test_sighup_at_the_start_is_harmless(tmp_path: Path) -> None:
    """As soon as the program has begun, SIGHUP does not end it; it listens and stops in order."""
    path = _config(tmp_path)
    async with Started.run("serve", "--config", str(path), "--state", str(tmp_path / "s"), home=tmp_path) as serve:
        while not _ignores_hangups(serve.process.pid):
            assert serve.process.returncode is None, serve.said
            await asyncio.sleep(0.001)
        while "listening port=" not in serve.said:
            assert serve.process.returncode is None, serve.said
            os.kill(serve.process.pid, signal.SIGHUP)
            await asyncio.sleep(0.01)
        serve.process.terminate()
        assert await serve.ends() == 0, serve.said


def _ignores_hangups(pid: int) -> bool:
    """Whether the process has said that SIGHUP shall not end it. Linux tells; elsewhere nobody can be asked."""
    fields = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    return bool((int(fields["SigIgn"], 16) | int(fields["SigCgt"], 16)) & 1 << (signal.SIGHUP - 1))

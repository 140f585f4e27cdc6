"""A person commands the daemon in the middle of a storm on a real Ollama: nobody is stuck, nothing leaks."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from scheduler.control_gate import TOKEN
from scheduler.core import messages as m
from scheduler.reload import Source
from scheduler.replay import verify
from scheduler.settings_problems import Problem, SettingsError
from scheduler.settings_read import Read, settings_of
from tests import operated, storm
from tests.live import CODER, DOCUMENTED, FAST, QUALITY, Live
from tests.realollama.stage import EXTRA, RealOllama, StagedModel
from tests.test_storm import Auditor

MODELS = [QUALITY, CODER, FAST, EXTRA]
FEW_SWAPS = [CODER, FAST, EXTRA, QUALITY]  # the last is asked for least, and Ollama takes 5 s for each eviction
STAGED = (
    StagedModel(QUALITY, 35_000_000_000, load_seconds=0.6, num_ctx=131_072),
    StagedModel(CODER, 20_000_000_000, load_seconds=0.4, num_ctx=32_768),
    StagedModel(FAST, 5_000_000_000, load_seconds=0.2, num_ctx=8_192),
    StagedModel(EXTRA, 100_000_000, load_seconds=0.2, num_ctx=4_096),
)
SETTINGS: dict[str, Any] = {"ollama_settings": {"device": "38338MiB"}, "queue": {"limit": 5000}}


def changing(url: str) -> Source:
    """A configuration that is another one each time it is read, and every third time a bad one."""
    number = itertools.count(1)

    def read() -> Read:
        turn = next(number)
        if turn % 3 == 0:
            raise SettingsError([Problem("sets", "", "is bad this time", "wait")])
        content = {**DOCUMENTED, **SETTINGS, "ollama": url, "classes": {"agent": {"patience": 100 + turn}}}
        return Read(settings_of(content), None, {}, ())

    return Source(read)


def connections(port: int, end: str) -> int:
    """Established connections of this process whose `end` (laddr, raddr) is at `port`."""
    every = psutil.Process().net_connections("tcp")
    return sum(bool(getattr(c, end)) and getattr(c, end).port == port and c.status == "ESTABLISHED" for c in every)


@pytest.mark.real
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("count", "commands", "seconds", "seed"),
    [
        pytest.param(200, 200, 15.0, 11, id="200"),
        pytest.param(3000, 2000, 240.0, 1011, id="2000", marks=pytest.mark.long),
    ],
)
async def test_commands_at_random_points_of_a_storm(
    count: int,
    commands: int,
    seconds: float,
    seed: int,
    real_ollama: Any,
    watchers: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every command is answered, every client too: with its answer, or with an error that says who kept it out; then
    0 stuck, 0 leaked tasks or connections, and the promises held: no misfit, eviction, reload, busy or dead load."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    auditor = Auditor()
    async with Live.start(
        ollama.url, tmp_path / "state", witness=auditor, source=changing(ollama.url), **SETTINGS
    ) as live:
        await live.acquainted()
        tasks = len(asyncio.all_tasks())
        upstream = int(ollama.url.rpartition(":")[2])
        token = (live.folder / TOKEN).read_text().strip()
        async with aiohttp.ClientSession(live.url, connector=aiohttp.TCPConnector(limit=0)) as session:
            said = operated.commands(seed, commands, seconds, MODELS)
            raging = asyncio.ensure_future(
                storm.rage(session, storm.asks(seed, count, seconds, MODELS), MODELS, burst_each=5.0)
            )
            heard = await operated.command_all(session, token, said, lambda: list(live.state.requests), seed)
            headers = {"Authorization": f"Bearer {token}"}
            async with session.post("/control/resume", json={}, headers=headers) as answer:
                assert answer.status in (200, 409)
            outcome = await raging
            await live.until(lambda: not live.state.requests, 60)
        await live.until(lambda: not live.state.pins and live.state.transition is None, 60)
        await live.until(lambda: len(asyncio.all_tasks()) <= tasks, 20)
        await live.until(lambda: connections(live.daemon.port, "laddr") == 0, 20)
        await live.until(lambda: connections(upstream, "raddr") <= 8, 20)
        loads = live.orders(m.Load)
        told = await live.status()
    files = sorted((tmp_path / "state" / "journal").iterdir())
    figures = {
        "requests": count,
        "answered": outcome.answered,
        "told": outcome.told,
        "left": outcome.left,
        "statuses": dict(outcome.statuses),
        "probes": outcome.probes,
        "longest wait s": round(outcome.longest, 1),
        "commands": commands,
        "followed": heard.followed,
        "slowest command s": round(heard.slowest, 3),
        "loads ordered": len(loads),
        "loads seen": len(ollama.loads()),
        "healed": auditor.healed,
    }
    with capsys.disabled():
        print(f"\noperated storm: {figures}")  # noqa: T201 - the figures asked for
        print(dict(sorted(heard.statuses.items())))  # noqa: T201
    assert (heard.wrong, outcome.wrong) == ([], [])
    assert outcome.answered + outcome.told + outcome.left == count
    assert sum(heard.statuses.values()) == commands
    assert heard.followed > commands // 3, "most commands must have found something to do"
    assert all(any(key[0] == name for key in heard.statuses) for name in ("load", "pin", "pause", "cancel", "reload"))
    assert max(auditor.answers.values()) == 1
    assert (auditor.busy_unloads, auditor.dead_loads) == ([], [])
    assert ollama.reloads() == []
    assert len(ollama.loads()) == len(loads), "every load was ordered by us"
    assert told["verdict"] != "stuck", told["headline"]
    for file in files:
        assert verify(file).difference is None, f"{file.name} replays otherwise"


@pytest.mark.real
@pytest.mark.timeout(300)
async def test_passthrough_in_a_storm(real_ollama: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On in mid-storm: whoever waits and whoever comes is forwarded at once, and nothing is loaded or unloaded by us.
    Off: what Ollama has is adopted, and from the last stray on the promises hold again, for the rest of the storm."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    auditor = Auditor()
    async with Live.start(ollama.url, tmp_path / "state", witness=auditor, **SETTINGS) as live:
        await live.acquainted()
        headers = {"Authorization": f"Bearer {(live.folder / TOKEN).read_text().strip()}"}

        async def switch(on: bool) -> int:
            """The number of steps taken before it."""
            steps = len(live.steps)
            async with live.http.post("/control/passthrough", json={"on": on, "by": "ada"}, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
            return steps

        plan = storm.asks(23, 36, 3.0, FEW_SWAPS)
        raging = asyncio.ensure_future(storm.rage(live.http, plan, MODELS, burst_each=3.0))
        await live.until(lambda: len(live.state.requests) > 4)
        on = await switch(True)
        assert not any(request.place == "waiting" for request in live.state.requests.values())
        assert (await live.status())["verdict"] == "passthrough"
        arrived = sum(isinstance(fact, m.Arrived) for fact, _ in live.steps)
        await live.until(lambda: sum(isinstance(fact, m.Arrived) for fact, _ in live.steps) > arrived + 10)
        off = await switch(False)
        await live.until(lambda: not live.state.strays and not live.state.looking and live.state.ollama == "up", 60)
        evictions, misfits, reloads = len(ollama.evictions()), len(ollama.overcommits()), len(ollama.reloads())
        seen = len(ollama.loads())
        first = await raging
        again = await storm.rage(live.http, storm.asks(29, 24, 2.0, FEW_SWAPS), MODELS, burst_each=3.0)
        await live.until(lambda: not live.state.requests and live.state.transition is None, 60)
        ordered = [fact.at for fact, orders in live.steps[off:] for order in orders if isinstance(order, m.Load)]
        since = len(ordered)
        figures = {
            "answered": first.answered + again.answered,
            "left": first.left + again.left,
            "let through": sum(isinstance(fact, m.Arrived) for fact, _ in live.steps[on:off]),
            "loads seen until then": seen,
            "its evictions meanwhile": evictions,
            "loads of ours since": since,
        }
    with capsys.disabled():
        print(f"\npassthrough: {figures}")  # noqa: T201 - the figures asked for
    assert (first.wrong, again.wrong) == ([], [])
    for fact, orders in live.steps[on + 1 : off]:
        assert not any(isinstance(order, m.Load | m.Unload) for order in orders), fact
        if isinstance(fact, m.Arrived):
            assert [type(order) for order in orders if not isinstance(order, m.WakeAt)] == [m.Forward], fact
    assert max(auditor.answers.values()) == 1
    assert since > 0
    assert (len(ollama.evictions()), len(ollama.overcommits()), len(ollama.reloads())) == (evictions, misfits, reloads)
    assert sum(load.at >= ordered[0] for load in ollama.loads()) == since, "every load since is ours"

"""A real Ollama that hangs is restarted by a command of the user's: who waited is served, and all of it is told."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from scheduler import residency
from scheduler.core import messages as m
from scheduler.reading import Patience
from tests.heard import ask
from tests.live import FAST, QUALITY, Live
from tests.realollama.stage import RealOllama, StagedModel

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
STAGED = (
    StagedModel(QUALITY, 35_000_000_000, load_seconds=0.4, num_ctx=131_072),
    StagedModel(FAST, 5_000_000_000, load_seconds=0.2, num_ctx=32_768),
)
SETTINGS: dict[str, Any] = {
    "ollama_settings": {"device": "38338MiB"},
    "queue": {"ollama_wait": "60s"},
    "sets": {"quality": [QUALITY], "fast": [FAST]},
    "phases": {"normal": {"sets": ["quality", "fast"]}},
}
IMPATIENT = Patience(reading=0.7, unanswered=2, unload=2.0, back=0.3)


def stall(folder: Path, **more: Any) -> dict[str, Any]:
    """Settings of a restart whose command asks the test for it: it makes a file and waits until that is gone."""
    wish = folder / "wish"
    waits = f"import pathlib, time; w = pathlib.Path({str(wish)!r}); w.touch()\nwhile w.exists(): time.sleep(0.02)"
    command = [sys.executable, "-c", waits]
    return {"stall": {"action": "restart-ollama", "restart_command": command, "after_cut": "1s", **more}}


async def obey(live: Live, ollama: RealOllama, folder: Path) -> None:
    """Restart the stage when the command wishes it, as launchd would."""
    wish = folder / "wish"
    await live.until(wish.exists)
    await ollama.kill9()
    for runner in ollama.runners():
        runner.kill()
    await ollama.restart()
    wish.unlink()


async def test_an_ollama_that_hangs_is_restarted(
    real_ollama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP: it takes connections, answers nothing and ignores every unload. The stream that had begun ends with its
    dialect's error once its time to drain is over, who waited is served by the new one, and /status names it all."""
    monkeypatch.setattr(residency, "Patience", lambda: IMPATIENT)
    ollama: RealOllama = await real_ollama(models=STAGED)
    settings = {**SETTINGS, **stall(tmp_path, restart_drain="1s", restart_every="1h")}
    async with Live.start(ollama.url, tmp_path / "state", **settings) as live:
        await live.acquainted()
        ollama.fault(FAST, tokens_per_second=20)
        streaming = asyncio.ensure_future(ask(live.daemon.port, "openai", FAST, words=60))
        await live.until(lambda: any(row["tokens"] > 2 for row in live.daemon.status()["requests"]))
        waiting = asyncio.ensure_future(ask(live.daemon.port, "anthropic", FAST))
        ollama.freeze()
        told: list[str] = []

        def judged() -> bool:
            told.append(json.dumps(live.daemon.status()["warnings"]))
            return bool(live.orders(m.RestartOllama))

        await live.until(judged)
        assert any("is to be restarted: it takes connections and has answered nothing" in text for text in told)
        assert (await live.status())["verdict"] in ("degraded", "stuck")
        ollama.clear_faults()
        await obey(live, ollama, tmp_path)
        assert str(await streaming).startswith("broken: ended by the scheduler: Ollama is restarted: ")
        assert str(await waiting) == "whole"
        assert live.state.restarts == 1
        await live.until(lambda: live.daemon.status()["verdict"] == "ok")

        ollama.freeze()  # within the hour it is not restarted again
        await live.until(lambda: live.state.ollama == "down" and live.state.hung)
        await live.until(lambda: live.state.at > live.state.ollama_since + 3.0)  # thrice what it took before
        assert len(live.orders(m.RestartOllama)) == 1
        ollama.thaw()
        assert str(await ask(live.daemon.port, "native", FAST)) == "whole"


@pytest.mark.parametrize("action", ["report", "unknown service"])
async def test_without_leave_or_service_a_hanging_ollama_is_only_told(
    action: str, real_ollama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default reports; one whose service is not known is not restarted either, and that is told from the start.
    Both are served again when it goes on by itself."""
    monkeypatch.setattr(residency, "Patience", lambda: IMPATIENT)
    ollama: RealOllama = await real_ollama(models=STAGED[1:])
    monkeypatch.setattr("shutil.which", lambda _: None)
    stalls = {"after_cut": "1s"} if action == "report" else {"after_cut": "1s", "action": "restart-ollama"}
    async with Live.start(ollama.url, tmp_path / "state", **{**SETTINGS, "stall": stalls}) as live:
        await live.acquainted()
        unknown = any("no service that runs Ollama is known" in text for text in live.daemon.status()["warnings"])
        assert unknown == (action != "report")
        ollama.freeze()
        await live.until(lambda: live.state.ollama == "down" and live.state.hung)
        asking = asyncio.ensure_future(ask(live.daemon.port, "native", FAST))
        await live.until(lambda: live.state.at > live.state.ollama_since + 1.5)
        assert "does not answer" in live.daemon.status()["headline"]
        assert not live.orders(m.RestartOllama)
        ollama.thaw()
        assert str(await asking) == "whole"

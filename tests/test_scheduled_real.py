"""Quiet hours under a running daemon before a real Ollama: home is not loaded while they last, and is as they end."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduler.control_gate import TOKEN
from scheduler.core import messages as m
from scheduler.pace import Pace
from tests.live import FAST, Live
from tests.realollama.stage import RealOllama, StagedModel

STAGED = (StagedModel(FAST, 5_000_000_000, load_seconds=0.2, num_ctx=8_192),)
OFTEN = Pace(look=0.3, memory=1.0, timetable=0.1, save=5.0, stop=10.0)


@pytest.mark.real
@pytest.mark.timeout(120)
async def test_home_stays_away_in_quiet_hours(real_ollama: Any, watchers: None, tmp_path: Path) -> None:
    """The daemon starts in the middle of quiet hours with a home that would be loaded at once: it is not, and `/status`
    says who wants it quiet and when that ends; a person ends it, and home is loaded unasked."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    now = datetime.now(UTC)
    begin, end = (f"{(now + timedelta(hours=hours)):%H:%M}" for hours in (-1, 2))
    settings: dict[str, Any] = {
        **{"ollama_settings": {"device": "38338MiB"}, "models": {FAST: {"size": "5GB"}}, "sets": {"helper": [FAST]}},
        "phases": {"normal": {"sets": ["helper"], "home": "helper", "settle": 0}},
        "aliases": {},
        "quiet": [{"from": begin, "to": end, "timezone": "UTC"}],
    }
    async with Live.start(ollama.url, tmp_path / "state", OFTEN, **settings) as live:
        await live.acquainted()
        asked = sum(isinstance(fact, m.Residents) for fact, _ in live.steps)
        await live.until(lambda: sum(isinstance(fact, m.Residents) for fact, _ in live.steps) > asked + 2)
        assert live.orders(m.Load) == []
        told = await live.status()
        assert told["quiet"] == f"quiet hours: {begin} to {end}"
        assert told["scheduled"]["what"] == "quiet ends"
        assert 3600.0 < told["scheduled"]["left"] <= 7200.0
        headers = {"Authorization": f"Bearer {(live.folder / TOKEN).read_text().strip()}"}
        async with live.http.post("/control/quiet", json={"on": False, "by": "ada"}, headers=headers) as answer:
            assert answer.status == 200
        await live.until(lambda: live.present() == {FAST: "ready"})
        assert live.orders(m.Load)[0].because == "home: quiet for 0 s"

"""Memory gets short under a daemon before a real Ollama: a model drains, who waits is told why, and all is served."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from scheduler import memory
from scheduler.core import messages as m
from scheduler.pace import Pace
from tests.live import QUALITY, Live
from tests.realollama.stage import RealOllama, StagedModel

STAGED = (StagedModel(QUALITY, 35_000_000_000, load_seconds=0.3, num_ctx=131_072),)
OFTEN = Pace(look=1.0, memory=0.3, pressure=0.2, runners=0.5, save=5.0, stop=10.0)


@pytest.mark.real
@pytest.mark.timeout(120)
async def test_memory_is_critical_for_a_while(
    real_ollama: Any, watchers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system says that memory is critical while an answer runs: it runs to its end, the model leaves, a request
    that comes meanwhile waits and is told for what; once memory has been well for a while the model comes back."""
    level: list[m.Pressure] = ["normal"]
    monkeypatch.setattr(memory, "pressure", lambda: level[-1])
    ollama: RealOllama = await real_ollama(models=STAGED)
    settings: dict[str, Any] = {
        "ollama_settings": {"device": "38338MiB"},
        "memory": {"budget": "38GB", "pressure": "heed", "under_critical": 0.5, "grow_after": "1s"},
    }
    async with Live.start(ollama.url, tmp_path / "state", OFTEN, **settings) as live:
        await live.acquainted()
        answer = asyncio.ensure_future(live.chat(QUALITY, "a long answer", options={"num_predict": 1000}))
        await live.until(lambda: live.state.models[QUALITY].running == 1)
        level.append("critical")
        await live.until(lambda: live.state.pressure == "critical")
        assert live.present()[QUALITY] in ("draining", "leaving")
        assert live.state.budget == 19_000_000_000
        behind = asyncio.ensure_future(live.chat(QUALITY, "hello", options={"num_predict": 2}))
        assert (await answer)[0] == 200
        await live.until(lambda: not live.present())
        told = await live.status()
        assert any(each.startswith("memory is short (critical): 19.0 GB of 38.0 GB") for each in told["warnings"])
        assert (told["verdict"], told["memory"]["whole"]) != ("stuck", None)
        assert "memory, which is short" in told["requests"][0]["waits_for"]
        async with live.http.get("/why", params={"model": QUALITY}) as said:
            assert json.loads(await said.text())["would"] == "wait"
        assert not behind.done()
        level.append("normal")
        status, said_behind = await behind
        assert (status, said_behind["done"]) == (200, True)
        assert [order.because for order in live.orders(m.Unload)] == [live.orders(m.Unload)[0].because]
        assert "memory is short" in live.orders(m.Unload)[0].because
        assert len(live.orders(m.Load)) == 2

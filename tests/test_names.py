"""Two names of one manifest are one model: Ollama has one runner for them, so we count and load it once."""

from pathlib import Path
from typing import Any

import pytest

from scheduler.core import messages as m
from scheduler.core.config import Config, ModelConfig
from scheduler.core.machine import Machine
from tests.live import FAST, Live
from tests.realollama.stage import RealOllama, StagedModel

GB = 10**9


def test_a_second_name_is_served_by_the_first_ones_runner() -> None:
    """A request by either name is one of the configured model; what is resident under the other name is that model."""
    machine = Machine.fresh(Config(models=(ModelConfig("fast:latest", 5 * GB),)), 0.0)
    machine.step(m.MemorySeen(1.0, 8 * GB, "configured"))
    rows = (m.Listed("copy:latest", 5 * GB, digest="d"), m.Listed("fast:latest", 5 * GB, digest="d"))
    machine.step(m.ModelsListed(1.0, rows))
    machine.step(m.OllamaUp(1.0, "0.32.0"))
    machine.step(m.Residents(2.0, 2.0, (m.Resident("copy:latest", 5 * GB, 4096, digest="d"),)))
    orders = machine.step(m.Arrived(3.0, "1", "copy:latest")) + machine.step(m.Arrived(3.0, "2", "fast:latest"))
    assert [order.model for order in orders if isinstance(order, m.Forward)] == ["fast:latest"]
    assert not [order for order in orders if isinstance(order, m.Load)]
    assert list(machine.state.present) == ["fast:latest"]


@pytest.mark.real
async def test_a_copy_needs_no_load_of_its_own(real_ollama: Any, watchers: None, tmp_path: Path) -> None:
    """`ollama cp` of a model: both names are answered, each under its own name, by one load."""
    ollama: RealOllama = await real_ollama(models=(StagedModel(FAST, 5 * GB, load_seconds=0.3, num_ctx=8192),))
    async with Live.start(ollama.url, tmp_path / "state") as live:
        await live.acquainted()
        async with live.http.post(f"{ollama.url}/api/copy", json={"source": FAST, "destination": "copy"}) as answer:
            assert answer.status == 200
        for name in (FAST, "copy", FAST):
            status, told = await live.chat(name, options={"num_predict": 3})
            assert (status, told["model"]) == (200, name)
        assert list(live.present()) == [FAST]
    assert len(ollama.loads()) == 1
    assert ollama.reloads() == []

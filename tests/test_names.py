"""Two names of one manifest are one model: Ollama has one runner for them, so we count and load it once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from scheduler.core import messages as m
from scheduler.core.config import Config, ModelConfig
from scheduler.core.machine import Machine
from scheduler.daemon import Pace
from tests.live import CODER, FAST, QUALITY, Live
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


OTHER = "other-context:latest"


@pytest.mark.real
async def test_a_modelfile_on_the_same_blob_is_served_by_the_first_configured_names_runner(
    real_ollama: Any, watchers: None, tmp_path: Path
) -> None:
    """`FROM fast` with another num_ctx, asked for on native and /v1 paths in turn: one load, no reload, the context of
    the configured name, and /status says that the two share a runner."""
    ollama: RealOllama = await real_ollama(models=(StagedModel(FAST, 5 * GB, load_seconds=0.3, num_ctx=8192),))
    body = {"model": OTHER, "from": FAST, "parameters": {"num_ctx": 2048}, "stream": False}
    async with Live.start(ollama.url, tmp_path / "state") as live:
        async with live.http.post("/api/create", json=body) as answer:
            assert answer.status == 200, await answer.text()
        few = {"num_predict": 3, "num_ctx": 4096}
        for name in (OTHER, FAST, OTHER):
            assert (await live.chat(name, options=few))[0] == 200
            words = {"model": name, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
            async with live.http.post("/v1/chat/completions", json=words) as answer:
                assert answer.status == 200
        assert [(load.model, load.context) for load in ollama.loads()] == [(FAST, 8192)]
        assert f"{OTHER} is another name of {FAST}" in str(await live.status())


@pytest.mark.real
async def test_a_runner_whose_name_leads_elsewhere_counts_until_ollama_restarts(
    real_ollama: Any, tmp_path: Path
) -> None:
    """Somebody overwrites a resident model behind our back: the old runner cannot be reached, so it keeps its place in
    memory, nothing is loaded over it, and /status says what to do; a restart of Ollama frees it."""
    big = 20_000_000_000
    models = (StagedModel(CODER, big, load_seconds=0.3, num_ctx=8192), StagedModel("spare:latest", big, num_ctx=8192))
    ollama: RealOllama = await real_ollama(models=models)
    async with Live.start(ollama.url, tmp_path / "state", Pace(look=0.5, listing=0.5, memory=1.0)) as live:
        assert (await live.chat(CODER, options={"num_predict": 3}))[0] == 200
        swap = {"source": "spare:latest", "destination": CODER}
        async with live.http.post(f"{ollama.url}/api/copy", json=swap) as answer:
            assert answer.status == 200
        await live.until(lambda: live.state.unreachable)
        assert sum(live.state.unreachable.values()) >= big
        waiting = asyncio.ensure_future(live.chat(CODER, options={"num_predict": 3}))
        await live.until(lambda: live.state.models[CODER].waiting or live.state.models[CODER].same_as)
        assert "restart Ollama" in str(await live.status())
        await ollama.restart()
        assert (await asyncio.wait_for(waiting, 60))[0] == 200
        assert not live.state.unreachable
    assert ollama.overcommits() == []


@pytest.mark.real
async def test_what_is_to_be_kept_comes_with_others_and_stays(real_ollama: Any, watchers: None, tmp_path: Path) -> None:
    """A small model declared to be kept is loaded unasked where it fits and stays beside the next set; only what cannot
    be held beside it sends it away, and it comes back after that."""
    models = (
        StagedModel(QUALITY, 35_000_000_000, load_seconds=0.3, num_ctx=8192),
        StagedModel(CODER, 20_000_000_000, load_seconds=0.3, num_ctx=8192),
        StagedModel(FAST, 5_000_000_000, load_seconds=0.3, num_ctx=8192),
    )
    ollama: RealOllama = await real_ollama(models=models)
    settings: dict[str, Any] = {
        "models": {QUALITY: {"size": "35GB"}, CODER: {"size": "20GB"}, FAST: {"size": "5GB", "keep": True}},
        "sets": {"quality": [QUALITY], "coding": [CODER]},
        "phases": {"normal": {"sets": ["quality", "coding"]}},
        "ollama_settings": {"device": "38338MiB"},
    }
    async with Live.start(ollama.url, tmp_path / "state", **settings) as live:
        await live.until(lambda: live.present() == {FAST: "ready"})
        for model in (CODER, QUALITY, CODER):
            assert (await live.chat(model, options={"num_predict": 3}))[0] == 200
            there = {QUALITY} if model == QUALITY else {CODER, FAST}
            await live.until(lambda there=there: set(live.present()) == there and live.state.transition is None)
    assert [load.model for load in ollama.loads()].count(FAST) == 2

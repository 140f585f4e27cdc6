"""What the core learns from a real Ollama: rates of reading and writing, warm prompts, loads; over our own restart."""

from pathlib import Path
from typing import Any

import pytest

from tests.live import FAST, Live
from tests.realollama.stage import RealOllama, StagedModel

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
STAGED = (StagedModel(FAST, 5_000_000_000, load_seconds=0.4, num_ctx=8_192),)
SETTINGS: dict[str, Any] = {"ollama_settings": {"device": "38338MiB"}}
LONG = "What is in memory, and for how long? " * 40


async def test_rates_and_warm_prompts_are_learned_and_kept(real_ollama: Any, watchers: None, tmp_path: Path) -> None:
    """Each dialect tells its tokens; Ollama's own tells its seconds too. A conversation is one warm prompt whatever it
    says, and what was learned, and what is warm in a runner that stays, is known to the next life of the daemon."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    body = {
        "model": FAST,
        "stream": False,
        "messages": [{"role": "user", "content": LONG}],
        "options": {"num_predict": 20},
    }
    session = {"X-Claude-Code-Session-Id": "one"}
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        async with live.http.post("/api/chat", json=body, headers=session) as answer:
            told = await answer.json()
        await live.until(lambda: not live.state.requests)
        learned = await learned_of(live)
        read = told["prompt_eval_count"] / (told["prompt_eval_duration"] / 1e9)
        assert learned["prompt_rate"] == pytest.approx(read, rel=0.01)
        assert learned["warm_prompts"] == 1
        assert learned["warm_tokens"] == told["prompt_eval_count"] + told["eval_count"]
        assert learned["load_cold"] > 0.3
        openai = {"model": FAST, "messages": body["messages"], "max_tokens": 20}
        async with live.http.post("/v1/chat/completions", json=openai, headers=session) as answer:
            assert (await answer.json())["usage"]["prompt_tokens"] == told["prompt_eval_count"]
        await live.until(lambda: not live.state.requests)
        again = await learned_of(live)
        assert (again["prompt_rate"], again["warm_prompts"]) == (learned["prompt_rate"], 1)
        past = list(live.state.history.values())
        assert [each.session for each in past] == [past[0].session] * 2
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        await live.acquainted()
        kept = await learned_of(live)
        assert kept["load_cold"] == again["load_cold"]
        assert (kept["prompt_rate"], kept["output_rate"]) == (again["prompt_rate"], again["output_rate"])
        assert (kept["warm_prompts"], kept["warm_tokens"]) == (1, again["warm_tokens"])
        assert len(live.state.history) == 2


async def learned_of(live: Live) -> dict[str, Any]:
    """What /status says was learned of the model."""
    (row,) = [row for row in (await live.status())["models"] if row["name"] == FAST]
    learned: dict[str, Any] = row["learned"]
    return learned

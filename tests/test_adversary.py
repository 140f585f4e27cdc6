"""What an adversary found against a real Ollama: each case broke once."""

from pathlib import Path
from typing import Any

import pytest

from scheduler.core import messages as m
from tests.live import FAST, Live
from tests.realollama.stage import RealOllama, StagedModel

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
STAGED = (StagedModel(FAST, 5_000_000_000, load_seconds=0.3, num_ctx=8_192),)
SETTINGS: dict[str, Any] = {
    "ollama_settings": {"device": "38338MiB"},
    "models": {FAST: {"size": "5GB", "num_ctx": 8192}},
    "sets": {},
    "aliases": {},
    "phases": {"normal": {"sets": []}},
}


async def test_a_long_prompt_that_is_cut_into_tokens_is_no_wedge(
    real_ollama: Any, watchers: None, tmp_path: Path
) -> None:
    """While the runner tokenises a long prompt its slots are idle for many seconds; it is left to work."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        await live.acquainted()
        status, told = await live.chat(FAST, "word " * 36_000, options={"num_predict": 2})
        assert (status, told["done"]) == (200, True)
        looks = [fact for fact, _ in live.steps if isinstance(fact, m.EngineSeen)]
        assert max(fact.silent for fact in looks) > 6.0, "the prompt was too short for this machine to prove anything"
        assert live.state.healed == 0
    assert len(ollama.loads()) == 1

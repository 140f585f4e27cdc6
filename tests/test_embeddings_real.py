"""A real Ollama keeps the runner of an embedding model when requests for it come through us."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.live import Live
from tests.realollama.stage import RealOllama
from tests.realollama.vectors import VectorModel

pytestmark = pytest.mark.real

EMBED = "short-embed:latest"


@pytest.mark.usefixtures("watchers")
async def test_an_embedding_model_that_was_trained_shorter_than_ollamas_context_is_not_reloaded(
    real_ollama: Callable[..., Awaitable[RealOllama]], tmp_path: Path
) -> None:
    """Ollama makes the batch from the context it would like, the runner tells the one it has: we name neither."""
    model = VectorModel(EMBED, 100_000_000, load_seconds=0.0, trained=512, meanings=(("sky blue", (1.0,) * 384),))
    stage = await real_ollama([model], env={"OLLAMA_CONTEXT_LENGTH": "8192"})
    none = {"models": {}, "sets": {}, "aliases": {}, "phases": {"normal": {"sets": []}}}
    async with Live.start(stage.url, tmp_path / "state", **none) as live:
        await live.acquainted()
        for path, question in (
            ("embed", {"input": "sky"}),
            ("embeddings", {"prompt": "blue"}),
            ("embed", {"input": "x"}),
        ):
            body = {"model": EMBED, "options": {"num_ctx": 64}, **question}
            async with live.http.post(f"/api/{path}", json=body) as answer:
                assert answer.status == 200, await answer.text()
        assert live.state.models[EMBED].context == 512
    assert stage.reloads() == []
    assert len(stage.loads()) == 1

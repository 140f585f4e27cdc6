"""What an adversary found against a real Ollama: each case broke once."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from scheduler.core import messages as m
from tests.live import FAST, Live
from tests.realollama.stage import RealOllama, StagedModel

STAGED = (StagedModel(FAST, 5_000_000_000, load_seconds=0.3, num_ctx=8_192),)
SETTINGS: dict[str, Any] = {
    "ollama_settings": {"device": "38338MiB"},
    "models": {FAST: {"size": "5GB", "num_ctx": 8192}},
    "sets": {},
    "aliases": {},
    "phases": {"normal": {"sets": []}},
}


@pytest.mark.real
@pytest.mark.timeout(120)
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


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /api/chat HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab",
        b"POST /api/chat HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/chat HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["two lengths", "length", "chunk"],
)
async def test_what_is_no_http_is_refused_without_a_traceback(
    sent: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody on the machine can send garbage: it gets its 400, and the log stays readable."""
    with caplog.at_level(logging.INFO):
        async with Live.start("http://127.0.0.1:9", tmp_path / "state", **SETTINGS) as live:
            reader, writer = await asyncio.open_connection("127.0.0.1", live.daemon.port)
            writer.write(sent)
            answer = await reader.readline()
            writer.close()
            assert answer.split()[1] == b"400"
    others = [record for record in caplog.records if record.name != "scheduler.ledger"]  # tells that Ollama is away
    assert not [record for record in others if record.exc_info or record.levelno > logging.INFO]

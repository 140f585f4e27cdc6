"""Pytest fixtures: `real_ollama` starts staged real Ollamas, `watchers` checks after the test that none had to evict.

Loaded by `pytest_plugins = ["tests.realollama.fixtures"]` in a conftest. Where no Ollama can be had a test is skipped
with the reason; with OLLAMA_SCHEDULER_REQUIRE_REAL=1 it fails instead.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from tests.realollama.build import Reason, ollama_binary
from tests.realollama.stage import DEVICE_MIB, STAGED_MODELS, RealOllama, StagedModel

REQUIRE_KEY = "OLLAMA_SCHEDULER_REQUIRE_REAL"

StartOllama = Callable[..., Awaitable[RealOllama]]


def refuse(reason: str) -> NoReturn:
    """Skip the test for this reason, or fail it where a real Ollama is required."""
    if os.environ.get(REQUIRE_KEY) == "1":
        pytest.fail(f"a real Ollama is required here: {reason}", pytrace=False)
    pytest.skip(f"no real Ollama: {reason}")


@pytest.fixture(scope="session")
def real_binary() -> Path:
    """The built `ollama`; the first use ever takes a minute or two."""
    binary = ollama_binary()
    if isinstance(binary, Reason):
        refuse(binary)
    return binary


@pytest.fixture
def stages() -> list[RealOllama]:
    """The stages that this test started, in order."""
    return []


@pytest.fixture
def watchers(stages: list[RealOllama]) -> Iterator[None]:
    """After the test, on every stage it started: no load that did not fit the device, no eviction by Ollama.

    For tests whose traffic goes only through us; `stages.clear()` ends the watch of one that had to break a rule.
    """
    yield
    for stage in stages:
        assert stage.overcommits() == [], "a load did not fit the staged device"
        assert stage.evictions() == [], "Ollama's own evictor fired"


@pytest.fixture
async def real_ollama(real_binary: Path, tmp_path: Path, stages: list[RealOllama]) -> AsyncIterator[StartOllama]:
    """`await real_ollama(models=…, device_mib=…, env=…)` starts a stage; all of them end with the test."""
    async with contextlib.AsyncExitStack() as running:

        async def start(
            models: Sequence[StagedModel] = STAGED_MODELS,
            device_mib: int = DEVICE_MIB,
            env: Mapping[str, str] | None = None,
        ) -> RealOllama:
            home = tmp_path / f"stage{len(stages) + 1}"
            stage = await running.enter_async_context(RealOllama.start(home, models, device_mib, env))
            stages.append(stage)
            return stage

        yield start

"""Every fault of `tests/faults.py`, suffered by one daemon that is never restarted: nothing lost, told, well again."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.apart import Apart
from tests.faults import FAULTS, STAGED, Fault, Scene
from tests.live import DOCUMENTED, FAST, QUALITY
from tests.realollama.between import Between
from tests.realollama.stage import RealOllama

pytestmark = [pytest.mark.real, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]
REPETITIONS = 20
SETTINGS: dict[str, Any] = {
    "ollama_settings": {"device": "38338MiB"},
    "queue": {"body_memory": "100kB", "ollama_wait": "40s"},
    "load": {"limit": "8s"},
    "sets": {"quality": [QUALITY], "fast": [FAST]},
    "phases": {"normal": {"sets": ["quality", "fast"]}},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(real_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """One Ollama, one wire, one daemon for all."""
    home = tmp_path_factory.mktemp("faults")
    async with (
        RealOllama.start(home, STAGED) as ollama,
        Between.to(ollama.port) as wire,
        Apart.run({**DOCUMENTED, "ollama": wire.url, **SETTINGS}, home) as daemon,
    ):
        yield Scene(ollama, wire, daemon)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
async def test_a_fault_loses_nothing_is_told_and_is_over_when_it_ends(fault: Fault, scene: Scene) -> None:
    """Once each: every client hears an answer or its dialect's error, /status names the trouble while it lasts."""
    try:
        await scene.suffer(fault)
    finally:
        await scene.restore()

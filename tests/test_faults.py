"""Every fault of `tests/faults.py`, suffered by one daemon that is never restarted: nothing lost, told, well again."""

import statistics
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.apart import Apart
from tests.faults import FAULTS, STAGED, Fault, Scene, Suffered
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
        suffered = await scene.suffer(fault)
    finally:
        await scene.restore()
    assert suffered.wrong == ()


def table(suffered: dict[str, list[Suffered]], failed: dict[str, list[str]]) -> str:
    """What the long run found: by fault, runs, requests, lost ones, those that went otherwise, seconds to recover."""
    rows = ["fault                               runs  requests  lost  wrong  recovery p50 / max, s"]
    for name, runs in suffered.items():
        heard = [each for run in runs for each in run.heard]
        lost = sum(each.startswith("lost") for each in heard)
        wrong = sum(map(bool, (run.wrong for run in runs))) + len(failed[name])
        times = [run.recovery for run in runs] or [0.0]
        spent = f"{statistics.median(times):.1f} / {max(times):.1f}"
        rows.append(f"{name:35} {len(runs):5} {len(heard):9} {lost:5} {wrong:6}  {spent}")
    return "\n".join(rows)


@pytest.mark.long
@pytest.mark.timeout(0)
async def test_faults_time_and_again(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Each fault twenty times, in turn, with one daemon: the same as once, and how long recovery takes."""
    suffered: dict[str, list[Suffered]] = {fault.name: [] for fault in FAULTS}
    failed: dict[str, list[str]] = {fault.name: [] for fault in FAULTS}
    for turn in range(REPETITIONS):
        for fault in FAULTS:
            try:
                suffered[fault.name].append(await scene.suffer(fault))
            except Exception as error:
                failed[fault.name].append(repr(error))
                await scene.restore()
        with capsys.disabled():
            sys.stdout.write(f"\nafter round {turn + 1}\n{table(suffered, failed)}\n")
    wrong = [f"{fault.name}: {each}" for fault in FAULTS for run in suffered[fault.name] for each in run.wrong]
    wrong += [f"{name}: {each}" for name, errors in failed.items() for each in errors]
    assert not wrong, "\n".join(wrong)

"""The storm on a real Ollama: nothing lost, nothing loaded in vain, Ollama's evictor never awake; and its journal."""

from pathlib import Path
from typing import Any

import pytest

from scheduler.core import messages as m
from scheduler.core.machine import Machine
from scheduler.replay import verify
from tests import storm
from tests.live import CODER, FAST, QUALITY, Live
from tests.realollama.stage import EXTRA, StagedModel

MODELS = [QUALITY, CODER, FAST, EXTRA]
STAGED = (
    StagedModel(QUALITY, 35_000_000_000, load_seconds=3.0, num_ctx=131_072),
    StagedModel(CODER, 20_000_000_000, load_seconds=2.0, num_ctx=32_768),
    StagedModel(FAST, 5_000_000_000, load_seconds=1.0, num_ctx=8_192),  # its Modelfile differs from our num_ctx
    StagedModel(EXTRA, 100_000_000, load_seconds=1.0, num_ctx=4_096),
)


class Auditor:
    """Holds every step against the promises that only its own state shows."""

    def __init__(self) -> None:
        self.busy_unloads: list[str] = []
        self.dead_loads: list[str] = []
        self.healed = 0
        self.answers: dict[str, int] = {}

    def __call__(self, fact: m.Fact, orders: list[m.Order], machine: Machine) -> None:
        state = machine.state
        self.healed = state.healed
        if isinstance(fact, m.Ended) and fact.outcome == "answered":
            self.answers[fact.id] = self.answers.get(fact.id, 0) + 1
        for order in orders:
            if isinstance(order, m.Refuse | m.AnswerProbe | m.AnswerWish):
                self.answers[order.id] = self.answers.get(order.id, 0) + 1
            if isinstance(order, m.Unload) and state.models[order.model].running_ids:
                self.busy_unloads.append(order.model)
            if isinstance(order, m.Load) and state.transition is not None and state.transition.cause == "demand":
                wanted = [state.models[name] for name in state.transition.planned]
                alive = any(
                    model.waiting or model.wishes or any(not state.requests[i].abandoned for i in model.running_ids)
                    for model in wanted
                )
                if not alive:
                    self.dead_loads.append(order.model)


async def raged(live: Live, count: int, seconds: float, seed: int) -> storm.Outcome:
    """One storm against `live`, from acquaintance to quiet."""
    await live.acquainted()
    plan = storm.asks(seed, count, seconds, MODELS)
    outcome = await storm.rage(live.http, plan, MODELS, burst_each=5.0)
    await live.until(lambda: not live.state.requests, 60)
    return outcome


@pytest.mark.real
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("count", "seconds", "seed"),
    [pytest.param(600, 60.0, 7, id="600"), pytest.param(3000, 300.0, 1007, id="3000", marks=pytest.mark.long)],
)
async def test_a_storm_loses_nothing_and_wakes_no_evictor(
    count: int,
    seconds: float,
    seed: int,
    real_ollama: Any,
    watchers: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every surviving request of a storm is answered once; 0 misfits, evictions, reloads, busy unloads, dead loads."""
    ollama = await real_ollama(models=STAGED)
    auditor = Auditor()
    async with Live.start(
        ollama.url, tmp_path / "state", witness=auditor, ollama_settings={"device": "38338MiB"}, journal={"keep": "2MB"}
    ) as live:
        outcome = await raged(live, count, seconds, seed)
        loads = live.orders(m.Load)
        steps = len(live.steps)
    files = sorted((tmp_path / "state" / "journal").iterdir())
    figures = {
        "requests": count,
        "answered": outcome.answered,
        "left": outcome.left,
        "statuses": dict(outcome.statuses),
        "probes": outcome.probes,
        "longest wait s": round(outcome.longest, 1),
        "steps": steps,
        "loads ordered": len(loads),
        "loads seen": len(ollama.loads()),
        "misfits": len(ollama.overcommits()),
        "evictions": len(ollama.evictions()),
        "reloads": len(ollama.reloads()),
        "busy unloads": len(auditor.busy_unloads),
        "dead loads": len(auditor.dead_loads),
        "healed": auditor.healed,
        "journal files": len(files),
    }
    with capsys.disabled():
        print(f"\nstorm: {figures}")  # noqa: T201 - the figures asked for
    assert outcome.wrong == []
    assert outcome.answered + outcome.left == count
    assert max(auditor.answers.values()) == 1
    assert (auditor.busy_unloads, auditor.dead_loads) == ([], [])
    assert ollama.reloads() == []
    assert len(ollama.loads()) == len(loads), "every load was ordered by us"
    assert len(files) > 1, "the journal must have been rotated under way"
    for file in files:
        assert verify(file).difference is None, f"{file.name} replays otherwise"

"""What a model is reckoned with: declared, listed or measured, and only at the context it will be loaded with."""

import pytest

from scheduler.core import messages as m
from scheduler.core.config import Config, ModelConfig, PhaseConfig
from scheduler.core.machine import Machine

GB = 10**9
CODER = "coder:latest"
CONFIG = Config(
    models=(ModelConfig(CODER, 20 * GB),), sets=(("coding", (CODER,)),), phases=(PhaseConfig("normal", ("coding",)),)
)


def started(row: m.Resident | None, num_ctx: int) -> Machine:
    """A machine that has just met an Ollama with this resident and this Modelfile."""
    machine = Machine.fresh(CONFIG, 0.0)
    machine.step(m.MemorySeen(1.0, 38 * GB, "configured", device=40 * GB))
    machine.step(m.ModelsListed(1.0, (m.Listed(CODER, 20 * GB, trained=131072, num_ctx=num_ctx, digest="d"),)))
    machine.step(m.OllamaUp(1.0, "0.32.0"))
    machine.step(m.Residents(2.0, 2.0, (row,) if row else ()))
    return machine


@pytest.mark.parametrize("num_ctx", [32768, 0], ids=["Modelfile", "tier"])
def test_a_size_at_another_context_is_forgotten_with_it(num_ctx: int) -> None:
    """A runner that somebody loaded with a larger context is counted as large as it is, but once it has left its model
    is not thought to be that large: it fits, and is loaded."""
    machine = started(m.Resident(CODER, 45 * GB, 131072), num_ctx)
    assert machine.state.models[CODER].held == 45 * GB
    machine.step(m.Residents(3.0, 3.0, ()))
    orders = machine.step(m.Arrived(4.0, "1", CODER))
    assert [order.model for order in orders if isinstance(order, m.Load)] == [CODER]


def test_a_larger_measured_size_counts_and_a_smaller_one_does_not() -> None:
    """Declared 20 GB: measured 22 GB counts from then on, measured 18 GB does not."""
    machine = started(None, 32768)
    for at, size, counts in ((4.0, 22 * GB, 22 * GB), (8.0, 18 * GB, 22 * GB)):
        machine.step(m.Arrived(at, f"{at}", CODER))
        machine.step(m.Loaded(at + 1, CODER, size, 32768, 1.0))
        machine.step(m.Ended(at + 2, f"{at}", "answered"))
        assert machine.state.models[CODER].size == counts
        machine.step(m.Residents(at + 3, at + 3, ()))


def test_one_that_is_there_serves_even_above_the_budget() -> None:
    """A model that was adopted, or has grown, above the budget is in memory already: its requests are served."""
    machine = started(m.Resident(CODER, 41 * GB, 32768), 32768)
    orders = machine.step(m.Arrived(4.0, "1", CODER))
    assert [order.id for order in orders if isinstance(order, m.Forward)] == ["1"]

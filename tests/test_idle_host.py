"""A host that is only probed loads nothing: health checks of every model each minute, for a day."""

from collections.abc import Sequence

import pytest

from policies import POLICIES
from scheduler.core import messages as m
from scheduler.core.machine import Machine
from scheduler.simulator.host import CODER, FAST, GB, QUALITY, Host, documented
from scheduler.simulator.measures import Result
from scheduler.simulator.run import simulate
from scheduler.simulator.workload import Job

DAY, EACH = 86_400, 60  # seconds
PROBES = [
    Job(f"probe {at} {number}", model, 0.3, "probe", t=float(at) + 0.1 * number)
    for at in range(0, DAY, EACH)
    for number, model in enumerate((QUALITY, CODER, FAST))
]


def played(jobs: Sequence[Job], host: Host, policy: str) -> tuple[Result, list[m.Order], Machine]:
    """What came of it, the orders about models, and the core as it ended."""
    orders: list[m.Order] = []
    machines: list[Machine] = []

    def witness(fact: m.Fact, given: Sequence[m.Order], machine: Machine) -> None:
        orders.extend(order for order in given if isinstance(order, m.Load | m.Unload))
        machines[:] = [machine]

    return simulate(jobs, host, policy, witness=witness), orders, machines[0]


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("budget", [38, 48])
def test_a_day_of_probes_loads_nothing(budget: int, policy: str) -> None:
    """4,320 health checks, all of them answered, and no load."""
    result, orders, machine = played(PROBES, documented(budget * GB), policy)
    assert len(result.served) == len(PROBES) == 4320
    assert orders == []
    assert result.loads == 0
    assert not machine.state.requests


def test_a_day_of_probes_moves_nothing_that_is_there() -> None:
    """After one request its model stays for the day, whichever models are probed; nothing else is loaded."""
    asks = Job("asks", QUALITY, 5.0, "interactive", "a person", 30.0)
    result, orders, machine = played([*PROBES, asks], documented(38 * GB), "default")
    assert [(type(order).__name__, getattr(order, "model", "")) for order in orders] == [("Load", QUALITY)]
    assert machine.state.models[QUALITY].state == "ready"
    assert result.loads == 1

"""What the daemon does not know costs little: errors of belief beside right values, and each error is really there."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from scheduler.simulator.host import CODER, GB, QUALITY, documented
from scheduler.simulator.robust import ERRORS, HOUR, Beside, beside
from scheduler.simulator.workload import Job, read

WORKLOADS = Path(__file__).parent / "data" / "workloads"
TRACES = ("alternate-20s.0", "few-agents.0", "orchestra.0", "starvation.0")
HOST = documented(48 * GB)
MOST = 1.25  # x J with right values


def jobs(name: str) -> list[Job]:
    """One of the workloads given as files."""
    return read(WORKLOADS / f"{name}.jsonl.gz")


def busy() -> list[Job]:
    """Ten at once for quality, then two for coder, then ten for quality again."""
    first = [Job(f"a{n}", QUALITY, 10.0, "interactive", f"s{n}", 1.0) for n in range(10)]
    second = [Job(f"b{n}", CODER, 5.0, "agent", f"t{n}", 60.0) for n in range(2)]
    return [*first, *second, *(Job(f"c{n}", QUALITY, 10.0, "interactive", f"s{n}", 200.0) for n in range(10))]


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_costs_at_most_a_quarter(error: str) -> None:
    """On four workloads together J is at most 1.25 times that with right values, everybody is served, and nobody waits
    past the bound."""
    came = [beside(error, jobs(name), HOST) for name in TRACES]
    assert not [told for each in came for told in each.broken]
    assert not any(each.mistaken.unserved or each.right.unserved for each in came)
    assert sum(each.mistaken.j for each in came) <= MOST * sum(each.right.j for each in came)


def starts(came: Beside) -> list[tuple[str, float]]:
    """Who was served when."""
    return sorted((each.job.id, each.started) for each in came.mistaken.served)


def test_without_an_error_nothing_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is fair: no error, no difference."""
    from scheduler.simulator import robust

    monkeypatch.setattr(robust, "ERRORS", {"none": robust.Error()})
    came = robust.beside("none", jobs("few-agents.0"), HOST)
    assert came.ratio == 1.0
    assert starts(came) == sorted((each.job.id, each.started) for each in came.right.served)


def test_one_slot_is_one_slot() -> None:
    """Where the host has one slot a model nobody is served beside another, whatever the core believes."""
    came = beside("one slot a model, more believed", busy(), HOST)
    for result in (came.mistaken, came.right):
        for model in (QUALITY, CODER):
            spans = sorted((each.started, each.ended) for each in result.served if each.job.model == model)
            assert all(before[1] <= after[0] for before, after in pairwise(spans))
            assert [round(end - start, 6) for start, end in spans] == [{QUALITY: 10.0, CODER: 5.0}[model]] * len(spans)


@pytest.mark.parametrize("error", [name for name in ERRORS if name != "one slot a model, more believed"])
def test_the_error_reaches_the_core(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the core is told differs from what it is told with right values, in the way that the error says."""
    from scheduler.simulator import robust

    told: list[tuple[float, int, str, float]] = []

    class Spy(robust.BoundWatch):
        def __call__(self, fact: object, orders: Sequence[object], machine: object) -> None:
            super().__call__(fact, orders, machine)  # type: ignore[arg-type]
            state = machine.state  # type: ignore[attr-defined]
            sessions = "".join(sorted({request.session for request in state.requests.values()}))
            model = state.models[QUALITY]
            told.append((model.load_seconds, model.size, sessions, getattr(fact, "gap", 0.0)))

    monkeypatch.setattr(robust, "BoundWatch", Spy)
    beside(error, busy(), HOST)
    kind = ERRORS[error]
    loads, sizes, sessions, gaps = zip(*told, strict=True)
    assert loads[0] == pytest.approx(18.0 * kind.belief.seconds)
    assert sizes[0] == int(35 * GB * kind.belief.size)
    half = len(told) // 2
    assert any(sessions[half:]), "the right one knows who asks"
    assert any(sessions[:half]) is not kind.nameless
    assert [gap for gap in gaps if gap] == [hours * HOUR for hours in kind.jumps]

"""Plays recorded demand again: as the daemon was then, and as it would have been under another policy or budget."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from policies import POLICIES
from scheduler.core import messages as m
from scheduler.outlook import gigabytes
from scheduler.recorded import Recorded
from scheduler.recorded_jobs import as_it_was, counted, measured
from scheduler.simulated_host import Machine, NoHost, built
from scheduler.simulated_policies import run
from scheduler.simulator.measures import Result
from scheduler.simulator.workload import Job
from scheduler.stays import Stay, Stays

AGAIN = "the same, simulated"
ALIKE = 0.01  # share of J below which a difference is none
FAIR = 0.1  # share by which the simulation of what was may differ before its comparisons are doubted


@dataclass(frozen=True, slots=True)
class Change:
    """What would have been otherwise; None: as it was."""

    policy: str | None = None
    budget: int | None = None  # bytes
    phase: str | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """One course of events: its figures, and when each model was in memory (None: nobody watched)."""

    result: Result
    stays: tuple[Stay, ...] | None


def past(recorded: Recorded) -> Course:
    """What the journals say."""
    return Course(as_it_was(recorded), tuple(recorded.stays.within(recorded.begin, recorded.end)))


def course(recorded: Recorded, jobs: Sequence[Job], change: Change) -> Course:
    """The same demand, simulated. Raises NoHost where it cannot be."""
    policy = change.policy or recorded.config.policy
    stage = _stage(recorded, change)
    stays = Stays()
    result = run(policy, jobs, stage, list(_events(recorded, stage, change)), stays.witness)
    result.policy = _label(recorded, policy, change)
    if policy not in POLICIES:
        return Course(result, None)
    end = max(recorded.end - recorded.begin, result.makespan)
    stays.close(end)
    return Course(result, tuple(stays.within(0.0, end)))


def _stage(recorded: Recorded, change: Change) -> Machine:
    budget = change.budget or recorded.budget
    if not budget:
        raise NoHost("the journal does not say what the budget was; give --budget")
    told = replace(recorded.config, phase=recorded.phase or recorded.config.phase)
    source = "as it was" if change.budget is None else "as asked"
    models = list(measured(recorded).values())
    return built(told, models, budget, source, phase=change.phase, gates=True)


def _events(recorded: Recorded, stage: Machine, change: Change) -> Iterator[m.Fact]:
    """What befell the daemon then: what was resident, and the budgets and phases that nobody wants otherwise."""
    sizes = {model.name: model.size for model in stage.host.models}
    rows = tuple(m.Resident(name, sizes[name], 4096) for name in recorded.resident if name in sizes)
    yield m.Residents(0.0, 0.0, rows)
    begin, budget = recorded.begin, stage.host.budget
    yield m.MemorySeen(0.0, budget, stage.budget_from, device=int(budget * _beyond(recorded)))
    if change.budget is None:
        for at, seen, device in recorded.budgets:
            if at > begin:
                yield m.MemorySeen(at - begin, seen, stage.budget_from, device=device)
    if change.phase is None:
        for at, phase in recorded.phases:
            if at > begin:
                yield m.PhaseSet(at - begin, phase, "as it was")


def _beyond(recorded: Recorded) -> float:
    """What Ollama saw as GPU memory for each byte of the budget: its gates go by that."""
    return recorded.device / recorded.budget if recorded.budget else 1.0


def _label(recorded: Recorded, policy: str, change: Change) -> str:
    if change == Change():
        return AGAIN
    parts = [policy, gigabytes(change.budget or recorded.budget)]
    return ", ".join([*parts, change.phase] if change.phase else parts)


@dataclass(frozen=True, slots=True)
class Margin:
    """How far the simulation of what was is from what was: no smaller difference means anything. Seconds, and loads.
    What a person ordered is not played again, so that `was` counts with those loads or without, whichever is nearer."""

    j: float
    mean: float
    loads: int

    def covers(self, before: Result, after: Result) -> bool:
        """Whether `after` costs so nearly what `before` did that it says nothing: J decides."""
        return abs(after.j - before.j) <= self.j


def margin(recorded: Recorded, was: Result, simulated: Result) -> Margin:
    """How far `simulated` is from `was`."""
    count, seconds = ordered(recorded)
    return Margin(
        _off(simulated.j, was.j - seconds, was.j),
        abs(simulated.mean - was.mean),
        round(_off(simulated.loads, was.loads - count, was.loads)),
    )


def ordered(recorded: Recorded) -> tuple[int, float]:
    """How many loads a person ordered, and the seconds they took."""
    took = [load.took for load in counted(recorded) if load.asked]
    return len(took), sum(took)


def _off(value: float, least: float, most: float) -> float:
    return max(least - value, value - most, 0.0)


def verdict(before: Result, after: Result, beyond: Margin) -> str:
    """In a sentence: whether `after` would have been better than `before`, where the difference is `beyond` chance."""
    if after.unserved > before.unserved:
        lost = f"{after.unserved} requests would not have been served"
        return f"{after.policy}: worse: {lost}; what the others waited compares with nothing"
    if not before.j:
        return f"{after.policy}: nobody waited and nothing was loaded as it was; J would have been {after.j:.0f}"
    share = after.j / before.j
    word = "better" if share < 1 - ALIKE else "worse" if share > 1 + ALIKE else "much the same"
    if word != "much the same" and beyond.covers(before, after):
        word = "no difference worth naming, since the simulation of what was is off by as much"
    loads = after.loads - before.loads
    more = f"{abs(loads)} {'load' if abs(loads) == 1 else 'loads'} {'more' if loads > 0 else 'fewer'}"
    return (
        f"{after.policy}: {word}: J {after.j:.0f} instead of {before.j:.0f} ({share - 1:+.0%}), mean wait "
        f"{after.mean:.1f} s instead of {before.mean:.1f} s, longest {after.max:.0f} s instead of {before.max:.0f} s, "
        f"{more if loads else 'as many loads'}"
    )


def doubt(was: Result, simulated: Result, off: Margin) -> str:
    """How far the simulation of what was is from it, where that is more than FAIR; "" where it is not."""
    if off.mean <= max(FAIR * was.mean, 1.0) and off.loads <= max(FAIR * was.loads, 1):
        return ""
    return (
        f"simulated as it was, the mean wait is {simulated.mean:.1f} s for {was.mean:.1f} s, the loads are "
        f"{simulated.loads} for {was.loads} and J is {simulated.j:.0f} for {was.j:.0f}: a difference smaller than that "
        f"says nothing"
    )

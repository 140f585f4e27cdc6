"""The parts of `/status` that the ledger adds up: the last decisions, and what happened within an hour and a day."""

from scheduler import status_counted as c
from scheduler.core.state import CoreState
from scheduler.ledger import Counts, Decision, Ledger
from scheduler.status_verdict import Clock


def decision(known: Decision, now: float, iso: Clock) -> c.Decision:
    """One of the last decisions; `now` is monotonic seconds."""
    return c.Decision(
        order=known.order,
        model=known.model,
        request=known.request,
        because=known.because,
        at=iso(known.at),
        age=round(now - known.at, 3),
        times=known.times,
    )


def counters(state: CoreState, now: float, ledger: Ledger) -> c.Spans:
    """What happened lately; who waits still counts for the worst wait."""
    heads = (head for name in state.demanded for head in state.models[name].heads())
    longest = max((now - head.arrived for head in heads), default=0.0)
    return c.Spans(hour=_counts(ledger.hour(now), longest), day=_counts(ledger.day(now), longest))


def _counts(counts: Counts, longest: float) -> c.Counters:
    requests: dict[str, dict[str, int]] = {}
    for (cls, outcome), number in sorted(counts.requests.items()):
        requests.setdefault(cls, {})[outcome] = number
    return c.Counters(
        changes=counts.changes,
        loads=counts.loads,
        load_failures=counts.load_failures,
        unloads=counts.unloads,
        seconds_loading=round(counts.seconds_loading, 3),
        probes_absorbed=counts.probes_absorbed,
        worst_wait=round(max(counts.worst_wait, longest), 3),
        requests=requests,
    )

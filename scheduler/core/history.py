"""The past arrivals that what comes next is guessed from: taken down as requests come, completed when they end.

Only requests: a health check, a wish or a replacement says nothing of who will ask (promise 5). One that was refused,
or whose client left before its answer, is taken out again.
"""

from dataclasses import replace

from scheduler.core.messages import Ended
from scheduler.core.state import CoreState, Past, Request

PAST = 2000  # arrivals are remembered; the oldest are forgotten


def arrived(state: CoreState, request: Request) -> None:
    """Take down an arrival."""
    if request.kind != "request":
        return
    state.history[request.seq] = Past(request.arrived, request.model, request.cls, request.session)
    while len(state.history) > PAST:
        del state.history[next(iter(state.history))]


def dropped(state: CoreState, request: Request) -> None:
    """It is over, and nobody got an answer from it."""
    state.history.pop(request.seq, None)


def ended(state: CoreState, request: Request, fact: Ended) -> None:
    """It has left its slot. Its seconds of service count only where it was answered."""
    if request.abandoned or fact.outcome in ("abandoned", "cancelled", "canned"):
        dropped(state, request)
        return
    past = state.history.get(request.seq)
    if past is not None:
        service = fact.service if fact.outcome == "answered" and (fact.status or 200) < 400 else None
        state.history[request.seq] = replace(past, ended_at=fact.at, service=service)


def slept(state: CoreState, gap: float) -> None:
    """The machine slept for `gap` seconds, which its monotonic clock did not count: what was before is longer ago."""
    for seq, past in state.history.items():
        ended = None if past.ended_at is None else past.ended_at - gap
        state.history[seq] = replace(past, at=past.at - gap, ended_at=ended)

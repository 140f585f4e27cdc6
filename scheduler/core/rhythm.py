"""How often each model is asked for, and whether everybody who asks is waiting already: kept as requests arrive."""

import math
from collections.abc import Collection
from dataclasses import replace

from policies.hold import WEIGHT
from policies.world import Group
from scheduler.core.state import CoreState, ModelState, Request

FEW = 120.0  # seconds: of a shorter time nothing can be said
FADES = 600.0  # seconds in which an arrival has faded to 1/e
MOMENT = 3.0  # seconds: who comes within them of the first belongs to one group
CROWD = 3  # requests at one time: of fewer nothing can be said
GROUPS = 1000  # groups that are remembered
NEW_SHARE = 0.1  # weight of the newest arrival in a mean
PEAK = 300.0  # seconds after which a peak begins to be forgotten


def arrived(state: CoreState, request: Request) -> None:
    """Take down that `request`, which waits already, has come."""
    if request.kind != "request":
        return
    model = state.models[request.model]
    share = NEW_SHARE if model.pulse else 1.0
    model.urgency += share * (WEIGHT[request.cls] - model.urgency)
    model.pulse = _faded(model, state.at) + 1.0
    model.pulse_at = state.at
    _asked(model, request.session, state.at)
    _join(state, Group(request.arrived, {request.model: WEIGHT[request.cls]}, request.session, request.seq))
    if state.at - state.peaked_at > PEAK:
        state.peak_before, state.peak = state.peak, 0
        state.peaked_at = state.at
    state.peak = max(state.peak, _under_way(state))


def recall(state: CoreState) -> None:
    """Make the groups again of the arrivals that an earlier life remembered, of models that are known still."""
    state.groups.clear()
    for seq, past in state.history.items():
        if past.model in state.models and past.cls in WEIGHT:
            _join(state, Group(past.at, {past.model: WEIGHT[past.cls]}, past.session, seq))


def forgotten(state: CoreState, names: Collection[str]) -> None:
    """There are no such models: nobody is expected to ask for them."""
    groups = []
    for group in state.groups:
        left = {name: weight for name, weight in group.weights.items() if name not in names}
        if left:  # who asked for what is no more, and whether he was answered, says nothing of the others
            groups.append(replace(group, weights=left) if group.top in left else Group(group.at, left))
    state.groups = groups


def slept(state: CoreState, gap: float) -> None:
    """The machine slept for `gap` seconds, which its monotonic clock did not count: what was before is longer ago."""
    state.groups = [replace(group, at=group.at - gap) for group in state.groups]
    state.began -= gap
    state.peaked_at -= gap
    for model in state.models.values():
        model.pulse_at -= gap
        model.asked_by = {session: at - gap for session, at in model.asked_by.items()}


def _join(state: CoreState, new: Group) -> None:
    """Take a request, as a group of its own, into the group of its moment, or let it begin one."""
    groups = state.groups
    if not groups or new.at - groups[-1].at > MOMENT:
        groups.append(new)
        if len(groups) > GROUPS:
            del groups[: GROUPS // 10]
        return
    last, (name, weight) = groups[-1], next(iter(new.weights.items()))
    if last.weights.get(name, 0.0) < weight:
        top = new if weight > max(last.weights.values()) else last
        groups[-1] = Group(last.at, {**last.weights, name: weight}, top.session, top.seq)


def _asked(model: ModelState, session: str, at: float) -> None:
    asked_by = model.asked_by
    asked_by.pop(session, None)
    asked_by[session] = at
    while asked_by[oldest := next(iter(asked_by))] < at - FADES:
        del asked_by[oldest]


def askers(model: ModelState) -> float:
    """How many known sessions asked for `model` lately; without bound where somebody unknown did."""
    return math.inf if "" in model.asked_by else float(len(model.asked_by))


def rate(state: CoreState, model: ModelState) -> float:
    """Requests for `model` per second lately; what was before this life of the daemon began is not known."""
    known = 1.0 - math.exp(-max(FEW, state.at - state.began) / FADES)
    return _faded(model, state.at) / (FADES * known)


def everybody_waits(state: CoreState) -> bool:
    """Whether nobody is left to ask: as many requests are under way as were at any one time lately, or all who asked
    lately are known sessions and every one of them waits."""
    return _under_way(state) >= max(CROWD, state.peak, state.peak_before) or _every_session_waits(state)


def _every_session_waits(state: CoreState) -> bool:
    if any(state.models[name].serving for name in state.present):
        return False
    seen: set[str] = set()
    for group in reversed(state.groups):
        if group.at < state.at - FADES:
            break
        if group.session in seen:
            continue
        past = state.history.get(group.seq)
        if not group.session or past is None or past.ended_at is not None:
            return False
        seen.add(group.session)
    return bool(seen)


def _under_way(state: CoreState) -> int:
    """Requests that somebody waits for: health checks, wishes and requests whose client left are none (promise 5)."""
    models = state.models
    waiting = sum([models[name].waiting for name in state.demanded])
    return waiting + sum([models[name].serving for name in state.present])


def _faded(model: ModelState, at: float) -> float:
    return model.pulse * math.exp((model.pulse_at - at) / FADES) if model.pulse else 0.0

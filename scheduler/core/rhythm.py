"""How often each model is asked for, and whether everybody who asks is waiting already: kept as requests arrive."""

import math
from collections.abc import Collection

from policies.hold import WEIGHT
from policies.world import Group
from scheduler.core.state import CoreState, ModelState, Request

FEW = 120.0  # seconds: of a shorter time nothing can be said
FADES = 600.0  # seconds in which an arrival has faded to 1/e
MOMENT = 3.0  # seconds: who comes within them of the first belongs to one group
CROWD = 3  # requests at one time: of fewer nothing can be said
GROUPS = 1000  # groups that are remembered
PEAK = 300.0  # seconds after which a peak begins to be forgotten


def arrived(state: CoreState, request: Request) -> None:
    """Take down that `request`, which waits already, has come."""
    if request.kind != "request":
        return
    model = state.models[request.model]
    model.pulse = _faded(model, state.at) + 1.0
    model.pulse_at = state.at
    _join(state, request.arrived, request.model, request.cls)
    if state.at - state.peaked_at > PEAK:
        state.peak_before, state.peak = state.peak, 0
        state.peaked_at = state.at
    state.peak = max(state.peak, _under_way(state))


def recall(state: CoreState) -> None:
    """Make the groups again of the arrivals that an earlier life remembered, of models that are known still."""
    state.groups.clear()
    for past in state.history.values():
        if past.model in state.models and past.cls in WEIGHT:
            _join(state, past.at, past.model, past.cls)


def forgotten(state: CoreState, names: Collection[str]) -> None:
    """There are no such models: nobody is expected to ask for them."""
    groups = [Group(g.at, {n: w for n, w in g.weights.items() if n not in names}) for g in state.groups]
    state.groups = [group for group in groups if group.weights]


def slept(state: CoreState, gap: float) -> None:
    """The machine slept for `gap` seconds, which its monotonic clock did not count: what was before is longer ago."""
    state.groups = [Group(group.at - gap, group.weights) for group in state.groups]


def _join(state: CoreState, at: float, model: str, cls: str) -> None:
    """Take a request into the group of its moment, or begin one."""
    weight, groups = WEIGHT[cls], state.groups
    if groups and at - groups[-1].at <= MOMENT:
        known = groups[-1].weights
        if known.get(model, 0.0) < weight:
            groups[-1] = Group(groups[-1].at, {**known, model: weight})
        return
    groups.append(Group(at, {model: weight}))
    if len(groups) > GROUPS:
        del groups[: GROUPS // 10]


def rate(state: CoreState, model: ModelState) -> float:
    """Requests for `model` per second lately; what was before this life of the daemon began is not known."""
    known = 1.0 - math.exp(-max(FEW, state.at - state.began) / FADES)
    return _faded(model, state.at) / (FADES * known)


def everybody_waits(state: CoreState) -> bool:
    """Whether as many requests are under way as were at any one time lately: clients that wait send nothing more."""
    return _under_way(state) >= max(CROWD, state.peak, state.peak_before)


def _under_way(state: CoreState) -> int:
    """Requests that somebody waits for: health checks, wishes and requests whose client left are none (promise 5)."""
    waiting = sum(state.models[name].waiting for name in state.demanded)
    return waiting + sum(state.models[name].serving for name in state.present)


def _faded(model: ModelState, at: float) -> float:
    return model.pulse * math.exp((model.pulse_at - at) / FADES) if model.pulse else 0.0

"""How often each model is asked for, and what came together with what: kept as requests arrive."""

import math
from collections.abc import Collection
from dataclasses import replace

from policies import foresee
from policies.hold import WEIGHT
from policies.world import Group
from scheduler.core import turns
from scheduler.core.learned import STAY
from scheduler.core.state import CoreState, ModelState, Request

FEW = 120.0  # seconds: of a shorter time nothing can be said
FADES = 600.0  # seconds in which an arrival has faded to 1/e
MOMENT = 3.0  # seconds: who comes within them of the first belongs to one group
KNOWN = 2  # requests from which on it is known who is asked for
EVEN = 0.7  # requests expected in a stay: as likely as not that somebody comes (1 - 1/e^0.7)
GROUPS = 1000  # groups that are remembered


def arrived(state: CoreState, request: Request) -> None:
    """Take down that `request`, which waits already, has come."""
    if request.kind != "request":
        return
    model = state.models[request.model]
    model.pulse = _faded(model, state.at) + 1.0
    model.pulse_at = state.at
    _join(state, Group(request.arrived, {request.model: WEIGHT[request.cls]}, request.session, request.seq))
    state.heard = True


def pass_time(state: CoreState) -> None:
    """Which members of a set are asked for often enough to come with the others. It is told in steps, each a revision:
    plans must not change in between."""
    turns.pass_time(state)
    few = len(state.history) < KNOWN
    for model in state.models.values():
        rides = few or rate(state, model) * STAY > EVEN
        if rides != model.rides:
            model.rides = rides
            state.revision += 1


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
    for model in state.models.values():
        model.pulse_at -= gap


def _join(state: CoreState, new: Group) -> None:
    """Take a request, as a group of its own, into the group of its moment, or let it begin one."""
    groups = state.groups
    if not groups or new.at - groups[-1].at > MOMENT:
        groups.append(replace(new, expected=foresee.expected(groups, new.at)))
        if len(groups) > GROUPS:
            del groups[: GROUPS // 10]
        return
    last, (name, weight) = groups[-1], next(iter(new.weights.items()))
    if last.weights.get(name, 0.0) < weight:
        top = new if weight > max(last.weights.values()) else last
        groups[-1] = Group(last.at, {**last.weights, name: weight}, top.session, top.seq, last.expected)


def rate(state: CoreState, model: ModelState) -> float:
    """Requests for `model` per second lately; what was before this life of the daemon began is not known."""
    known = 1.0 - math.exp(-max(FEW, state.at - state.began) / FADES)
    return _faded(model, state.at) / (FADES * known)


def _faded(model: ModelState, at: float) -> float:
    return model.pulse * math.exp((model.pulse_at - at) / FADES) if model.pulse else 0.0

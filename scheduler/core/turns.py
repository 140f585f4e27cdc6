"""Which waiting request of a model runs next: promise 4's law, and the queues it reads.

Only an earlier request, or one of a higher class while the lower has not waited its patience, runs before another.
"""

import math
from collections.abc import Mapping

from policies.hold import WEIGHT
from scheduler.core.state import CoreState, ModelState, Request

LATELY = 600.0  # seconds in which what waited has faded to 1/e


def first(model: ModelState, at: float, patience: Mapping[str, float]) -> Request | None:
    """The request of `model` to run next at `at`; None if none waits."""
    heads = list(model.heads())
    if len(heads) <= 1:
        return heads[0] if heads else None
    while True:
        candidate = heads[0]  # highest class first
        overdue = [h for h in heads if h.seq < candidate.seq and at - h.arrived >= patience[h.cls]]
        if not overdue:
            return candidate
        bound = min(h.seq for h in overdue)
        heads = [h for h in heads if h.seq <= bound]


def enqueue(state: CoreState, model: ModelState, request: Request) -> None:
    """Put `request` into its queue, at its place by arrival."""
    request.place = "waiting"
    if request.kind == "replace":
        model.replacements[request.id] = request
        state.revision += 1
        return
    queue = model.preloads if request.kind == "preload" else model.queues[request.cls]
    behind = [other for other in queue.values() if other.seq > request.seq] if request.sent or request.named else []
    for other in behind:
        del queue[other.id]
    queue[request.id] = request
    for other in behind:
        queue[other.id] = other
    if request.kind != "preload":
        weigh(state, model, WEIGHT[request.cls])
        model.waiting += 1
        model.anonymous += not request.session
        model.arrived_sums[request.cls] = model.arrived_sums.get(request.cls, 0.0) + request.arrived
        state.revision += model.waiting == 1
    if model.name not in state.demanded:
        state.demanded[model.name] = None
        state.revision += 1


def dequeue(state: CoreState, model: ModelState, request: Request) -> None:
    """Take `request` out of its queue."""
    if request.kind == "replace":
        del model.replacements[request.id]
        state.revision += 1
        return
    queue = model.preloads if request.kind == "preload" else model.queues[request.cls]
    del queue[request.id]
    if request.kind != "preload":
        weigh(state, model, -WEIGHT[request.cls])
        model.waiting -= 1
        model.anonymous -= not request.session
        left = model.arrived_sums[request.cls] - request.arrived
        model.arrived_sums[request.cls] = left if queue else 0.0  # what rounding adds up goes with the last of them
        state.revision += model.waiting == 0
    if not model.waiting and not model.wishes:
        state.demanded.pop(model.name, None)
        state.revision += 1


def weigh(state: CoreState, model: ModelState, more: float) -> None:
    """From now on `more` weight waits for `model`."""
    pass_time(state)
    model.weight += more
    state.weight += more


def pass_time(state: CoreState) -> None:
    """Bring the average of the weight that waits up to date."""
    past = state.at - state.weighed_at
    if past > 0.0:
        state.usual_weight += (state.weight - state.usual_weight) * -math.expm1(-past / LATELY)
        state.weighed_at = state.at


def waiting_count(state: CoreState) -> int:
    """How many requests wait, all models together; the preloads of one model are one."""
    demanded = [state.models[name] for name in state.demanded]
    return sum([model.waiting + bool(model.preloads) for model in demanded])

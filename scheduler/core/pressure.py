"""The budget as it shrinks and grows: less holds at once, more once it has stayed; what no longer fits drains.

Nobody's request is ended for it. Only a budget that others shrank sends models away: a changed configuration, like a
restart, unloads nothing by itself (promise 9), and what is pinned stays.
"""

from collections.abc import Sequence
from itertools import combinations

from policies.hold import WEIGHT
from policies.verdict import Change
from scheduler.core import sizes, transition
from scheduler.core.messages import MemorySeen, Order, Recall, Record
from scheduler.core.state import CoreState, Growing, ModelState
from scheduler.core.view import WorldView

ENDABLE = ("agent", "batch")
AGAIN = 600.0  # seconds without a request after which another is half as likely as right after the last
EVERY_SUBSET = 10  # models of which every choice is tried; of more, the most valuable for their size stay


def seen(state: CoreState, fact: MemorySeen) -> list[Order]:
    """Take in what memory allows now: a smaller budget holds at once, a larger one is remembered as growing."""
    before = state.budget, state.pressure
    state.whole, state.pressure = fact.whole or fact.budget, fact.pressure
    if state.budget is None or fact.configured:
        state.budget, state.growing = fact.budget, None
    elif fact.budget <= state.budget:
        state.pressed = state.pressed or fact.budget < state.budget
        state.budget, state.growing = fact.budget, None
    elif state.growing is None:
        state.growing = Growing(fact.budget, fact.at, fact.budget)
    else:  # what has stayed is the least of what was seen since
        state.growing.budget = min(state.growing.budget, fact.budget)
        state.growing.seen = fact.budget
    if before[0] is None or before == (state.budget, state.pressure):
        return []
    what = f"memory {fact.pressure}" if fact.pressure != before[1] else "budget changed"
    return [Record("", what, _said(state, fact.budget))]


def expire(state: CoreState) -> list[Order]:
    """Trust a larger budget once it has stayed for `grow_after` seconds."""
    growing = state.growing
    if growing is None or state.at < growing.since + state.config.grow_after:
        return []
    state.budget = growing.budget
    more = growing.seen > growing.budget  # it is told once, so it must stay on its own from now on
    state.growing = Growing(growing.seen, state.at, growing.seen) if more else None
    sizes.refresh_all(state)
    because = f"it has stayed for {state.config.grow_after:.0f} s"
    return [Record("", f"the budget is {growing.budget / 1e9:.1f} GB again", because)]


def next_due(state: CoreState) -> float | None:
    """When `expire` has something to do; None for never."""
    return None if state.growing is None else state.growing.since + state.config.grow_after


def relieve(state: CoreState, world: WorldView) -> list[Order]:
    """Where the budget shrank below what is promised: keep the most valuable that fits and drain the rest."""
    under_way = state.transition
    if sizes.promised(state) <= world.budget:
        state.pressed = False
        if under_way is not None and under_way.cause == "pressure" and under_way.stage == "draining":
            return transition.abort(state, "there is room again")
        return []
    if not state.pressed or state.stopping or _in_flight(state):
        return []
    if _on_its_way(state):
        return _end_the_longest(state)
    leave = _leaving(state, world)
    if set(leave) <= set(under_way.leave if under_way is not None else ()):
        return []  # all who can leave do: what is pinned or cannot leave yet may be too much by itself
    orders = transition.abort(state, "memory is short")
    promised, budget = sizes.promised(state) / 1e9, world.budget / 1e9
    because = f"memory is short: {promised:.1f} GB are promised of {budget:.1f} GB; {_kept(state, leave)}"
    state.home_due = state.home_due or bool(set(leave) & set(world.home))
    orders.append(Record(leave[0], "transition begun", because))
    return orders + transition.begin(state, Change(leave, (), because, cause="pressure"))


def _end_the_longest(state: CoreState) -> list[Order]:
    """At critical pressure, where that is allowed: end the request that has run longest on what drains for it, one at a
    time, of those for whom nobody sits and waits. One that has not had a byte takes its place in line again."""
    change = state.transition
    allowed = state.config.end_at_critical and state.pressure == "critical"
    if not allowed or change is None or change.cause != "pressure":
        return []
    running = [state.requests[each] for name in change.leave for each in state.models[name].running_ids]
    if any(request.place == "recalled" for request in running):
        return []
    may_end = [r for r in running if r.kind == "request" and r.cls in ENDABLE and not r.abandoned]
    longest = min(may_end, key=lambda request: (request.started or 0.0, request.seq), default=None)
    if longest is None:
        return []
    longest.place = "recalled"
    return [
        Recall(
            longest.id, f"memory is critical, and it ran for {state.at - (longest.started or 0.0):.0f} s", "pressure"
        )
    ]


def value(state: CoreState, world: WorldView, model: ModelState) -> float:
    """What losing `model` would cost: the weighted seconds that those who are there for it, and those who probably will
    be, wait for its load; and the seconds of reading prompts that its warm caches save."""
    wanted = model.weight + sum(
        WEIGHT[state.requests[each].cls] for each in model.running_ids if not state.requests[each].abandoned
    )
    wanted += 1.0 / (1.0 + max(0.0, state.at - model.last_used) / AGAIN)
    wanted += (model.name in world.home) + model.keep
    return wanted * max(1.0, model.load_seconds) + model.reprompt


def _said(state: CoreState, told: int) -> str:
    if told > (state.budget or 0):
        return f"{told / 1e9:.1f} GB, once that has stayed for {state.config.grow_after:.0f} s"
    whole = f"of {state.whole / 1e9:.1f} " if told < state.whole else ""
    return f"the budget is {told / 1e9:.1f} {whole}GB"


def _on_its_way(state: CoreState) -> bool:
    """Whether what leaves anyway is enough."""
    leaving = set(state.transition.leave) if state.transition is not None else set()
    leaving |= {name for name in state.present if state.models[name].state == "leaving"}
    going = sum(state.models[name].held for name in leaving)
    return sizes.promised(state) - going <= (state.budget or 0)


def _in_flight(state: CoreState) -> bool:
    return any(state.models[name].state in ("loading", "leaving") for name in state.present)


def _leaving(state: CoreState, world: WorldView) -> tuple[str, ...]:
    """Who leaves, so that the most valuable others stay; what is pinned or cannot leave now is none of them."""
    present = [state.models[name] for name in state.present]
    may_leave = [model for model in present if not model.pinned and model.stays_until <= state.at]
    room = world.budget - sizes.unowned(state) - sum(model.held for model in present if model not in may_leave)
    stay = _most_valuable(state, world, may_leave, room)
    return tuple(model.name for model in may_leave if model not in stay)


def _most_valuable(state: CoreState, world: WorldView, models: Sequence[ModelState], room: int) -> Sequence[ModelState]:
    worth = {model.name: value(state, world, model) for model in models}
    if len(models) > EVERY_SUBSET:
        stay: list[ModelState] = []
        for model in sorted(models, key=lambda m: (-worth[m.name] / max(1, m.held), m.name)):
            if sum(each.held for each in stay) + model.held <= room:
                stay.append(model)
        return stay
    every = (chosen for count in range(len(models) + 1) for chosen in combinations(models, count))
    fits = [chosen for chosen in every if sum(model.held for model in chosen) <= room]
    return max(fits, key=lambda chosen: sum(worth[model.name] for model in chosen), default=())


def _kept(state: CoreState, leave: Sequence[str]) -> str:
    stay = [name for name in state.present if name not in leave]
    if not stay:
        return "nothing that is there fits"
    return f"{' and '.join(stay)} {'stays' if len(stay) == 1 else 'stay'}, being of most use"

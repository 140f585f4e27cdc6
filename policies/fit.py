"""Memory arithmetic: what fits beside what, in which order Ollama's own gates let it in, and what must leave for it.

Ollama's gates (server/sched.go at v0.33.0-rc2, run on 0.32): a load beside others is let in only while fewer than
OLLAMA_MAX_LOADED_MODELS are loaded and its prediction is at most 80 % of the free device memory; an empty device always
takes it. Our own gate is the budget.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

from policies.world import Model, Plan, World

SELDOM = 0.25  # of its load seconds, what a model that is seldom asked for counts where one of several must leave
EVERY_ORDER = 6  # models of which every order is tried; of more only the given one, since orders grow as n!


@dataclass(slots=True)
class Beside:
    """Who is in memory when a load is asked for: bytes held (orphans not among them), how many, and what Ollama
    believes to be free."""

    held: int
    count: int
    free: int

    def joined(self, world: World, model: Model) -> "Beside":
        """The same with `model` loaded."""
        held = self.held + model.size
        free = world.device - held
        return Beside(held, self.count + 1, min(self.free, free) if world.stale_free else free)


def beside(world: World, residents: Sequence[Model]) -> Beside:
    """`residents` as what the next load is beside, with the runners that no name leads to. Off Metal, Ollama asks a
    runner it happens to pick what was free when that was loaded (discover/runner.go), so the least of those counts."""
    stuck = world.unreachable
    held = sum([model.held for model in residents])
    if stuck:
        held += sum(stuck.values())
    free = world.device - held
    if world.stale_free:
        free = min([free, *(model.free_after for model in residents)])
    return Beside(held, len(residents) + len(stuck), free)


def admits(world: World, model: Model, there: Beside) -> bool:
    """Whether `model` may be loaded beside what is `there`."""
    if there.held + world.orphans + model.size > world.budget:
        return False
    if there.count == 0:
        return True
    return there.count < world.max_loaded and model.predicted * 100 <= there.free * 80


def loading_order(world: World, load: Sequence[Model], there: Beside) -> tuple[str, ...] | None:
    """An order in which every gate lets `load` in, largest first where it can be; None where there is no such order."""
    if not load:
        return ()
    for model in load if len(load) <= EVERY_ORDER else load[:1]:
        if admits(world, model, there):
            if len(load) == 1:
                return (model.name,)
            rest = [other for other in load if other is not model]
            behind = loading_order(world, rest, there.joined(world, model))
            if behind is not None:
                return (model.name, *behind)
    return None


def holdable(world: World, members: Sequence[Model]) -> bool:
    """Whether an empty memory can hold `members` together."""
    return loading_order(world, _largest_first(members), beside(world, ())) is not None


def plan_for(world: World, wanted: Model) -> Plan | None:
    """The plan that brings `wanted` in with its set and sends the fewest bytes away; None if nothing would fit now, or
    while something that an earlier change ordered has not reported yet."""
    sets = [with_kept(world, members) for members in world.sets_of(wanted.name)]
    plans = [plan for members in sets if (plan := plan_within(world, wanted, members)) is not None]
    if not plans:
        return plan_within(world, wanted, with_kept(world, (wanted.name,)))
    if len(plans) == 1:
        return plans[0]
    return min(plans, key=lambda plan: (_bytes(world, plan.leave), plan.load))


def with_kept(world: World, members: Sequence[str]) -> Sequence[str]:
    """`members` and the models with `keep` that an empty memory can hold beside them, those declared first first."""
    if not world.kept:
        return members
    models = [world.models[name] for name in members]
    for model in world.kept:
        if model not in models and not model.sent_away and model.installed and holdable(world, [*models, model]):
            models.append(model)
    return members if len(models) == len(members) else [model.name for model in models]


def may_spare(world: World, busy: Sequence[Model]) -> frozenset[str]:
    """Of what somebody waits for, all but that of which every plan sends somebody of `busy` away. It is seen by the
    bytes that would be held at once, which costs less than the plans; a plan for what is left may send some away, too.
    """
    there = beside(world, busy)
    room = world.budget - world.orphans - there.held
    fixed = any([model.pinned or model.stays_until for model in world.present])  # such a one may keep a whole set out
    fixed = fixed or any([model.not_before for model in world.models.values()])  # and this passes by itself
    return frozenset(
        [
            model.name
            for model in world.demanded
            if model.state != "absent"
            or (model.size <= room and admits(world, model, there) and (fixed or _has_room(world, model, room)))
        ]
    )


def _has_room(world: World, wanted: Model, room: int) -> bool:
    """Whether `room` bytes hold `wanted` with what is needed of a set, or alone where it can come with none."""
    sets = [_loadable(world, wanted, with_kept(world, members)) for members in world.sets_of(wanted.name)]
    for members in sets:
        coming = [model for model in members if not model.usable and (model is wanted or needed(world, model))]
        if sum([model.size for model in coming]) <= room:
            return True
    return not any(holdable(world, members) for members in sets)


def plan_within(world: World, wanted: Model, members: Sequence[str]) -> Plan | None:
    """The plan that brings `wanted` in with this set; None while something is out, or if somebody would have to leave
    who is pinned or pauses after an unload that failed."""
    if wanted.replacing or [model for model in world.present if model.state in ("loading", "leaving")]:
        return None
    plan = _any_plan(world, wanted, members)
    if plan is None or any(_stays(world, world.models[name], plan) for name in plan.leave):
        return None
    return plan


def _stays(world: World, model: Model, plan: Plan) -> bool:
    """Whether it may not leave; what is pinned may be loaded anew where it cannot serve as it is."""
    again = model.name in plan.load and not model.usable
    return model.stays_until > world.at or (model.pinned and not again)


def _any_plan(world: World, wanted: Model, members: Sequence[str]) -> Plan | None:
    """The plan for one set. Members that nobody needs now are let go or left behind where that costs less."""
    loadable = _loadable(world, wanted, members)
    plan = _plan_of(world, loadable, _worth)
    if plan is None or not plan.leave:
        return plan
    claimed = [model for model in loadable if model.name == wanted.name or needed(world, model)]
    if len(claimed) == len(loadable):
        return plan
    others = [_plan_of(world, claimed, by) for by in (_worth, _largest)]
    return min([plan, *filter(None, others)], key=lambda each: _missed(world, each, loadable))


def needed(world: World, model: Model) -> bool:
    """Whether `model` has a claim of its own, and does not only ride along with its set."""
    return _claimed(model) or model.serving > 0 or model.pinned or model.name in world.home


def _missed(world: World, plan: Plan, members: Sequence[Model]) -> tuple[float, int]:
    """What loading again what a plan sends away or leaves behind would take, in seconds, and how many bytes leave. What
    is asked for seldom counts SELDOM times."""
    away = {name: None for name in plan.leave if name not in plan.load}
    away |= {model.name: None for model in members if not model.usable and model.name not in plan.load}
    missed = [world.models[name] for name in away]
    seconds = sum(model.load_seconds * (1.0 if world.rides(model) else SELDOM) for model in missed)
    return seconds, _bytes(world, plan.leave)


def _bytes(world: World, names: Sequence[str]) -> int:
    return sum(world.models[name].size for name in names)


def _plan_of(world: World, loadable: Sequence[Model], by: Callable[[World, Model], Any]) -> Plan | None:
    """The plan that has `loadable` together: keep as much else as fits, what is most `by` first; reload some only if no
    order lets the others in."""
    missing = _wanted_first([model for model in loadable if not model.usable])
    kept = [model for model in loadable if model.usable]
    unusable = tuple(model.name for model in missing if model.state == "ready")
    taken = {model.name for model in loadable}
    others = [model for model in world.present if model.name not in taken]
    if len(others) > 1:
        others.sort(key=lambda model: by(world, model), reverse=True)
    for keep in range(len(others), -1, -1):
        order = loading_order(world, missing, beside(world, kept + others[:keep]))
        if order is not None:
            leave, order = _spare(world, others[keep:], kept + others[:keep], missing, order, ())
            return Plan(leave + unusable, order)
    order = loading_order(world, _largest_first(loadable), beside(world, ()))
    if order is None:
        return None
    leave, order = _spare(world, kept + others, (), _largest_first(loadable), order, {m.name for m in kept})
    return Plan(leave + unusable, order)


def _spare(
    world: World,
    leave: Sequence[Model],
    stay: Sequence[Model],
    load: Sequence[Model],
    order: tuple[str, ...],
    again: Container[str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Let those of `leave` stay that need not go, the first ones first; `again` are those that would be loaded again.
    Answers who still leaves, and the order of loading."""
    if len(leave) < 2:
        return tuple(model.name for model in leave), order
    leave, stay, load = list(leave), list(stay), list(load)
    for model in list(leave):
        without = [other for other in load if other is not model] if model.name in again else load
        spared = loading_order(world, without, beside(world, [*stay, model]))
        if spared is not None:
            leave = [other for other in leave if other is not model]
            stay.append(model)
            load, order = without, spared
    return tuple(model.name for model in leave), order


def _worth(world: World, model: Model) -> tuple[bool, bool, bool, float, str]:
    """Who stays rather than another: who cannot leave, then who is kept, then who is busy, then who was used last."""
    fast = model.pinned or model.stays_until > world.at
    return (fast, model.keep, model.waiting + model.serving > 0, model.last_used, model.name)


def _largest(world: World, model: Model) -> tuple[bool, bool, bool, int, str]:
    """The same, but the larger one stays rather than what was used last."""
    return (*_worth(world, model)[:3], model.size, model.name)


def _loadable(world: World, wanted: Model, members: Sequence[str]) -> list[Model]:
    return [model for name in members if _may_come(world, model := world.models[name], wanted)]


def _may_come(world: World, model: Model, wanted: Model) -> bool:
    """Members that are not installed, are being replaced, were sent away by a person, pause after a failed load, or of
    which little is expected, are left out of the plan."""
    if model.name == wanted.name or model.usable:
        return True
    may = model.installed and not model.replacing and not model.sent_away and model.not_before <= world.at
    return may and (_claimed(model) or world.rides(model))


def _claimed(model: Model) -> bool:
    return bool(model.waiting or model.wishes or model.keep)


def _wanted_first(models: Sequence[Model]) -> list[Model]:
    """Those somebody waits for come first, by how many wait for each second of loading; the gates may still turn the
    order round."""
    if len(models) < 2:
        return list(models)
    return sorted(
        models,
        key=lambda m: (
            (0, -(m.waiting + m.wishes) / max(m.load_seconds, 0.01), m.predicted, m.name)
            if m.waiting or m.wishes
            else (1, 0.0, -m.predicted, m.name)
        ),
    )


def _largest_first(models: Sequence[Model]) -> list[Model]:
    return sorted(models, key=lambda model: (-model.predicted, model.name))

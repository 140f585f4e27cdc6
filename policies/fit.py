"""Memory arithmetic: what fits beside what, in which order Ollama's own gates let it in, and what must leave for it.

Ollama's gates (server/sched.go at v0.33.0-rc2, run on 0.32): a load beside others is let in only while fewer than
OLLAMA_MAX_LOADED_MODELS are loaded and its prediction is at most 80 % of the free device memory; an empty device always
takes it. Our own gate is the budget.
"""

from collections.abc import Sequence

from policies.world import Model, Plan, World


def admits(world: World, model: Model, held: int, count: int) -> bool:
    """Whether `model` may be loaded beside `count` residents that hold `held` bytes (orphans not among them)."""
    orphans = world.orphans
    if held + orphans + model.size > world.budget:
        return False
    if count == 0:
        return True
    return count < world.max_loaded and model.predicted * 100 <= (world.device - held) * 80


def loading_order(world: World, load: Sequence[Model], held: int, count: int) -> tuple[str, ...] | None:
    """An order in which every gate lets `load` in, largest first where it can be; None where there is no such order."""
    if not load:
        return ()
    for model in load:
        if admits(world, model, held, count):
            rest = [other for other in load if other is not model]
            behind = loading_order(world, rest, held + model.size, count + 1)
            if behind is not None:
                return (model.name, *behind)
    return None


def holdable(world: World, members: Sequence[Model]) -> bool:
    """Whether an empty memory can hold `members` together."""
    return loading_order(world, _largest_first(members), 0, 0) is not None


def plan_for(world: World, wanted: Model) -> Plan | None:
    """The plan that brings `wanted` in with its set and sends the fewest bytes away; None if nothing would fit now."""
    plans = [plan for members in world.sets_of(wanted.name) if (plan := _plan(world, wanted, members)) is not None]
    if not plans:
        plan = _plan(world, wanted, (wanted.name,))
        return plan
    return min(plans, key=lambda plan: (sum(world.models[name].size for name in plan.leave), plan.load))


def _plan(world: World, wanted: Model, members: Sequence[str]) -> Plan | None:
    """The plan for one set: keep as much as fits, and reload members only if no order lets the others in."""
    loadable = [model for name in members if _loadable(world, model := world.models[name], wanted)]
    missing = _largest_first([model for model in loadable if not model.usable])
    kept = [model for model in loadable if model.usable]
    unusable = tuple(model.name for model in missing if model.state == "ready")
    others = [model for model in world.present if model.name not in members]
    others.sort(key=lambda model: (model.waiting + model.running > 0, model.last_used, model.name), reverse=True)
    for keep in range(len(others), -1, -1):
        stay = kept + others[:keep]
        order = loading_order(world, missing, sum(m.held for m in stay), len(stay))
        if order is not None:
            return Plan(tuple(m.name for m in others[keep:]) + unusable, order)
    order = loading_order(world, _largest_first(loadable), 0, 0)
    if order is None:
        return None
    return Plan(tuple(model.name for model in world.present), order)


def _loadable(world: World, model: Model, wanted: Model) -> bool:
    """Members that are not installed, or pause after a failed load, are left out of the plan."""
    return model.name == wanted.name or model.usable or (model.installed and model.not_before <= world.at)


def _largest_first(models: Sequence[Model]) -> list[Model]:
    return sorted(models, key=lambda model: (-model.predicted, model.name))

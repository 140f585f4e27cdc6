"""The policy people run: serve what is resident until drained, gather what waits, then change; force at the bound.

From the study summarised in docs/policies.md: leaving a model only when nothing waits for it and nothing runs on it is
within 2 % of the best online policy at loads up to 0.8; what it lacks is a bound, so a request whose model is away for
its class's patience (never less than `floor`) forces the change, with a drain barrier.
"""

from dataclasses import dataclass

from policies.fit import Plan, plan_for
from policies.verdict import Action, Change, Memo, Serve, Verdict
from policies.world import Model, World

FLOOR = 2.5  # forced changes take at most 1/FLOOR of the time: floor = FLOOR x S (scheduling study, phi = 0.4)
SHORTEST_TURN = 5.0  # seconds a forced-in model keeps its place at least
WEIGHT = {"interactive": 3.0, "agent": 1.0, "helper": 1.0, "batch": 0.25}
WISH_WEIGHT = 0.25


@dataclass(slots=True)
class Candidate:
    """A model that is away and wanted. `due` is the monotonic time at which its oldest claim becomes overdue."""

    model: Model
    plan: Plan
    due: float | None
    claim: str
    weight: float


def decide(world: World, memo: Memo) -> Verdict:
    """What to do now."""
    if not world.healthy:
        return Verdict((), memo, because="Ollama is away")
    serves = _serves(world)
    if serves:
        return Verdict(serves, memo)
    if world.transition is not None:
        return Verdict((), memo, because="a transition is under way")
    return _change(world, memo)


def floor(world: World) -> float:
    """Seconds below which no patience forces a change: FLOOR x the sum, over the contended sets, of load, unload and
    mean service (P4)."""
    return FLOOR * sum(_set_seconds(world, members) for members in contended(world))


def contended(world: World) -> tuple[tuple[str, ...], ...]:
    """The sets that somebody waits for or that serve somebody."""
    wanted = dict.fromkeys(_set_of(world, model) for model in world.demanded)
    for model in world.present:
        if model.running and not any(model.name in members for members in wanted):
            wanted[_set_of(world, model)] = None
    return tuple(wanted)


def _set_of(world: World, model: Model) -> tuple[str, ...]:
    """The first allowed set of `model`; one that the phase excludes stands for itself."""
    return next(iter(world.sets_of(model.name)), (model.name,))


def turn(world: World) -> float:
    """Seconds that a resident with requests waiting keeps its place against a forced change (P4)."""
    sets = contended(world)
    return max(SHORTEST_TURN, FLOOR * sum(_set_seconds(world, members) for members in sets) / (2 * max(1, len(sets))))


def _set_seconds(world: World, members: tuple[str, ...]) -> float:
    models = [world.models[name] for name in members]
    service = sum(model.service_seconds for model in models) / len(models)
    return service + sum(model.load_seconds + model.unload_seconds for model in models)


def _serves(world: World) -> tuple[Action, ...]:
    return tuple(
        Serve(head.id, "its model is resident")
        for model in world.demanded
        if model.usable and model.running < model.parallel and (head := world.first(model)) is not None
    )


def _change(world: World, memo: Memo) -> Verdict:
    """Which change of residency is worth it now, if any; overdue claims first, then what fits, then what is drained."""
    candidates = _candidates(world)
    wakes = [model.not_before for model in world.demanded if model.not_before > world.at]
    wakes += [c.due for c in candidates if c.due is not None and c.due > world.at]
    overdue = [c for c in candidates if c.due is not None and c.due <= world.at]
    if overdue:
        return _force(world, memo, min(overdue, key=lambda c: (c.due, c.model.name)), wakes)
    best: tuple[bool, float, str] | None = None
    chosen: Candidate | None = None
    for candidate in candidates:
        ready_at = _drained_at(world, candidate.plan)
        if ready_at is None:
            continue
        if ready_at > world.at:
            wakes.append(ready_at)
            continue
        key = (not candidate.plan.leave, candidate.weight, candidate.model.name)
        if best is None or key > best:
            best, chosen = key, candidate
    if chosen is not None:
        why = "it fits" if not chosen.plan.leave else f"{_names(chosen.plan.leave)} drained"
        return Verdict((_as_change(chosen, why),), memo, min(wakes, default=None))
    if candidates:
        return Verdict((), memo, min(wakes, default=None), _staying(world, candidates))
    return _home(world, memo, wakes)


def _candidates(world: World) -> list[Candidate]:
    found = []
    wait = None
    for model in world.demanded:
        if model.usable or model.not_before > world.at or not (model.installed or model.state == "ready"):
            continue
        plan = plan_for(world, model)
        if plan is None:
            continue
        if wait is None:
            wait = floor(world)
        due, claim, weight = None, "preload", WISH_WEIGHT * model.wishes
        for head in model.heads():
            when = max(head.arrived, model.away_since) + max(world.patience[head.cls], wait)
            if due is None or when < due:
                due, claim = when, f"{head.cls} waits {world.at - head.arrived:.0f} s"
            weight += WEIGHT[head.cls] * (1.0 + world.at - head.arrived)
        found.append(Candidate(model, plan, due, claim, weight))
    return found


def _force(world: World, memo: Memo, first: Candidate, wakes: list[float]) -> Verdict:
    """Force the most overdue claim once what it displaces has had its turn."""
    keep = turn(world)
    free_at = max(
        (m.since + keep for name in first.plan.leave if (m := world.models[name]).waiting and m.usable), default=0.0
    )
    if free_at > world.at:
        because = f"{first.model.name} is overdue; {_names(first.plan.leave)} keeps its turn of {keep:.0f} s"
        return Verdict((), memo, min([*wakes, free_at]), because)
    return Verdict((_as_change(first, "its patience is over", forced=True),), Memo(world.at), min(wakes, default=None))


def _drained_at(world: World, plan: Plan) -> float | None:
    """When what must leave is drained (and, where it is home, quiet for `settle`); None while it is busy or wanted."""
    ready_at = 0.0
    for name in plan.leave:
        model = world.models[name]
        if model.running or (model.waiting and model.usable):
            return None
        if name in world.home and name not in plan.load:
            ready_at = max(ready_at, model.last_used + world.settle)
    return ready_at


def _home(world: World, memo: Memo, wakes: list[float]) -> Verdict:
    """Nobody waits: bring the home set back once everything has been quiet for `settle`."""
    missing = [world.models[name] for name in world.home if not world.models[name].usable]
    missing = [m for m in missing if m.installed and m.not_before <= world.at]
    if not missing or world.demanded or any(model.running for model in world.present):
        return Verdict((), memo, min(wakes, default=None))
    if world.quiet_since + world.settle > world.at:
        return Verdict((), memo, min([*wakes, world.quiet_since + world.settle]))
    plan = plan_for(world, missing[0])
    if plan is None or (plan.leave and not world.home_due):
        return Verdict((), memo, min(wakes, default=None))
    because = f"home: quiet for {world.settle:.0f} s"
    return Verdict((Change(plan.leave, plan.load, because, cause="home"),), memo, min(wakes, default=None))


def _as_change(candidate: Candidate, why: str, forced: bool = False) -> Change:
    model, plan = candidate.model, candidate.plan
    wish = f"{model.waiting} waiting for {model.name} ({candidate.claim})"
    return Change(plan.leave, plan.load, f"{wish}; {why}", forced=forced)


def _staying(world: World, candidates: list[Candidate]) -> str:
    """Why nothing changes although somebody waits, with the numbers that decided."""
    c = min(candidates, key=lambda c: (c.due is None, c.due or 0.0, c.model.name))
    models = [world.models[name] for name in c.plan.leave]
    busy = ", ".join(f"{m.name} has {m.running} of {m.parallel} slots busy, {m.waiting} waiting" for m in models)
    latest = "" if c.due is None else f"; forced in {c.due - world.at:.0f} s at the latest"
    return f"{busy or 'nothing must leave'}; {c.model.waiting} waiting for {c.model.name} ({c.claim}){latest}"


def _names(names: tuple[str, ...]) -> str:
    return " and ".join(names)

"""The policy people run: serve what is resident until drained, then change at once; force at the bound.

From the study summarised in docs/policies.md: leaving a model only when nothing waits for it and nothing runs on it is
within 2 % of the best online policy at loads up to 0.8. `hold` says what warm prompts put off such a change; `foresee`
what comes next, so that it is better put off, or made unasked; `bound` from when on a change is forced, with a drain
barrier, for a request whose model is away.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from policies import early, foresee
from policies.bound import floor, lead, turn
from policies.fit import may_spare, plan_within
from policies.hold import WEIGHT, WISH_WEIGHT, rent
from policies.verdict import Action, Change, Memo, Serve, Verdict
from policies.world import Model, Plan, Waiting, World

SOON = 0.01  # seconds
AGAIN = 10.0  # seconds after which a change that was not worth it is thought of again


@dataclass(slots=True)
class Claim:
    """A model that is away and wanted: its oldest claim becomes overdue at `due` (monotonic seconds; None: a wish)."""

    model: Model
    due: float | None
    oldest: Waiting | None


def decide(world: World, memo: Memo) -> Verdict:
    """What to do now."""
    if not world.healthy:
        return Verdict((), memo, because="Ollama is away")
    demanded = world.demanded
    serves = _serves(world)
    if serves:
        left = _early(world) if world.transition is None and early.possible(world) else None
        return Verdict(serves if left is None else (left,), memo)
    if world.transition is not None:
        return Verdict((), memo, because="a transition is under way")
    if not demanded:
        return _home(world, memo)
    return _change(world, memo, demanded)


def _serves(world: World) -> tuple[Action, ...]:
    heads = [world.first(model) for model in world.derived(_open)]
    return tuple([Serve(head.id, "its model is resident") for head in heads if head is not None])


def _open(world: World) -> list[Model]:
    """Who could serve one of those who wait for it."""
    return [model for model in world.demanded if model.usable and model.running < model.parallel]


def _early(world: World) -> Change | None:
    """The change that is worth more now than serving those who wait for what it sends away, if any; a request that is
    overdue comes before it."""
    serving = {model.name for model in world.derived(_open)}
    best: tuple[Claim, Plan, early.Leaving] | None = None
    claims = _claims(world)
    if any(claim.due is not None and claim.due <= world.at for claim in claims):
        return None
    for claim in claims:
        plan = world.plan(claim.model)
        if plan is None or serving.isdisjoint(plan.leave) or (said := early.leaving(world, plan)) is None:
            continue
        if said.worth and _later(world, claim, plan) is None and (best is None or said.saves > best[2].saves):
            best = (claim, plan, said)
    if best is None:
        return None
    claim, plan, said = best
    behind = sum(world.models[name].waiting for name in plan.leave)
    why = f"{_names(plan.leave)} leaves with {behind} waiting: that saves about {said.saves:.0f} weighted seconds, and "
    return _as_change(world, claim, plan, f"{why}costs {said.costs:.0f}")


def _change(world: World, memo: Memo, demanded: Sequence[Model]) -> Verdict:
    """Which change of residency is worth it now, if any; overdue claims first, then what fits, then what is drained."""
    at = world.at
    claims = _claims(world)
    wakes = [model.not_before for model in demanded if model.not_before > at]
    dues = [(claim.due, claim.model.name, claim) for claim in claims if claim.due is not None]
    wakes += [due for due, _, _ in dues if due > at]
    for _, _, claim in sorted([each for each in dues if each[0] <= at]):
        plan = world.plan(claim.model)
        if plan is not None:
            return _force(world, memo, claim, plan, wakes)
    ready: list[tuple[bool, float, str, Claim, Plan]] = []
    held: list[str] = []
    for claim, plan in _plans(world, claims):
        drained_at = _drained_at(world, plan)
        if drained_at is None:
            continue
        if drained_at > at:
            wakes.append(drained_at)
            continue
        later = _later(world, claim, plan) if plan.leave else None
        if later is not None:
            wakes.append(later[0])
            held.append(later[1])
        else:
            ready.append((not plan.leave, _weight(world, claim.model), claim.model.name, claim, plan))
    if ready:
        *_, chosen, plan = max(ready, key=lambda each: each[:3])
        why = "it fits" if not plan.leave else f"{_names(plan.leave)} drained"
        if chosen.model.wrong_context:
            why = f"wrong context; {why}"
        return Verdict((_as_change(world, chosen, plan, why),), memo, min(wakes, default=None))
    because = "; ".join(held) or (_busy(world, claims[0]) if claims else "")
    return Verdict((), memo, min(wakes, default=None), because)


def _busy(world: World, claim: Claim) -> str:
    """Why nothing that could make room is drained, in numbers."""
    busy = [
        f"{m.name} ({m.running} of {m.parallel} slots" + (f", {m.waiting} waiting)" if m.waiting else ")")
        for m in world.present
        if m.serving or (m.waiting and m.usable)
    ]
    if busy:
        return f"{_asked(world, claim)}; busy: {', '.join(busy)}; it comes once that is drained{_latest(world, claim)}"
    if world.home:
        quiet = f"home stays until it was quiet for {world.settle:.0f} s"
        return f"{_asked(world, claim)}; {quiet}{_latest(world, claim)}"
    return f"{_asked(world, claim)}; there is no room for it now"


def _latest(world: World, claim: Claim) -> str:
    """From when on nothing more is let in before it; what runs by then ends first, however long that takes."""
    if claim.due is None:
        return ""
    return f"; forced in {claim.due - world.at:.0f} s, after what runs then" if claim.due > world.at else "; overdue"


def _later(world: World, claim: Claim, plan: Plan) -> tuple[float, str] | None:
    """When to think again of a change that nothing forbids, and why not now; None if it is worth it now."""
    model, stays = claim.model, _names(plan.leave)
    if (until := foresee.company(world, plan.leave)) is not None:
        return until, f"{stays} stays for a moment: it is usually asked for together with {model.name}"
    if (costs := foresee.stays(world, model, plan)) is not None:
        why = f"a change now would cost about {costs:.0f} weighted seconds more than one after the next request"
        return world.at + AGAIN, f"{stays} stays: {_asked(world, claim)}; {why}{_latest(world, claim)}"
    owed = rent(world, model, plan)
    if owed.left < SOON:
        return None
    return world.at + min(owed.left, AGAIN), (  # what is warm may get less with time, too
        f"{stays} stays: {_asked(world, claim)}; the prompts it holds warm are worth {owed.price:.0f} weighted seconds "
        f"of waiting ({owed.paid:.0f} by now){_latest(world, claim)}"
    )


def _claims(world: World) -> list[Claim]:
    at = world.at
    away = [(model, ahead) for model, ahead in world.derived(_away) if model.not_before <= at]
    if not away:
        return []
    wait = floor(world)
    patience = {cls: seconds if seconds > wait else wait for cls, seconds in world.patience.items()}
    claims = []
    for model, ahead in away:
        due, oldest, away_since = None, None, model.away_since
        for head in model.heads():
            arrived = head.arrived
            when = (arrived if arrived > away_since else away_since) + patience[head.cls] - ahead
            if due is None or when < due:
                due, oldest = when, head
        claims.append(Claim(model, due, oldest))
    return claims


def _away(world: World) -> list[tuple[Model, float]]:
    """Who could be loaded for those who wait for it, and how long before it is due that would begin."""
    return [
        (model, lead(world, model))
        for model in world.demanded
        if not model.usable and not model.replacing and (model.installed or model.state == "ready")
    ]


def _plans(world: World, claims: list[Claim]) -> Iterator[tuple[Claim, Plan]]:
    """The claims that a change without force could serve, each with its plan."""
    possible = world.derived(_possible) if claims else ()
    for claim in claims:
        if claim.model.name in possible:
            plan = world.plan(claim.model)
            if plan is not None:
                yield claim, plan


def _possible(world: World) -> frozenset[str]:
    """What may come without force on those who are busy or wanted."""
    return may_spare(world, [m for m in world.present if m.serving or (m.waiting and m.usable)])


def _weight(world: World, model: Model) -> float:
    """How much waits for `model`, by what one unit of each class's waiting is worth."""
    waited = sum(WEIGHT[head.cls] * (1.0 + world.at - head.arrived) for head in model.heads())
    return waited + WISH_WEIGHT * model.wishes


def _force(world: World, memo: Memo, first: Claim, plan: Plan, wakes: list[float]) -> Verdict:
    """Force the most overdue claim once what it displaces has had its turn."""
    keep = turn(world)
    free_at = max(
        (m.since + keep for name in plan.leave if (m := world.models[name]).waiting and m.usable), default=0.0
    )
    if free_at > world.at:
        because = f"{first.model.name} is overdue; {_names(plan.leave)} keeps its turn of {keep:.0f} s"
        return Verdict((), memo, min([*wakes, free_at]), because)
    change = _as_change(world, first, plan, "its patience is over", forced=True)
    return Verdict((change,), Memo(world.at), min(wakes, default=None))


def _drained_at(world: World, plan: Plan) -> float | None:
    """When what must leave is drained (and, where it is home, quiet for `settle`); None while it is busy or wanted."""
    ready_at = 0.0
    for name in plan.leave:
        model = world.models[name]
        if model.serving or (model.waiting and model.usable):
            return None
        if name in world.home and name not in plan.load:
            ready_at = max(ready_at, model.last_used + world.settle)
    return ready_at


def _home(world: World, memo: Memo) -> Verdict:
    """Nobody waits: bring back the home set once everything has been quiet for `settle`, and what is to be kept."""
    away = [model for name in world.home if _missed(model := world.models[name])]
    away += [model for model in world.kept if model.name not in world.home and _missed(model)]
    wakes = [model.not_before for model in away if model.not_before > world.at]
    if any(model.serving for model in world.present):
        return Verdict((), memo, min(wakes, default=None))
    for model in away:
        home = model.name in world.home
        due = world.quiet_since + (world.settle if home else 0.0)
        if due > world.at:
            wakes.append(due)
        elif model.not_before <= world.at and (plan := _homeward(world, model)) is not None:
            because = f"home: quiet for {world.settle:.0f} s" if home else f"{model.name} is to be kept, and it fits"
            return Verdict((Change(plan.leave, plan.load, because, cause="home"),), memo)
    if not world.home and not world.quiet:
        return _ahead(world, memo, wakes)
    return Verdict((), memo, min(wakes, default=None))


def _ahead(world: World, memo: Memo, wakes: list[float]) -> Verdict:
    """Nobody waits and no home is declared: load what is expected next, before it is asked for."""
    found = foresee.best(world)
    if isinstance(found, float):
        wakes.append(found)
    elif found is not None:
        plan, because = found
        return Verdict((Change(plan.leave, plan.load, because, cause="home"),), memo)
    return Verdict((), memo, min(wakes, default=None))


def _missed(model: Model) -> bool:
    return not model.usable and model.installed and not model.replacing and not model.sent_away


def _homeward(world: World, missing: Model) -> Plan | None:
    """The plan that brings home nearer, if one does: a home too large to be held together would send its own members
    away in turns, for ever. Where home is not due, and for what is only to be kept, nobody is sent away."""
    plan = plan_within(world, missing, world.home) if missing.name in world.home else None
    if plan is None or not plan.load or (plan.leave and not world.home_due):
        plan = plan_within(world, missing, (missing.name,))
        return plan if plan is not None and plan.load and not plan.leave else None
    return None if any(name in world.home and name not in plan.load for name in plan.leave) else plan


def _as_change(world: World, claim: Claim, plan: Plan, why: str, forced: bool = False) -> Change:
    return Change(plan.leave, plan.load, f"{_asked(world, claim)}; {why}", forced=forced)


def _asked(world: World, claim: Claim) -> str:
    """Who waits for what, and the oldest of them."""
    head = claim.oldest
    oldest = "preload" if head is None else f"{head.cls}, {world.at - head.arrived:.0f} s"
    return f"{claim.model.waiting} waiting for {claim.model.name} ({oldest})"


def _names(names: tuple[str, ...]) -> str:
    return " and ".join(names) or "nothing"

"""Strict arrival order, as Ollama does it: the baseline everything is measured against.

A resident model serves its own arrivals at once; of those whose model is away only the oldest is looked at, and waits
until what must leave for it has drained. It states no bound of its own: everybody ahead in the line comes first.
"""

from policies.verdict import Action, Change, Memo, Serve, Verdict
from policies.world import Model, Waiting, World


def decide(world: World, memo: Memo) -> Verdict:
    """What to do now."""
    if not world.healthy:
        return Verdict((), memo, because="Ollama is away")
    serves: list[Action] = [
        Serve(head.id, "its model is resident and it is the oldest")
        for model in world.demanded
        if model.usable and model.running < model.parallel and (head := _oldest(model)) is not None
    ]
    if serves or world.transition is not None:
        return Verdict(tuple(serves), memo)
    away = [model for model in world.demanded if _may_come(world, model)]
    waiting = [(head.seq, model) for model in away if (head := _oldest(model)) is not None]
    pauses = [model.not_before for model in world.demanded if model.not_before > world.at]
    wake = min(pauses, default=None)
    if waiting:
        model = min(waiting, key=lambda pair: pair[0])[1]
        because = f"{model.name} is wanted by the oldest request"
        if model.wrong_context:
            because = f"wrong context; {because}"
    elif away:
        model = away[0]
        because = f"{model.name} was asked for"
    else:
        return Verdict((), memo, wake)
    plan = world.plan(model)
    if plan is None:
        return Verdict((), memo, wake, f"{model.name} does not fit now")
    return Verdict((Change(plan.leave, plan.load, because),), memo, wake)


def _may_come(world: World, model: Model) -> bool:
    return not model.usable and not model.replacing and model.not_before <= world.at


def _oldest(model: Model) -> Waiting | None:
    return min(model.heads(), key=lambda head: head.seq, default=None)

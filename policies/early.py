"""Whether a model is left though somebody waits for it: where that saves those who wait for another clearly more.

By the best online policy (solved for two models, `scheduler.simulator.mdp`) that is so where the others' waiting costs
more for each second that serving them takes: a few agents on a large, slow model, and people who wait for a quick one.
Weighed is what a model's own queue puts off, against what those who are left behind wait until it is back. As much
weight as waits on average is left out: somebody always waits, whatever is done first. Where weights go with the speed
of the models, as in the documented routing, next to nothing is left early.
"""

from dataclasses import dataclass

from policies.bound import floor
from policies.world import Model, Plan, World

WORTH = 2.0  # times what it costs, that leaving must save


@dataclass(frozen=True, slots=True)
class Leaving:
    """What leaving now instead of when drained saves those who wait for what comes, and what it costs those who are
    left behind: weighted seconds of waiting, about."""

    saves: float
    costs: float

    @property
    def worth(self) -> bool:
        """Whether it is clearly worth it."""
        return self.saves > WORTH * self.costs


def possible(world: World) -> bool:
    """Whether more weight waits for what is away than waits for anything on average: less is never worth it."""
    away = [model.weight for model in world.demanded if not model.usable]
    return bool(away) and sum(away) > world.usual_weight


def leaving(world: World, plan: Plan) -> Leaving | None:
    """What `plan` would save and cost now; None where nothing is saved, or somebody who leaves is home, was not used
    since it came, or keeps somebody waiting who is over his patience: he is not put off again."""
    loads = [world.models[name] for name in plan.load]
    more = sum(model.weight for model in loads) - world.usual_weight
    stay = [world.models[name] for name in plan.leave]
    if more <= 0.0 or any(model.name in world.home or model.last_used <= model.since for model in stay):
        return None
    longest = floor(world)
    if any(world.at - head.arrived >= max(world.patience[head.cls], longest) for m in stay for head in m.heads()):
        return None
    now = max(drain(model, model.serving) for model in stay)
    later = max(drain(model, model.serving + model.waiting) for model in stay)
    there = sum(model.unload_seconds for model in stay) + sum(model.load_seconds for model in loads)
    back = sum(m.unload_seconds for m in loads) + sum(m.load_seconds for m in stay if m.waiting)
    needed = max(max(model.stay_seconds, drain(model, model.waiting)) for model in loads)
    behind = sum(model.weight for model in stay)
    costs = behind * (now + there + needed + back) + sum(model.reprompt for model in stay)
    return Leaving(more * (later - now), costs)


def drain(model: Model, requests: int) -> float:
    """Seconds until its slots have served `requests`, about: full slots, then the last ones out one after another,
    which for exponential services takes a harmonic sum of means."""
    tail = min(requests, model.parallel)
    return model.service_seconds * ((requests - tail) / model.parallel + _harmonic(tail))


def _harmonic(count: int) -> float:
    return sum([1 / number for number in range(1, count + 1)])

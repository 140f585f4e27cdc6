"""Whether a change that nothing forbids is worth it yet, or whether more should gather first.

A change costs its own seconds and those of coming back, the warm prompt caches it throws away, and what it makes those
wait who will ask for what leaves. Those who wait already pay rent: their waiting, by weight. Two classical rules say
when it is worth it: ski rental (once the rent paid equals the price) and Heyman's N-policy (once N = sqrt(2 x rate x
price / weight) requests have gathered); either is enough. Numbers: the study summarised in docs/policies.md.
"""

import math
from dataclasses import dataclass

from policies.world import Model, Plan, World

WEIGHT = {"interactive": 3.0, "agent": 1.0, "helper": 1.0, "batch": 0.5}
"""What one second of waiting costs, by class; a second of loading costs 1."""

WISH_WEIGHT = 0.25
MOST = 2  # requests that are enough in any case: by the best online policy a drained model hardly stays for more
# Tuned on workloads with seeds below 1000, like the constants of `bound` and `foresee` without another source.
UNKNOWN_ABSENCE = 0.1  # of what those wait who come for what has left: anonymous demand gathers and is served together
KNOWN_ABSENCE = 0.3  # the same of known sessions: they are there, and do wait


@dataclass(frozen=True, slots=True)
class Offer:
    """What a change to `model` is worth now: weighted seconds waited so far, weighted seconds it costs, requests that
    wait and how many are worth it."""

    rent: float
    price: float
    waiting: int
    enough: int

    @property
    def worth(self) -> bool:
        """Whether to change now."""
        return self.waiting >= self.enough or self.rent >= self.price


def offer(world: World, model: Model, plan: Plan) -> Offer:
    """What `plan`, which brings `model` in, is worth now."""
    count = model.waiting
    if not count:  # a preload alone
        return Offer(0.0, 0.0, model.wishes, 1)
    rent, weight = 0.0, 0.0
    away = world.at - model.away_since
    for cls, number, arrived in model.tally():
        rent += WEIGHT[cls] * number * min(world.at - arrived, away)
        weight += WEIGHT[cls] * number
    leaving = [world.models[name] for name in plan.leave]
    there = sum(m.unload_seconds for m in leaving) + sum(world.models[name].load_seconds for name in plan.load)
    back = model.unload_seconds + sum(m.load_seconds for m in leaving)
    absence = there + model.service_seconds + back
    missed = sum(_missed(world, m, absence) for m in leaving)
    price = there + back + sum(m.reprompt for m in leaving) + missed * absence
    enough = round(math.sqrt(2.0 * max(0.0, world.rate(model)) * price * count / weight))
    if world.everybody_waits:
        enough = 1
    return Offer(rent, price, count, max(1, min(MOST, enough)))


def _missed(world: World, model: Model, absence: float) -> float:
    """What a second of waiting costs those who are expected to ask for `model` while it is away."""
    askers = world.askers(model)
    if askers == math.inf:
        return UNKNOWN_ABSENCE * world.rate(model) * absence * model.urgency
    return KNOWN_ABSENCE * min(world.rate(model) * absence, askers) * model.urgency

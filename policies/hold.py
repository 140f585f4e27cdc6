"""Whether a change that nothing forbids is begun at once, or keeps warm prompts for a while yet.

By the best online policy a drained model is left as soon as somebody waits for another one: to gather more of them
first saves next to nothing where arrivals are chance, and where they are not, `foresee` knows better. But a change
throws away the prompts that the leaving models have read. Those who wait pay rent: their waiting, by weight. Once it
equals what is thrown away the change begins (ski rental: never more than twice the best choice).
"""

from dataclasses import dataclass

from policies.world import Model, Plan, World

WEIGHT = {"interactive": 3.0, "agent": 1.0, "helper": 1.0, "batch": 0.5}
"""What one second of waiting costs, by class; a second of loading costs 1."""

WISH_WEIGHT = 0.25


@dataclass(frozen=True, slots=True)
class Rent:
    """Weighted seconds waited so far for a model that is away, what one more second adds, and the weighted seconds of
    reading prompts again that the change throws away."""

    paid: float
    grows: float
    price: float

    @property
    def left(self) -> float:
        """Seconds until what was paid is worth it; 0 if it is, or where nobody but a wish waits for it."""
        return max(0.0, self.price - self.paid) / self.grows if self.grows else 0.0


def rent(world: World, model: Model, plan: Plan) -> Rent:
    """What those who wait for `model` have paid against what `plan`, which brings it in, throws away."""
    price = sum(world.models[name].reprompt for name in plan.leave)
    if not price:
        return Rent(0.0, 0.0, 0.0)
    paid, grows = 0.0, 0.0
    away = world.at - model.away_since
    for cls, number, arrived in model.tally():
        paid += WEIGHT[cls] * number * min(world.at - arrived, away)
        grows += WEIGHT[cls] * number
    return Rent(paid, grows, price)

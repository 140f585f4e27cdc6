"""What will be asked next, guessed from what followed moments like this one; and whether to load it before it is asked.

Requests that come within a moment of each other are one *group*. The past is searched for groups that were preceded by
the same ones as now and followed by as long a silence as there is now: the longer nothing comes, the fewer of them are
left, and what they were followed by is what is to be expected. Loading it now costs a load that is needed anyway if the
guess is right, and saves the waiting; if it is wrong it costs two. (Anticipation as in Iyer and Druschel, SOSP 2001;
the guess is a Markov chain over groups with the silence as part of its state.)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policies.world import Group, Model, Plan, World

LOOK_BACK = 300  # groups that are searched
ALIKE = 3  # moments like this one that are enough to guess from
DOUBT = 2.0  # moments in which only what is asked for anyway is expected, added to those seen
DAY = 86400.0
SAME_HOUR = 1800.0  # seconds by which a time of day may differ and still be the same
SOON, LATER = 4.0, 0.25  # seconds, and share of the silence, after which the guess is made again
SURE = 2.0  # standard errors by which loading ahead must be better


@dataclass(frozen=True, slots=True)
class Guess:
    """What is expected next: what came after moments like this one, seconds from now, and how often each model is asked
    for anyway (share of groups, and what a second of its waiting costs, times that share)."""

    followed: tuple[tuple[float, Group], ...]
    anyway: Mapping[str, tuple[float, float]]

    def times(self, name: str) -> int:
        """After how many of these moments `name` was asked for."""
        return sum(name in group.weights for _, group in self.followed)


def guess(groups: Sequence[Group], at: float) -> Guess | None:
    """What follows moments like this one: the same two groups before (else the same one), and as long a silence."""
    last = len(groups) - 1
    if last < ALIKE:
        return None
    silence = at - groups[last].at
    names, before = groups[last].names, groups[last - 1].names
    two: list[tuple[float, Group]] = []
    one: list[tuple[float, Group]] = []
    daily: list[tuple[float, Group]] = []
    for i in range(last - 1, max(0, last - LOOK_BACK), -1):
        here, after = groups[i], groups[i + 1]
        gap = after.at - here.at
        if gap <= silence:
            continue
        off = (at - here.at - silence) % DAY
        if at - here.at > DAY / 2 and min(off, DAY - off) < SAME_HOUR:
            daily.append((gap - silence, after))
        if here.names == names:
            one.append((gap - silence, after))
            if groups[i - 1].names == before:
                two.append((gap - silence, after))
    for found in (daily, two, one):
        if len(found) >= ALIKE:
            return Guess(tuple(found), _anyway(groups[-LOOK_BACK:]))
    return None


def _anyway(groups: Sequence[Group]) -> dict[str, tuple[float, float]]:
    shares: dict[str, tuple[float, float]] = {}
    for group in groups:
        for name, weight in group.weights.items():
            share, cost = shares.get(name, (0.0, 0.0))
            shares[name] = (share + 1.0 / len(groups), cost + weight / len(groups))
    return shares


def best(world: World) -> tuple[Model, Plan, str] | None:
    """The model to load before it is asked for, how, and the evidence; None where staying is as good."""
    expected = guess(world.groups, world.at)
    if expected is None:
        return None
    present = {model.name for model in world.present if model.usable}
    found: tuple[float, Model, Plan] | None = None
    for name in dict.fromkeys(name for _, group in expected.followed for name in group.weights):
        model = world.models[name]
        if not world.sets_of(name):
            continue  # the phase excludes it
        if name in present or not model.installed or model.replacing or model.not_before > world.at or model.sent_away:
            continue
        plan = world.plan(model) if _in_time(world, expected, model) else None
        if plan is not None and plan.load and (world.heard or not plan.leave):  # a start sends nobody away
            gain = _gain(world, expected, present, plan)
            if gain > (found[0] if found else 0.0):
                found = (gain, model, plan)
    if found is None:
        return None
    _, model, plan = found
    times, moments = expected.times(model.name), len(expected.followed)
    return model, plan, f"{model.name} is expected: asked for next after {times} of {moments} moments like this one"


def _in_time(world: World, expected: Guess, model: Model) -> bool:
    """Whether it is mostly asked for before an idle limit would unload it again."""
    limit = world.idle_limit(model)
    if limit is None:
        return True
    soon = sum(model.name in group.weights and ahead < limit for ahead, group in expected.followed)
    return 2 * soon > expected.times(model.name)


def look_again(world: World) -> float | None:
    """When a longer silence may have made the guess another one; None once it was silent for too long."""
    if len(world.groups) <= ALIKE:
        return None
    silence = world.at - world.groups[-1].at
    return world.at + max(SOON, LATER * silence) if silence < 2 * DAY else None


def _gain(world: World, expected: Guess, present: set[str], plan: Plan) -> float:
    """Weighted seconds that `plan`, carried out now, saves at least: the mean over the moments like this one, less
    SURE standard errors of it. What comes anyway counts as DOUBT moments more."""
    after = (present - set(plan.leave)) | set(plan.load)
    seconds = sum(world.models[name].load_seconds for name in plan.load)
    change = seconds + sum(world.models[name].unload_seconds for name in plan.leave)
    warm = sum(world.models[name].reprompt for name in plan.leave)  # lost for nothing if nobody asks for what is loaded
    saved = []
    for ahead, group in expected.followed:
        late = sum(w * max(0.0, change - ahead) for name, w in group.weights.items() if name in plan.load)
        cost = late + seconds + (0.0 if any(name in group.weights for name in plan.load) else warm)
        saved.append(_missing(world, group.weights, present) - _missing(world, group.weights, after) - cost)
    anyway = -seconds - warm
    for name, (share, weight) in expected.anyway.items():
        cost = _absent(world.models[name], share, weight)
        anyway += cost * ((name not in present) - (name not in after))
    count = len(saved)
    mean = sum(saved) / count
    error = math.sqrt(sum((each - mean) ** 2 for each in saved) / (count - 1) / count)
    return (count * mean + DOUBT * anyway) / (count + DOUBT) - SURE * error


def _missing(world: World, weights: Mapping[str, float], there: set[str]) -> float:
    return sum(_absent(world.models[name], 1.0, weight) for name, weight in weights.items() if name not in there)


def _absent(model: Model, share: float, weight: float) -> float:
    """What it costs that a model which is asked for with this probability is away: its load, and the waiting for it."""
    return share * model.load_seconds + weight * (model.load_seconds + model.unload_seconds)

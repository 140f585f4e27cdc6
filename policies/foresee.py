"""What will be asked next, guessed from what followed moments like this one; and whether a change now serves it better.

Requests that come within a moment of each other are one *group*. The past is searched for moments that were preceded by
the same groups as now and followed by as long a silence as there is now: the longer nothing comes, the fewer of them
are left, and what came after them is what is to be expected. On what followed each of them both choices are tried, a
change now and none before the next group, each going on as well as it could; the difference has to be clear.

Sources: anticipation, Iyer and Druschel, SOSP 2001; a choice by the best continuation of each drawn future (hindsight
optimisation), Chong, Givan and Chang, CDC 2000.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from policies.board import Board, Future, Next
from policies.world import Group, Model, Plan, World

LOOK_BACK = 300  # groups that are searched
ALIKE = 3  # moments like this one that are enough to guess from
MOMENTS = 8  # of them that are tried, the latest
AHEAD = 4  # groups that are played out
DAY = 86400.0
FAR = 2 * DAY  # seconds after which what comes does not matter now
SAME_HOUR = 1800.0  # seconds by which a time of day may differ and still be the same
SOON, LATER = 5.0, 0.5  # seconds, and share of the silence, after which the guess is made again
COMPANY = 1.0  # seconds in which what usually comes together has come
USUALLY = 0.7  # share of the moments
SURE = 1.6  # standard errors by which a choice must be better
FEW = 5.0  # of few moments more are needed, about as Student's t says
LEAST = 2.0  # weighted seconds by which a choice must be better


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a change now saves against waiting for the next group: weighted seconds on average, its standard error, and
    after how many moments like this one its model was asked for next."""

    saves: float
    error: float
    times: int
    moments: int

    @property
    def clearly(self) -> int:
        """1: change now; -1: do not; 0: it is not clear."""
        if not math.isfinite(self.saves) or abs(self.saves) < max(
            LEAST, (SURE + FEW / (self.moments - 1)) * self.error
        ):
            return 0
        return 1 if self.saves > 0 else -1


def foreseen(world: World, model: Model, plan: Plan) -> Foreseen | None:
    """What `plan`, which brings `model` in, saves if carried out now; None where nothing like this moment is known."""
    futures = _futures(world)
    return _compared(world, model, futures) if plan.load and len(futures) >= ALIKE else None


def best(world: World) -> tuple[Plan, str] | None:
    """The plan to carry out before anybody asks for what it loads, with the evidence; None where waiting is as good."""
    futures = _futures(world)
    if len(futures) < ALIKE:
        return None
    found: tuple[Foreseen, Model, Plan] | None = None
    for name in dict.fromkeys(name for future in futures for group in future[:1] for name in group.weights):
        model = world.models[name]
        if not _may_come(world, model) or not _in_time(world, model, futures):
            continue
        plan = world.plan(model)
        if plan is None or not plan.load or (plan.leave and not world.heard):  # a start sends nobody away
            continue
        said = _compared(world, model, futures)
        if said.clearly > 0 and (found is None or said.saves > found[0].saves):
            found = (said, model, plan)
    if found is None:
        return None
    said, model, plan = found
    moments = f"{said.times} of {said.moments} moments like this one"
    saved = f"loading it ahead saves about {said.saves:.0f} weighted seconds"
    return plan, f"{model.name} is expected: asked for next after {moments}; {saved}"


def _compared(world: World, model: Model, futures: Sequence[Future]) -> Foreseen:
    board = Board(world)
    saved = [board.best(future, "stay") - board.best(future, model.name) for future in futures]
    if board.exhausted:
        return Foreseen(0.0, 0.0, 0, len(futures))
    mean = sum(saved) / len(saved)
    spread = sum((each - mean) ** 2 for each in saved) / (len(saved) - 1)
    times = sum(bool(future) and model.name in future[0].weights for future in futures)
    return Foreseen(mean, math.sqrt(spread / len(saved)), times, len(futures))


def _may_come(world: World, model: Model) -> bool:
    """Whether it is away, and could be loaded unasked: the phase allows it, and nobody sent it away or replaces it."""
    if model.usable or not model.installed or model.replacing or model.sent_away or model.not_before > world.at:
        return False
    return bool(world.sets_of(model.name))


def _in_time(world: World, model: Model, futures: Sequence[Future]) -> bool:
    """Whether it is mostly asked for before an idle limit would unload it again."""
    limit = world.idle_limit(model)
    if limit is None:
        return True
    nexts = [group for future in futures for group in future[:1] if model.name in group.weights]
    return 2 * sum(group.when < limit for group in nexts) > len(nexts)


def company(world: World, leaving: Sequence[str]) -> float | None:
    """Until when to wait for what usually comes within a moment with what came last, where that is to leave."""
    groups = world.groups
    if not groups or world.at >= (until := groups[-1].at + COMPANY):
        return None
    here = groups[-1].weights
    alike = [group for group in groups[-1 - LOOK_BACK : -1] if any(name in group.weights for name in here)][-MOMENTS:]
    if len(alike) < ALIKE:
        return None
    missing = [name for name in leaving if name not in here]
    often = any(sum(name in group.weights for group in alike) >= USUALLY * len(alike) for name in missing)
    return until if often else None


def look_again(world: World) -> float | None:
    """When a longer silence may have made the guess another one; None once it was silent for too long."""
    if len(world.groups) <= ALIKE:
        return None
    silence = world.at - world.groups[-1].at
    return world.at + max(SOON, LATER * silence) if silence < FAR else None


def _futures(world: World) -> list[Future]:
    """What followed the moments like this one, the latest first."""
    groups, at = world.groups, world.at
    return [_after(world, i, groups[i].at + at - groups[-1].at) for i in _moments(groups, at)[:MOMENTS]]


def _after(world: World, start: int, shift: float) -> Future:
    groups = world.groups
    future: list[Next] = []
    for i in range(start + 1, min(start + 1 + AHEAD, len(groups))):
        group = groups[i]
        known = None
        if group.session:
            known = next((j for j in range(i - 1, start - 1, -1) if groups[j].session == group.session), None)
        ended = None if known is None else world.answered(groups[known])
        if known is not None and ended is not None and ended <= group.at:
            future.append(Next(group.at - ended, group.weights, known - start - 1))
        elif group.at - shift < FAR:
            future.append(Next(max(0.0, group.at - shift), group.weights))
        else:
            break  # what comes after it is farther still
    return future


def _moments(groups: Sequence[Group], at: float) -> list[int]:
    """Where it was like now: at the same time of day, else after the same two groups, else after the same one; and as
    long a silence followed."""
    last = len(groups) - 1
    if last < ALIKE:
        return []
    silence = at - groups[last].at
    names, before = groups[last].names, groups[last - 1].names
    two: list[int] = []
    one: list[int] = []
    daily: list[int] = []
    for i in range(last - 1, max(0, last - LOOK_BACK), -1):
        here = groups[i]
        if groups[i + 1].at - here.at <= silence:
            continue
        off = (at - here.at - silence) % DAY
        if at - here.at > DAY / 2 and min(off, DAY - off) < SAME_HOUR:
            daily.append(i)
        if here.names == names:
            one.append(i)
            if groups[i - 1].names == before:
                two.append(i)
                if len(two) == MOMENTS and not daily:
                    break
    return next((found for found in (daily, two, one) if len(found) >= ALIKE), [])

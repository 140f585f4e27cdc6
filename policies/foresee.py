"""What will be asked next, guessed from what followed moments like this one; and whether a change now serves it better.

Requests that come within a moment of each other are one *group*. The past is searched for moments that were preceded by
the same groups as now and followed by as long a silence as there is now: the longer nothing comes, the fewer of them
are left, and what came after them is what is to be expected. On what followed each of them both choices are tried, a
change now and none before the next group, each going on as well as it could. Where arrivals are chance something always
seems to follow something else; so nothing is done for a guess before such guesses have come true (`trust`).

Sources: anticipation, Iyer and Druschel, SOSP 2001; a choice by the best continuation of each drawn future (hindsight
optimisation), Chong, Givan and Chang, CDC 2000.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from policies import trust
from policies.board import Board, Future, Next
from policies.world import Group, Model, Plan, World

LOOK_BACK = 300  # groups that are searched
MOMENTS = 8  # alike, that are tried, the latest
TWO = 2  # of them at least, before anything is done for them
AHEAD = 4  # groups that are played out
DAY = 86400.0
FAR = 2 * DAY  # seconds after which what comes does not matter now
SAME_HOUR = 1800.0  # seconds by which a time of day may differ and still be the same
SOON, LATER = 5.0, 0.5  # seconds, and share of the silence, after which the guess is made again
MARGIN = 0.25  # share of the time until then that it is begun earlier at most
EARLIER, BEFORE = 60.0, 0.1  # seconds, and share of the silence, by which a group is expected before it comes
COMPANY = 1.0  # seconds in which what usually comes together has come
USUALLY = 0.7  # share of the moments
SURE = 1.0  # standard errors by which a choice must be better
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
        if not math.isfinite(self.saves) or abs(self.saves) < max(LEAST, SURE * self.error):
            return 0
        return 1 if self.saves > 0 else -1


def expected(groups: Sequence[Group], at: float) -> str:
    """The model that is asked for next, by what followed the moments like the one a little before `at`; empty where
    nothing like it is known."""
    if len(groups) < TWO:
        return ""
    before = at - min(EARLIER, BEFORE * (at - groups[-1].at))
    tops = [groups[i + 1].top for i in _moments(groups, before)[:MOMENTS]]
    return max(dict.fromkeys(tops), key=tops.count, default="")


def stays(world: World, model: Model, plan: Plan) -> float | None:
    """The weighted seconds that `plan`, which brings `model` in, would cost more now than after the next group; None
    where that is not known, or not so."""
    if not plan.load or not trust.groups(world):
        return None
    futures = _futures(world)
    if len(futures) < TWO:
        return None
    said = _compared(Board(world), model, futures)
    return -said.saves if said.clearly < 0 else None


def best(world: World) -> tuple[Plan, str] | float | None:
    """The plan to carry out before anybody asks for what it loads, with the evidence; else when to think of it again;
    None for not before the next request."""
    if not trust.turns(world):
        return None
    again = _look_again(world)
    futures = _futures(world)
    if len(futures) < TWO:
        return again
    board = Board(world)
    found: tuple[Foreseen, Model, Plan] | None = None
    for name in dict.fromkeys(name for future in futures for group in future[:1] for name in group.weights):
        model = world.models[name]
        if not _may_come(world, model):
            continue
        plan = world.plan(model)
        if plan is None or not plan.load or (plan.leave and not world.heard):  # a start sends nobody away
            continue
        slack = _slack(board, model, futures)
        if not _in_time(world, model, futures, slack):
            continue
        if slack > SOON:
            again = world.at + slack if again is None else min(world.at + slack, again)
            continue
        said = _compared(board, model, futures)
        if said.clearly > 0 and (found is None or said.saves > found[0].saves):
            found = (said, model, plan)
    if found is None:
        return again
    said, model, plan = found
    moments = f"{said.times} of {said.moments} moments like this one"
    saved = f"loading it ahead saves about {said.saves:.0f} weighted seconds"
    return plan, f"{model.name} is expected: asked for next after {moments}; {saved}"


def _slack(board: Board, model: Model, futures: Sequence[Future]) -> float:
    """Seconds that the change may still wait for and be over when the model is asked for as early as it ever was. Until
    then waiting costs nothing, and more may become known."""
    whens = [board.when(future) for future in futures if future and model.name in future[0].weights]
    known = [when for when in whens if when is not None]
    if not known:
        return 0.0
    earliest = min(known)
    spread = (max(known) - earliest) / len(known)  # about as far as one more would come before the earliest so far
    return earliest - board.takes(model.name) - max(SOON, min(spread, MARGIN * earliest))


def _compared(board: Board, model: Model, futures: Sequence[Future]) -> Foreseen:
    board.begin()
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


def _in_time(world: World, model: Model, futures: Sequence[Future], slack: float) -> bool:
    """Whether, loaded when `slack` is over, it is mostly asked for before an idle limit would unload it again."""
    limit = world.idle_limit(model)
    if limit is None:
        return True
    nexts = [group for future in futures for group in future[:1] if model.name in group.weights]
    return 2 * sum(group.when - max(0.0, slack) < limit for group in nexts) > len(nexts)


def company(world: World, leaving: Sequence[str]) -> float | None:
    """Until when to wait for what usually comes within a moment with what came last, where that is to leave."""
    groups = world.groups
    if not groups or world.at >= (until := groups[-1].at + COMPANY):
        return None
    here = groups[-1].weights
    alike = [group for group in groups[-1 - LOOK_BACK : -1] if any(name in group.weights for name in here)][-MOMENTS:]
    missing = [name for name in leaving if name not in here]
    often = any(sum(name in group.weights for group in alike) >= USUALLY * len(alike) for name in missing)
    return until if alike and often else None


def _look_again(world: World) -> float | None:
    """When a longer silence may have made the guess another one; None once it was silent for too long."""
    if len(world.groups) < TWO:
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
    long a silence followed. The latest first."""
    last = len(groups) - 1
    if last < 1:
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
    return daily or two or one

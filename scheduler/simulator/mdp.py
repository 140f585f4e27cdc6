"""Solves the two-model world: the best that a policy can do that does not know the future, and what a given one costs.

An average-cost Markov decision process, solved by relative value iteration (Puterman, *Markov Decision Processes*,
8.5); changes that take exactly so many seconds make it a semi-Markov one, brought to equal steps by Schweitzer's
transformation (11.4.3 there). The state is who is resident, how many run on it, and how many wait for each; cost is
waiting, weighted, and load seconds.
"""

from dataclasses import dataclass
from math import exp, lgamma, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scheduler.simulator.mdp_world import World

Values = NDArray[np.float64]
Acts = NDArray[np.int8]
STAY, ADMIT, GO = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Solved:
    """What a policy costs on average in the long run, and the policy.

    `acts[r][k, q, c]` is what to do with model r resident (0 quality, 1 coder), k requests running on it, and q and c
    waiting: STAY, ADMIT one of its own (then look again), or GO, change to the other (only with k = 0). `j` is cost per
    request: weighted seconds of waiting, and load seconds; it is right to ± `error`.
    """

    world: World
    j: float
    error: float
    rounds: int
    acts: tuple[Acts, Acts]

    def leaves(self, resident: int) -> int | None:
        """How many must wait for the other model before the drained `resident` is left; None if never."""
        table = self.acts[resident][0]
        drained = table[0, :] if resident == 0 else table[:, 0]
        going = np.flatnonzero(drained == GO)
        return int(going[0]) if going.size else None


def solve(world: World, error: float = 5e-4, rounds: int = 100_000) -> Solved:
    """The best policy of `world`, its cost right to a share `error`. ArithmeticError if `rounds` do not suffice."""
    return _iterate(_Steps(world), None, error, rounds)


def evaluate(world: World, acts: tuple[Acts, Acts], error: float = 5e-4, rounds: int = 100_000) -> Solved:
    """What the policy `acts` costs in `world`; it need not be the best, nor made for it. Raises as `solve` does."""
    return _iterate(_Steps(world), acts, error, rounds)


def exhaustive(world: World) -> tuple[Acts, Acts]:
    """The plain rule: admit while anybody waits for the resident; once it is drained, go if one waits for the other."""
    tables = []
    for resident in (0, 1):
        acts = np.zeros((world.slots[resident] + 1, world.most + 1, world.most + 1), np.int8)
        own = acts if resident == 0 else acts.transpose(0, 2, 1)
        own[:-1, 1:, :] = ADMIT
        own[0, 0, 1:] = GO
        tables.append(acts)
    return tables[0], tables[1]


class _Steps:
    """One step of the process, in time 1/rate: the values a step before, from those after it."""

    def __init__(self, world: World) -> None:
        self.world = world
        phase = [world.phases / seconds for seconds in world.change]
        busiest = max(slots / mean for slots, mean in zip(world.slots, world.services, strict=True))
        self.rate = sum(world.arrivals) + max(busiest, *phase)
        self.phase = phase
        waiting = np.arange(world.most + 1.0)
        self.cost = (world.weights[0] * waiting[:, None] + world.weights[1] * waiting[None, :]) / self.rate
        self.coming = [[_poisson(rate * seconds, world.most) for rate in world.arrivals] for seconds in world.change]
        weighted = sum(weight * rate for weight, rate in zip(world.weights, world.arrivals, strict=True))
        self.waited = [seconds * self.rate * self.cost + weighted * seconds**2 / 2 for seconds in world.change]

    def first(self) -> tuple[list[Values], list[Values]]:
        """Values of zero: of the two residents (by running), and of the two changes (by phase)."""
        size = (self.world.most + 1, self.world.most + 1)
        residents = [np.zeros((slots + 1, *size)) for slots in self.world.slots]
        return residents, [np.zeros((max(1, self.world.phases), *size)) for _ in residents]

    def resident(self, which: int, value: Values) -> Values:
        """Of each state with `which` resident and nothing decided: what the step costs, and what comes after it."""
        after = self.rate * value
        self._arrive(value, after)
        ends = 1 / self.world.services[which]
        for running in range(1, len(value)):
            after[running] += running * ends * (value[running - 1] - value[running])
        return self.cost + after / self.rate

    def change(self, to: int, value: Values, arrived: Values) -> Values:
        """The same of each state on the way to `to`, where `arrived` is the value of having come there."""
        if not self.world.phases:
            came = self.coming[to][0] @ arrived @ self.coming[to][1].T
            share = 1 / (self.rate * self.world.change[to])
            now: Values = share * (self.waited[to] + came) + (1 - share) * value[0]
            return now[None]
        after = self.rate * value
        self._arrive(value, after)
        following = np.concatenate([value[1:], arrived[None]])
        after += self.phase[to] * (following - value)
        return self.cost + after / self.rate

    def _arrive(self, value: Values, after: Values) -> None:
        first, second = self.world.arrivals
        after[:, :-1, :] += first * (value[:, 1:, :] - value[:, :-1, :])
        after[:, :, :-1] += second * (value[:, :, 1:] - value[:, :, :-1])


def _poisson(mean: float, most: int) -> Values:
    """From each number waiting, how likely each is after Poisson arrivals of that mean, and all above `most` there."""
    seen = np.array([exp(count * log(mean) - mean - lgamma(count + 1)) for count in range(most + 1)])
    matrix = np.zeros((most + 1, most + 1))
    for waiting in range(most + 1):
        matrix[waiting, waiting:] = seen[: most + 1 - waiting]
        matrix[waiting, most] += 1 - matrix[waiting].sum()
    return matrix


LOOK = 50
"""Rounds between two looks at how far the values are from what they tend to."""


def _iterate(steps: _Steps, acts: tuple[Acts, Acts] | None, error: float, rounds: int) -> Solved:
    residents, changes = steps.first()
    for done in range(1, rounds + 1):
        stayed = [steps.resident(which, residents[which]) for which in (0, 1)]
        under_way = [steps.change(to, changes[to], residents[to][0]) for to in (0, 1)]
        left = [steps.world.loads[1 - which] + under_way[1 - which][0] for which in (0, 1)]
        decided = [_decide(which, stayed[which], left[which], acts) for which in (0, 1)]
        if done % LOOK == 0:
            moves = [new - old for new, old in zip(decided + under_way, residents + changes, strict=True)]
            least, greatest = min(float(move.min()) for move in moves), max(float(move.max()) for move in moves)
            if greatest - least <= error * least:
                return _solved(steps, stayed, left, acts, (least, greatest), done)
        origin = decided[0][0, 0, 0]
        residents = [value - origin for value in decided]
        changes = [value - origin for value in under_way]
    raise ArithmeticError(f"no cost to a share of {error} after {rounds} rounds: is the load below 1?")


def _decide(which: int, stayed: Values, left: Values, acts: tuple[Acts, Acts] | None) -> Values:
    """The value of each state before the decision, by the best one or by `acts`."""
    decided = stayed.copy()
    for running in range(len(stayed) - 1, -1, -1):
        if running < len(stayed) - 1:
            own, admitted = _own(which, decided[running]), _own(which, decided[running + 1])
            if acts is None:
                own[1:] = np.minimum(own[1:], admitted[:-1])
            else:
                own[1:] = np.where(_own(which, acts[which][running])[1:] == ADMIT, admitted[:-1], own[1:])
    if acts is None:
        decided[0] = np.minimum(decided[0], left)
    else:
        decided[0] = np.where(acts[which][0] == GO, left, decided[0])
    return decided


def _own(which: int, table: Any) -> Any:
    """The table with those who wait for model `which` along its first axis."""
    return table if which == 0 else table.T


def _table(which: int, stayed: Values, left: Values) -> Acts:
    """The best decision of each state; of equals, to admit rather than to stay, and to stay rather than to go."""
    decided = _decide(which, stayed, left, None)
    acts = np.zeros(stayed.shape, np.int8)
    for running in range(len(stayed) - 1):
        better = _own(which, decided[running + 1])[:-1] <= _own(which, stayed[running])[1:]
        _own(which, acts[running])[1:][better] = ADMIT
    best = np.minimum(decided[0], stayed[0])
    acts[0][(left <= best) & (left < stayed[0])] = GO
    return acts


def _solved(
    steps: _Steps,
    stayed: list[Values],
    left: list[Values],
    acts: tuple[Acts, Acts] | None,
    bounds: tuple[float, float],
    rounds: int,
) -> Solved:
    per_request = steps.rate / sum(steps.world.arrivals)
    least, greatest = (bound * per_request for bound in bounds)
    if acts is None:
        acts = (_table(0, stayed[0], left[0]), _table(1, stayed[1], left[1]))
    return Solved(steps.world, (least + greatest) / 2, (greatest - least) / 2, rounds, acts)

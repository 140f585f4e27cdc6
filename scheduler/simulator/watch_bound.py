"""Watches over promise 4: shown every step of a core, it tells of each request that waited past the stated bound B.

B(class) = max(patience, floor) + longest running request + transitions already committed + one forced turn for each
other contended set, with the durations that occurred (docs/policies.md derives it). A forced turn is the whole change
to that set, its drain included, and the turn it keeps. Floor and turn are asked of the policy, never reckoned here.
What does not count: time in which Ollama or memory is unhealthy, or a person's order holds things up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from policies import bound
from policies.world import World
from scheduler.core import messages as m
from scheduler.core.config import Config
from scheduler.core.machine import Machine
from scheduler.core.state import CoreState, ModelState, TransitionState
from scheduler.core.view import Sets, WorldView
from scheduler.simulator.host import Host
from scheduler.simulator.measures import Result
from scheduler.simulator.run import Witness, simulate
from scheduler.simulator.workload import Job

BOUNDED = ("default",)  # policies that state the bound
SLACK = 1.0  # seconds: what changed underneath a plan is looked at again after one
Members = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """One forced turn of a contended set, in seconds: the whole change to it, and what it keeps its place."""

    members: Members
    change: float
    keeps: float


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a request has waited at `at` for the change to its model to begin, and what the bound was made of.
    All in seconds; `counted` leaves out what does not count, `patience` is that of its class."""

    at: float
    request: str
    cls: str
    model: str
    counted: float
    patience: float
    floor: float
    running: float
    committed: float
    turns: tuple[Turn, ...]

    @property
    def bound(self) -> float:
        """B for this request, by the durations that occurred."""
        forced = sum(turn.change + turn.keeps for turn in self.turns)
        return max(self.patience, self.floor) + self.running + self.committed + forced + SLACK

    def __str__(self) -> str:
        parts = [
            f"the larger of patience {self.patience:.1f} and floor {self.floor:.1f}",
            f"longest running request {self.running:.1f}",
            f"committed transition {self.committed:.1f}",
            *(f"a turn of {' + '.join(t.members)} {t.change:.1f} + {t.keeps:.1f}" for t in self.turns),
        ]
        return (
            f"{self.request} ({self.cls}) has waited {self.counted:.1f} s for the change to {self.model} to begin "
            f"(at {self.at:.1f} s), the bound is {self.bound:.1f} s: " + ", ".join(parts)
        )


class BoundBroken(AssertionError):
    """A request waited past the bound; the text tells how long, and what the bound was made of."""


def watched(
    jobs: Sequence[Job], host: Host, policy: str = "default", *, witness: Witness | None = None, **more: Any
) -> Result:
    """`simulate`, with the bound asserted where the policy states it. Raises BoundBroken."""
    result = observed(jobs, host, policy, witness=witness, **more)
    if result.past_bound:
        raise BoundBroken(f"{len(result.past_bound)} requests waited past the bound; the first: {result.past_bound[0]}")
    return result


def observed(
    jobs: Sequence[Job], host: Host, policy: str = "default", *, witness: Witness | None = None, **more: Any
) -> Result:
    """`simulate`, every step of it watched where the policy states the bound: `past_bound` tells who waited past it."""
    if policy not in BOUNDED:
        return simulate(jobs, host, policy, witness=witness, **more)
    watch = BoundWatch()

    def both(fact: m.Fact, orders: Sequence[m.Order], machine: Machine) -> None:
        watch(fact, orders, machine)
        if witness is not None:
            witness(fact, orders, machine)

    result = simulate(jobs, host, policy, witness=both, **more)
    result.past_bound = list(map(str, watch.broken))
    return result


class Spell:
    """A model is away and wanted: what happened meanwhile, in seconds."""

    __slots__ = (
        "changes", "committed", "config", "counted", "counted_before", "floor", "others", "patience", "running",
        "since", "told", "turn",
    )  # fmt: skip

    def __init__(self) -> None:
        self.counted = 0.0  # that counts, since it began
        self.counted_before = 0.0  # as it was when the present transition began
        self.floor = self.turn = self.running = self.committed = 0.0  # the largest seen
        self.config: Config | None = None  # whose patience was taken into account last
        self.patience: dict[str, float] = {}  # the longest of each class that was in force
        self.changes: dict[Members, float] = {}  # the longest whole change to each set
        self.others: dict[Members, None] = {}  # contended sets
        self.since: dict[str, float] = {}  # what had been counted when this request came; 0 for those of the beginning
        self.told: set[str] = set()


class BoundWatch:
    """Give it every step, in order. `broken` are the waits past the bound, `closest` the one that came nearest to it,
    `checked` how many were looked at."""

    def __init__(
        self, floor: Callable[[World], float] = bound.floor, turn: Callable[[World], float] = bound.turn
    ) -> None:
        self.broken: list[Wait] = []
        self.closest: Wait | None = None
        self.checked = 0
        self._nearest = 0.0  # of a wait to its bound, as a share
        self._floor, self._turn = floor, turn
        self.forget(0.0)

    def forget(self, at: float) -> None:
        """Another life of the core begins at `at`: what was seen of the last one says nothing of it."""
        self._at = at
        self._spells: dict[str, Spell] = {}
        self._paused: dict[str, float] = {}
        self._transition: TransitionState | None = None
        self._began = at
        self._counting = False
        self._state: CoreState | None = None
        self._known: tuple[Config, str] | None = None

    def __call__(self, fact: m.Fact, orders: Sequence[m.Order], machine: Machine) -> None:
        """Look at one step that was taken; `machine` is as it left it (a witness of `simulate`)."""
        state = machine.state
        self._use(state)
        self._pass(state.at)
        self._transitions(state)
        models = state.models
        away = [n for n in state.demanded if models[n].waiting and not models[n].usable]
        for name in [n for n in self._spells if n not in away]:
            del self._spells[name]
        for name in away:
            if name not in self._spells:
                self._spells[name] = Spell()
        if isinstance(fact, m.Arrived | m.Returned) and fact.id in state.requests:
            spell = self._spells.get(state.requests[fact.id].model)
            if spell is not None:
                spell.since.setdefault(fact.id, spell.counted)
        if self._spells:
            self._surroundings(state)
            for name in away:
                self._check(state, models[name])
        self._paused = {name: models[name].not_before for name in self._spells}
        self._counting = self._counts(state)

    def _use(self, state: CoreState) -> None:
        known = self._known
        if known is None or self._state is not state or known[0] is not state.config or known[1] != state.phase:
            self._state, self._known = state, (state.config, state.phase)
            self._sets = Sets(state.config, state.phase)
            self._world = WorldView(state, self._sets)

    def _pass(self, now: float) -> None:
        """The time since the last step counts for those whom nothing ill held up."""
        if self._counting:
            for name, spell in self._spells.items():
                spell.counted += max(0.0, now - max(self._at, self._paused.get(name, 0.0)))
        self._at = now

    def _transitions(self, state: CoreState) -> None:
        """What a transition took, once it is over; one that failed is not counted."""
        transition, before = state.transition, self._transition
        if transition is before:
            return
        if before is not None:
            failed = bool(before.leave or before.load)
            for name, spell in self._spells.items():
                self._took(name, spell, before)
                if failed:
                    spell.counted = min(spell.counted, spell.counted_before)
        self._transition, self._began = transition, state.at
        for spell in self._spells.values():
            spell.counted_before = spell.counted

    def _took(self, name: str, spell: Spell, transition: TransitionState) -> None:
        """What a transition has taken by now; that to the model itself is no other that it waits for."""
        if name in transition.planned:
            return
        seconds = self._at - self._began
        spell.committed = max(spell.committed, seconds)
        for members in {self._set_of(name) for name in transition.planned}:
            spell.changes[members] = max(spell.changes.get(members, 0.0), seconds)

    def _set_of(self, name: str) -> Members:
        return next(iter(self._sets.of(name)), (name,))

    def _surroundings(self, state: CoreState) -> None:
        """What those who wait may have to wait for now."""
        present = [state.models[name] for name in state.present]
        started = [next(iter(model.running_ids)) for model in present if model.running_ids]
        running = max([state.at - (state.requests[i].started or state.at) for i in started], default=0.0)
        names = [*(model.name for model in present if model.serving), *state.demanded]
        contended = dict.fromkeys(map(self._set_of, names))
        floor, turn = self._floor(self._world), self._turn(self._world)
        for name, spell in self._spells.items():
            spell.floor = max(spell.floor, floor)
            if spell.config is not state.config:
                spell.config = state.config
                for cls, patience in state.config.patience:
                    spell.patience[cls] = max(spell.patience.get(cls, 0.0), patience)
            spell.turn = max(spell.turn, turn)
            spell.running = max(spell.running, running)
            own = self._set_of(name)
            for members in contended:
                if members != own:
                    spell.others[members] = None
            if self._transition is not None:
                self._took(name, spell, self._transition)

    def _check(self, state: CoreState, model: ModelState) -> None:
        """Of those who wait for `model` the oldest of each class have waited longest. When a transition to it gives
        its first order their waiting ends, within the bound or not."""
        spell = self._spells[model.name]
        besides = spell.running + spell.committed + SLACK + len(spell.others) * spell.turn
        besides += sum(spell.changes.get(members, 0.0) for members in spell.others)
        for head in model.heads():
            self.checked += 1
            counted = spell.counted - spell.since.get(head.id, 0.0)
            bound = max(spell.patience[head.cls], spell.floor) + besides
            if counted > self._nearest * bound:
                self._nearest = counted / bound
                self.closest = self._wait(spell, counted, head.id, head.cls, model.name)
            if counted > bound and head.id not in spell.told:
                spell.told.add(head.id)
                self.broken.append(self._wait(spell, counted, head.id, head.cls, model.name))
        transition = state.transition
        if transition is not None and model.name in transition.planned and transition.first_order is not None:
            del self._spells[model.name]

    def _wait(self, spell: Spell, counted: float, request: str, cls: str, model: str) -> Wait:
        turns = tuple(Turn(members, spell.changes.get(members, 0.0), spell.turn) for members in spell.others)
        return Wait(self._at, request, cls, model, counted, spell.patience[cls], spell.floor, spell.running,
                    spell.committed, turns)  # fmt: skip

    def _counts(self, state: CoreState) -> bool:
        """Whether the time from now on counts, until the next step."""
        transition = state.transition
        present = [state.models[name] for name in state.present]
        if not self._world.healthy or state.stopping or state.paused is not None or state.pins or state.orphans:
            return False
        if state.memory_is_short:
            return False
        if sum(model.held for model in present) > (state.budget or 0):
            return False
        if any(model.replacing for model in state.models.values()):
            return False
        if any(model.stalled or model.stays_until > self._at for model in present):
            return False
        if transition is not None:
            return transition.cause in ("demand", "home")
        return not any(model.state in ("loading", "leaving") for model in present)

"""The world as a policy sees it: a read-only face over the core's state, with nothing copied."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from policies import fit
from policies.world import Group, Model, Plan, World
from scheduler.core import naming, sizes, turns
from scheduler.core.config import Config, PhaseConfig
from scheduler.core.state import CoreState, ModelState, Request, TransitionState

T = TypeVar("T")


class Sets:
    """The residency sets of one configuration under one phase."""

    def __init__(self, config: Config, phase: str) -> None:
        phases: dict[str, PhaseConfig] = {p.name: p for p in config.phases}
        self.phase = phases.get(phase) or PhaseConfig(phase, tuple(name for name, _ in config.sets))
        named = dict(config.sets)
        self.every: Mapping[str, tuple[str, ...]] = named
        self.allowed: Mapping[str, tuple[str, ...]] = {n: named[n] for n in self.phase.sets if n in named}
        self.home: tuple[str, ...] = named.get(self.phase.home, ())
        self._in_any = {model for members in named.values() for model in members}
        self._of: dict[str, tuple[tuple[str, ...], ...]] = {}
        self.kept = tuple(model.name for model in config.models if model.keep and self.of(model.name))

    def of(self, model: str) -> tuple[tuple[str, ...], ...]:
        """The allowed sets that hold `model`; a model in no set is a set of its own; () if the phase excludes it."""
        known = self._of.get(model)
        if known is None:
            found = tuple(members for members in self.allowed.values() if model in members)
            known = found if found or model in self._in_any else ((model,),)
            self._of[model] = known
        return known

    def names_of(self, model: str) -> tuple[str, ...]:
        """The names of all sets, allowed now or not, that hold `model`."""
        return tuple(name for name, members in self.every.items() if model in members)


class WorldView:
    """`policies.world.World` over a CoreState."""

    def __init__(self, state: CoreState, sets: Sets) -> None:
        self._state = state
        self._sets = sets
        self.patience: Mapping[str, float] = dict(state.config.patience)
        self._plans: dict[str, Plan | None] = {}
        self._derived: dict[Callable[[World], Any], Any] = {}
        self._planned_at = -1  # the revision that `_plans` belongs to

    @property
    def at(self) -> float:
        return self._state.at

    @property
    def healthy(self) -> bool:
        state = self._state
        well = state.ollama == "up" and not state.looking and state.budget is not None
        well = well and not (state.restart_wanted or state.restarting)
        return well and not state.passthrough and not (state.strays and self._straying)

    @property
    def _straying(self) -> bool:
        """Whether something that was let through runs on a model that is not seen in memory: Ollama may be loading
        it, so that nothing else may be ordered."""
        state = self._state
        return any(state.models[state.requests[i].model].state == "absent" for i in state.strays)

    @property
    def budget(self) -> int:
        return self._state.budget or 0

    @property
    def promised(self) -> int:
        return sizes.promised(self._state)

    @property
    def orphans(self) -> int:
        return self._state.orphans

    @property
    def unreachable(self) -> Mapping[str, int]:
        return self._state.unreachable

    @property
    def device(self) -> int:
        return sizes.device(self._state)

    @property
    def stale_free(self) -> bool:
        return self._state.config.stale_free

    @property
    def max_loaded(self) -> int:
        return self._state.config.max_loaded

    @property
    def models(self) -> Mapping[str, ModelState]:
        return self._state.models

    @property
    def present(self) -> Sequence[ModelState]:
        models = self._state.models
        return [models[name] for name in self._state.present]

    @property
    def demanded(self) -> Sequence[ModelState]:
        models = self._state.models
        return [models[name] for name in self._state.demanded]

    @property
    def transition(self) -> TransitionState | None:
        return self._state.transition

    @property
    def sets(self) -> Mapping[str, tuple[str, ...]]:
        return self._sets.allowed

    @property
    def home(self) -> tuple[str, ...]:
        if self._state.quiet or not self._sets.home:
            return ()
        return tuple(dict.fromkeys(naming.known_as(self._state, name) for name in self._sets.home))

    @property
    def quiet(self) -> bool:
        return bool(self._state.quiet)

    @property
    def heard(self) -> bool:
        return self._state.heard

    def idle_limit(self, model: Model) -> float | None:
        """Seconds without use after which `model` is unloaded; None for never."""
        return self._state.config.idle_limit_of(model.name)

    @property
    def kept(self) -> Sequence[ModelState]:
        if self._state.quiet or not self._sets.kept:
            return ()
        names = dict.fromkeys(naming.known_as(self._state, name) for name in self._sets.kept)
        return [self._state.models[name] for name in names]

    @property
    def home_due(self) -> bool:
        return self._state.home_due

    @property
    def settle(self) -> float:
        return self._sets.phase.settle

    @property
    def quiet_since(self) -> float:
        return self._state.quiet_since

    @property
    def groups(self) -> Sequence[Group]:
        return self._state.groups

    def answered(self, group: Group) -> float | None:
        """When what `group` waited for most was answered; None: not yet, or it is not known any more."""
        past = self._state.history.get(group.seq)
        return None if past is None else past.ended_at

    @property
    def usual_weight(self) -> float:
        return self._state.usual_weight

    def rides(self, model: Model) -> bool:
        """Whether a member of a set that nobody waits for is worth loading with the others."""
        return self._state.models[model.name].rides or model.name in self.home

    def first(self, model: Model) -> Request | None:
        """The waiting request of `model` to run next."""
        return turns.first(self._state.models[model.name], self._state.at, self.patience)

    def plan(self, model: Model) -> Plan | None:
        """How to bring `model` in with its set, or None; worked out once for each revision of the state."""
        if self._planned_at != self._state.revision:
            self._forget_the_old()
        if model.name not in self._plans:
            plan = fit.plan_for(self, model)
            models, at = self._state.models, self._state.at
            paused = [n for members in self._sets.of(model.name) for n in members if models[n].not_before > at]
            if paused or [name for name in self._state.present if models[name].stays_until > at]:
                return plan  # a pause that ends by itself: time alone may change it
            self._plans[model.name] = plan
        return self._plans[model.name]

    def derived(self, work: Callable[[World], T]) -> T:
        """What `work` makes of this world, worked out once for each revision of the state."""
        if self._planned_at != self._state.revision:
            self._forget_the_old()
        if work not in self._derived:
            self._derived[work] = work(self)
        known: T = self._derived[work]
        return known

    def _forget_the_old(self) -> None:
        self._plans.clear()
        self._derived.clear()
        self._planned_at = self._state.revision

    def sets_of(self, model: str) -> Sequence[tuple[str, ...]]:
        """The allowed sets that hold `model`, with members nobody knows left out."""
        return self._sets.of(model)

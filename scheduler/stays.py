"""When each model was loading, resident and leaving: what a timeline of residency is drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from scheduler.core import messages as m
from scheduler.core.machine import Machine

ABSENT = "absent"
SHOWN = {"ready": "resident", "draining": "resident"}
"""The core's states that a timeline calls otherwise."""


@dataclass(frozen=True, slots=True)
class Stay:
    """`model` was `state` (loading, resident or leaving) from `begin` to `end`, seconds."""

    model: str
    state: str
    begin: float
    end: float


@dataclass(slots=True)
class Stays:
    """Takes every change of a model's state, in the order of time."""

    over: list[Stay] = field(default_factory=list)
    _now: dict[str, tuple[str, float]] = field(default_factory=dict)

    def change(self, model: str, state: str, at: float) -> None:
        """`model` is `state` from `at` on."""
        before = self._now.get(model)
        if before is not None and before[0] == state:
            return
        self._end(model, at)
        if state != ABSENT:
            self._now[model] = (state, at)

    def now(self, *states: str) -> list[str]:
        """The models that are in one of `states`."""
        return [model for model, (state, _) in self._now.items() if state in states]

    def close(self, at: float) -> None:
        """Nothing comes after `at`."""
        for model in list(self._now):
            self._end(model, at)

    def within(self, begin: float, end: float) -> list[Stay]:
        """Those between two times, cut there and counted from `begin`."""
        cut = [Stay(s.model, s.state, max(s.begin, begin) - begin, min(s.end, end) - begin) for s in self.over]
        return [stay for stay in cut if stay.end > stay.begin]

    def _end(self, model: str, at: float) -> None:
        state, since = self._now.pop(model, (ABSENT, at))
        if state != ABSENT and at > since:
            self.over.append(Stay(model, state, since, at))

    def witness(self, fact: m.Fact, orders: Sequence[m.Order], machine: Machine) -> None:
        """See one step of a simulation."""
        models = machine.state.models
        for name in dict.fromkeys([*self._now, *machine.state.present]):
            self.change(name, SHOWN.get(models[name].state, models[name].state), fact.at)

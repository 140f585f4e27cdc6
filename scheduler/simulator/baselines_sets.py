"""The baseline `sets`: llama-swap's matrix of allowed sets, where whoever asks for a resident model is let through."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

from scheduler.simulator.baselines_stage import ABSENT, UNLOADING, Asked, Place, Stage
from scheduler.simulator.host import Host


@dataclass
class _Change:
    """One swap under way: who leaves, who comes, and who has joined it."""

    target: Place
    victims: tuple[Place, ...]
    joined: list[Asked] = field(default_factory=list)

    def touches(self, places: tuple[Place, ...]) -> bool:
        return self.target in places or any(victim in places for victim in self.victims)


def allowed_sets(host: Host) -> tuple[tuple[str, ...], ...]:
    """The largest sets of models that fit the budget together, in the order of the host's models."""
    names = [model.name for model in host.models]
    sizes = {model.name: model.size for model in host.models}
    found: list[tuple[str, ...]] = []
    for size in range(len(names), 0, -1):
        for chosen in combinations(names, size):
            if sum(sizes[name] for name in chosen) <= host.budget and not any(set(chosen) < set(one) for one in found):
                found.append(chosen)
    return tuple(sorted(found, key=lambda one: [names.index(name) for name in one]))


class Sets:
    """The set that evicts fewest of the present models is chosen; a busy victim or a colliding change: wait."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._sets = allowed_sets(stage.host)
        self._queue: list[Asked] = []
        self._changes: list[_Change] = []

    def arrived(self, asked: Asked) -> None:
        if not self._taken(asked):
            self._queue.append(asked)

    def ended(self, place: Place, asked: Asked) -> None:
        if not place.busy:
            self._again()

    def loaded(self, place: Place) -> None:
        change = next(one for one in self._changes if one.target is place)
        self._changes.remove(change)
        for asked in change.joined:
            self._stage.admit(place, asked)
        self._again()

    def unloaded(self, place: Place) -> None:
        change = next(one for one in self._changes if place in one.victims)
        self._load_when_clear(change)

    def woken(self) -> None:
        """Nothing here waits for a time."""

    def _again(self) -> None:
        waiting, self._queue = self._queue, []
        self._queue = [asked for asked in waiting if not self._taken(asked)]

    def _taken(self, asked: Asked) -> bool:
        place = self._stage.places[asked.job.model]
        if place.ready:
            self._stage.admit(place, asked)
            return True
        for change in self._changes:
            if change.target is place:
                change.joined.append(asked)
                return True
        return self._begun(place, asked)

    def _begun(self, place: Place, asked: Asked) -> bool:
        victims = self._victims(place)
        if victims is None or any(victim.busy for victim in victims):
            return False
        if any(change.touches((place, *victims)) for change in self._changes):
            return False
        change = _Change(place, victims, [asked])
        self._changes.append(change)
        for victim in victims:
            self._stage.unload(victim)
        self._load_when_clear(change)
        return True

    def _victims(self, place: Place) -> tuple[Place, ...] | None:
        targets = [change.target for change in self._changes]
        present = [one for one in self._stage.places.values() if one.state != ABSENT or one in targets]
        best: tuple[Place, ...] | None = None
        for names in self._sets:
            if place.name in names:
                victims = tuple(one for one in present if one.name not in names)
                if best is None or len(victims) < len(best):
                    best = victims
        return best

    def _load_when_clear(self, change: _Change) -> None:
        if not any(victim.state == UNLOADING for victim in change.victims):
            self._stage.load(change.target)

"""The baseline `lru`: one queue for everybody, strictly in order, and the model used longest ago leaves."""

from __future__ import annotations

from collections import deque

from scheduler.simulator.baselines_stage import ABSENT, LOADING, UNLOADING, Asked, Place, Stage


class Lru:
    """Nothing overtakes; one load or unload at a time; a busy victim is waited for."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._queue: deque[Asked] = deque()

    def arrived(self, asked: Asked) -> None:
        self._queue.append(asked)
        self._go()

    def ended(self, place: Place, asked: Asked) -> None:
        self._go()

    def loaded(self, place: Place) -> None:
        self._go()

    def unloaded(self, place: Place) -> None:
        self._go()

    def woken(self) -> None:
        """Nothing here waits for a time."""

    def _go(self) -> None:
        stage = self._stage
        while self._queue:
            place = stage.places[self._queue[0].job.model]
            if place.ready:
                if not place.free:
                    return
                stage.admit(place, self._queue.popleft())
                continue
            if any(other.state in (LOADING, UNLOADING) for other in stage.places.values()):
                return
            self._make_room(place)
            return

    def _make_room(self, place: Place) -> None:
        stage = self._stage
        if place.state == ABSENT and stage.fits(place):
            stage.load(place)
            return
        ready = [other for other in stage.places.values() if other.ready]
        victim = min(ready, key=lambda other: other.last_used, default=None)
        if victim is not None and not victim.busy:
            stage.unload(victim)

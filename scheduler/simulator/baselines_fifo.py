"""The baseline `fifo`: Ollama's own scheduler, where one head blocks the queue and a marked model still takes requests.

Rules after ollama/server/sched.go (fb30760); its 80 % rule for a load beside others is kept.
"""

from __future__ import annotations

from collections import deque

from scheduler.simulator.baselines_stage import ABSENT, LOADING, READY, UNLOADING, Asked, Place, Stage

KEEP_ALIVE = 300.0  # seconds, OLLAMA_KEEP_ALIVE's default
SHARE = 0.8  # of free memory, that a load beside others may predict


class Fifo:
    """Requests of a loaded model start at once; of all others only the head of one queue is looked at."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._queue: deque[Asked] = deque()
        self._keep = {name: KEEP_ALIVE for name in stage.places}
        self._idle: dict[str, float] = {}
        self._waits = False  # the head waits for an unload

    def arrived(self, asked: Asked) -> None:
        place = self._stage.places[asked.job.model]
        if place.ready:
            self._use(place, asked)
            return
        self._queue.append(asked)
        self._go()

    def ended(self, place: Place, asked: Asked) -> None:
        if not place.busy:
            self._rest(place)

    def loaded(self, place: Place) -> None:
        self._keep[place.name] = KEEP_ALIVE
        if self._queue and self._queue[0].job.model == place.name:
            self._use(place, self._queue.popleft())
        self._go()

    def unloaded(self, place: Place) -> None:
        self._waits = False
        self._go()

    def woken(self) -> None:
        stage = self._stage
        for name, since in list(self._idle.items()):
            place = stage.places[name]
            if stage.now >= since + self._keep[name] and place.ready:
                del self._idle[name]
                stage.unload(place)
        self._sleep()

    def _use(self, place: Place, asked: Asked) -> None:
        self._idle.pop(place.name, None)
        self._stage.admit(place, asked)

    def _rest(self, place: Place) -> None:
        if self._keep[place.name] == 0:
            self._idle.pop(place.name, None)
            self._stage.unload(place)
        else:
            self._idle[place.name] = self._stage.now
            self._sleep()

    def _sleep(self) -> None:
        if self._idle:
            self._stage.wake(min(since + self._keep[name] for name, since in self._idle.items()))

    def _go(self) -> None:
        stage = self._stage
        while self._queue and not self._waits:
            asked = self._queue[0]
            place = stage.places[asked.job.model]
            if place.ready:
                self._use(place, self._queue.popleft())
                continue
            if any(one.state == LOADING for one in stage.places.values()):
                return
            present = [one for one in stage.places.values() if one.state != ABSENT]
            if place.state == ABSENT and (not present or self._fits(place)):
                stage.load(place)
                return
            self._expire(place, present)

    def _fits(self, place: Place) -> bool:
        free = self._stage.host.budget - self._stage.held
        return place.model.size <= SHARE * free

    def _expire(self, place: Place, present: list[Place]) -> None:
        self._waits = True
        loaded = [one for one in present if one.state == READY]
        if any(one.state == UNLOADING for one in present) and not loaded:
            return
        in_order = sorted(loaded, key=lambda one: (self._keep[one.name], _short(one.name)))
        victim = next((one for one in in_order if not one.busy), in_order[0])
        self._keep[victim.name] = 0.0
        if not victim.busy:
            self._rest(victim)


def _short(name: str) -> str:
    """The name as the published figures sorted it, without its family ("fast:latest"); Ollama's order is arbitrary."""
    return name.partition("-")[2] or name

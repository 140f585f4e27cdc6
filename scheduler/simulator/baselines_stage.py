"""The host that the baselines run on: models that load and unload in time, slots, arrivals that wait for others.

It is not the core's machine: a baseline does what the core forbids (Ollama hands requests to a model that is about to
leave). A rule hears of every event and calls `admit`, `load`, `unload` and `wake` in answer.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Protocol

from scheduler.simulator.host import Host, HostModel
from scheduler.simulator.measures import Result, Served
from scheduler.simulator.workload import Job

ABSENT, LOADING, READY, UNLOADING = "absent", "loading", "ready", "unloading"


class Asked:
    """One request on the stage: its job, when it arrived (seconds), and its start once it has a slot."""

    __slots__ = ("arrived", "job", "started")

    def __init__(self, job: Job, arrived: float) -> None:
        self.job = job
        self.arrived = arrived
        self.started = -1.0


class Place:
    """A model on the stage: its state, who runs on it, and a queue of its own behind its slots."""

    __slots__ = ("last_used", "model", "name", "queue", "running", "since", "state")

    def __init__(self, model: HostModel) -> None:
        self.model = model
        self.name = model.name
        self.state = ABSENT
        self.running: list[Asked] = []
        self.queue: deque[Asked] = deque()
        self.last_used = -1.0  # when a request last started or ended here, seconds
        self.since = 0.0  # when the state last changed, seconds

    @property
    def ready(self) -> bool:
        return self.state == READY

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits in the model itself."""
        return bool(self.running or self.queue)

    @property
    def free(self) -> int:
        """Slots nobody holds."""
        return self.model.parallel - len(self.running)


class Rule(Protocol):
    """What a baseline answers to; each is called after the event has happened."""

    def arrived(self, asked: Asked) -> None: ...

    def ended(self, place: Place, asked: Asked) -> None: ...

    def loaded(self, place: Place) -> None: ...

    def unloaded(self, place: Place) -> None: ...

    def woken(self) -> None: ...


class Stage:
    """Time, memory and slots of one run; `play` runs a rule over jobs and returns what came of it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.places = {model.name: Place(model) for model in host.models}
        self.now = 0.0
        self.held = 0
        self.loads = 0
        self.load_seconds = 0.0
        self.loaded_bytes = 0
        self._events: list[tuple[float, bool, int, Callable[[], None]]] = []
        self._serial = count()
        self._served: list[Served] = []
        self._after: dict[str, list[Job]] = {}
        self._missing: dict[str, int] = {}
        self._woken: float | None = None
        self._rule: Rule

    def play(self, name: str, rule: Rule, jobs: list[Job]) -> Result:
        """Run `jobs` under `rule` until nothing more happens. A job whose model the host lacks stays unserved."""
        self._rule = rule
        for job in jobs:
            if job.after:
                self._missing[job.id] = len(set(job.after))
                for earlier in set(job.after):
                    self._after.setdefault(earlier, []).append(job)
            else:
                self._due(job, job.t or 0.0)
        events = self._events
        while events and len(self._served) < len(jobs):
            self.now, _, _, happen = heapq.heappop(events)
            happen()
        last = max((served.ended for served in self._served), default=0.0)
        return Result(
            policy=name,
            served=self._served,
            unserved=len(jobs) - len(self._served),
            loads=self.loads,
            load_seconds=self.load_seconds,
            loaded_bytes=self.loaded_bytes,
            makespan=last,
        )

    def fits(self, place: Place) -> bool:
        """Whether the model fits beside everything held now (from the start of a load to the end of an unload)."""
        return self.held + place.model.size <= self.host.budget

    def admit(self, place: Place, asked: Asked) -> None:
        """Start a request in a slot of a ready model, or let it wait in that model's own queue."""
        if place.state != READY:
            raise RuntimeError(f"{place.name} is {place.state} and cannot take {asked.job.id}")
        if place.free > 0:
            self._start(place, asked)
        else:
            place.queue.append(asked)

    def answer(self, asked: Asked) -> None:
        """Have the daemon itself answer a probe, at once and without its model."""
        asked.started = self.now
        self._done(asked)

    def load(self, place: Place) -> None:
        """Begin to load an absent model; RuntimeError if it does not fit."""
        if place.state != ABSENT or not self.fits(place):
            raise RuntimeError(f"{place.name} is {place.state}, {self.held} bytes are held: it cannot be loaded")
        self.held += place.model.size
        self.loads += 1
        self.load_seconds += place.model.load
        self.loaded_bytes += place.model.size
        self._turn(place, LOADING)
        self._at(self.now + place.model.load, lambda: self._loaded(place))

    def unload(self, place: Place) -> None:
        """Begin to unload an idle ready model; RuntimeError if it is busy."""
        if place.state != READY or place.busy:
            raise RuntimeError(f"{place.name} is {place.state} or busy: it cannot be unloaded")
        self._turn(place, UNLOADING)
        self._at(self.now + place.model.unload, lambda: self._unloaded(place))

    def wake(self, at: float) -> None:
        """Have `woken` called at a time; of several asked for, the earliest counts."""
        if self._woken is None or at < self._woken:
            self._woken = at
            self._at(at, lambda: self._wake(at))

    def _at(self, time: float, happen: Callable[[], None], arrival: bool = False) -> None:
        # at one and the same moment what ends comes before who arrives
        heapq.heappush(self._events, (time, arrival, next(self._serial), happen))

    def _due(self, job: Job, time: float) -> None:
        if job.model in self.places:
            self._at(time, lambda: self._rule.arrived(Asked(job, self.now)), arrival=True)

    def _turn(self, place: Place, state: str) -> None:
        place.state = state
        place.since = self.now

    def _start(self, place: Place, asked: Asked) -> None:
        asked.started = place.last_used = self.now
        place.running.append(asked)
        self._at(self.now + asked.job.service, lambda: self._ended(place, asked))

    def _ended(self, place: Place, asked: Asked) -> None:
        place.running.remove(asked)
        place.last_used = self.now
        self._done(asked)
        if place.queue:
            self._start(place, place.queue.popleft())
        self._rule.ended(place, asked)

    def _done(self, asked: Asked) -> None:
        self._served.append(Served(asked.job, asked.arrived, asked.started, self.now))
        for later in self._after.pop(asked.job.id, ()):
            self._missing[later.id] -= 1
            if not self._missing[later.id]:
                self._due(later, self.now + later.think)

    def _loaded(self, place: Place) -> None:
        self._turn(place, READY)
        self._rule.loaded(place)

    def _unloaded(self, place: Place) -> None:
        self._turn(place, ABSENT)
        self.held -= place.model.size
        self._rule.unloaded(place)

    def _wake(self, at: float) -> None:
        if self._woken == at:
            self._woken = None
            self._rule.woken()

"""What the proposal knows of the past: how often each model is asked for, how long it serves, how many wait at most."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from scheduler.simulator.workload import Job

QUICK = 40.0  # seconds: time constant of the rate that a change is weighed with
SLOW = 300.0  # seconds: of the load that comes from nobody known
LONG = 3600.0  # seconds: of how often a burst begins
FRESH = 600.0  # seconds after which a session that comes back counts as a new one
BURST = 20.0  # seconds of quiet after which the next request begins a burst
PEAK = 300.0  # seconds that the largest number of outstanding requests is remembered
SHARE = 0.2  # of the newest service time in the mean
SERVICE = 3.0  # seconds assumed of a model that has never served


class Decaying:
    """Events a second, each forgotten exponentially with time constant `over` (seconds)."""

    __slots__ = ("_at", "_over", "_value")

    def __init__(self, over: float) -> None:
        self._over = over
        self._at = 0.0
        self._value = 0.0

    def add(self, now: float) -> None:
        self._value = self.at(now) + 1.0 / self._over
        self._at = now

    def at(self, now: float) -> float:
        """The rate now, per second."""
        return self._value * math.exp(-(now - self._at) / self._over)


class Rates:
    """Arrival rates and the mean service of one model; times in seconds."""

    def __init__(self) -> None:
        self.all = Decaying(QUICK)
        self.open = Decaying(SLOW)
        self.bursts = Decaying(LONG)
        self.service = SERVICE
        self.last = -math.inf
        self._sessions: dict[str, Decaying] = {}
        self._seen: dict[str, float] = {}
        self._served = False

    def arrived(self, job: Job, now: float, quiet: float) -> None:
        """Note a request; `quiet` is how long nothing at all was going on before it."""
        self.all.add(now)
        if not job.session or now - self._seen.get(job.session, -math.inf) > FRESH:
            self.open.add(now)
        if job.session:
            self._sessions.setdefault(job.session, Decaying(QUICK)).add(now)
            self._seen[job.session] = now
        if quiet > BURST:
            self.bursts.add(now)
        self.last = now

    def without(self, sessions: Iterable[str], now: float) -> float:
        """The rate of all arrivals but those of the sessions named, per second: who waits already sends nothing new."""
        known = self._sessions
        return max(0.0, self.all.at(now) - sum(known[one].at(now) for one in sessions if one in known))

    def served(self, seconds: float) -> None:
        """Note how long a request took in its slot."""
        self.service += (seconds - self.service) * (SHARE if self._served else 1.0)
        self._served = True


class Outstanding:
    """Requests waiting or running, and the most there were of late."""

    def __init__(self) -> None:
        self.now = 0
        self._past: deque[tuple[float, int]] = deque()

    def change(self, by: int, at: float) -> None:
        self.now += by
        while self._past and self._past[-1][1] <= self.now:
            self._past.pop()
        self._past.append((at, self.now))

    def peak(self, now: float) -> int:
        """The most outstanding within PEAK seconds."""
        while len(self._past) > 1 and self._past[1][0] <= now - PEAK:
            self._past.popleft()
        return self._past[0][1] if self._past else 0

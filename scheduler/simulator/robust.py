"""What the daemon believes where the world is otherwise: each error is played beside the same daemon with right values.

`ERRORS` names them; `beside(error, jobs, host)` plays both and watches the bound in both. J of the mistaken one over J
of the right one says what it costs not to know.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scheduler.core import messages as m
from scheduler.simulator.host import Host
from scheduler.simulator.measures import Result
from scheduler.simulator.run import Belief, Run, configuration
from scheduler.simulator.watch_bound import BoundWatch
from scheduler.simulator.workload import Job

HOUR = 3600.0  # seconds
POLICY = "default"
TRUE = Belief()  # nothing but what is so


@dataclass(frozen=True, slots=True)
class Error:
    """One way to be mistaken: what the core is told of sizes and of load and unload seconds; `slots`: it believes the
    host's, where each model has only one; `nameless`: nobody says who he is; `jumps`: hours that the wall clock runs
    ahead, spread over the workload."""

    belief: Belief = TRUE
    slots: bool = False
    nameless: bool = False
    jumps: tuple[float, ...] = ()


ERRORS: Mapping[str, Error] = {
    "loads believed a quarter as long": Error(Belief(seconds=0.25)),
    "loads believed half as long": Error(Belief(seconds=0.5)),
    "loads believed twice as long": Error(Belief(seconds=2.0)),
    "loads believed four times as long": Error(Belief(seconds=4.0)),
    "no sessions": Error(nameless=True),
    "one slot a model, more believed": Error(slots=True),
    "sizes believed 20 % smaller": Error(Belief(size=0.8)),
    "sizes believed 20 % larger": Error(Belief(size=1.2)),
    "the clock jumps hours ahead": Error(jumps=(1.0, 8.0, 3.0, 72.0)),
}


@dataclass(frozen=True, slots=True)
class Beside:
    """One workload, played mistaken and with right values; `broken` tells of each wait past the bound in either."""

    mistaken: Result
    right: Result
    broken: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """J of the mistaken one over J of the right one; 1 where both are 0."""
        return self.mistaken.j / self.right.j if self.right.j else 1.0 + self.mistaken.j


def beside(error: str, jobs: Sequence[Job], host: Host) -> Beside:
    """Play `jobs` on `host` with the error of that name, and without. Raises KeyError where there is none such."""
    kind = ERRORS[error]
    told = configuration(host, POLICY, size=kind.belief.size)
    if kind.slots:
        host = host.with_models([replace(model, parallel=1) for model in host.models])
    asked = [replace(job, session="") for job in jobs] if kind.nameless else jobs
    watch, watch_right = BoundWatch(), BoundWatch()
    mistaken = _Served(asked, host, POLICY, kind.belief, watch, told)
    right = _Served(jobs, host, POLICY, TRUE, watch_right, None)
    for run, events in ((mistaken, _jumps(kind, jobs)), (right, ())):
        run.begin(events)
        run.go()
    broken = tuple(str(wait) for wait in (*watch.broken, *watch_right.broken))
    return Beside(mistaken.result, right.result, broken)


def _jumps(kind: Error, jobs: Sequence[Job]) -> tuple[m.Fact, ...]:
    """The jumps, at equal distances within what the workload takes (about: closed loops have no times of their own)."""
    last = max((job.t for job in jobs if job.t is not None), default=0.0) or sum(job.service for job in jobs)
    each = last / (len(kind.jumps) + 1)
    return tuple(m.ClockGap(each * number, hours * HOUR) for number, hours in enumerate(kind.jumps, 1))


class _Served(Run):
    """A run in which Ollama has the slots of the host, whatever the core believes: what is sent beyond them waits in
    the runner, first come first served, and the core sees it as one long service."""

    def begin(self, events: Sequence[m.Fact] = ()) -> None:
        """As `Run`."""
        self._lines: dict[str, deque[str]] = {model.name: deque() for model in self.host.models}
        self._busy = dict.fromkeys(self._lines, 0)
        self._sent: dict[str, float] = {}
        super().begin(events)

    def _answer(self, order: m.Order) -> None:
        if isinstance(order, m.Forward):
            self._sent[order.id] = self.at
            if self._busy[order.model] < self._models[order.model].parallel:
                self._start(order.id, order.model)
            else:
                self._lines[order.model].append(order.id)
        else:
            super()._answer(order)

    def _start(self, name: str, model: str) -> None:
        self._busy[model] += 1
        self._started[name] = self.at
        ends = self.at + self._jobs[name].service
        took = ends - self._sent.pop(name)
        self._post(ends, m.Ended(ends, name, "answered", None, took, status=200))

    def _served(self, fact: m.Ended) -> bool:
        if not super()._served(fact):
            return False
        model = self._jobs[fact.id].model
        self._busy[model] -= 1
        if self._lines[model]:
            self._start(self._lines[model].popleft(), model)
        return True

"""Plays a workload through our own core and policies under a virtual clock."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from scheduler.core import messages as m, sizes
from scheduler.core.config import Config, ModelConfig, PhaseConfig
from scheduler.core.machine import Machine
from scheduler.simulator.host import Host
from scheduler.simulator.measures import Result, Served
from scheduler.simulator.workload import Job

NEVER = 1e12  # seconds: what nobody waits for
ROOMY = 1 << 60  # bytes: a device in which Ollama's gates let everything in

Witness = Callable[[m.Fact, Sequence[m.Order], Machine], None]
"""Sees every fact with the orders that came of it."""


@dataclass(frozen=True, slots=True)
class Belief:
    """What the core is told that is not so: factors on sizes (bytes) and on load and unload seconds."""

    size: float = 1.0
    seconds: float = 1.0


def configuration(host: Host, policy: str, patience: Mapping[str, float] | None = None, size: float = 1.0) -> Config:
    """The configuration of a daemon on `host`; sizes are declared `size` times what they are."""
    sets = tuple((f"set{i}", members) for i, members in enumerate(host.sets))
    home = next((name for name, members in sets if members == host.home), "")
    known = Config()
    return Config(
        models=tuple(ModelConfig(o.name, int(o.size * size), 0, o.parallel) for o in host.models),
        sets=sets,
        phases=(PhaseConfig("normal", tuple(name for name, _ in sets), home, host.settle),),
        policy=policy,
        patience=tuple({**dict(known.patience), **(patience or {})}.items()),
        give_up=NEVER,
        queue_limit=1_000_000,
        max_loaded=3 if host.gates else 1000,
        load_limit=NEVER,
    )


def simulate(
    jobs: Sequence[Job],
    host: Host,
    policy: str = "default",
    *,
    belief: Belief | None = None,
    witness: Witness | None = None,
    config: Config | None = None,
    events: Sequence[m.Fact] = (),
) -> Result:
    """Every job to its end. `events` are facts that befall the daemon meanwhile (memory, commands), by their `at`."""
    run = Run(jobs, host, policy, belief or Belief(), witness, config)
    run.begin(events)
    run.go()
    return run.result


class Run:
    """One simulation under way."""

    def __init__(
        self,
        jobs: Sequence[Job],
        host: Host,
        policy: str,
        belief: Belief,
        witness: Witness | None,
        config: Config | None,
    ) -> None:
        self.host = host
        self.at = 0.0
        self.result = Result(policy, [])
        self.machine = Machine.fresh(config or configuration(host, policy, size=belief.size), 0.0)
        self._jobs = {job.id: job for job in jobs}
        self._models = {model.name: model for model in host.models}
        self._belief = belief
        self._witness = witness
        self._waits = {job.id: len(set(job.after)) for job in jobs if job.after}
        self._behind: dict[str, list[str]] = {}
        for job in jobs:
            for other in set(job.after):
                self._behind.setdefault(other, []).append(job.id)
        self._heap: list[tuple[float, int, m.Fact]] = []
        self._order = count()
        self._arrived: dict[str, float] = {}
        self._started: dict[str, float] = {}
        self._loading: dict[str, float] = {}
        self._wake: float | None = None

    def begin(self, events: Sequence[m.Fact] = ()) -> None:
        """Ollama answers, nothing is resident, the first jobs are on their way."""
        host = self.host
        size = self._belief.size
        installed = tuple(m.Listed(model.name, int(model.size * size)) for model in host.models)
        for model in host.models:
            state = self.machine.state.models[model.name]
            state.load_learned = model.load * self._belief.seconds
            state.unload_learned = model.unload * self._belief.seconds
            sizes.refresh(self.machine.state, state)
        self._step(m.OllamaUp(0.0, "simulated"))
        self._step(m.MemorySeen(0.0, host.budget, "simulated", device=host.budget if host.gates else ROOMY))
        self._step(m.ModelsListed(0.0, installed))
        self._step(m.Residents(0.0, 0.0, ()))
        for fact in events:
            self._post(fact.at, fact)
        for job in self._jobs.values():
            if job.t is not None:
                self._arrive(job, job.t)

    def go(self) -> None:
        """Until nothing more happens."""
        while self._heap or (self._wake is not None and len(self.result.served) < len(self._jobs)):
            if self._wake is not None and (not self._heap or self._wake < self._heap[0][0]):
                self.at, self._wake = max(self.at, self._wake), None
                self._step(m.Ticked(self.at))
                continue
            self.at, _, fact = heapq.heappop(self._heap)
            if isinstance(fact, m.Ended) and not self._served(fact):
                continue
            self._step(fact)
        self.result.unserved = len(self._jobs) - len(self.result.served)

    def _post(self, at: float, fact: m.Fact) -> None:
        heapq.heappush(self._heap, (at, next(self._order), fact))

    def _arrive(self, job: Job, at: float) -> None:
        kind: m.Kind = "probe" if job.cls == "probe" else "request"
        cls = "interactive" if job.cls == "probe" else job.cls
        self._arrived[job.id] = at
        self._post(at, m.Arrived(at, job.id, job.model, kind, cls, session=job.session, client=job.session))

    def _served(self, fact: m.Ended) -> bool:
        """Note that a job is over; False if it was over already (a probe that had to give its slot back)."""
        if fact.id not in self._started:
            return False
        job = self._jobs[fact.id]
        arrived, started = self._arrived.pop(fact.id), self._started.pop(fact.id)
        self.result.served.append(Served(job, arrived, started, self.at))
        if job.cls != "probe":
            self.result.makespan = self.at
        self._over(job.id)
        return True

    def _over(self, name: str) -> None:
        for behind in self._behind.pop(name, ()):
            self._waits[behind] -= 1
            if not self._waits[behind]:
                job = self._jobs[behind]
                self._arrive(job, self.at + job.think)

    def _step(self, fact: m.Fact) -> None:
        orders = self.machine.step(fact)
        if self._witness is not None:
            self._witness(fact, orders, self.machine)
        for order in orders:
            self._answer(order)

    def _answer(self, order: m.Order) -> None:
        at = self.at
        match order:
            case m.Forward():
                self._started[order.id] = at
                service = self._jobs[order.id].service
                self._post(at + service, m.Ended(at + service, order.id, "answered", None, service, status=200))
            case m.Load():
                took = self._models[order.model].load
                self.result.loads += 1
                self.result.load_seconds += took
                self.result.loaded_bytes += self._models[order.model].size
                size = int(self._models[order.model].size)
                self._post(at + took, m.Loaded(at + took, order.model, size, 4096, took))
            case m.Unload():
                took = self._models[order.model].unload
                self._post(at + took, m.Unloaded(at + took, order.model, took))
            case m.WakeAt():
                self._wake = order.when
            case m.AnswerProbe() if order.id in self._started:
                self._post(at, m.Ended(at, order.id, "canned", None, at - self._started[order.id]))
            case m.AnswerProbe():
                arrived = self._arrived.pop(order.id)
                self.result.served.append(Served(self._jobs[order.id], arrived, at, at))
                self._over(order.id)
            case m.Refuse():
                self._over(order.id)
            case m.Look():
                self._post(at, m.Residents(at, at, self._resident()))
            case _:
                pass

    def _resident(self) -> tuple[m.Resident, ...]:
        models = self.machine.state.models
        ready = [name for name, model in models.items() if model.state in ("ready", "draining", "leaving")]
        return tuple(m.Resident(name, self._models[name].size, 4096) for name in ready)

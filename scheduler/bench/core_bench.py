"""What deciding costs: microseconds of `Machine.step` with many requests waiting, over a mix of all common facts.

The machine runs under a virtual clock: every order is answered after a plausible time, and whoever leaves the queue is
replaced, so that the documented three models change places again and again and the number waiting stays.
"""

import heapq
import time
from dataclasses import dataclass, replace
from itertools import count
from statistics import fmean, median, quantiles

from policies import POLICIES
from scheduler.bench.report import Row
from scheduler.core import messages as m
from scheduler.core.config import Config, ModelConfig, PhaseConfig
from scheduler.core.machine import Machine
from scheduler.core.view import Sets, WorldView

QUALITY, CODER, FAST = "qwen-quality-128k:latest", "qwen2.5-coder:32b-instruct", "qwen-fast:latest"
BUDGET = 38_000_000_000
CONTEXT = 32768
STEPS = 20_000
SERVICE, LOAD, UNLOAD = 2.0, 20.0, 1.0  # virtual seconds
HANG_UP_EVERY = 10  # one arrival in so many replaces a client that hung up waiting
CLASSES = ("interactive", "agent", "interactive", "helper", "batch", "agent", "interactive")
GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Crowd:
    """`waiting` requests for models of these sizes (bytes), asked for in the order of `asked`, again and again."""

    waiting: int
    sizes: tuple[tuple[str, int], ...]
    sets: tuple[tuple[str, tuple[str, ...]], ...]
    asked: tuple[str, ...]
    target: str

    @property
    def config(self) -> Config:
        """What the core is told."""
        models = tuple(ModelConfig(name, size, CONTEXT) for name, size in self.sizes)
        return Config(models, self.sets, (PhaseConfig("normal", tuple(name for name, _ in self.sets)),))


DOCUMENTED = Crowd(
    100,
    ((QUALITY, 35 * GB), (CODER, 20 * GB), (FAST, 5 * GB)),
    (("quality", (QUALITY,)), ("coding", (CODER, FAST))),
    (QUALITY, CODER, FAST, CODER, FAST),
    "≤ 50 µs",
)
_TEN = tuple((f"model-{size}:latest", size * GB) for size in (30, 24, 20, 18, 14, 12, 9, 7, 5, 3))
MANY = Crowd(
    1000,
    _TEN,
    tuple((f"set-{number}", (_TEN[number][0], _TEN[9 - number][0])) for number in range(5)),
    tuple(name for name, _ in _TEN),
    "≤ 100 µs",
)


class Stage:
    """A machine, a virtual clock, and the facts that are still to come."""

    def __init__(self, policy: str = "default", crowd: Crowd = DOCUMENTED) -> None:
        self.at = 0.0
        self._crowd = crowd
        self._sizes = dict(crowd.sizes)
        self.took: list[float] = []  # seconds of the processor in each step
        self.changes = 0
        self._machine = Machine.fresh(replace(crowd.config, policy=policy), 0.0)
        self._sets = Sets(self._machine.state.config, self._machine.state.phase)
        self._coming: list[tuple[float, int, m.Fact]] = []
        self._order = count()
        self._ids = count()
        self._tick_at: float | None = None
        listed = tuple(m.Listed(name, size, num_ctx=CONTEXT, digest=name) for name, size in crowd.sizes)
        for fact in (
            m.MemorySeen(0.0, BUDGET, "configured", device=48_000_000_000),
            m.ModelsListed(0.0, listed),
            m.OllamaUp(0.0, "0.32.0"),
            m.Residents(0.0, 0.0, ()),
        ):
            self._step(fact)

    @property
    def waiting(self) -> int:
        """Requests waiting now."""
        return sum(model.waiting for model in self._machine.state.models.values())

    def run(self, steps: int, waiting: int) -> None:
        """Take `steps` steps with `waiting` requests in the queues at each."""
        self._fill(waiting)
        self.took.clear()
        self.changes = 0
        while len(self.took) < steps:
            self.at, _, fact = heapq.heappop(self._coming)
            if isinstance(fact, m.Ticked):
                if self._tick_at != fact.at:
                    continue  # a later WakeAt replaced it
                self._tick_at = None
            self._step(fact)
            self._fill(waiting)

    def decide(self) -> float:
        """Ask the policy once more, with nothing remembered of what it worked out before, and do nothing of what it
        says: seconds of the processor."""
        state = self._machine.state
        world = WorldView(state, self._sets)
        policy = POLICIES[state.config.policy]
        began = time.process_time()
        policy(world, state.memo)
        return time.process_time() - began

    def _fill(self, waiting: int) -> None:
        while self.waiting < waiting:
            number = next(self._ids)
            self._arrive(number)
            asked = self._crowd.asked
            if number % HANG_UP_EVERY == 0 and (victim := self._first_of(asked[number // HANG_UP_EVERY % len(asked)])):
                self._step(m.Left(self.at, victim))

    def _arrive(self, number: int) -> None:
        asked = self._crowd.asked
        model, cls = asked[number % len(asked)], CLASSES[number % len(CLASSES)]
        self._step(m.Arrived(self.at, f"r{number}", model, cls=cls, alias=model, dialect="chat", body_bytes=1000))

    def _first_of(self, model: str) -> str | None:
        """The id of one who waits for `model`."""
        return next((request.id for request in self._machine.state.models[model].requests()), None)

    def _step(self, fact: m.Fact) -> None:
        began = time.process_time()  # what else runs on the machine is not the core's
        orders = self._machine.step(fact)
        self.took.append(time.process_time() - began)
        for order in orders:
            self._carry_out(order)

    def _carry_out(self, order: m.Order) -> None:
        """What the world does about an order, as a fact to come."""
        match order:
            case m.Forward():
                at = self.at + SERVICE
                self._later(m.Ended(at, order.id, "answered", 0.5, SERVICE, 250, 100, 200))
            case m.Load():
                self.changes += 1
                at = self.at + LOAD
                self._later(m.Loaded(at, order.model, self._sizes[order.model], CONTEXT, LOAD))
            case m.Unload():
                self._later(m.Unloaded(self.at + UNLOAD, order.model, UNLOAD))
            case m.WakeAt():
                self._tick_at = max(order.when, self.at)
                self._later(m.Ticked(self._tick_at))

    def _later(self, fact: m.Fact) -> None:
        heapq.heappush(self._coming, (fact.at, next(self._order), fact))


def measure(rounds: int, steps: int = STEPS) -> list[Row]:
    """Mean microseconds a step, medians of `rounds`: few models and both policies, then many of both."""
    cases = [(DOCUMENTED, "default"), (DOCUMENTED, "fifo"), (MANY, "default")]
    return [_row(rounds, steps, crowd, policy) for crowd, policy in cases]


def _row(rounds: int, steps: int, crowd: Crowd, policy: str) -> Row:
    means, middles, slowest, changes = [], [], [], 0
    for _ in range(rounds):
        stage = Stage(policy, crowd)
        stage.run(steps, crowd.waiting)
        means.append(fmean(stage.took) * 1e6)
        middles.append(median(stage.took) * 1e6)
        slowest.append(quantiles(stage.took, n=100)[98] * 1e6)
        changes += stage.changes
    note = f"mean; p50 {median(middles):.0f}, p99 {median(slowest):.0f} µs; "
    note += f"{steps} steps a round, {changes / rounds:.0f} loads in them"
    figure = f"core: a step with {crowd.waiting} waiting for {len(crowd.sizes)} models, policy {policy}"
    target = crowd.target if policy == "default" else ""
    return Row(figure, through=f"{median(means):.1f} µs", target=target, note=note)

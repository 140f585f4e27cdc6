"""A play under virtual time: a machine whose orders are answered by a formula, for tests that need a lively core."""

import heapq
import random
from collections.abc import Callable
from itertools import count

from scheduler.core import messages as m
from scheduler.core.config import Config, ModelConfig, PhaseConfig
from scheduler.core.machine import Machine

QUALITY, CODER, FAST = "qwen-quality-128k:latest", "qwen2.5-coder:32b-instruct", "qwen-fast:latest"
SIZES = {QUALITY: 35 * 10**9, CODER: 20 * 10**9, FAST: 5 * 10**9, "small:latest": 10**9}
BUDGET = 38 * 10**9
CONFIG = Config(
    models=(ModelConfig(QUALITY, SIZES[QUALITY]), ModelConfig(CODER, SIZES[CODER]), ModelConfig(FAST, SIZES[FAST])),
    sets=(("quality", (QUALITY,)), ("coding", (CODER, FAST))),
    phases=(
        PhaseConfig("normal", ("quality", "coding")),
        PhaseConfig("orchestra", ("coding", "quality"), "coding", 30.0),
        PhaseConfig("evening", ("quality",)),
    ),
)

Witness = Callable[[m.Fact, list[m.Order]], None]


class Play:
    """Facts in the order of their time; every order is answered after a while, mostly well."""

    def __init__(self, seed: int = 1, config: Config = CONFIG, start: float = 1000.0) -> None:
        self.machine = Machine.fresh(config, start)
        self.at = start
        self.chance = random.Random(seed)
        self.before: Callable[[m.Fact], None] = lambda _: None
        self.witnesses: list[Witness] = []
        self._coming: list[tuple[float, int, m.Fact]] = []
        self._numbers = count()
        self._resident: dict[str, int] = {}

    def begin(self) -> None:
        """Ollama answers, memory is known, models are listed."""
        listed = tuple(m.Listed(name, size, 1000, 131072, digest=name) for name, size in SIZES.items())
        self.post(m.OllamaUp(self.at, "0.32.1"))
        self.post(m.MemorySeen(self.at, BUDGET, "memory.budget"))
        self.post(m.ModelsListed(self.at, listed))

    def demand(self, number: int, seconds: float) -> None:
        """Let `number` requests and probes come within the next `seconds`."""
        for _ in range(number):
            at = self.at + self.chance.random() * seconds
            kind: m.Kind = "probe" if self.chance.random() < 0.2 else "request"
            cls = self.chance.choice(("interactive", "agent", "helper", "batch"))
            name = self.chance.choice(tuple(SIZES))
            request = f"r{next(self._numbers)}"
            self._later(m.Arrived(at, request, name, kind, cls, "gpt-4", "chat", "127.0.0.1:50000", "5e55", 900, "d1"))
            if self.chance.random() < 0.1:
                self._later(m.Left(at + self.chance.random() * 60, request))

    def run(self, until: float | None = None) -> None:
        """Play on until nothing but time is coming, or until this time."""
        while self._coming and (until is None or self._coming[0][0] <= until):
            if until is None and not self.machine.state.requests and self._only_time():
                return
            self.post(heapq.heappop(self._coming)[2])
        if until is not None:
            self.at = max(self.at, until)

    def _only_time(self) -> bool:
        """Whether all that comes is the core's own wish to be woken, which may be days away."""
        return all(isinstance(fact, m.Ticked) for _, _, fact in self._coming)

    def post(self, fact: m.Fact) -> list[m.Order]:
        """One step now."""
        self.at = max(self.at, fact.at)
        self.before(fact)
        orders = self.machine.step(fact)
        for witness in self.witnesses:
            witness(fact, orders)
        for order in orders:
            self._answer(order)
        return orders

    def _later(self, fact: m.Fact) -> None:
        heapq.heappush(self._coming, (fact.at, next(self._numbers), fact))

    def _answer(self, order: m.Order) -> None:
        at = self.at
        match order:
            case m.Load():
                took = self.chance.uniform(1.0, 40.0)
                if self.chance.random() < 0.1:
                    self._later(m.LoadFailed(at + took, order.model, "no more room", took))
                else:
                    self._resident[order.model] = SIZES[order.model] + 10**8
                    self._later(m.Loaded(at + took, order.model, self._resident[order.model], 32768, took))
            case m.Unload():
                self._resident.pop(order.model, None)
                self._later(m.Unloaded(at + 0.7, order.model, 0.7))
            case m.Look():
                rows = tuple(m.Resident(name, size, 32768) for name, size in self._resident.items())
                self._later(m.Residents(at + 0.01, at + 0.005, rows))
            case m.Forward():
                service = self.chance.uniform(0.1, 30.0)
                outcome: m.Outcome = "failed" if self.chance.random() < 0.05 else "answered"
                self._later(m.Ended(at + service, order.id, outcome, service / 3, service, 90, 40, 200))
            case m.WakeAt():
                self._later(m.Ticked(max(at, order.when)))
            case _:
                pass

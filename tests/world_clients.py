"""The clients' half of the virtual machine: its clock, who asks, what becomes of what Ollama was sent, who hangs up."""

import heapq
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, cast

from scheduler.core import messages as m
from scheduler.core.machine import Machine
from tests.world_parts import Broken, Client, Runner, Stage, Trouble, Watcher

if TYPE_CHECKING:
    from tests.world_model import World

STEPS = 8000  # in one run, after which something goes round in circles


class Clients(ABC):
    """Time, clients and the requests that Ollama has; `World` adds what is in memory."""

    def __init__(self, stage: Stage, seed: int, watchers: Sequence[Watcher] = ()) -> None:
        self.stage = stage
        self.config = stage.config
        self.seed = seed
        self.chance = random.Random(seed)
        self.watchers = watchers
        self.now = 1000.0
        self.machine = Machine.fresh(stage.config, self.now)
        self.steps: list[tuple[m.Fact, list[m.Order]]] = []
        self.facts = 0
        self.installed = dict(stage.models)
        self.runners: dict[str, Runner] = {}
        self.clients: dict[str, Client] = {}  # those not done
        self.orphans = 0
        self.budget = stage.budget
        self.alive = True
        self.calm = not stage.troubled
        self.loading: str | None = None
        self.unloading: dict[str, int] = {}
        self.trouble = Trouble()
        self.life = 0  # of the daemon
        self.epoch = 0  # of Ollama
        self.changed_at = self.now  # when truth last changed without an order of ours
        self.seen_asked = -1.0  # of the last Residents
        self.stopped = self.rested = False
        self._looking = False
        self._names = count(1)
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._tick = 0
        for name, context in stage.resident:
            self.runners[name] = Runner(name, self.real(name), context)

    # --- time ------------------------------------------------------------------------------------------------------

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Let `what` happen in so many seconds."""
        heapq.heappush(self._coming, (self.now + seconds, next(self._order), what))

    def some(self, low: float, high: float) -> float:
        """A random number of seconds."""
        return low + (high - low) * self.chance.random()

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        until = self.now + seconds
        while self._coming and self._coming[0][0] <= until:
            self._next()
        self.now = until

    def _next(self) -> None:
        at, _, what = heapq.heappop(self._coming)
        self.now = max(self.now, at)
        what()

    @property
    def known(self) -> bool:
        """Whether the core has seen everything that happened without an order of its own."""
        return self.changed_at < self.seen_asked

    # --- what the half with the models does

    @abstractmethod
    def _load(self, name: str) -> None: ...

    @abstractmethod
    def _abandon(self, name: str) -> None: ...

    @abstractmethod
    def _unload(self, name: str) -> None: ...

    @abstractmethod
    def _replaced(self, client: Client, run: int) -> None: ...

    @abstractmethod
    def look(self) -> None:
        """Read what is resident, unless that is being done."""

    def real(self, name: str) -> int:
        """The bytes a model really takes."""
        return self.installed[name].real if name in self.installed else self.stage.models[name].real

    # --- facts and orders ------------------------------------------------------------------------------------------

    def post(self, fact: m.Fact) -> None:
        """One step of the core now."""
        if isinstance(fact, m.Residents):
            self.seen_asked = fact.asked
        self.facts += 1
        if self.facts > STEPS:
            raise Broken("liveness: it does not come to rest")
        orders = self.machine.step(fact)
        self.steps.append((fact, orders))
        for watcher in self.watchers:
            watcher.saw(cast("World", self), fact, orders)
        for order in orders:
            self._carry_out(order)

    def _carry_out(self, order: m.Order) -> None:  # noqa: C901 - one arm per order, each a call
        match order:
            case m.Forward():
                self._forward(self.clients.get(order.id), order)
            case m.Refuse() | m.AnswerWish():
                self._answer(self.clients.get(order.id))
            case m.AnswerProbe():
                self._answer_probe(self.clients.get(order.id))
            case m.Recall():
                self._recall(self.clients.get(order.id), order.outcome)
            case m.Load():
                self._load(order.model)
            case m.AbandonLoad():
                self._abandon(order.model)
            case m.Unload():
                self._unload(order.model)
            case m.Look():
                self.look()
            case m.RestartOllama():
                raise AssertionError("this world is not configured for restarts")
            case m.WakeAt():
                self._tick += 1
                self.after(max(0.0, order.when - self.now), partial(self._ticked, self._tick, order.when))
            case m.Record():
                pass

    def _ticked(self, tick: int, when: float) -> None:
        if tick == self._tick:
            self.post(m.Ticked(max(when, self.now)))

    # --- clients ---------------------------------------------------------------------------------------------------

    def arrive(
        self, model: str, kind: m.Kind = "request", cls: str = "interactive", again: int = 0, session: str = ""
    ) -> None:
        """Somebody asks for `model`, and once answered `again` times more; in two of three worlds he says who he is."""
        number = next(self._names)
        body = self.chance.choice((2_000, 20_000, 400_000))
        if self.seed % 3:
            session = session or f"s{number % 5}"
        client = Client(f"r{number}", model, kind, cls, self.now, number, body, again=again, session=session)
        self.clients[client.id] = client
        peer = "127.0.0.1:50000"
        self.post(m.Arrived(self.now, client.id, model, kind, cls, model, "chat", peer, session, body_bytes=body))

    def leave(self, client: Client) -> None:
        """A client hangs up; what runs for it is read on for 5 s at most, then cut."""
        if client.left or client.place == "done":
            return
        client.left, client.again = True, 0
        running = client.place == "sent"
        if not running:
            self._done(client)
        self.post(m.Left(self.now, client.id))
        if running:
            self.after(self.some(0.0, 5.0), partial(self._cut, client, client.run))

    def outstanding(self, model: str) -> list[Client]:
        """Those of `model` whose requests Ollama has."""
        return [c for c in self.clients.values() if c.place == "sent" and c.model == model]

    def _done(self, client: Client) -> None:
        client.place = "done"
        self.clients.pop(client.id, None)
        if client.again and not self.stopped:
            again = partial(self.arrive, client.model, "request", client.cls, client.again - 1, client.session)
            self.after(self.some(0.05, 1.0), again)

    def _answer(self, client: Client | None) -> None:
        if client is not None:
            client.answers += 1
            self._done(client)

    def _answer_probe(self, client: Client | None) -> None:
        if client is None:
            return
        if client.place != "sent":
            self._answer(client)
        elif client.head:
            self.after(self.some(0.0, 0.5), partial(self._ended, client, client.run, "answered"))
        else:
            self.after(self.some(0.0, 0.05), partial(self._ended, client, client.run, "canned"))

    # --- forwarding ------------------------------------------------------------------------------------------------

    def _forward(self, client: Client | None, order: m.Forward) -> None:
        if client is None:  # it left between the step and this line
            self.after(0.0, lambda: self.post(m.Ended(self.now, order.id, "abandoned")))
            return
        client.place, client.head, client.sent_at = "sent", False, self.now
        client.run += 1
        run, runner = client.run, self.runners.get(client.model)
        if client.kind == "replace" and self.alive:
            self.after(self.some(0.1, 5.0), lambda: self._replaced(client, run))
        elif not self.alive:
            self.after(self.some(0.0, 0.1), lambda: self._in_vain(client, run, "connection refused"))
        elif runner is None:
            vain = self.chance.random() < 0.5
            self.after(
                self.some(0.0, 0.5),
                lambda: self._in_vain(client, run, "gone") if vain else self._ended(client, run, "failed"),
            )
        else:
            runner.last_byte = self.now
            if not runner.wedged:
                self._serve(client, runner)
            self._watch(runner)

    def _serve(self, client: Client, runner: Runner) -> None:
        service = self.some(0.1, 5.0) if self.chance.random() < 0.6 else self.some(5.0, 40.0)
        run, first = client.run, min(0.1 + client.body / 20_000, service * self.some(0.05, 0.5))
        fails = not self.calm and self.chance.random() < 0.03
        self.after(first, lambda: self._head(client, run, runner))
        self.after(service, lambda: self._ended(client, run, "failed" if fails else "answered", first))

    def _head(self, client: Client, run: int, runner: Runner) -> None:
        if client.run == run and client.place == "sent" and not runner.wedged:
            client.head, runner.last_byte = True, self.now

    def _ended(
        self, client: Client, run: int, outcome: m.Outcome, first: float | None = None, *, cut: bool = False
    ) -> None:
        """Its slot is free again, unless the runner is wedged: then only we can end it."""
        if client.run != run or client.place != "sent":
            return
        runner = self.runners.get(client.model)
        if outcome in ("answered", "failed") and first is not None and runner is not None and runner.wedged:
            return
        said = "abandoned" if client.left else outcome
        self._answer(client)
        status = 500 if said == "failed" else 200
        service = self.now - client.sent_at
        self.post(m.Ended(self.now, client.id, said, first, service, 90, 40, status, cut, ""))

    def _in_vain(self, client: Client, run: int, error: str) -> None:
        """Not a byte came: it can be sent again, if anybody still waits for it."""
        if client.run != run or client.place != "sent":
            return
        if client.left:
            self._ended(client, run, "abandoned")
            return
        client.place = "waiting"
        self.post(m.Returned(self.now, client.id, error))

    def _cut(self, client: Client, run: int) -> None:
        """Its client has gone for long enough. To cut an answer can wedge the model (ollama#17131)."""
        if client.run == run and client.place == "sent":
            runner = self.runners.get(client.model)
            if runner is not None and not self.calm and self.chance.random() < 0.3:
                runner.wedged = True
            self._ended(client, run, "abandoned", cut=True)

    def _recall(self, client: Client | None, outcome: m.Outcome) -> None:
        if client is None or client.place != "sent":
            return
        run = client.run

        def stop() -> None:
            if client.head or client.left:
                self._ended(client, run, outcome, cut=True)
            else:
                self._in_vain(client, run, "recalled")

        self.after(self.some(0.0, 0.05), stop)

    def broken_off(self, client: Client, run: int) -> None:
        """Ollama or its runner went away under a request."""
        if client.head:
            self._ended(client, run, "failed")
        else:
            self._in_vain(client, run, "connection reset")

    # --- the engine ------------------------------------------------------------------------------------------------

    def _watch(self, runner: Runner) -> None:
        if not runner.watched:
            runner.watched = True
            self.after(self.some(1.0, 2.0), lambda: self._look_at(runner))

    def _look_at(self, runner: Runner) -> None:
        out = self.outstanding(runner.name)
        if not out or self.runners.get(runner.name) is not runner:
            runner.watched = False
            return
        silent = self.now - runner.last_byte
        busy: bool | None = None
        pause = self.some(1.0, 20.0)
        if self.stage.askable:
            busy = not runner.wedged
            pause = 1.0 if runner.wedged else pause
        elif silent > 60.0:
            pause = 0.2 * silent
        self.post(m.EngineSeen(self.now, runner.name, busy, silent, max(c.body for c in out)))
        self.after(pause, lambda: self._look_at(runner))

    def wedge(self, runner: Runner) -> None:
        """The runner answers nobody any more, until it is unloaded."""
        runner.wedged = True
        self._watch(runner)

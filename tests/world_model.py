"""A virtual machine with an Ollama on it: it answers every order of the core with facts, after random bounded times.

It is the truth the core is held against: what really sits in memory, who really runs, whether Ollama would have had to
evict. Times are virtual seconds, sizes bytes. `tests.promises` watches it; `tests.world_script` says what befalls it.
"""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal, Protocol

from scheduler.core import messages as m
from scheduler.core import sizes
from scheduler.core.config import Config
from scheduler.core.machine import Machine

STEPS = 8000  # in one run, after which something goes round in circles


class Broken(AssertionError):
    """A promise was broken; the first word says which."""


@dataclass(slots=True)
class Installed:
    """A model as Ollama has it: what it lists, the bytes it really takes, and the context Ollama gives it."""

    listed: m.Listed
    real: int
    context: int


@dataclass(slots=True)
class Stage:
    """A machine before anything happens."""

    config: Config
    models: dict[str, Installed]
    budget: int
    device: int
    askable: bool = True  # the engine answers whether it works
    troubled: bool = True  # things go wrong here
    starving: bool = False  # agents keep one model busy for a long time
    resident: tuple[tuple[str, int], ...] = ()  # models in memory at start, with their context


@dataclass(slots=True)
class Runner:
    """A model in memory, in truth."""

    name: str
    size: int
    context: int
    wedged: bool = False
    last_byte: float = 0.0
    free_after: int | None = None  # of the device, once we had loaded it; Ollama may go on believing it
    watched: bool = False


@dataclass(slots=True)
class Client:
    """Somebody who asked. `run` counts sendings, so that what belongs to an earlier one is told apart."""

    id: str
    model: str
    kind: m.Kind
    cls: str
    arrived: float
    seq: int
    body: int  # bytes
    place: Literal["waiting", "sent", "done"] = "waiting"
    left: bool = False
    head: bool = False  # the head of its answer was sent
    sent_at: float = 0.0
    run: int = 0
    answers: int = 0
    again: int = 0  # rounds still to come: it asks again once answered


class Watcher(Protocol):
    """Told of each step, before its orders are carried out, and of a life's end; raises Broken."""

    def saw(self, world: "World", fact: m.Fact, orders: Sequence[m.Order]) -> None: ...
    def ended(self, world: "World") -> None: ...  # one life of the daemon is over


@dataclass(slots=True)
class Trouble:
    """What goes wrong next."""

    loads: list[Literal["fails", "never ends"]] = field(default_factory=list)
    unloads: int = 0


class World:
    """The machine, its Ollama, the clients, and the daemon's core between them."""

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
            watcher.saw(self, fact, orders)
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
                self._recall(self.clients.get(order.id))
            case m.Load():
                self._load(order.model)
            case m.AbandonLoad():
                self._abandon(order.model)
            case m.Unload():
                self._unload(order.model)
            case m.Look():
                self.look()
            case m.WakeAt():
                self._tick += 1
                self.after(max(0.0, order.when - self.now), lambda tick=self._tick: self._ticked(tick, order.when))
            case m.Record():
                pass

    def _ticked(self, tick: int, when: float) -> None:
        if tick == self._tick:
            self.post(m.Ticked(max(when, self.now)))

    # --- clients ---------------------------------------------------------------------------------------------------

    def arrive(self, model: str, kind: m.Kind = "request", cls: str = "interactive", again: int = 0) -> None:
        """Somebody asks for `model`, and once answered `again` times more."""
        number = next(self._names)
        body = self.chance.choice((2_000, 20_000, 400_000))
        client = Client(f"r{number}", model, kind, cls, self.now, number, body, again=again)
        self.clients[client.id] = client
        self.post(m.Arrived(self.now, client.id, model, kind, cls, model, "chat", "127.0.0.1:50000", body_bytes=body))

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
            self.after(self.some(0.0, 5.0), lambda run=client.run: self._cut(client, run))

    def outstanding(self, model: str) -> list[Client]:
        """Those of `model` whose requests Ollama has."""
        return [c for c in self.clients.values() if c.place == "sent" and c.model == model]

    def _done(self, client: Client) -> None:
        client.place = "done"
        self.clients.pop(client.id, None)
        if client.again and not self.stopped:
            again = lambda: self.arrive(client.model, "request", client.cls, client.again - 1)  # noqa: E731
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
            self.after(self.some(0.0, 0.5), lambda run=client.run: self._ended(client, run, "answered"))
        else:
            self.after(self.some(0.0, 0.05), lambda run=client.run: self._ended(client, run, "canned"))

    # --- forwarding ------------------------------------------------------------------------------------------------

    def _forward(self, client: Client | None, order: m.Forward) -> None:
        if client is None:  # it left between the step and this line
            self.after(0.0, lambda: self.post(m.Ended(self.now, order.id, "abandoned")))
            return
        client.place, client.head, client.sent_at = "sent", False, self.now
        client.run += 1
        run, runner = client.run, self.runners.get(client.model)
        if not self.alive:
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

    def _recall(self, client: Client | None) -> None:
        if client is None or client.place != "sent":
            return
        run = client.run

        def stop() -> None:
            if client.head or client.left:
                self._ended(client, run, "stalled", cut=True)
            else:
                self._in_vain(client, run, "recalled")

        self.after(self.some(0.0, 0.05), stop)

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

    # --- residency -------------------------------------------------------------------------------------------------

    def real(self, name: str) -> int:
        """The bytes a model really takes."""
        return self.installed[name].real if name in self.installed else self.stage.models[name].real

    def _load(self, name: str) -> None:
        self.loading = name
        began, life, epoch = self.now, self.life, self.epoch
        if not self.alive:
            self.after(0.01, lambda: self._load_failed(name, began, "connection refused", life))
            return
        trouble = self.trouble.loads.pop(0) if self.trouble.loads and not self.calm else None
        if trouble == "never ends":
            return
        if trouble == "fails" or name not in self.installed:
            self.after(self.some(0.1, 30.0), lambda: self._load_failed(name, began, "no more room", life, epoch))
        else:
            self.after(self.some(0.5, 40.0), lambda: self._loaded(name, began, life, epoch))

    def _loaded(self, name: str, began: float, life: int, epoch: int) -> None:
        if self.loading != name or self.life != life or self.epoch != epoch:
            return
        self.loading = None
        if name not in self.runners:
            context = self.installed[name].context if name in self.installed else 4096
            self.runners[name] = Runner(name, self.real(name), context)
            free = self.stage.device - sum(runner.size for runner in self.runners.values())
            self.runners[name].free_after = free if self.known else None  # nobody can know what strangers hold unseen
        runner = self.runners[name]
        self.post(m.Loaded(self.now, name, runner.size, runner.context, self.now - began))

    def _load_failed(self, name: str, began: float, error: str, life: int, epoch: int | None = None) -> None:
        if self.loading != name or self.life != life or (epoch is not None and self.epoch != epoch):
            return
        self.loading = None
        if name in self.runners:  # somebody else has loaded it meanwhile
            self.loading = name
            self._loaded(name, began, life, self.epoch)
            return
        if not self.alive:
            self.post(m.OllamaDown(self.now, error))
        self.post(m.LoadFailed(self.now, name, error, self.now - began))
        self.look()

    def _abandon(self, name: str) -> None:
        if self.loading == name:
            life = self.life
            self.after(0.05, lambda: self._load_failed(name, self.now - 600.0, "the load was abandoned", life))

    def _unload(self, name: str) -> None:
        life, epoch = self.life, self.epoch
        self.unloading[name] = life
        if not self.alive:
            self.after(0.01, lambda: self._unload_failed(name, life))
        elif self.trouble.unloads and not self.calm:
            self.trouble.unloads -= 1
            self.after(self.some(0.1, 60.0), lambda: self._unload_failed(name, life, epoch))
        else:
            self.after(self.some(0.02, 3.0), lambda: self._unloaded(name, self.now, life, epoch))

    def _unloaded(self, name: str, began: float, life: int, epoch: int) -> None:
        if self.epoch != epoch:
            return
        self.runners.pop(name, None)
        for client in self.outstanding(name):  # an earlier daemon had asked for this unload
            self.broken_off(client, client.run)
        if self.life == life and self.unloading.pop(name, None) is not None:
            self.post(m.Unloaded(self.now, name, self.now - began))

    def _unload_failed(self, name: str, life: int, epoch: int | None = None) -> None:
        if (epoch is not None and self.epoch != epoch) or self.life != life or name not in self.unloading:
            return
        del self.unloading[name]
        if not self.alive:
            self.post(m.OllamaDown(self.now, "connection refused"))
        self.post(m.UnloadFailed(self.now, name, "still listed"))
        self.look()

    def look(self) -> None:
        """Read what is resident, unless that is being done."""
        if self._looking:
            return
        self._looking = True
        asked, life = self.now, self.life

        def tell(rows: tuple[m.Resident, ...] | None) -> None:
            self._looking = False
            if self.life == life:
                self.post(
                    m.OllamaDown(self.now, "connection refused") if rows is None else m.Residents(self.now, asked, rows)
                )

        def read() -> None:
            rows = tuple(m.Resident(r.name, r.size, r.context) for r in self.runners.values()) if self.alive else None
            self.after(self.some(0.001, 0.2), lambda: tell(rows))

        self.after(self.some(0.001, 0.2), read)

    # --- what befalls Ollama and the machine -------------------------------------------------------------------------

    def changed(self) -> None:
        """Truth changed without an order of ours."""
        self.changed_at = self.now

    def memory(self) -> None:
        """The daemon learns what memory is."""
        self.post(m.MemorySeen(self.now, self.budget, "test", self.orphans, device=self.stage.device))

    def listing(self) -> None:
        """The daemon learns what is installed."""
        self.post(m.ModelsListed(self.now, tuple(model.listed for model in self.installed.values())))

    def up(self) -> None:
        """The daemon hears Ollama answer."""
        if self.alive:
            self.post(m.OllamaUp(self.now, "0.32.1"))

    def kill(self, *, orphaned: bool) -> None:
        """Ollama dies; its runners with it, or left behind as orphans. Nothing that it was doing ends well."""
        self.alive = False
        self.epoch += 1
        self.changed()
        if orphaned:
            self.orphans += sum(runner.size for runner in self.runners.values())
        self.runners.clear()
        for client in [c for c in self.clients.values() if c.place == "sent"]:
            self.after(self.some(0.0, 1.0), lambda c=client, run=client.run: self.broken_off(c, run))
        if self.loading is not None:
            name, life = self.loading, self.life
            self.after(self.some(0.0, 1.0), lambda: self._load_failed(name, self.now, "went away", life))
        for name, life in self.unloading.items():
            self.after(self.some(0.0, 1.0), lambda n=name, li=life: self._unload_failed(n, li))

    def broken_off(self, client: Client, run: int) -> None:
        """Ollama or its runner went away under a request."""
        if client.head:
            self._ended(client, run, "failed")
        else:
            self._in_vain(client, run, "connection reset")

    def revive(self) -> None:
        """Ollama is started again. What orphans hold is told before it is said to be up."""
        if not self.alive:
            self.alive = True
            self.changed()
            self.memory()
            self.up()

    def gates_admit(self, name: str) -> str:
        """What Ollama's own gates would say of a load now: "" if they let it in without evicting."""
        if name in self.runners or not self.runners:
            return ""
        if len(self.runners) >= self.config.max_loaded:
            return f"{len(self.runners)} are loaded"
        free = self.stage.device - sum(runner.size for runner in self.runners.values())
        if self.config.stale_free:
            free = min([free, *(r.free_after for r in self.runners.values() if r.free_after is not None)])
        listed, context = self.installed[name].listed, self.installed[name].context
        predicted = listed.size + listed.kv_token * context * self.config.num_parallel + sizes.surcharge(context)
        return "" if predicted * 100 <= free * 80 else f"{predicted} predicted, {free} free"

    def restart(self) -> None:
        """The daemon starts anew and knows nothing; the connections of the old one are cut."""
        for watcher in self.watchers:
            watcher.ended(self)
        self.life += 1
        for client in list(self.clients.values()):
            client.again, client.left = 0, True
            client.run += 1
            self._done(client)
        self.loading, self.unloading, self._looking = None, {}, False
        for runner in self.runners.values():
            runner.free_after = None
        self._tick += 1
        self.seen_asked = -1.0
        self.changed()
        self.stopped = False
        self.steps = []
        self.machine = Machine.fresh(self.config, self.now)

    # --- the end -----------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Everything is well from now on, and nobody new comes."""
        self.calm = True
        self.trouble = Trouble()
        self.installed = dict(self.stage.models)
        self.orphans, self.budget = 0, self.stage.budget
        for client in self.clients.values():
            client.again = 0
        self.changed()
        if not self.alive:
            self.revive()
        else:
            self.memory()
            self.up()
        self.listing()
        self.look()

    def rest(self) -> None:
        """Let everything come to its end; raises Broken if somebody is never answered."""
        config = self.config
        limit = 1200.0 + (0.0 if self.stage.askable else config.stall_silence)
        moved = self.now
        while self._coming:
            open_before, runners = len(self.clients), len(self.runners)
            self._next()
            if (len(self.clients), len(self.runners)) != (open_before, runners) or self.loading:
                moved = self.now
            if self.clients and self.now - moved > limit:
                raise Broken(f"P3: nothing moves for {limit:.0f} s while {sorted(self.clients)} wait: {self.machine!r}")
        self.rested = True
        if self.clients:
            raise Broken(f"P3: {sorted(self.clients)} are never answered: {self.machine!r}")

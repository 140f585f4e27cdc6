"""The one inbox: stamps facts, steps the core, hands its orders out; nothing else below the daemon asks the time.

A fact and its orders are one step without an `await` between, so the scheduling state has one owner and needs no lock.
Facts posted while orders are handed out wait their turn in the inbox.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, assert_never

from scheduler.core import messages as m
from scheduler.core.commands import Command
from scheduler.core.machine import Machine
from scheduler.core.state import CoreState

log = logging.getLogger(__name__)

Answer = m.Forward | m.Refuse | m.AnswerProbe | m.AnswerWish | m.Recall
"""An order about one request."""


class Exchange(Protocol):
    """One client's request, waiting for orders."""

    def take(self, order: Answer) -> None:
        """Receive an order; must neither block nor raise."""
        ...


class Residency(Protocol):
    """Who changes and reads what is in memory; each order comes back as one fact."""

    def take(self, order: m.Load | m.AbandonLoad | m.Unload | m.Look) -> None:
        """Begin to carry out an order; must neither block nor raise."""
        ...


Witness = Callable[[m.Fact, list[m.Order], Machine], None]
"""Told of each step after it was taken: the ledger, the journal, the log."""


class Dispatcher:
    """Facts in, orders out."""

    def __init__(self, machine: Machine, now: Callable[[], float] = time.monotonic) -> None:
        self._machine = machine
        self.now = now
        self._inbox: deque[m.Fact] = deque()
        self._stepping = False
        self._exchanges: dict[str, Exchange] = {}
        self._residency: Residency | None = None
        self._restart: Callable[[m.RestartOllama], None] | None = None
        self._before: Callable[[m.Fact, CoreState], None] | None = None
        self._witnesses: list[Witness] = []
        self._timer: asyncio.TimerHandle | None = None
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends with the exception of a step that broke the law: a bug, after which the daemon must end."""

    @property
    def state(self) -> CoreState:
        """The core's memory; read only."""
        return self._machine.state

    def objection(self, fact: Command) -> str | None:
        """Why a person's command would change nothing now; ask it right before posting the fact."""
        return self._machine.objection(fact)

    def attach(self, residency: Residency) -> None:
        """Give residency orders to `residency` from now on."""
        self._residency = residency

    def attach_service(self, restart: Callable[[m.RestartOllama], None]) -> None:
        """Have `restart` carry out restarts of Ollama from now on."""
        self._restart = restart

    def witness(self, witness: Witness) -> None:
        """Tell `witness` of each step from now on."""
        self._witnesses.append(witness)

    def precede(self, before: Callable[[m.Fact, CoreState], None]) -> None:
        """Call `before` with each fact and the state it finds, ahead of the step (a journal file begins there)."""
        self._before = before

    def admit(self, arrived: m.Arrived, exchange: Exchange) -> None:
        """Take a request in: `exchange` receives every order about it until `forget`."""
        self._exchanges[arrived.id] = exchange
        self.post(arrived)

    def forget(self, request_id: str) -> None:
        """The exchange of this request is over."""
        self._exchanges.pop(request_id, None)

    def post(self, fact: m.Fact) -> None:
        """Step the core with `fact` now, or after the step under way."""
        self._inbox.append(fact)
        if self._stepping or self.failed.done():
            return
        self._stepping = True
        try:
            while self._inbox:
                self._step(self._inbox.popleft())
        except Exception as error:
            log.critical("the core broke its law; the journal's last lines replay it", exc_info=error)
            self.failed.set_exception(error)
        finally:
            self._stepping = False

    def close(self) -> None:
        """No more timers."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.failed.done():
            self.failed.cancel()

    def _step(self, fact: m.Fact) -> None:
        if self._before is not None:
            self._before(fact, self.state)
        orders = self._machine.step(fact)
        for order in orders:  # first the orders, then the books: a client waits for the former
            self._hand_out(order)
        for witness in self._witnesses:
            witness(fact, orders, self._machine)

    def _hand_out(self, order: m.Order) -> None:
        match order:
            case m.Forward() | m.Refuse() | m.AnswerProbe() | m.AnswerWish() | m.Recall():
                exchange = self._exchanges.get(order.id)
                if exchange is not None:
                    exchange.take(order)
                elif isinstance(order, m.Forward):
                    # Its client left between the step that serves it and this line; the slot must come back.
                    self.post(m.Ended(self.now(), order.id, "abandoned"))
            case m.Load() | m.AbandonLoad() | m.Unload() | m.Look():
                if self._residency is not None:
                    self._residency.take(order)
            case m.RestartOllama():
                if self._restart is not None:
                    self._restart(order)
            case m.WakeAt():
                self._wake_at(order.when)
            case m.Record():
                pass
            case _:
                assert_never(order)

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, when - self.now())
        # The loop may fire a clock tick early; the core is told the time it asked for, or later.
        self._timer = asyncio.get_running_loop().call_later(delay, lambda: self.post(m.Ticked(max(when, self.now()))))

"""One sending of one request to Ollama: what stopped it, when it began, what came of it so far."""

import asyncio

from scheduler.core.messages import AnswerProbe, Recall
from scheduler.exchange import Exchange
from scheduler.reply import Reply


class Run:
    """One sending of one request. `why` says what stopped it: an order, "left" (its client), "closing" (the daemon)."""

    __slots__ = (
        "_drain",
        "_loop",
        "_timer",
        "began",
        "context",
        "exchange",
        "first_byte",
        "held_up",
        "name",
        "reply",
        "stoppable",
        "tail",
        "task",
        "why",
    )

    def __init__(self, exchange: Exchange, context: int, name: str, began: float, drain: float) -> None:
        self.exchange = exchange
        self.context = context
        self.name = name  # of its model, where that is not the one it was asked by
        self.began = began
        self.reply: Reply | None = None
        self.first_byte: float | None = None
        self.tail = bytearray()
        self.held_up = False  # its client takes nothing, so Ollama is not read either
        self.why: Recall | AnswerProbe | str | None = None
        self.task: asyncio.Task[None] | None = None
        self.stoppable = False  # its task may be cancelled; before that, `why` alone is looked at
        self._drain = drain
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def stop(self, order: Recall | AnswerProbe | str) -> None:
        """End it now; the first reason given stands."""
        if self.why is None:
            self.why = order
            if self.stoppable and self.task:
                self.task.cancel()

    def abandon(self) -> None:
        """Its client left: cut it unless it ends within the limit."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._drain, self.stop, "left")

    def close(self) -> None:
        """Let go of Ollama's connection: cut, if the answer has not ended."""
        if self._timer is not None:
            self._timer.cancel()
        if self.reply is not None and not self.reply.done:
            self.reply.close()

    @property
    def in_line(self) -> bool:
        """Whether what came last is no whole line."""
        return bool(self.tail) and not self.tail.endswith(b"\n")

    @property
    def last_byte(self) -> float:
        """When Ollama last gave a byte, or when it was sent."""
        return self.exchange.progress.last_byte or self.began

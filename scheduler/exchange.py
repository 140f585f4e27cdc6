"""One accepted request, from its arrival to its answer: `take` receives the core's orders and answers the client."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol, assert_never

from scheduler import answers
from scheduler.bodies import Kept
from scheduler.client import Client
from scheduler.core.messages import AnswerProbe, AnswerWish, Forward, Recall, Refuse
from scheduler.demand import Demand
from scheduler.reply import Headers, Reply

log = logging.getLogger(__name__)

Order = Forward | Refuse | AnswerProbe | AnswerWish | Recall
Stage = Literal["held", "prefill", "generating"]


@dataclass(slots=True)
class Progress:
    """How far a request is, for people. Times are monotonic seconds; `chunks` is about the number of tokens."""

    stage: Stage = "held"
    forwarded: float | None = None
    first_byte: float | None = None
    last_byte: float | None = None
    chunks: int = 0
    bytes: int = 0


class Forwarding(Protocol):
    """One sending of a request to Ollama, under way."""

    def stop(self, order: Recall | AnswerProbe) -> None:
        """End it now, as the order says."""
        ...

    def abandon(self) -> None:
        """Its client left: read the answer to its end within the limit, then cut it."""
        ...


class Exchange:
    """The client's side is *untouched* until a status line goes out, then *head sent*, then *ended*."""

    def __init__(
        self,
        request_id: str,
        demand: Demand,
        kept: Kept,
        client: Client,
        headers: Headers,
        start: Callable[["Exchange", Forward], Forwarding],
    ) -> None:
        self.id = request_id
        self.demand = demand
        self.kept = kept
        self.client = client
        self.headers = headers  # what goes upstream beside the body
        self.progress = Progress()
        self.left = False  # its client hung up
        self.in_line = False  # what it got last is no whole line
        self.forwarding: Forwarding | None = None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._start = start

    def __repr__(self) -> str:
        return f"<Exchange {self.id} {self.demand.model} {self.state}, {self.progress.stage}>"

    @property
    def state(self) -> Literal["untouched", "head sent", "ended"]:
        """What the client has got."""
        if self.client.ended:
            return "ended"
        return "head sent" if self.client.sent else "untouched"

    def take(self, order: Order) -> None:
        """Carry out an order of the core; neither blocks nor raises."""
        try:
            self._take(order)
        except Exception:
            log.exception("%s could not be carried out", order)
            self.refuse(500, "internal error of the scheduler", None)

    def _take(self, order: Order) -> None:
        match order:
            case Forward():
                self.progress = Progress("prefill")
                forwarding = self._start(self, order)
                self.forwarding = None if self.state == "ended" else forwarding
            case Refuse():
                self.refuse(order.status, order.message, order.retry_after)
            case AnswerProbe():
                if self.forwarding is None:
                    self.answer_probe()
                elif self.state == "untouched":  # else its answer is here already, and whole in no time
                    self.forwarding.stop(order)
            case AnswerWish():
                self._answer(200, *answers.wish(self.demand, _now_iso()), extra=[_wish_header(order)])
            case Recall():
                if self.forwarding is not None:
                    self.forwarding.stop(order)
            case _:
                assert_never(order)

    def leave(self) -> None:
        """The client hung up."""
        self.left = True
        if self.forwarding is not None:
            self.forwarding.abandon()
        else:
            self.kept.drop()

    def refuse(self, status: int, message: str, retry_after: int | None) -> None:
        """Answer with an error of the dialect: whole, or inside the stream if it has begun."""
        if self.state == "untouched":
            self._answer(status, *answers.error(self.demand.dialect, status, message), retry_after=retry_after)
        else:
            self.break_off(message)

    def answer_probe(self) -> None:
        """Answer with the canned success."""
        self._answer(200, *answers.canned(self.demand, _now_iso()))

    # The forwarder calls these as Ollama's answer comes in.

    def begin(self, reply: Reply) -> None:
        """Ollama's head is here; it goes out with the first piece of the body, if that is here too."""
        self.progress.stage = "generating"
        self.client.head(reply.status, reply.reason, reply.headers, reply.length)
        if not reply.ready:
            self.client.flush()

    def end(self) -> None:
        """Ollama's answer is whole."""
        self.client.end()
        self._close()

    def break_off(self, message: str) -> None:
        """Ollama's answer cannot be whole: say so where a stream allows it, and break the connection."""
        last_words = answers.error_in_stream(self.demand.dialect, message) if self.demand.stream else b""
        if last_words and self.in_line:  # the error must be a line, and an event, of its own
            last_words = b"\n\n" + last_words
        self.client.break_off(last_words)
        self._close()

    def hold(self) -> None:
        """It was sent in vain and waits again."""
        self.progress = Progress()

    def _answer(
        self,
        status: int,
        content_type: str,
        body: bytes,
        *,
        retry_after: int | None = None,
        extra: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        if self.state == "untouched":
            early = answers.head(self.demand.dialect, self.demand.stream)
            headers = [(b"Content-Type", content_type.encode()), *extra, *early]
            if retry_after is not None:
                headers.append((b"Retry-After", b"%d" % retry_after))
            flushed = status == 200 and bool(early) and content_type == answers.SSE
            self.client.whole(status, headers, body, events=flushed)
        self._close()

    def _close(self) -> None:
        self.kept.drop()
        if not self.over.done():
            self.over.set_result(None)


def _wish_header(order: AnswerWish) -> tuple[bytes, bytes]:
    """What became of a wish; where it was not followed, why."""
    if order.granted:
        return b"X-Ollama-Scheduler-Wish", b"granted"
    because = " ".join(order.because.split()).encode("ascii", "replace")
    return b"X-Ollama-Scheduler-Wish", b"refused; " + because


def _now_iso() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")

"""Send requests to Ollama and its bytes to the client; every `Forward` comes back as exactly one `Ended` or `Returned`.

An answer is read in a task of its own, at Ollama's speed: a client that hangs up or is slow never leaves Ollama with an
answer nobody reads, because that can wedge the model (ollama#17131).
"""

import asyncio
import logging
from types import TracebackType
from typing import Protocol, Self

from scheduler import answers, passing
from scheduler.client import Client
from scheduler.core.messages import AnswerProbe, Ended, Fact, Forward, Outcome, Recall, Returned
from scheduler.core.refusals import RETRY_AFTER
from scheduler.demand import NATIVE
from scheduler.errors import SHUTTING_DOWN
from scheduler.exchange import Exchange
from scheduler.reply import Broken, Headers, Reply
from scheduler.sending import Run
from scheduler.upstream import Upstream

log = logging.getLogger(__name__)

HELD_BACK = 1 << 20  # bytes of an answer in one piece that may wait for its end
CUT = "Ollama's answer ended before its end"


class Inbox(Protocol):
    """What the forwarder needs of the dispatcher."""

    def now(self) -> float: ...
    def post(self, fact: Fact) -> None: ...
    def forget(self, request_id: str) -> None: ...


class Forwarder:
    """Owns every answer under way. Enter it before the first request; leaving it ends what still runs.

    `drain` seconds an answer is read on after its client left; `buffer` bytes of it may wait for its client.
    """

    def __init__(self, upstream: Upstream, inbox: Inbox, *, drain: float = 5.0) -> None:
        self._upstream = upstream
        self._inbox = inbox
        self._drain = drain
        self._runs: dict[str, dict[str, Run]] = {}
        self._tasks = asyncio.TaskGroup()
        self._closing = False

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        for run in self.runs():
            run.stop("closing")
        await self._tasks.__aexit__(None, None, None)
        await self._upstream.close()

    def runs(self) -> list[Run]:
        """Every answer under way."""
        return [run for runs in self._runs.values() for run in runs.values()]

    def outstanding(self, model: str) -> tuple[float, int, tuple[str, ...]]:
        """Of the requests that `model` has: seconds since the last byte of any of them (or since the last was sent),
        the largest body in bytes, and their ids. No requests: zeros and no ids."""
        runs = self._runs.get(model)
        if not runs:
            return 0.0, 0, ()
        read = [run for run in runs.values() if not run.held_up and run.exchange.demand.kind != "replace"]
        if not read:
            return 0.0, 0, ()  # only slow clients, or none that the model serves: nothing is known of its runner
        silent = self._inbox.now() - max(run.last_byte for run in read)
        return silent, max(run.exchange.kept.size for run in read), tuple(run.exchange.id for run in read)

    def quiet(self, model: str, seconds: float) -> tuple[str, ...]:
        """The requests that `model` has and has given no byte for so many seconds, longest first; those of slow clients
        left out."""
        now = self._inbox.now()
        silent = [run for run in self._runs.get(model, {}).values() if not run.held_up]
        found = sorted((run for run in silent if now - run.last_byte >= seconds), key=lambda run: run.last_byte)
        return tuple(run.exchange.id for run in found)

    def start(self, exchange: Exchange, order: Forward) -> Run:
        """Begin to carry out a `Forward`."""
        native = exchange.demand.dialect in NATIVE
        name = order.model if not native and order.model != exchange.demand.model else ""
        run = Run(exchange, order.context if native else 0, name, self._inbox.now(), self._drain)
        if self._closing:
            run.why = "closing"
            self._inbox.post(self._stopped(run))
            self._inbox.forget(exchange.id)
            return run
        exchange.progress.forwarded = run.began
        self._runs.setdefault(order.model, {})[exchange.id] = run
        run.task = self._tasks.create_task(self._carry(run, order.model))
        return run

    async def _carry(self, run: Run, model: str) -> None:
        """Send once and, whatever happens, post one fact about it."""
        exchange = run.exchange
        fact: Ended | Returned | None = None
        try:
            fact = await self._converse(run)
        except asyncio.CancelledError:
            fact = self._stopped(run)
            if run.why is None:
                raise
            if run.task:
                run.task.uncancel()
        except Exception as error:
            log.exception("forwarding %s failed", exchange)
            fact = self._broken(run, f"internal error of the scheduler: {error!r}")
        finally:
            run.close()
            exchange.forwarding = None
            runs = self._runs[model]
            del runs[exchange.id]
            if not runs:
                del self._runs[model]
            self._inbox.post(fact or self._ended(run, "failed", error="cancelled"))
            if not isinstance(fact, Returned):
                exchange.kept.drop()
                self._inbox.forget(exchange.id)

    async def _converse(self, run: Run) -> Ended | Returned:
        exchange, demand = run.exchange, run.exchange.demand
        body = (await exchange.kept.load()).at(run.context, run.name)
        if run.why is not None:
            return self._stopped(run)
        if exchange.left:
            exchange.client.ended = True
            return self._ended(run, "abandoned")
        run.stoppable = True
        try:
            once = demand.kind == "replace"  # Ollama may have done it and closed the connection without a word
            run.reply = reply = await self._upstream.send(
                demand.method, demand.target(run.name), exchange.headers, body, once=once
            )
            await reply.head()
        except Broken as error:
            return self._in_vain(run, f"Ollama did not answer: {error}")
        del body
        now = self._inbox.now()
        run.first_byte = now - run.began
        exchange.progress.first_byte = exchange.progress.last_byte = now
        exchange.kept.drop()
        try:
            if not demand.stream:
                early = await self._held_back(run, reply)
                if self._ending(run, reply) == "cut" and reply.done:
                    return self._broken(run, CUT)
                exchange.begin(reply)
                exchange.client.write(early)
            else:
                exchange.begin(reply)
            await self._copy(run, reply)
        except Broken as error:
            return self._broken(run, f"Ollama broke off its answer: {error}")
        return self._whole(run, reply)

    async def _held_back(self, run: Run, reply: Reply) -> list[bytes]:
        """The answer to a client that wants it in one piece, up to its end or a limit: half of it would be of no use to
        him, and as long as he has got nothing he can get a proper error."""
        early: list[bytes] = []
        while run.exchange.progress.bytes < HELD_BACK and (chunks := await reply.chunks()):
            self._note(run, chunks)
            early += chunks
        return early

    async def _copy(self, run: Run, reply: Reply) -> None:
        client = run.exchange.client
        while chunks := await reply.chunks():
            client.write(chunks)
            self._note(run, chunks)
            if client.full:
                run.held_up = True
                await client.room()
                run.held_up = False
                run.exchange.progress.last_byte = self._inbox.now()

    def _note(self, run: Run, chunks: list[bytes]) -> None:
        progress, tail = run.exchange.progress, run.tail
        progress.last_byte = self._inbox.now()
        progress.chunks += len(chunks)
        for chunk in chunks:
            progress.bytes += len(chunk)
            tail += chunk
        if len(tail) > 4 * answers.TAIL:
            del tail[: -answers.TAIL]

    # How it went.

    def _ended(self, run: Run, outcome: Outcome, *, error: str = "", cut: bool = False) -> Ended:
        now = self._inbox.now()
        reply = run.reply
        tail = bytes(run.tail[-answers.TAIL :])
        prompt, output = answers.tokens(run.exchange.demand, tail)
        read, wrote = answers.seconds(run.exchange.demand, tail)
        return Ended(
            now,
            run.exchange.id,
            outcome,
            first_byte=run.first_byte,
            service=now - run.began,
            prompt_tokens=prompt,
            output_tokens=output,
            status=reply.status or None if reply else None,
            cut=cut,
            error=error,
            prompt_seconds=read,
            output_seconds=wrote,
        )

    def _whole(self, run: Run, reply: Reply) -> Ended:
        """Ollama ended its answer properly as far as HTTP goes; what it said in it goes through as it is."""
        exchange, demand = run.exchange, run.exchange.demand
        ending = self._ending(run, reply)
        error = {"cut": "ended without done", "error": "Ollama ended it with an error"}.get(ending, "")
        if ending == "cut" and demand.stream and demand.dialect not in NATIVE and not exchange.left:
            # Its runner died: clients take a clean end for a whole answer. (A native stream may end so by itself.)
            return self._broken(run, CUT)
        exchange.end()
        return self._ended(run, "abandoned" if exchange.left else "answered", error=error)

    def _ending(self, run: Run, reply: Reply) -> str:
        return answers.ending(run.exchange.demand, bytes(run.tail[-answers.TAIL :])) if reply.status == 200 else "whole"

    def _in_vain(self, run: Run, error: str) -> Ended | Returned:
        """Not a byte came: it can be sent again, if anybody still waits for it."""
        if run.exchange.left:
            return self._ended(run, "abandoned", error=error)
        run.exchange.hold()
        return Returned(self._inbox.now(), run.exchange.id, error)

    def _broken(self, run: Run, error: str) -> Ended:
        exchange = run.exchange
        exchange.in_line = run.in_line
        exchange.refuse(502, error, None)
        return self._ended(run, "abandoned" if exchange.left else "failed", error=error)

    def _stopped(self, run: Run) -> Ended | Returned:
        exchange = run.exchange
        cut = run.reply is not None and not run.reply.done
        if exchange.left:
            exchange.client.ended = True
            return self._ended(run, "abandoned", cut=cut)
        match run.why:
            case AnswerProbe():
                exchange.answer_probe()
                return self._ended(run, "canned", cut=cut)
            case Recall() if exchange.state == "untouched":
                exchange.hold()
                return Returned(self._inbox.now(), exchange.id, run.why.because)
            case Recall():
                exchange.in_line = run.in_line
                exchange.break_off(f"ended by the scheduler: {run.why.because}")
                return self._ended(run, run.why.outcome, error=run.why.because, cut=cut)
        exchange.refuse(503, SHUTTING_DOWN, RETRY_AFTER)
        return self._ended(run, "failed", error="the daemon closes", cut=cut)

    async def pass_on(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: bytes | passing.Streamed,
        client: Client,
        limit: float | None,
    ) -> None:
        """Forward past the core: `scheduler.passing`."""
        await passing.pass_on(self._upstream, method, target, headers, body, client, limit)

"""Hear HTTP and see that each request gets its one answer: from Ollama at once, from us, or through the core."""

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from itertools import count
from typing import Protocol

from scheduler import answers, dialects, library
from scheduler.beside import Beside
from scheduler.bodies import BodyStore, Kept, NoRoom
from scheduler.client import Client
from scheduler.core.messages import Arrived, Fact, Left, Listed
from scheduler.core.refusals import BUSY, RETRY_AFTER
from scheduler.core.state import CoreState
from scheduler.demand import Body, Demand
from scheduler.door import Door
from scheduler.errors import SHUTTING_DOWN, Failure, Refused
from scheduler.exchange import Exchange
from scheduler.forwarder import Forwarder
from scheduler.heads import CLIENT_ENCODING
from scheduler.origins import Border
from scheduler.passing import Streamed
from scheduler.paths import CONTROL, Route, allow, route as route_of, unserved
from scheduler.reply import Headers
from scheduler.request import Answer, Asked, Request, Room
from scheduler.wire import WireConfig

log = logging.getLogger(__name__)

Own = Callable[[Mapping[str, str]], Answer]
"""Answers one of our own routes for its query."""

Control = Callable[[Asked], Awaitable[Answer]]
"""Carries out a person's command."""

NOT_FORWARDED = frozenset((b"host", b"origin", b"content-length", b"expect"))
"""Request headers that are ours to say; `Origin` because Ollama would refuse ours (facts: its own host rules)."""

NOWHERE = Body(b"", b"")  # in an exchange's demand: its body is with the store
STAND_IN = (b"X-Scheduler-Stand-In", b"1")


class Dispatcher(Protocol):
    """What the listener needs of the dispatcher."""

    @property
    def state(self) -> CoreState: ...
    def now(self) -> float: ...
    def post(self, fact: Fact) -> None: ...
    def admit(self, arrived: Arrived, exchange: Exchange) -> None: ...
    def forget(self, request_id: str) -> None: ...


class Listener:
    """The HTTP server. `start` it inside its forwarder; `own` answers our own routes by path; `border` is
    Ollama's rule for Host and Origin, by default as Ollama has it on `wire.host` with nothing configured."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        forwarder: Forwarder,
        bodies: BodyStore,
        rules: dialects.Rules,
        own: Mapping[str, Own],
        wire: WireConfig,
        border: Border | None = None,
        relist: Callable[[], Awaitable[None]] | None = None,
        control: Control | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._forwarder = forwarder
        self._bodies = bodies
        self.rules = rules  # replaced whole when the configuration changes
        self._own = own
        self._control = control
        self._wire = wire
        self._relist = relist  # has the installed models read again: one may have come since
        self.guard(border or Border(loopback=wire.loopback))
        self._prefix = f"r{secrets.token_hex(2)}-"
        self._ids = count(1)
        self._accepting = True
        self._passing = 0  # requests under way that the core knows nothing of
        self._emptied: asyncio.Event | None = None
        self._beside = Beside()
        self._coming = Room(wire.body_room)
        self.door = Door(self._hear, wire, wire.connections)
        self.exchanges: dict[str, Exchange] = {}  # every request accepted and not yet over, by id

    async def start(self) -> None:
        """Listen. Raises OSError if the address is taken."""
        await self.door.open(self._wire.host, self._wire.port)

    @property
    def port(self) -> int:
        """The port in use."""
        return self.door.port or self._wire.port

    def guard(self, border: Border) -> None:
        """Let `border` say from now on who may pass."""
        self._check = lru_cache(maxsize=256)(border.check)  # the same few clients ask again and again

    async def stop_accepting(self) -> None:
        """No new connection, and no new demand on those that are open."""
        self._accepting = False
        await self.door.shut()

    async def drain(self, limit: float) -> int:
        """Wait until every accepted request is over, within `limit` seconds; how many are not."""
        if self._under_way:
            self._emptied = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), limit)
        return self._under_way

    @property
    def _under_way(self) -> int:
        return len(self.exchanges) + self._passing

    def _one_less(self) -> None:
        if not self._under_way and self._emptied:
            self._emptied.set()

    async def close(self) -> None:
        """Close every connection. Leave the forwarder first, so that what still runs ends with its error."""
        self._accepting = False
        await self.door.close()
        self._beside.close()

    async def _hear(self, request: Request) -> Client:
        client = Client(request, buffer=self._wire.buffer, silence=self._wire.client_silence)
        route = Route("unserved", "generate")
        try:
            if self._lets_pass(request, client):
                route = route_of(request.method, request.raw_path)
                await self._serve(request, route, client)
        except Failure as failure:
            _fail(client, route, failure)
        except Exception:
            log.exception("%s %s from %s", request.method, request.raw_path, request.peer)
            _fail(client, route, Failure(500, "internal error of the scheduler"))
        finally:
            request.let_go()
        await client.taken()
        return client

    def _lets_pass(self, request: Request, client: Client) -> bool:
        """Whether it goes on to its route; if not, it is answered as Go's server, or Ollama's border, answers it."""
        verdict = self._check(request.method, request.host, request.headers.get("Origin", ""))
        client.extra += [(name.encode(), value.encode(CLIENT_ENCODING)) for name, value in verdict.headers]
        if self._dispatcher.state.stand_in:
            client.extra.append(STAND_IN)
        if server := request.answer_of_server:
            client.keep_alive &= server == 200
            client.whole(server, (), b"")
        elif verdict.status is not None:
            client.whole(verdict.status, allow(request.method, request.raw_path), b"")
        return not client.sent

    async def _serve(self, request: Request, route: Route, client: Client) -> None:
        match route.kind:
            case "demand":
                await self._demand(request, route, client)
            case "own":
                status, answer = self._own[request.raw_path.partition("?")[0]](request.query)
                client.whole(status, [(b"Content-Type", answers.JSON.encode())], json.dumps(answer).encode())
            case "control" if self._control is not None:
                command = request.raw_path.partition("?")[0].removeprefix(CONTROL)
                asked = Asked(request.method, command, request.headers, request.peer, lambda: self._body(request))
                status, answer = await self._control(asked)
                client.whole(status, [(b"Content-Type", answers.JSON.encode())], json.dumps(answer).encode())
            case "unserved" | "control":
                client.whole(*unserved(request.method, request.raw_path))
            case "library":
                await self._library(request, route, client)
            case "upload":
                body = Streamed(request.stream(), request.content_length, request.expects)
                headers = request.travelling(NOT_FORWARDED)
                await self._pass_on(request, request.raw_path, headers, body, client, None)
            case _:
                target, raw = request.raw_path, await self._body(request)
                if route.kind == "show":
                    shown = partial(library.shown, route, target, aliases=self.rules.aliases)
                    target, raw = await self._beside.understood(raw, shown)
                if route.kind == "call":
                    request.leave_with_end()
                limit = None if route.kind == "call" else self._wire.read_seconds
                await self._pass_on(request, target, request.travelling(NOT_FORWARDED), raw, client, limit)

    async def _pass_on(
        self,
        request: Request,
        target: str,
        headers: Headers,
        body: bytes | Streamed,
        client: Client,
        limit: float | None,
    ) -> None:
        """Forward past the core; while we stop, only what is over soon."""
        if not self._accepting and limit is None:
            raise Refused(503, SHUTTING_DOWN, RETRY_AFTER)
        self._passing += 1
        try:
            await self._forwarder.pass_on(request.method, target, headers, body, client, limit)
            await client.taken()
        finally:
            self._passing -= 1
            self._one_less()

    async def _library(self, request: Request, route: Route, client: Client) -> None:
        """A call that changes what is installed; one that replaces an installed model waits until that is idle and
        out of memory. Its body is read whole: Ollama begins to answer before it has seen the end of one."""
        body = await self._body(request)
        request.leave_with_end()
        replacing = partial(library.replacing, route, request.method, request.raw_path, client=request.peer)
        demand = await self._beside.understood(body, replacing)
        headers = request.travelling(NOT_FORWARDED)
        try:
            if demand is not None and not self._is_unknown(demand.model):
                demand, kept = await self._stored(demand, request)
                del body
                await self._exchange(demand, kept, headers, client)
            else:
                await self._pass_on(request, request.raw_path, headers, body, client, None)
        finally:
            if self._relist is not None:
                await asyncio.shield(self._relist())

    async def _demand(self, request: Request, route: Route, client: Client) -> None:
        if not self._accepting:
            raise Refused(503, SHUTTING_DOWN, RETRY_AFTER)
        raw = await self._body(request)
        asked = partial(dialects.understand, route, request.raw_path)
        understand = partial(asked, headers=request.headers, rules=self.rules, client=request.peer)
        demand = await self._beside.understood(raw, understand)
        del raw
        request.leave_with_end()
        headers = request.travelling(NOT_FORWARDED | {b"content-encoding"})
        if self._relist is not None and self._is_unknown(demand.model):
            await self._relist()
        listed = self._listed(demand.model)
        unfit = dialects.unfit(demand, listed.embedding) if listed is not None else None
        if unfit is not None:
            raise unfit
        if demand.remote or (listed is not None and listed.remote):
            await self._pass_on(request, demand.path, headers, demand.body.at(0), client, None)
            return
        demand, kept = await self._stored(demand, request)
        await self._exchange(demand, kept, headers, client)

    async def _stored(self, demand: Demand, request: Request) -> tuple[Demand, Kept]:
        """A demand and its body, which from now on nobody but the store holds."""
        try:
            kept = await self._bodies.store(demand.body)
        except NoRoom as error:
            raise Refused(503, BUSY, RETRY_AFTER) from error
        request.let_go()
        return replace(demand, body=NOWHERE), kept

    async def _exchange(self, demand: Demand, kept: Kept, headers: Headers, client: Client) -> None:
        """Hand a request to the core and wait until it is answered."""
        request_id = f"{self._prefix}{next(self._ids)}"
        arrived = replace(demand.arrived(self._dispatcher.now(), request_id), body_bytes=kept.size)
        exchange = Exchange(request_id, demand, kept, client, headers, self._forwarder.start)
        self.exchanges[request_id] = exchange
        try:
            self._dispatcher.admit(arrived, exchange)
            await exchange.over
            await client.taken()
        finally:
            del self.exchanges[request_id]
            self._one_less()
            if exchange.state != "ended":
                self._dispatcher.post(Left(self._dispatcher.now(), request_id))
                exchange.leave()
            if exchange.forwarding is None:
                self._dispatcher.forget(request_id)

    def _is_unknown(self, model: str) -> bool:
        """Whether Ollama has told what it has, and this was not among it."""
        state = self._dispatcher.state
        known = state.models.get(model)
        return state.listed is not None and state.ollama == "up" and not (known and (known.installed or known.same_as))

    def _listed(self, model: str) -> Listed | None:
        """What Ollama's listing says of a model."""
        rows = self._dispatcher.state.listed or ()
        return next((row for row in rows if row.name == model), None)

    async def _body(self, request: Request) -> bytes:
        """The whole body of a request whose client waits for what comes of it."""
        return await request.read(self._wire.body_limit, self._coming)


def _fail(client: Client, route: Route, failure: Failure) -> None:
    if client.sent:
        client.break_off()
        return
    content_type, body = answers.error(route.dialect, failure.status, failure.message, failure.voice)
    headers = [(b"Content-Type", content_type.encode()), *answers.head(route.dialect, failure.streamed)]
    if failure.retry_after is not None:
        headers.append((b"Retry-After", b"%d" % failure.retry_after))
    client.whole(failure.status, headers, body)

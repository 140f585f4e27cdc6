"""Hear HTTP and see that each request gets its one answer: from Ollama at once, from us, or through the core."""

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address
from itertools import count
from typing import Any, Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from scheduler import answers, dialects
from scheduler.bodies import BodyStore, NoRoom
from scheduler.client import Client, Sent, end_to_end
from scheduler.core.messages import Arrived, Fact, Left
from scheduler.core.state import CoreState
from scheduler.demand import Body, Demand
from scheduler.errors import BadRequest, Failure, Refused
from scheduler.exchange import Exchange
from scheduler.forwarder import Forwarder
from scheduler.names import normal_name
from scheduler.origins import Border
from scheduler.reply import Headers

log = logging.getLogger(__name__)

Own = Callable[[Mapping[str, str]], tuple[int, Mapping[str, Any]]]
"""Gives status and JSON of one of our own routes for its query."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A person's command as it was sent; `body` reads what came with it, and may raise BadRequest."""

    method: str
    command: str  # what the path says after /control/
    headers: Mapping[str, str]  # fold case
    peer: str
    body: Callable[[], Awaitable[bytes]]


Control = Callable[[Asked], Awaitable[tuple[int, Mapping[str, Any]]]]
"""Carries out a person's command: status and JSON of the answer."""

NOT_FORWARDED = frozenset((b"host", b"origin", b"content-length", b"expect"))
"""Request headers that are ours to say; `Origin` because Ollama would refuse ours (facts: its own host rules)."""

LARGE = 1 << 20  # bytes of a body from which it is read beside the loop: 20 MB take a tenth of a second
HEAD_LIMIT = 1 << 16  # bytes of one header line that are read
SHUTTING_DOWN = "the scheduler is shutting down"
NOWHERE = Body(b"", b"")  # in an exchange's demand: its body is with the store
STAND_IN = (b"X-Scheduler-Stand-In", b"1")


class _NotHTTP(logging.Filter):
    """What is no HTTP is the fault of who sent it: a line of the log, never a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        log.info("not HTTP: %s", " ".join(error.message.split())[:200])
        return False


NOT_HTTP = _NotHTTP()


@dataclass(frozen=True, slots=True)
class WireConfig:
    """Limits of the wire. Sizes in bytes, times in seconds."""

    host: str = "127.0.0.1"
    port: int = 11450
    body_limit: int = 256_000_000  # one request's body
    buffer: int = 16 << 20  # of one answer, waiting for its client
    client_silence: float = 60.0  # a client that takes no byte for so long is cut
    read_seconds: float = 30.0  # for a listing or another read


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
        self.guard(border or Border(loopback=_is_loopback(wire.host)))
        self._prefix = f"r{secrets.token_hex(2)}-"
        self._ids = count(1)
        self._accepting = True
        self._emptied: asyncio.Event | None = None
        self._runner: web.ServerRunner | None = None
        self._site: web.TCPSite | None = None
        self.exchanges: dict[str, Exchange] = {}  # every request accepted and not yet over, by id

    async def start(self) -> None:
        """Listen. Raises OSError if the address is taken."""
        server = web.Server(
            self._hear,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            max_line_size=HEAD_LIMIT,
            max_field_size=HEAD_LIMIT,
        )
        logging.getLogger("aiohttp.server").addFilter(NOT_HTTP)
        self._runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, self._wire.host, self._wire.port, backlog=1024)
        await self._site.start()

    @property
    def port(self) -> int:
        """The port in use."""
        return self._site.port if self._site else self._wire.port

    def guard(self, border: Border) -> None:
        """Let `border` say from now on who may pass."""
        self._check = lru_cache(maxsize=256)(border.check)  # the same few clients ask again and again

    async def stop_accepting(self) -> None:
        """No new connection, and no new demand on those that are open."""
        self._accepting = False
        if self._site is not None:
            await self._site.stop()

    async def drain(self, limit: float) -> int:
        """Wait until every accepted request is over, at most `limit` seconds; how many are not."""
        if self.exchanges:
            self._emptied = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    await self._emptied.wait()
        return len(self.exchanges)

    async def close(self) -> None:
        """Close every connection. Leave the forwarder first, so that what still runs ends with its error."""
        self._accepting = False
        if self._runner is not None:
            await self._runner.cleanup()

    async def _hear(self, request: web.BaseRequest) -> Sent:
        wire = self._wire
        verdict = self._check(request.method, request.headers.get("Host", ""), request.headers.get("Origin", ""))
        extra = [(name.encode(), value.encode()) for name, value in verdict.headers]
        if self._dispatcher.state.stand_in:
            extra.append(STAND_IN)
        client = Client(request, buffer=wire.buffer, silence=wire.client_silence, extra=extra)
        if verdict.status is not None:
            client.whole(verdict.status, (), b"")
            return Sent(client)
        route = dialects.route(request.method, request.raw_path)
        try:
            await self._serve(request, route, client)
        except Failure as failure:
            _fail(client, route, failure)
        except Exception:
            log.exception("%s %s from %s", request.method, request.raw_path, _peer(request))
            _fail(client, route, Failure(500, "internal error of the scheduler"))
        await client.taken()
        return Sent(client)

    async def _serve(self, request: web.BaseRequest, route: dialects.Route, client: Client) -> None:
        match route.kind:
            case "demand":
                await self._demand(request, route, client)
            case "own":
                status, answer = self._own[request.raw_path.partition("?")[0]](request.query)
                client.whole(status, [(b"Content-Type", answers.JSON.encode())], json.dumps(answer).encode())
            case "control" if self._control is not None:
                command = request.raw_path.partition("?")[0].removeprefix(dialects.CONTROL)
                asked = Asked(request.method, command, request.headers, _peer(request), lambda: self._body(request))
                status, answer = await self._control(asked)
                client.whole(status, [(b"Content-Type", answers.JSON.encode())], json.dumps(answer).encode())
            case "refused" | "control":
                raise dialects.refusal(request.method, request.raw_path)
            case _:
                body = await self._body(request)
                headers = _travelling(request, NOT_FORWARDED)
                await self._forwarder.pass_on(
                    request.method, request.raw_path, headers, body, client, self._wire.read_seconds
                )

    async def _demand(self, request: web.BaseRequest, route: dialects.Route, client: Client) -> None:
        if not self._accepting:
            raise Refused(503, SHUTTING_DOWN, 5)
        raw = await self._body(request)
        asked = (route, request.raw_path, raw, request.headers, self.rules, _peer(request))
        large = len(raw) > LARGE
        demand = await asyncio.to_thread(dialects.understand, *asked) if large else dialects.understand(*asked)
        del raw, asked
        headers = _travelling(request, NOT_FORWARDED | {b"content-encoding"})
        if self._relist is not None and self._is_unknown(demand.model):
            await self._relist()
        if demand.remote or self._is_remote(demand.model):
            body = demand.body.at(0)
            await self._forwarder.pass_on(demand.method, demand.path, headers, body, client, None)
            return
        await self._exchange(demand, headers, client)

    async def _exchange(self, demand: Demand, headers: Headers, client: Client) -> None:
        """Hand a request to the core and wait until it is answered."""
        try:
            kept = await self._bodies.store(demand.body)
        except NoRoom as error:
            raise Refused(503, "server busy, please try again.  maximum pending requests exceeded", 5) from error
        request_id = f"{self._prefix}{next(self._ids)}"
        arrived = _arrived(self._dispatcher.now(), request_id, demand)
        exchange = Exchange(request_id, replace(demand, body=NOWHERE), kept, client, headers, self._forwarder.start)
        del demand
        self.exchanges[request_id] = exchange
        try:
            self._dispatcher.admit(arrived, exchange)
            await exchange.over
            await client.taken()
        finally:
            del self.exchanges[request_id]
            if not self.exchanges and self._emptied:
                self._emptied.set()
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

    def _is_remote(self, model: str) -> bool:
        return any(
            listed.remote and normal_name(listed.name) == model for listed in self._dispatcher.state.listed or ()
        )

    async def _body(self, request: web.BaseRequest) -> bytes:
        """The whole body, kept nowhere else."""
        limit = self._wire.body_limit
        if (request.content_length or 0) > limit:
            raise BadRequest(413, f"request body too large: more than {limit} bytes")
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        parts: list[bytes] = []
        size = 0
        try:
            while part := await request.content.readany():
                size += len(part)
                if size > limit:
                    raise BadRequest(413, f"request body too large: more than {limit} bytes")
                parts.append(part)
        except web.RequestPayloadError as error:
            raise BadRequest(400, f"request body could not be read: {error}") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _fail(client: Client, route: dialects.Route, failure: Failure) -> None:
    if client.sent:
        client.break_off()
        return
    content_type, body = answers.error(route.dialect, failure.status, failure.message)
    headers = [(b"Content-Type", content_type.encode())]
    if failure.retry_after is not None:
        headers.append((b"Retry-After", b"%d" % failure.retry_after))
    client.whole(failure.status, headers, body)


def _travelling(request: web.BaseRequest, ours: frozenset[bytes]) -> Headers:
    return [(name, value) for name, value in end_to_end(request.raw_headers) if name.lower() not in ours]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _peer(request: web.BaseRequest) -> str:
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return f"{peer[0]}:{peer[1]}" if peer else ""


def _arrived(at: float, request_id: str, demand: Demand) -> Arrived:
    return Arrived(
        at,
        request_id,
        demand.model,
        kind=demand.kind,
        cls=demand.cls,
        alias=demand.alias,
        dialect=demand.dialect,
        client=demand.client,
        session=demand.session,
        body_bytes=len(demand.body),
        digest=demand.digest,
    )

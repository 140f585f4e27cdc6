"""Listener and forwarder, for real, between raw connections and a scripted upstream; the test is the core."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from scheduler.bodies import BodyStore
from scheduler.core.config import Config
from scheduler.core.messages import Arrived, Fact, Forward
from scheduler.core.state import CoreState
from scheduler.dialects import Rules
from scheduler.exchange import Exchange
from scheduler.forwarder import Forwarder
from scheduler.listener import Listener
from scheduler.routes import Aliases
from scheduler.upstream import Upstream
from scheduler.wire import WireConfig

F = TypeVar("F", bound=Fact)
PATIENCE = 5.0  # seconds a test waits for what must come

QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]
BODIES: dict[str, dict[str, Any]] = {
    "/api/generate": {"model": "m", "prompt": "Why is the sky blue?"},
    "/api/chat": {"model": "m", "messages": QUESTION},
    "/api/embed": {"model": "m", "input": "blue"},
    "/api/embeddings": {"model": "m", "prompt": "blue"},
    "/v1/chat/completions": {"model": "m", "messages": QUESTION},
    "/v1/completions": {"model": "m", "prompt": "Why is the sky blue?"},
    "/v1/embeddings": {"model": "m", "input": "blue"},
    "/v1/responses": {"model": "m", "input": "Why is the sky blue?"},
    "/v1/images/generations": {"model": "m", "prompt": "A blue sky"},
    "/v1/images/edits": {"model": "m", "prompt": "Bluer", "image": "data:image/png;base64,iVBORw=="},
    "/v1/messages": {"model": "m", "max_tokens": 9, "messages": QUESTION},
}
"""A question by the path that takes it."""


class Core:
    """The dispatcher's face, with the test behind it: facts are kept, orders are given by hand, or `serve` forwards
    each request as it arrives."""

    def __init__(self) -> None:
        self.state = CoreState(Config())
        self.serve = True
        self.context = 0
        self.facts: list[Fact] = []
        self.exchanges: dict[str, Exchange] = {}
        self._news = asyncio.Event()

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def post(self, fact: Fact) -> None:
        """Keep a fact."""
        self.facts.append(fact)
        self._news.set()

    def admit(self, arrived: Arrived, exchange: Exchange) -> None:
        """Keep an exchange, and forward it if the core serves."""
        self.exchanges[arrived.id] = exchange
        self.post(arrived)
        if self.serve:
            exchange.take(self.forward(arrived.id))

    def forget(self, request_id: str) -> None:
        """Let go of an exchange."""
        self.exchanges.pop(request_id, None)

    def forward(self, request_id: str) -> Forward:
        """The order to send a request."""
        return Forward(request_id, self.exchanges[request_id].demand.model, self.context, "the test says so")

    async def fact(self, kind: type[F], number: int = 0) -> F:
        """Wait for the fact of this kind with this number, from 0."""
        async with asyncio.timeout(PATIENCE):
            while len(found := [fact for fact in self.facts if isinstance(fact, kind)]) <= number:
                self._news.clear()
                await self._news.wait()
        return found[number]

    def count(self, kind: type[Fact]) -> int:
        """How many facts of this kind came."""
        return sum(isinstance(fact, kind) for fact in self.facts)


class Answer:
    """One answer read from a connection: the head as sent, and the body without its framing."""

    def __init__(self, head: bytes, body: bytes, *, whole: bool) -> None:
        self.head = head
        self.body = body
        self.whole = whole  # it ended as its framing says

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.head.split(b" ")[1])

    @property
    def headers(self) -> dict[str, str]:
        """By name, as sent."""
        lines = self.head.decode().split("\r\n")[1:]
        return {name: value for name, _, value in (line.partition(": ") for line in lines if line)}

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Connection:
    """A client that writes and reads raw HTTP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def ask(
        self, path: str, body: Mapping[str, Any] | bytes = b"", method: str = "POST", **headers: str
    ) -> "Connection":
        """Write a request."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Host": "127.0.0.1", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if method == "POST":
            given["Content-Length"] = str(len(data))
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        self.writer.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + data)
        return self

    async def head(self) -> bytes:
        """Read up to the empty line."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def chunk(self) -> bytes:
        """Read one chunk; empty is the last."""
        async with asyncio.timeout(PATIENCE):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """Read a whole answer, or what there is of it."""
        head = await self.head()
        answer = Answer(head, b"", whole=True)
        if bodiless:
            return answer
        parts: list[bytes] = []
        try:
            if answer.headers.get("Transfer-Encoding") == "chunked":
                while part := await self.chunk():
                    parts.append(part)
            else:
                async with asyncio.timeout(PATIENCE):
                    parts.append(await self.reader.readexactly(int(answer.headers["Content-Length"])))
        except asyncio.IncompleteReadError as error:
            return Answer(head, b"".join((*parts, error.partial)), whole=False)
        return Answer(head, b"".join(parts), whole=True)

    def hang_up(self) -> None:
        """Leave without a word."""
        self.writer.transport.abort()


class Wired:
    """What a test holds: the core (itself), the parts, and connections to the listener."""

    def __init__(
        self, core: Core, forwarder: Forwarder, stack: AsyncExitStack, listener: Listener, bodies: BodyStore
    ) -> None:
        self.core = core
        self.forwarder = forwarder
        self.forwarder_stack = stack  # closing it leaves the forwarder before its time
        self.listener = listener
        self.bodies = bodies
        self._connections: list[Connection] = []

    async def connect(self) -> Connection:
        """A new connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.port, limit=1 << 20)
        self._connections.append(Connection(reader, writer))
        return self._connections[-1]

    async def ask(
        self, path: str, body: Mapping[str, Any] | bytes = b"", method: str = "POST", **headers: str
    ) -> Connection:
        """A request on a connection of its own."""
        return (await self.connect()).ask(path, body, method, **headers)

    async def arrive(self, path: str = "/api/chat", **more: Any) -> tuple[Connection, Exchange]:
        """Ask, and wait until the core has the request."""
        number = self.core.count(Arrived)
        connection = await self.ask(path, {**BODIES[path], **more})
        arrived = await self.core.fact(Arrived, number)
        return connection, self.core.exchanges[arrived.id]

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.writer.close()


@asynccontextmanager
async def wired(
    url: str,
    *,
    core: Core | None = None,
    serve: bool = True,
    drain: float = 5.0,
    body_memory: int = 1 << 26,
    body_disk: int = 0,
    **wire: Any,
) -> AsyncIterator[Wired]:
    """Listener and forwarder in front of `url`."""
    core = core or Core()
    core.serve = serve
    bodies = BodyStore(body_memory, body_disk)
    rules = Rules(Aliases({"gpt-4": ("m", "agent")}), frozenset({"What's 1 + 1?"}), b"k" * 32)
    own = {"/healthz": lambda query: (200, {"status": "ok", **query})}
    async with AsyncExitStack() as listener_stack, AsyncExitStack() as forwarder_stack:
        forwarder = await forwarder_stack.enter_async_context(Forwarder(Upstream(url), core, drain=drain))
        listener = Listener(core, forwarder, bodies, rules, own, WireConfig(port=0, **wire))
        listener_stack.push_async_callback(listener.close)
        await listener.start()
        world = Wired(core, forwarder, forwarder_stack, listener, bodies)
        try:
            yield world
        finally:
            world.close()

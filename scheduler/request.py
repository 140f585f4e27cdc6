"""One request as its listener sees it: the head, the body as it comes, whom it is from."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl

from scheduler.client import end_to_end
from scheduler.core.refusals import BUSY, RETRY_AFTER
from scheduler.errors import BadRequest, Refused
from scheduler.heads import Head, Pairs
from scheduler.inflow import Inflow
from scheduler.wire import WireConfig

DRAIN = 256 << 10  # bytes of a body nobody wanted that are read to keep the connection (net/http)
DRAIN_SECONDS = 5.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Answer = tuple[int, Mapping[str, Any]]
"""Status and JSON of an answer of our own."""


class ClientGone(ConnectionError):
    """The client is gone: nobody reads an answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A person's command as it was sent; `body` reads what came with it, and may raise BadRequest."""

    method: str
    command: str  # what the path says after /control/
    headers: Mapping[str, str]  # fold case
    peer: str
    body: Callable[[], Awaitable[bytes]]


@dataclass(slots=True)
class Room:
    """Bytes that bodies may take until they are stored or sent: `limit` in all, `taken` now."""

    limit: int
    taken: int = 0


class Line(Protocol):
    """The connection that a request came over."""

    transport: asyncio.Transport | None
    limits: WireConfig
    peer: str

    def leave_with_end(self) -> None: ...


class Request:
    """One request: its head, its body as it comes, and the transport that its answer goes to."""

    def __init__(self, head: Head, inflow: Inflow, connection: Line) -> None:
        self.method = head.method
        self.raw_path = head.raw_path
        self.host = head.host
        self.raw_headers = head.raw_headers
        self.content_length = head.content_length  # bytes; None: chunked
        self.modern = head.modern
        self.expects = head.expects  # its client waits for our 100 before it sends the body
        self.expects_more = head.expects_more
        self.transport: asyncio.Transport | None = connection.transport
        self.keep_alive = head.keep_alive
        self._head = head
        self._inflow = inflow
        self._connection = connection
        self._asked = not head.expects or head.content_length == 0
        self._room: Room | None = None
        self._taken = 0  # bytes of the room

    @property
    def headers(self) -> Mapping[str, str]:
        """By name, whatever its case."""
        return self._head.headers

    @property
    def query(self) -> Mapping[str, str]:
        """The query's values by name; the last one counts."""
        return dict(parse_qsl(self.raw_path.partition("?")[2], keep_blank_values=True))

    @property
    def peer(self) -> str:
        """Address and port of the client."""
        return self._connection.peer

    @property
    def answer_of_server(self) -> int:
        """What Go's server answers before anybody's rules: the status; 0 if it is for the routes."""
        if self.expects_more:
            return 417
        if self.raw_path == "*":
            return 200 if self.method == "OPTIONS" else 400
        return 0

    @property
    def whole(self) -> bool:
        """Every byte of the body was taken."""
        return self._inflow.whole and not self._inflow.held

    @property
    def lasting(self) -> bool:
        """Whether, as far as its body goes, the connection can serve on after an answer now."""
        left = self._inflow.expected
        return self._asked and not self._inflow.broken and (self._inflow.whole or left is None or left < DRAIN)

    def travelling(self, ours: frozenset[bytes]) -> Pairs:
        """The headers that go on to Ollama, as they were sent and in that order: without those of this connection,
        and without `ours` (names in lower case)."""
        return [(name, value) for name, value in end_to_end(self.raw_headers) if name.lower() not in ours]

    async def stream(self) -> AsyncIterator[bytes]:
        """The body as it comes; the client is read no faster. Raises BodyFault, and ClientGone."""
        self._ask()
        while piece := await self._inflow.take():
            yield piece

    async def read(self, limit: int, room: Room) -> bytes:
        """The whole body, kept nowhere else; `let_go` gives its room back. Raises BadRequest: 413 beyond `limit` bytes,
        408 where it takes too long, 400 where it is broken; Refused where all bodies fill `room`; and
        ClientGone."""
        if (self.content_length or 0) > limit:
            raise _too_large(limit)
        if self._inflow.whole and not self._inflow.held:
            return b""
        self._ask()
        parts: list[bytes] = []
        self._room = room
        seconds = self._connection.limits.body_seconds
        try:
            async with asyncio.timeout(seconds):
                while piece := await self._inflow.take():
                    self._taken += len(piece)
                    room.taken += len(piece)
                    if self._taken > limit:
                        raise _too_large(limit)
                    if room.taken > room.limit:
                        raise Refused(503, BUSY, RETRY_AFTER)
                    parts.append(piece)
        except TimeoutError as error:
            raise BadRequest(408, f"request body not whole after {seconds:g} s") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def let_go(self) -> None:
        """The body that was read is in the care of somebody else, or of no use any more: others may have its room."""
        if self._room is not None:
            self._room.taken -= self._taken
        self._taken = 0

    async def rest(self, limit: int) -> None:
        """Drop what is left of the body, at most about `limit` bytes of it; nothing if its client was never asked."""
        if not self._asked:
            return
        dropped = 0
        async with asyncio.timeout(DRAIN_SECONDS):
            while dropped <= limit and (piece := await self._inflow.take()):
                dropped += len(piece)

    def leave_with_end(self) -> None:
        """From now on a client that half-closes has left: so Ollama treats one whose answer takes a model."""
        self._connection.leave_with_end()

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            if self.transport and not self.transport.is_closing():
                self.transport.write(_CONTINUE)


def _too_large(limit: int) -> BadRequest:
    """Made where it is raised: an error that its own frame holds would keep the body until the garbage is collected."""
    return BadRequest(413, f"request body too large: more than {limit} bytes")

"""Where clients come in: accepts connections as long as there is room for them, and sends the silent ones away."""

import asyncio
import errno
import logging
import resource
import socket
from contextlib import suppress

from scheduler.connection import Connection, Hear
from scheduler.wire import WireConfig

log = logging.getLogger(__name__)

WANTED_FILES = 8192  # open files we raise our own soft limit to: launchd gives 256; macOS refuses more than 10,240
OWN_FILES = 128  # open files that are neither a client nor Ollama's side of one
LOOKS = 4  # how often the silent are looked for within the time they have
BACKLOG = 1024
NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
GONE = frozenset(  # of who wanted to come in; EINVAL is what macOS says of a socket whose client has left
    (errno.ECONNABORTED, errno.ECONNRESET, errno.EPROTO, errno.EAGAIN, errno.EINTR, errno.EINVAL, errno.ENOTCONN)
)
LOOK_AGAIN = 0.25  # seconds between looks for one that has become silent, where all are served
AGAIN = (0.05, 1.0)  # seconds between tries to accept where there is no room: first, most
JUST_COME = 1.0  # seconds that somebody who has come gets to say what it is about, before it is sent away for room
MADE_ROOM = 16  # silent connections closed at once where there is no room


def raise_file_limit() -> int:
    """Let this process have as many open files as it may, at most WANTED_FILES; how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < WANTED_FILES:
        wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def room_for_clients() -> int:
    """How many connections the open files allow: each may need a second one to Ollama."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (WANTED_FILES if soft == resource.RLIM_INFINITY else max(soft, 2 * OWN_FILES)) // 2 - OWN_FILES // 2


class Door:
    """Accepts at most `most` connections at a time (0: as the open files allow); beyond that the one that has been
    silent longest goes for the one that comes, and where all are served, those who come wait."""

    def __init__(self, hear: Hear, limits: WireConfig, most: int = 0) -> None:
        self._hear = hear
        self._limits = limits
        self.most = most or room_for_clients()
        self.connections: set[Connection] = set()
        self.sent_away = 0  # silent connections closed to make room
        self.ran_out = 0  # times that no connection could be accepted for want of open files
        self.port = 0  # in use; 0 before `open`
        self.trouble = ""  # why nobody is let in just now
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._gone = asyncio.Event()
        self._looking: asyncio.TimerHandle | None = None

    @property
    def warnings(self) -> list[str]:
        """What a person should know of it."""
        if not self.ran_out:
            return []
        now = f"now: {self.trouble}" if self.trouble else "now there is room again"
        times = "once" if self.ran_out == 1 else f"{self.ran_out} times"
        return [
            f"open files ran out {times}, so that nobody could connect; {now}; {len(self.connections)} connections, "
            f"{self.sent_away} silent ones closed; raise the limit of open files (`ulimit -n`)"
        ]

    async def open(self, host: str, port: int) -> None:
        """Listen on every address that `host` has. Raises OSError if one is taken."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, _, _, _, address in dict.fromkeys(found):
                at = (str(address[0]), port or self.port, *address[2:])
                listening = socket.create_server(at, family=family, backlog=BACKLOG)
                listening.setblocking(False)
                self._sockets.append(listening)
                self.port = int(listening.getsockname()[1])
        except OSError:
            self._close_sockets()
            raise
        self._accepting = [loop.create_task(self._accept(listening)) for listening in self._sockets]
        self._look()

    async def shut(self) -> None:
        """Let nobody in any more; who is in may stay."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        self._accepting = []
        self._close_sockets()

    async def close(self) -> None:
        """Shut, and end every connection with what it is served."""
        await self.shut()
        if self._looking:
            self._looking.cancel()
        tasks = [connection.task for connection in self.connections if connection.task]
        for connection in list(self.connections):
            connection.close()
        if tasks:
            await asyncio.wait(tasks)
        while self.connections:
            self._gone.clear()
            await self._gone.wait()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        pause = AGAIN[0]
        while True:
            try:
                client, _ = await loop.sock_accept(listening)
                await self._let_in(client)
            except Exception as error:  # whatever it is, the next one must not stand before a shut door
                if isinstance(error, OSError) and error.errno in GONE:
                    continue
                if not isinstance(error, OSError):
                    log.exception("accept")
                elif error.errno not in NO_ROOM:
                    log.warning("accept: %s", error)
                self._no_room(error)
                await asyncio.sleep(pause)  # the kernel keeps those who come until then
                pause = min(2 * pause, AGAIN[1])
            else:
                pause = AGAIN[0]
                self.trouble = ""

    async def _let_in(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        connection = Connection(self._hear, self._limits, self._lost)
        try:
            await self._room()
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections.add(connection)
            await loop.connect_accepted_socket(lambda: connection, client)
        except BaseException:
            self.connections.discard(connection)
            client.close()
            raise

    async def _room(self) -> None:
        """Make room for one more, or wait until there is."""
        while len(self.connections) >= self.most and not self._send_away(1):
            self._gone.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), LOOK_AGAIN)

    def _send_away(self, number: int, spared: float = 0.0) -> int:
        """Close those that have been silent longest (for `spared` seconds at least), first those that never asked; how
        many."""
        before = asyncio.get_running_loop().time() - spared
        there = (each for each in self.connections if each.transport is not None)  # others are only just let in
        silent = [each for each in there if not each.busy and each.since <= before]
        silent.sort(key=lambda connection: (connection.asked > 0, connection.since))
        for connection in silent[:number]:
            connection.close()
            self.connections.discard(connection)
        self.sent_away += len(silent[:number])
        return len(silent[:number])

    def _no_room(self, error: Exception) -> None:
        why = (error.strerror if isinstance(error, OSError) else "") or repr(error)
        if not self.trouble:
            self.ran_out += 1
            log.warning("nobody is let in for now: %s (%d connections)", why, len(self.connections))
        self.trouble = f"no new connection can be accepted: {why}"
        self._send_away(MADE_ROOM, JUST_COME)

    def _lost(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._gone.set()

    def _look(self) -> None:
        """Close what was silent for too long, and look again."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self.connections):
            connection.look(now)
        limits = self._limits
        shortest = min(limits.head_seconds, limits.idle_seconds, limits.body_silence)
        self._looking = loop.call_later(shortest / LOOKS, self._look)

    def _close_sockets(self) -> None:
        for listening in self._sockets:
            listening.close()

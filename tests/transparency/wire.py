"""Speak raw HTTP: send these bytes, read every answer as it was framed, and see whether the connection stays open."""

import asyncio
import contextlib
import re
from dataclasses import dataclass, field

PATIENCE = 20.0  # seconds for one shape, loads included
KNOCK = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass
class Answer:
    """One answer. `framing` is length, chunked, none (no body by HTTP's rules), eof or cut."""

    status: str  # "HTTP/1.1 200 OK"
    headers: list[str]
    framing: str = "none"
    chunks: list[bytes] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)  # monotonic seconds, one per chunk

    @property
    def code(self) -> int:
        """The status as a number."""
        return int(self.status.split(" ")[1])

    @property
    def body(self) -> bytes:
        """Without its framing."""
        return b"".join(self.chunks)

    def header(self, name: str) -> str | None:
        """The value of the first header of this name, in any case."""
        for line in self.headers:
            given, _, value = line.partition(": ")
            if given.lower() == name.lower():
                return value
        return None


@dataclass
class Heard:
    """All that came back on one connection, and whether it was still open for another request."""

    answers: list[Answer]
    open: bool


async def ask(port: int, parts: list[bytes], expect: int, bodiless: bool, half_close: bool = False) -> Heard:
    """Send `parts` (after each but the last an interim answer is read) and read `expect` final answers.

    Fewer answers come back where the connection ends before.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        async with asyncio.timeout(PATIENCE):
            answers = await _conversation(reader, writer, parts, expect, bodiless, half_close)
            final = [answer for answer in answers if answer.code >= 200]
            usable = len(final) == expect and all(answer.framing not in ("eof", "cut") for answer in final)
            return Heard(answers, usable and not half_close and await _is_open(reader, writer))
    finally:
        writer.transport.abort()


async def _conversation(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    parts: list[bytes],
    expect: int,
    bodiless: bool,
    half_close: bool,
) -> list[Answer]:
    answers: list[Answer] = []
    for number, part in enumerate(parts):
        with contextlib.suppress(ConnectionError):  # it may have answered and closed already
            writer.write(part)
            await writer.drain()
        if number < len(parts) - 1:
            answer = await _answer(reader, bodiless)
            if answer is not None:
                answers.append(answer)
            if answer is None or answer.code >= 200:
                return answers
    if half_close:
        writer.write_eof()
    while sum(answer.code >= 200 for answer in answers) < expect:
        answer = await _answer(reader, bodiless)
        if answer is None:
            break
        answers.append(answer)
    return answers


async def _answer(reader: asyncio.StreamReader, bodiless: bool) -> Answer | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    status, *headers = head.removesuffix("\r\n\r\n").split("\r\n")
    answer = Answer(status, headers)
    if bodiless or answer.code in (204, 304) or answer.code < 200:
        return answer
    try:
        await _body(reader, answer)
    except (asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
        answer.framing = "cut"
        if isinstance(error, asyncio.IncompleteReadError) and error.partial:
            answer.chunks.append(error.partial)
    return answer


async def _body(reader: asyncio.StreamReader, answer: Answer) -> None:
    now = asyncio.get_running_loop().time
    length = answer.header("Content-Length")
    if (answer.header("Transfer-Encoding") or "") == "chunked":
        answer.framing = "chunked"
        while size := int(await reader.readuntil(b"\r\n"), 16):
            answer.chunks.append((await reader.readexactly(size + 2))[:-2])
            answer.arrivals.append(now())
        await reader.readuntil(b"\r\n")
    elif length is not None:
        answer.framing = "length"
        answer.chunks.append(await reader.readexactly(int(length)))
    else:
        answer.framing = "eof"
        answer.chunks.append(await reader.read())


async def _is_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether another request on this connection is answered."""
    try:
        writer.write(KNOCK)
        await writer.drain()
        return re.match(rb"HTTP/1\.\d 200 ", await reader.readline()) is not None
    except ConnectionError:
        return False

"""What a client really hears: one request on a connection of its own, judged by its bytes and by its dialect's rules.

`str(await ask(port, "openai"))` is `whole`, `STATUS error text` (an answer that is an error of the dialect), `broken:
text` (a stream that had begun and ended with the dialect's error, its HTTP never ended as if it were whole), or
`lost: …`: none of these, which must never be.
"""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any

SECONDS = 45.0
PATHS = {"native": "/api/chat", "openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
OK = 200


@dataclass(frozen=True)
class Heard:
    """Bytes of one answer: status (0: not even a head came), payload without its framing, whether HTTP ended it."""

    dialect: str
    stream: bool
    status: int
    payload: bytes
    ended: bool

    @property
    def error(self) -> str:
        """The message of the dialect's error that it ends with; empty where there is none."""
        for line in reversed(self.payload.strip().splitlines()):
            with contextlib.suppress(ValueError):
                told = json.loads(line.removeprefix(b"data: "))
                return str(_message(told, self.dialect))
        return ""

    @property
    def whole(self) -> bool:
        """Whether it is an answer to its end."""
        if self.status != OK or not self.ended:
            return False
        end = {"native": b'"done":true', "openai": b"data: [DONE]", "anthropic": b"event: message_stop"}[self.dialect]
        if self.stream:
            return end in self.payload
        with contextlib.suppress(ValueError):
            told = json.loads(self.payload)
            return bool(told.get("done") or told.get("choices") or told.get("stop_reason"))
        return False

    def __str__(self) -> str:
        if self.whole:
            return "whole"
        if self.status > OK and self.ended and self.error:
            return f"{self.status} {self.error}"
        if self.status == OK and self.error and (not self.ended or self.dialect == "native"):
            return f"broken: {self.error}"  # Ollama itself ends a native stream properly after its error line
        return f"lost: {self.status} {'ended' if self.ended else 'not ended'} {self.payload[-300:]!r}"


def _message(told: Any, dialect: str) -> Any:
    error = told.get("error", "") if isinstance(told, dict) else ""
    if dialect == "native":
        return error if isinstance(error, str) else ""
    return error.get("message", "") if isinstance(error, dict) else ""


async def ask(
    port: int, dialect: str, model: str, *, stream: bool = True, words: int = 8, text: str = "hello"
) -> Heard:
    """Ask `model` for so many words. A client that hears nothing for a long time has lost its request: status 0."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
    body |= {"options": {"num_predict": words}} if dialect == "native" else {"max_tokens": words}
    content = json.dumps(body).encode()
    head = f"POST {PATHS[dialect]} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(content)}"
    got = b""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(head.encode() + b"\r\nContent-Type: application/json\r\n\r\n" + content)
                while chunk := await reader.read(1 << 16):
                    got += chunk
            finally:
                writer.close()
    except (TimeoutError, OSError):
        pass
    return _heard(dialect, stream, got)


def _heard(dialect: str, stream: bool, got: bytes) -> Heard:
    head, found, rest = got.partition(b"\r\n\r\n")
    if not found:
        return Heard(dialect, stream, 0, got, False)
    fields = {line.partition(b":")[0].lower(): line.partition(b":")[2].strip() for line in head.splitlines()[1:]}
    status = int(head.split(None, 2)[1])
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        return Heard(dialect, stream, status, *_dechunked(rest))
    length = fields.get(b"content-length")
    return Heard(dialect, stream, status, rest, length is None or len(rest) == int(length))


def _dechunked(rest: bytes) -> tuple[bytes, bool]:
    payload = b""
    while rest:
        size, found, rest = rest.partition(b"\r\n")
        if not found:
            break
        length = int(size, 16)
        if not length:
            return payload, True
        payload, rest = payload + rest[:length], rest[length + 2 :]
    return payload, False

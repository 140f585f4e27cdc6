"""An upstream that costs next to nothing: start `python -m scheduler.bench.stub`, read its port as JSON on stdout.

It speaks as much of Ollama as the daemon needs to see one resident model, answers chats at once or as a stream of
`num_predict` chunks at a fixed pace, and never finishes loading anything that was not resident from the start. It ends
when its stdin does, so it cannot outlive who started it.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any, cast

import httptools
import uvloop

RESIDENT = "qwen-fast:latest"
AWAY = "qwen-quality-128k:latest"
SIZES = {RESIDENT: 5_000_000_000, AWAY: 35_000_000_000}  # bytes
CONTEXT = 32768  # tokens, of every model
CHUNKS_A_SECOND = 20
ANSWER_BYTES = 90
VERSION = "0.32.0"
SINCE = "2026-08-22T10:00:00Z"
FOR_EVER = "2318-01-01T00:00:00Z"


def _answer() -> bytes:
    """The body of an answer in one piece, of exactly ANSWER_BYTES bytes."""
    frame = b'{"model":"%b","message":{"role":"assistant","content":"%b"},"done":true}'
    return frame % (RESIDENT.encode(), b"y" * (ANSWER_BYTES - len(frame % (RESIDENT.encode(), b""))))


def _head(content_type: bytes, more: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: %b\r\n%b\r\n\r\n" % (status, content_type, more)


def _whole(body: bytes, content_type: bytes = b"application/json; charset=utf-8", status: bytes = b"200 OK") -> bytes:
    return _head(content_type, b"Content-Length: %d" % len(body), status) + body


def _chunk(content: str, done: bool) -> bytes:
    line: dict[str, Any] = {"model": RESIDENT, "created_at": SINCE}
    line |= {"message": {"role": "assistant", "content": content}, "done": done}
    if done:
        line |= {"done_reason": "stop", "prompt_eval_count": 250, "eval_count": 100}
    data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


ANSWER = _whole(_answer())
STREAM_HEAD = _head(b"application/x-ndjson", b"Transfer-Encoding: chunked")
CHUNK = _chunk("word ", False)
LAST_CHUNK = _chunk("", True) + b"0\r\n\r\n"
NOT_FOUND = _whole(b"404 page not found", b"text/plain", b"404 Not Found")


class Upstream:
    """Which models are resident, and the JSON of every route that tells."""

    def __init__(self) -> None:
        self.resident: set[str] = {RESIDENT}
        self.reads: dict[tuple[bytes, str], Callable[[], bytes]] = {
            (b"GET", "/"): lambda: _whole(b"Ollama is running", b"text/plain; charset=utf-8"),
            (b"GET", "/api/version"): lambda: _json({"version": VERSION}),
            (b"GET", "/api/tags"): lambda: _json({"models": [_row(name) for name in SIZES]}),
            (b"GET", "/api/ps"): lambda: _json({"models": [_resident(name) for name in sorted(self.resident)]}),
            (b"POST", "/api/show"): lambda: _json(SHOWN),
        }

    def load_or_unload(self, asked: dict[str, Any]) -> bytes | None:
        """Answer a generate without a prompt; None for a load that never ends."""
        name = str(asked.get("model"))
        if name not in SIZES:
            return _whole(b'{"error":"model not found"}', status=b"404 Not Found")
        leaves = asked.get("keep_alive") in (0, "0", "0s")
        if leaves:
            self.resident.discard(name)
        elif name == AWAY:
            return None
        else:
            self.resident.add(name)
        reason = "unload" if leaves else "load"
        return _json({"model": name, "created_at": SINCE, "response": "", "done": True, "done_reason": reason})


SHOWN = {
    "modelfile": f"FROM nothing\nPARAMETER num_ctx {CONTEXT}\n",
    "parameters": f"num_ctx                        {CONTEXT}",
    "template": "{{ .Messages }}",
    "details": {"format": "gguf", "family": "llama"},
    "model_info": {"general.architecture": "llama", "llama.context_length": CONTEXT},
    "capabilities": ["completion"],
}


def _row(name: str) -> dict[str, Any]:
    digest = f"{list(SIZES).index(name):064x}"
    return {"name": name, "model": name, "modified_at": SINCE, "size": SIZES[name], "digest": digest, "details": {}}


def _resident(name: str) -> dict[str, Any]:
    return _row(name) | {"expires_at": FOR_EVER, "size_vram": SIZES[name], "context_length": CONTEXT}


def _json(content: dict[str, Any]) -> bytes:
    return _whole(json.dumps(content).encode())


class Connection(asyncio.Protocol):
    """One client; httptools parses, one request at a time."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    # httptools calls these.

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        path, self._url = self._url.partition(b"?")[0].decode("latin-1"), b""
        body, self._body = b"".join(self._body), []
        if path == "/api/chat":
            self._chat(json.loads(body))
        elif path == "/api/generate":
            answer = self._upstream.load_or_unload(json.loads(body))
            if answer is not None:
                self._transport.write(answer)
        else:
            read = self._upstream.reads.get((self._parser.get_method(), path))
            self._transport.write(read() if read else NOT_FOUND)

    def _chat(self, asked: dict[str, Any]) -> None:
        if not asked.get("stream", True):
            self._transport.write(ANSWER)
            return
        count = int((asked.get("options") or {}).get("num_predict", CHUNKS_A_SECOND))
        Stream(self._transport, count).begin()


class Stream:
    """An answer of `count` chunks, the first at once, the others at their own times however late one was."""

    def __init__(self, transport: asyncio.Transport, count: int) -> None:
        self._transport = transport
        self._count = count
        self._sent = 0
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()

    def begin(self) -> None:
        """Send head and first chunk together."""
        self._send(STREAM_HEAD + CHUNK)

    def _next(self) -> None:
        self._send(CHUNK if self._sent + 1 < self._count else LAST_CHUNK)

    def _send(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(data)
        self._sent += 1
        if self._sent < max(2, self._count):
            self._loop.call_at(self._began + self._sent / CHUNKS_A_SECOND, self._next)


async def serve() -> None:
    """Listen on a free loopback port, say which, and serve until stdin ends."""
    loop = asyncio.get_running_loop()
    upstream = Upstream()
    server = await loop.create_server(lambda: Connection(upstream), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(json.dumps({"port": server.sockets[0].getsockname()[1]}) + "\n")
    sys.stdout.flush()
    reader = asyncio.StreamReader()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    pipe.close()
    server.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())

"""Blobs go through to a real Ollama as they come: never held, never spooled, answered when Ollama answers."""

import asyncio
import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.live import FAST, Live
from tests.realollama.stage import StagedModel

PIECE = os.urandom(1 << 20)
PIECES = 200
HEAD = "POST /api/blobs/sha256:{} HTTP/1.1\r\nHost: localhost\r\n{}\r\n"


class Upload:
    """One blob on its way through `live`."""

    def __init__(self, live: Live, digest: str, framing: str) -> None:
        self._live = live
        self._head = HEAD.format(digest, framing).encode()
        self.sent = 0

    async def __call__(self, *, chunked: bool = False) -> bytes:
        """Send all of it, or as much as is taken; the head of the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._live.daemon.port)
        answer = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
        writer.write(self._head)
        if b"100-continue" in self._head:
            await asyncio.wait((answer,), timeout=5)
            assert answer.done()
            if not answer.result().startswith(b"HTTP/1.1 100 "):
                writer.close()
                return answer.result()
            answer = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
        with suppress(ConnectionError):  # nobody takes more: the answer is here
            while self.sent < PIECES * len(PIECE) and not answer.done():
                writer.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE)
                await writer.drain()
                self.sent += len(PIECE)
        if chunked and not answer.done():
            writer.write(b"0\r\n\r\n")
        async with asyncio.timeout(30):
            head = await answer
        writer.close()
        return head


@pytest.mark.real
@pytest.mark.timeout(120)
async def test_a_large_blob_is_never_held(real_ollama: Any, tmp_path: Path) -> None:
    """200 MB as chunks, under a wrong digest, then again: created, refused, and known already before it is sent; our
    memory and our disk do not notice."""
    ollama = await real_ollama(models=[StagedModel(FAST, 5_000_000_000, load_seconds=0.2, num_ctx=8_192)])
    digest = hashlib.sha256()
    for _ in range(PIECES):
        digest.update(PIECE)
    size = f"Content-Length: {PIECES * len(PIECE)}\r\n"
    folder = tmp_path / "state"
    async with Live.start(ollama.url, folder) as live:
        await live.acquainted()
        memory = [psutil.Process().memory_info().rss]

        async def watch() -> None:
            while True:
                memory.append(psutil.Process().memory_info().rss)
                await asyncio.sleep(0.05)

        watching = asyncio.ensure_future(watch())
        new = Upload(live, digest.hexdigest(), "Transfer-Encoding: chunked\r\n")
        assert re.match(rb"HTTP/1.1 201 ", await new(chunked=True))
        assert new.sent == PIECES * len(PIECE)
        wrong = Upload(live, "0" * 64, size)
        assert re.match(rb"HTTP/1.1 400 ", await wrong())  # Ollama counts the digest, and it is another one
        again = Upload(live, digest.hexdigest(), size)
        told = await again()
        assert re.match(rb"HTTP/1.1 200 ", told)
        assert b"\r\nConnection: close" in told  # nobody reads the rest of it
        assert again.sent < PIECES * len(PIECE)
        polite = Upload(live, digest.hexdigest(), f"Expect: 100-continue\r\n{size}")
        assert re.match(rb"HTTP/1.1 200 ", await polite())
        assert polite.sent == 0
        watching.cancel()
        assert max(memory) - memory[0] < 100_000_000
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 5_000_000
        await live.until(lambda: not live.daemon._own._listener._forwarder._upstream._retired)

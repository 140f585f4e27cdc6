"""Forward at once what the core need not know of: listings, what changes the library, models that run elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from scheduler.client import Client
from scheduler.errors import UpstreamFailed
from scheduler.reply import Broken, Headers, Reply
from scheduler.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Streamed:
    """A body that goes on as it comes and is never held whole. `length` in bytes, None: not told. `asked`: its client
    waits to be asked for it."""

    pieces: AsyncIterator[bytes]
    length: int | None
    asked: bool = False


async def pass_on(
    upstream: Upstream,
    method: str,
    target: str,
    headers: Headers,
    body: bytes | Streamed,
    client: Client,
    limit: float | None,
) -> None:
    """Forward at once and unscheduled; `limit` seconds for all of it, None for no limit (and no second try).

    Raises UpstreamFailed (503 not reachable, 502 broken off, 504 too late) while the client is untouched; later it
    breaks the client's connection off.
    """
    reply: Reply | None = None
    try:
        async with asyncio.timeout(limit):
            reply = await _opened(upstream, method, target, headers, body, again=limit is not None)
            client.head(reply.status, reply.reason, reply.headers, reply.length)
            if not reply.ready:
                client.flush()
            while chunks := await reply.chunks():
                client.write(chunks)
                await client.room()
            client.end()
    except TimeoutError:
        _give_up(client, UpstreamFailed(504, f"Ollama did not answer within {limit:g} s"))
    except Broken as error:
        _give_up(client, UpstreamFailed(502 if error.reached else 503, f"Ollama did not answer: {error}"))
    finally:
        if reply is not None and not reply.done:
            reply.close()


async def _opened(
    upstream: Upstream, method: str, target: str, headers: Headers, body: bytes | Streamed, *, again: bool
) -> Reply:
    """A reply whose head is here. A kept connection may be dead by now: what only reads is then asked `again`."""
    if isinstance(body, Streamed):
        pieces, length, asked = body.pieces, body.length, body.asked
        return await _begun(await upstream.send(method, target, headers, pieces, length=length, asked=asked, once=True))
    try:
        return await _begun(await upstream.send(method, target, headers, body, once=not again))
    except Broken as error:
        if not again or not error.reached:
            raise
    return await _begun(await upstream.send(method, target, headers, body, once=True))


async def _begun(reply: Reply) -> Reply:
    try:
        await reply.head()
    except BaseException:
        reply.close()
        raise
    return reply


def _give_up(client: Client, failure: UpstreamFailed) -> None:
    if not client.sent:
        raise failure
    client.break_off()

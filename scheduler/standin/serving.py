"""What every route that needs a runner does: place the request, let the runner speak, write it in the dialect."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from aiohttp import web

from scheduler.standin import listings
from scheduler.standin.answers import PLAIN_JSON, Dialect, Tally, go_json, tokens_in
from scheduler.standin.library import Installed, Library
from scheduler.standin.memory import Memory, Runner, RunnerOptions
from scheduler.standin.names import longest, referred, source_of
from scheduler.standin.refusal import GIN_JSON, Refusal
from scheduler.standin.requests import check_options, keep_alive_of, runner_options_of, whole_number
from scheduler.standin.speech import Speech
from scheduler.standin.stage import StagedModel

NO_EYES = "Multimodal data provided, but model does not support multimodal requests."
LEAST_CONTEXT = 256
"""The engine rounds a context up to a multiple of so many tokens."""
NO_EMBEDDINGS = "This server does not support embeddings. Start it with `--embeddings`"


@dataclass(frozen=True)
class Wish:
    """What one request wants: which model, how, how long kept, what was said, how many tokens back."""

    model: StagedModel
    options: RunnerOptions
    keep: float | None
    said: str
    most: int | None
    stream: bool
    truncate: bool = True
    """Whether a prompt that is longer than the context is cut in silence."""
    seen: bool = False
    """Whether pictures or sound came with it, which no staged model takes."""


class Serving:
    """The way from a request's wish to its answer."""

    def __init__(self, memory: Memory, library: Library, speech: Speech) -> None:
        self.memory = memory
        self.stage = memory.stage
        self._library = library
        self._speech = speech

    def installed(self, raw: str, *, missing: Refusal, unknown: str) -> Installed:
        """The model that a request names; raises `missing` without a name, 404 with the text `unknown` if not there."""
        stub = self._library.find(raw)
        if stub is not None and stub.model.remote:
            return stub
        name, _ = referred(raw, missing=missing)
        found = self._library.find(name)
        if found is None:
            raise Refusal(404, unknown)
        return found

    def is_for_cloud(self, raw: str) -> bool:
        """Whether the name says so, and the stage has no stub by that name."""
        try:
            return source_of(raw)[1] == "cloud" and self._library.find(raw) is None
        except Refusal:
            return False

    def may(self, wish: Mapping[str, Any], model: StagedModel, what: str, *, think: bool) -> None:
        """Raise Ollama's 400 for what the model cannot do, 500 for an option of the wrong kind."""
        name = wish.get("model")
        if think:
            raise Refusal(400, f'"{name}" does not support thinking')
        if model.embedding:
            raise Refusal(400, f'"{name}" does not support {what}')
        if wish.get("suffix"):
            raise Refusal(400, f"{longest(model.name)} does not support insert")
        if wish.get("tools") and not model.tools:
            raise Refusal(400, f"{longest(model.name)} does not support tools")
        check_options(dict(wish))

    async def answer(self, request: web.Request, wish: Wish, dialect: Dialect) -> web.StreamResponse:
        """All of it, whole or streamed. Raises `Refusal`."""
        tally, began = Tally(), monotonic()
        async with self._runner_for(wish) as runner:
            tally.load = monotonic() - began
            async with self.memory.slot(runner):
                pieces = self._spoken(runner, wish, tally)
                if wish.stream:
                    return await _streamed(request, dialect, pieces, tally, began)
                text = "".join([piece async for piece in pieces])
        tally.total = monotonic() - began
        return json_answer(dialect.whole(text, tally), dialect.whole_type)

    async def vectors(
        self, body: dict[str, Any], model: StagedModel, texts: list[str], *, failed: int = 501
    ) -> tuple[list[list[float]], Tally]:
        """A vector for each text; `failed` is the status where the model does not embed. Raises `Refusal`."""
        tally, began = Tally(), monotonic()
        check_options(body)
        options = runner_options_of(self.stage, model, body)
        async with self.memory.lease(model, options, keep_alive_of(body)) as runner:
            tally.load = monotonic() - began
            if texts and not model.embedding:
                raise Refusal(failed, NO_EMBEDDINGS)
            if body.get("truncate") is False and any(tokens_in(text) > runner.options.num_ctx for text in texts):
                raise Refusal(400, "the input length exceeds the context length")
            if texts:
                async with self.memory.slot(runner):
                    await self._speech.listen(runner, sum(map(tokens_in, texts)), tally)
        dimensions = whole_number(body, "dimensions") or 0
        return [listings.embedding(text, dimensions) for text in texts], tally

    async def _spoken(self, runner: Runner, wish: Wish, tally: Tally) -> AsyncIterator[str]:
        tokens = tokens_in(wish.said)
        room = -(-runner.options.num_ctx // LEAST_CONTEXT) * LEAST_CONTEXT
        if wish.seen:
            raise Refusal(400, _engine_error(NO_EYES, "invalid_request_error"))
        if tokens > room and not wish.truncate:
            said = f"request ({tokens} tokens) exceeds the available context size ({room} tokens), try increasing it"
            raise Refusal(400, _engine_error(said, "exceed_context_size_error", n_prompt_tokens=tokens, n_ctx=room))
        await self._speech.listen(runner, tokens, tally)
        async for piece in self._speech.say(runner, wish.most, tally):
            yield piece

    @asynccontextmanager
    async def _runner_for(self, wish: Wish) -> AsyncIterator[Runner]:
        if wish.model.remote:
            yield self.memory.elsewhere(wish.model, wish.options)
            return
        async with self.memory.lease(wish.model, wish.options, wish.keep) as runner:
            yield runner


class WrittenBy:
    """Refusals inside are written by this function, with this content type and these headers."""

    def __init__(
        self, write: Callable[[int, str], bytes], content_type: str, headers: dict[str, str] | None = None
    ) -> None:
        self._write = write
        self._type = content_type
        self._headers = headers or {}

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Refusal) and error.body is None:
            end = b"\n" if self._type == PLAIN_JSON else b""
            error.body = self._write(error.status, error.message) + end
            error.content_type = self._type
            error.headers = self._headers


async def _streamed(
    request: web.Request, dialect: Dialect, pieces: AsyncIterator[str], tally: Tally, began: float
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": dialect.stream_type, **dialect.stream_headers})
    try:
        async for piece in pieces:
            await _send(request, response, dialect.word(piece))
    except Refusal as failure:
        if not response.prepared:
            failure.streamed, failure.content_type = True, PLAIN_JSON
            raise
        await _send(request, response, dialect.broken(failure.message))
        await response.write_eof()
        return response
    tally.total = monotonic() - began
    await _send(request, response, dialect.last(tally) if tally.reason else b"")
    await response.write_eof()
    return response


async def _send(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    if not response.prepared:
        if request.version >= (1, 1):
            response.enable_chunked_encoding()
        await response.prepare(request)
    if data:
        await response.write(data)


def _engine_error(message: str, kind: str, **more: int) -> str:
    """What llama.cpp says of a request it does not take; Ollama passes it on as text."""
    return go_json({"error": {"code": 400, "message": message, "type": kind, **more}}).decode()


def json_answer(body: bytes, content_type: str = GIN_JSON) -> web.Response:
    """A 200 with this body."""
    return web.Response(body=body, headers={"Content-Type": content_type})

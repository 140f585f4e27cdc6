"""The routes that need a runner: read the request, place it, let the runner speak, write it in the route's dialect."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from aiohttp import web

from scheduler.standin import listings
from scheduler.standin.answers import (
    GIN_JSON,
    PLAIN_JSON,
    Anthropic,
    Dialect,
    Native,
    OpenAI,
    Tally,
    anthropic_error,
    go_json,
    openai_error,
    tokens_in,
)
from scheduler.standin.memory import Memory, Refusal, Runner, RunnerOptions
from scheduler.standin.requests import (
    go_object,
    inputs_of,
    keep_alive_of,
    options_of,
    runner_options_of,
    said_in,
    text_of,
    whole_number,
)
from scheduler.standin.speech import Speech
from scheduler.standin.stage import StagedModel

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


class Inference:
    """Answers generate, chat, embed and their cousins."""

    def __init__(self, memory: Memory, speech: Speech) -> None:
        self._memory = memory
        self._stage = memory.stage
        self._speech = speech

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.post("/api/generate", self._generate),
            web.post("/api/chat", self._chat),
            web.post("/api/embed", self._embed),
            web.post("/api/embeddings", self._embeddings),
            web.post("/v1/chat/completions", self._completions),
            web.post("/v1/embeddings", self._openai_embeddings),
            web.post("/v1/messages", self._messages),
        ]

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = go_object(await request.read())
        name = text_of(body, "model")
        model = self._installed(name, f"model '{name}' not found")
        return await self._native(request, body, model, text_of(body, "prompt"), chat=False)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = go_object(await request.read())
        name = text_of(body, "model")
        if not name:
            raise Refusal(400, "model is required")
        model = self._installed(name, f"model '{name}' not found")
        return await self._native(request, body, model, said_in(body.get("messages")), chat=True)

    async def _native(
        self, request: web.Request, body: dict[str, Any], model: StagedModel, said: str, *, chat: bool
    ) -> web.StreamResponse:
        dialect = Native(body["model"], chat=chat, remote=listings.remote_fields(model))
        keep = keep_alive_of(body)
        empty = not body.get("messages") if chat else not said
        if empty and keep == 0:
            self._memory.expire(model)
            return _json(dialect.at_once("unload"))
        if model.embedding:
            raise Refusal(400, f'"{body["model"]}" does not support {"chat" if chat else "generate"}')
        most = whole_number(options_of(body), "num_predict")
        options = runner_options_of(self._stage, model, body)
        wish = Wish(model, options, keep, said, most, body.get("stream") is not False)
        if empty and not model.remote:
            async with self._memory.lease(model, options, keep):
                return _json(dialect.at_once("load"))
        return await self._answer(request, wish, dialect)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        with _written_by(openai_error, GIN_JSON):
            body = go_object(await request.read(), "EOF")
            if not body.get("messages"):
                raise Refusal(400, "[] is too short - 'messages'")
        usage = body.get("stream_options") or {}
        dialect = OpenAI(text_of(body, "model"), bool(usage.get("include_usage")))
        return await self._v1(request, body, dialect, said_in(body["messages"]))

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        with _written_by(anthropic_error, GIN_JSON):
            body = go_object(await request.read(), "EOF")
            if not text_of(body, "model"):
                raise Refusal(400, "model is required")
            if (whole_number(body, "max_tokens") or 0) <= 0:
                raise Refusal(400, "max_tokens is required and must be positive")
            if not body.get("messages"):
                raise Refusal(400, "messages is required")
        system = body.get("system")
        said = said_in([{"content": system}, *body["messages"]])
        return await self._v1(request, body, Anthropic(body["model"], tokens_in(said)), said)

    async def _v1(
        self, request: web.Request, body: dict[str, Any], dialect: OpenAI | Anthropic, said: str
    ) -> web.StreamResponse:
        with _written_by(dialect.refused, PLAIN_JSON):
            name = text_of(body, "model")
            if not name:
                raise Refusal(400, "model is required")
            model = self._installed(name, f"model '{name}' not found")
            if model.embedding:
                raise Refusal(400, f'"{name}" does not support chat')
            options = RunnerOptions(self._stage.context_of(model))
            wish = Wish(model, options, None, said, whole_number(body, "max_tokens"), body.get("stream") is True)
            return await self._answer(request, wish, dialect)

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        body = go_object(await request.read())
        name, began = text_of(body, "model"), monotonic()
        texts = inputs_of(body.get("input"))
        if not name:
            raise Refusal(404, "model '' not found")
        vectors, tally = await self._vectors(body, f'model "{name}" not found, try pulling it first', texts)
        if not texts:
            return _json(go_json({"model": name, "embeddings": []}))
        durations = {"total_duration": round((monotonic() - began) * 1e9), "load_duration": round(tally.load * 1e9)}
        counts = {"prompt_eval_count": tally.prompt_tokens}
        return _json(go_json({"model": name, "embeddings": vectors, **durations, **counts}))

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        body = go_object(await request.read())
        name, prompt = text_of(body, "model"), text_of(body, "prompt")
        if not name:
            raise Refusal(400, "model is required")
        texts = [prompt] if prompt else []
        vectors, _ = await self._vectors(body, f'model "{name}" not found, try pulling it first', texts, failed=500)
        return _json(go_json({"embedding": vectors[0] if vectors else []}))

    async def _openai_embeddings(self, request: web.Request) -> web.StreamResponse:
        with _written_by(openai_error, GIN_JSON):
            body = go_object(await request.read(), "EOF")
            if body.get("input") in (None, []):
                raise Refusal(400, "invalid input")
        with _written_by(openai_error, PLAIN_JSON):
            name = text_of(body, "model")
            if not name:
                raise Refusal(404, "model '' not found")
            plain = {"model": name, "dimensions": body.get("dimensions")}
            texts = inputs_of(body["input"]) or [""]
            vectors, tally = await self._vectors(plain, f'model "{name}" not found, try pulling it first', texts)
            encoding = text_of(body, "encoding_format").lower()
            answer = listings.openai_embeddings(name, vectors, tally.prompt_tokens, encoding)
            return _json(go_json(answer) + b"\n", PLAIN_JSON)

    async def _vectors(
        self, body: dict[str, Any], missing: str, texts: list[str], failed: int = 501
    ) -> tuple[list[list[float]], Tally]:
        model = self._installed(body["model"], missing)
        tally, began = Tally(), monotonic()
        options = runner_options_of(self._stage, model, body)
        async with self._memory.lease(model, options, keep_alive_of(body)) as runner:
            tally.load = monotonic() - began
            if texts and not model.embedding:
                raise Refusal(failed, NO_EMBEDDINGS)
            if texts:
                async with self._memory.slot(runner):
                    await self._speech.listen(runner, sum(map(tokens_in, texts)), tally)
        dimensions = whole_number(body, "dimensions") or 0
        return [listings.embedding(text, dimensions) for text in texts], tally

    async def _answer(self, request: web.Request, wish: Wish, dialect: Dialect) -> web.StreamResponse:
        tally, began = Tally(), monotonic()
        async with self._runner_for(wish) as runner:
            tally.load = monotonic() - began
            async with self._memory.slot(runner):
                await self._speech.listen(runner, tokens_in(wish.said), tally)
                pieces = self._speech.say(runner, wish.most, tally)
                if wish.stream:
                    return await _streamed(request, dialect, pieces, tally, began)
                text = "".join([piece async for piece in pieces])
        tally.total = monotonic() - began
        return _json(dialect.whole(text, tally), dialect.whole_type)

    @asynccontextmanager
    async def _runner_for(self, wish: Wish) -> AsyncIterator[Runner]:
        if wish.model.remote:
            yield self._memory.elsewhere(wish.model, wish.options)
            return
        async with self._memory.lease(wish.model, wish.options, wish.keep) as runner:
            yield runner

    def _installed(self, name: str, missing: str) -> StagedModel:
        model = self._stage.find(name) if name else None
        if model is None:
            raise Refusal(404, missing)
        return model


class _written_by:
    """Refusals inside are written by this function, with this content type."""

    def __init__(self, write: Callable[[int, str], bytes], content_type: str) -> None:
        self._write = write
        self._type = content_type

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Refusal) and error.body is None:
            end = b"\n" if self._type == PLAIN_JSON else b""
            error.body = self._write(error.status, error.message) + end
            error.content_type = self._type


async def _streamed(
    request: web.Request, dialect: Dialect, pieces: AsyncIterator[str], tally: Tally, began: float
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": dialect.stream_type})
    if isinstance(dialect, Anthropic):
        response.headers.update({"Cache-Control": "no-cache", "Connection": "keep-alive"})
    try:
        async for piece in pieces:
            await _send(request, response, dialect.word(piece))
    except Refusal as failure:
        if not response.prepared:
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
        response.enable_chunked_encoding()
        await response.prepare(request)
    if data:
        await response.write(data)


def _json(body: bytes, content_type: str = GIN_JSON) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": content_type})

"""The routes in other people's dialects: OpenAI's under /v1, Anthropic's /v1/messages (middleware/ of Ollama)."""

from typing import Any

import zstandard
from aiohttp import web

from scheduler.standin import listings
from scheduler.standin.answers import PLAIN_JSON, Dialect, Tally, go_json, tokens_in
from scheduler.standin.anthropic import Anthropic, anthropic_error
from scheduler.standin.inference import thinks
from scheduler.standin.memory import RunnerOptions
from scheduler.standin.names import NO_CLOUD
from scheduler.standin.openai import Completion, OpenAI, openai_error
from scheduler.standin.refusal import GIN_JSON, Refusal
from scheduler.standin.requests import go_object, inputs_of, said_in, text_of, whole_number
from scheduler.standin.responses import Responses
from scheduler.standin.serving import Serving, Wish, WrittenBy, json_answer

_SEEN = frozenset({"image_url", "input_audio", "input_image", "image"})
_INPUT_KINDS = {int: "number", float: "number", bool: "bool", dict: "object"}
_GO_KINDS = {int: "float64", float: "float64", bool: "bool", dict: "map[string]interface {}", type(None): "<nil>"}


class Compatible:
    """Answers them through `Serving`."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.post("/v1/chat/completions", self._chat),
            web.post("/v1/completions", self._completions),
            web.post("/v1/embeddings", self._embeddings),
            web.post("/v1/responses", self._responses),
            web.post("/v1/messages", self._messages),
        ]

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        with WrittenBy(openai_error, GIN_JSON):
            body = await self._body(request, "openai.ChatCompletionRequest")
            if not body.get("messages"):
                raise Refusal(400, "[] is too short - 'messages'")
            _check_contents(body["messages"])
        dialect = OpenAI(text_of(body, "model"), _wants_usage(body))
        think = thinks(_effort(body.get("reasoning")) or body.get("reasoning_effort"))
        most = whole_number(body, "max_tokens")
        return await self._answer(request, body, dialect, said_in(body["messages"]), most, think=think)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        with WrittenBy(openai_error, GIN_JSON):
            body = await self._body(request, "openai.CompletionRequest")
        dialect = Completion(text_of(body, "model"), _wants_usage(body))
        most = whole_number(body, "max_tokens")
        return await self._answer(request, body, dialect, text_of(body, "prompt"), most, what="generate")

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        with WrittenBy(openai_error, GIN_JSON):
            body = await self._body(request, "openai.ResponsesRequest")
            given = body.get("input")
            if isinstance(given, int | float | dict):
                kind = f"cannot unmarshal {_INPUT_KINDS[type(given)]} into Go value of type []json.RawMessage"
                raise Refusal(400, f"input must be a string or array: json: {kind}")
        said = given if isinstance(given, str) else said_in(given)
        think = thinks(_effort(body.get("reasoning")))
        most = whole_number(body, "max_output_tokens")
        return await self._answer(request, body, Responses(body), said, most, think=think)

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        with WrittenBy(anthropic_error, GIN_JSON):
            body = await self._body(request, "anthropic.MessagesRequest")
            if not text_of(body, "model"):
                raise Refusal(400, "model is required")
            if (whole_number(body, "max_tokens") or 0) <= 0:
                raise Refusal(400, "max_tokens is required and must be positive")
            if not body.get("messages"):
                raise Refusal(400, "messages is required")
        said = said_in([{"content": body.get("system")}, *body["messages"]])
        dialect = Anthropic(body["model"], tokens_in(said))
        return await self._answer(request, body, dialect, said, whole_number(body, "max_tokens"))

    async def _answer(
        self,
        request: web.Request,
        body: dict[str, Any],
        dialect: Dialect,
        said: str,
        most: int | None,
        *,
        what: str = "chat",
        think: bool = False,
    ) -> web.StreamResponse:
        stream = body.get("stream") is True
        with WrittenBy(dialect.refused, PLAIN_JSON, dialect.stream_headers if stream else {}):
            name = text_of(body, "model")
            unknown = f"model '{name}' not found"
            missing = Refusal(404, unknown) if what == "generate" else Refusal(400, "model is required")
            model = self._serving.installed(name, missing=missing, unknown=unknown).model
            self._serving.may({**body, "options": {}}, model, what, think=think)
            options = RunnerOptions(self._serving.stage.context_of(model))
            if not said and what == "generate":
                async with self._serving.memory.lease(model, options, None):
                    return _loaded(dialect, stream=stream)
            wish = Wish(model, options, None, said, most, stream, seen=_sees(body.get("messages") or body.get("input")))
            return await self._serving.answer(request, wish, dialect)

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        with WrittenBy(openai_error, GIN_JSON):
            body = await self._body(request, "openai.EmbedRequest")
            encoding = text_of(body, "encoding_format")
            if encoding.lower() not in ("", "float", "base64"):
                supported = "Supported values: ['float', 'base64']."
                raise Refusal(400, f"Invalid value for 'encoding_format' = {encoding}. {supported}")
            if body.get("input") in (None, []):
                raise Refusal(400, "invalid input")
        with WrittenBy(openai_error, PLAIN_JSON):
            name = text_of(body, "model")
            texts = inputs_of(body["input"]) or [""]
            unknown = f'model "{name}" not found, try pulling it first'
            found = self._serving.installed(name, missing=Refusal(404, f"model '{name}' not found"), unknown=unknown)
            plain = {"model": name, "dimensions": body.get("dimensions")}
            vectors, tally = await self._serving.vectors(plain, found.model, texts)
            answer = listings.openai_embeddings(name, vectors, tally.prompt_tokens, encoding.lower())
            return json_answer(go_json(answer) + b"\n", PLAIN_JSON)

    async def _body(self, request: web.Request, shape: str) -> dict[str, Any]:
        """The request; one for the cloud is turned away before it is looked at, in Ollama's native words."""
        raw = await request.read()
        if request.headers.get("Content-Encoding") == "zstd" and raw:
            raw = _unpacked(raw)
        body = go_object(raw, "EOF", shape)
        name = text_of(body, "model")
        if name and self._serving.is_for_cloud(name):
            refusal = Refusal(403, f"{NO_CLOUD}remote model is unavailable")
            refusal.body = go_json({"error": refusal.message})
            raise refusal
        return body


def _loaded(dialect: Dialect, *, stream: bool) -> web.Response:
    tally = Tally(reason="load")
    if stream:
        return json_answer(dialect.last(tally), dialect.stream_type)
    return json_answer(dialect.whole("", tally), dialect.whole_type)


def _check_contents(messages: list[Any]) -> None:
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, str | list) and not (isinstance(message, dict) and message.get("tool_calls")):
            raise Refusal(400, f"invalid message content type: {_GO_KINDS[type(content)]}")


def _sees(messages: object) -> bool:
    """Whether a picture or sound is among the blocks of the messages."""
    given = messages if isinstance(messages, list) else []
    contents = [message.get("content") for message in given if isinstance(message, dict)]
    blocks = [block for content in contents if isinstance(content, list) for block in content]
    return any(isinstance(block, dict) and block.get("type") in _SEEN for block in blocks)


def _unpacked(raw: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(raw)
    except zstandard.ZstdError as error:
        raise Refusal(400, "failed to decompress zstd body") from error


def _wants_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _effort(reasoning: object) -> object:
    return reasoning.get("effort") if isinstance(reasoning, dict) else None

"""The native routes that need a runner: generate, chat, embed, embeddings (server/routes.go)."""

from time import monotonic
from typing import Any

from aiohttp import web

from scheduler.standin import listings
from scheduler.standin.answers import Native, go_json
from scheduler.standin.library import Installed
from scheduler.standin.refusal import Refusal
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
from scheduler.standin.serving import Serving, Wish, json_answer

MOST_LOGPROBS = 20


class Inference:
    """Answers them through `Serving`."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._memory = serving.memory

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.post("/api/generate", self._generate),
            web.post("/api/chat", self._chat),
            web.post("/api/embed", self._embed),
            web.post("/api/embeddings", self._embeddings),
        ]

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = _checked(go_object(await request.read(), shape="api.GenerateRequest"))
        unknown = f"model '{text_of(body, 'model')}' not found"
        found = self._serving.installed(text_of(body, "model"), missing=Refusal(404, unknown), unknown=unknown)
        return await self._native(request, body, found, text_of(body, "prompt"), chat=False)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = _checked(go_object(await request.read(), shape="api.ChatRequest"))
        unknown = f"model '{text_of(body, 'model')}' not found"
        missing = Refusal(400, "model is required")
        found = self._serving.installed(text_of(body, "model"), missing=missing, unknown=unknown)
        return await self._native(request, body, found, said_in(body.get("messages")), chat=True)

    async def _native(
        self, request: web.Request, body: dict[str, Any], found: Installed, said: str, *, chat: bool
    ) -> web.StreamResponse:
        model, keep = found.model, keep_alive_of(body)
        remote = listings.remote_fields(model)
        dialect = Native(body["model"], chat=chat, raw=body.get("raw") is True, remote=remote)
        empty = not body.get("messages") if chat else not said
        if empty and keep == 0:
            self._memory.expire(model)
            return json_answer(dialect.at_once("unload"))
        self._serving.may(body, model, "chat" if chat else "generate", think=thinks(body.get("think")))
        options = runner_options_of(self._serving.stage, model, body)
        if empty and not model.remote:
            async with self._memory.lease(model, options, keep):
                return json_answer(dialect.at_once("load"))
        most = whole_number(options_of(body), "num_predict")
        stream, cut = body.get("stream") is not False, body.get("truncate") is not False
        wish = Wish(model, options, keep, said, most, stream, truncate=cut, seen=_sees(body))
        return await self._serving.answer(request, wish, dialect)

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        body = go_object(await request.read(), shape="api.EmbedRequest")
        name, began = text_of(body, "model"), monotonic()
        missing = Refusal(404, f"model '{name}' not found")
        keep_alive_of(body)
        if not name:
            raise missing
        texts = inputs_of(body.get("input"))
        found = self._serving.installed(
            name, missing=missing, unknown=f'model "{name}" not found, try pulling it first'
        )
        vectors, tally = await self._serving.vectors(body, found.model, texts)
        if not texts:
            return json_answer(go_json({"model": name, "embeddings": []}))
        durations = {"total_duration": round((monotonic() - began) * 1e9), "load_duration": round(tally.load * 1e9)}
        counts = {"prompt_eval_count": tally.prompt_tokens}
        return json_answer(go_json({"model": name, "embeddings": vectors, **durations, **counts}))

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        body = go_object(await request.read(), shape="api.EmbeddingRequest")
        name, prompt = text_of(body, "model"), text_of(body, "prompt")
        keep_alive_of(body)
        unknown = f'model "{name}" not found, try pulling it first'
        found = self._serving.installed(name, missing=Refusal(400, "model is required"), unknown=unknown)
        vectors, _ = await self._serving.vectors(body, found.model, [prompt] if prompt else [], failed=500)
        return json_answer(go_json({"embedding": vectors[0] if vectors else []}))


def thinks(told: object) -> bool:
    """Whether `think` asks for it: true, or a level (`ThinkValue` of api/types.go)."""
    return told is True or (isinstance(told, str) and told in ("high", "medium", "low", "max"))


def _sees(body: dict[str, Any]) -> bool:
    messages = body.get("messages") or [body]
    return any(isinstance(each, dict) and bool(each.get("images")) for each in messages)


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    keep_alive_of(body)
    if not 0 <= (body.get("top_logprobs") or 0) <= MOST_LOGPROBS:
        raise Refusal(400, f"top_logprobs must be between 0 and {MOST_LOGPROBS}")
    return body

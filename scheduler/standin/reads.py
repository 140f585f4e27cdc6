"""The routes that only look: root, version, what is installed, what is resident; and the cloud, which is off."""

import asyncio
from contextlib import suppress

from aiohttp import web

from scheduler.standin import listings
from scheduler.standin.answers import PLAIN_JSON, go_json
from scheduler.standin.faults import Faults
from scheduler.standin.library import Library
from scheduler.standin.memory import Memory
from scheduler.standin.names import NO_CLOUD, referred
from scheduler.standin.openai import openai_error
from scheduler.standin.refusal import Refusal
from scheduler.standin.requests import go_object, text_of
from scheduler.standin.serving import WrittenBy, json_answer

_NOT_PLAYED = ("/v1/images/generations", "/v1/images/edits", "/v1/audio/transcriptions", "/api/signout")


class Reads:
    """Answers them."""

    def __init__(self, library: Library, memory: Memory, faults: Faults) -> None:
        self._library = library
        self._memory = memory
        self._faults = faults

    def routes(self) -> list[web.RouteDef]:
        """All of them; those that the stand-in does not play say so with 501."""
        return [
            web.get("/", self._root),
            web.get("/api/version", self._version),
            web.get("/api/status", self._status, allow_head=False),
            web.get("/api/tags", self._tags),
            web.get("/api/ps", self._ps, allow_head=False),
            web.post("/api/show", self._show),
            web.get("/v1/models", self._models, allow_head=False),
            web.get("/v1/models/{model}", self._model, allow_head=False),
            web.post("/api/me", self._nobody),
            web.post("/api/experimental/web_search", self._no_search),
            web.post("/api/experimental/web_fetch", self._no_fetch),
            web.get("/api/experimental/model-recommendations", self._not_played, allow_head=False),
            web.delete("/api/user/keys/{key}", self._not_played),
            *(web.post(path, self._not_played) for path in _NOT_PLAYED),
        ]

    async def _root(self, request: web.Request) -> web.Response:
        return web.Response(text="Ollama is running")

    async def _version(self, request: web.Request) -> web.Response:
        return json_answer(go_json({"version": self._memory.stage.version}))

    async def _status(self, request: web.Request) -> web.Response:
        return json_answer(go_json({"cloud": {"disabled": True, "source": "env"}}))

    async def _tags(self, request: web.Request) -> web.Response:
        return json_answer(go_json(listings.tags(self._library.all())))

    async def _ps(self, request: web.Request) -> web.Response:
        hanging = self._faults.strike("hang_ps")
        if hanging is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(hanging.seconds or None):
                    await hanging.cleared.wait()
        return json_answer(go_json(listings.ps(list(self._memory.runners.values()))))

    async def _show(self, request: web.Request) -> web.Response:
        body = go_object(await request.read(), shape="api.ShowRequest")
        name = text_of(body, "model") or text_of(body, "name")
        found = self._library.find(name)
        if found is None or not found.model.remote:
            missing = Refusal(400, "model is required")
            name, _ = referred(name, missing=missing, disabled="remote model details are unavailable")
            found = self._library.find(name)
        if found is None:
            raise Refusal(404, f"model '{self._library.existing(name)}' not found")
        return json_answer(go_json(listings.show(found)))

    async def _models(self, request: web.Request) -> web.Response:
        return json_answer(go_json(listings.openai_models(self._library.all())) + b"\n", PLAIN_JSON)

    async def _model(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        if "/" in name:  # a slash is one to gin, written out or not
            return web.Response(status=404, body=b"404 page not found", headers={"Content-Type": "text/plain"})
        with WrittenBy(openai_error, PLAIN_JSON):
            asked, _ = referred(name, missing=Refusal(400, "model is required"))
            found = self._library.find(asked)
            if found is None:
                raise Refusal(404, f"model '{self._library.existing(asked)}' not found")
        return json_answer(go_json(listings.openai_model(name, found)) + b"\n", PLAIN_JSON)

    async def _nobody(self, request: web.Request) -> web.Response:
        raise Refusal(503, "account unavailable")

    async def _no_search(self, request: web.Request) -> web.Response:
        raise Refusal(403, f"{NO_CLOUD}web search is unavailable")

    async def _no_fetch(self, request: web.Request) -> web.Response:
        raise Refusal(403, f"{NO_CLOUD}web fetch is unavailable")

    async def _not_played(self, request: web.Request) -> web.Response:
        raise Refusal(501, f"the stand-in Ollama does not serve {request.method} {request.path}")

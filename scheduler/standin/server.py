"""The web application: Ollama's routes, the border in front of them, and the stand-in's own controls."""

import asyncio
import time
from contextlib import suppress
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from scheduler.standin import listings
from scheduler.standin.answers import GIN_JSON, PLAIN_JSON, go_json, openai_error
from scheduler.standin.border import allowed_origin, turned_away
from scheduler.standin.faults import BadFault, Events, Fault, Faults
from scheduler.standin.inference import Inference
from scheduler.standin.memory import Memory, Refusal
from scheduler.standin.requests import go_object, text_of
from scheduler.standin.speech import Speech
from scheduler.standin.stage import Stage

MARKER = "X-Scheduler-Stand-In"
CONTROLS = "/standin/"


class Server:
    """One stand-in Ollama; `app` is what aiohttp runs. Needs a running loop and the task group that owns its work."""

    def __init__(self, stage: Stage, tasks: asyncio.TaskGroup) -> None:
        self.stage = stage
        self.faults = Faults()
        self.events = Events()
        self.memory = Memory(stage, self.faults, self.events, tasks)
        self._under_way: set[asyncio.Transport] = set()
        self.app = web.Application(middlewares=[self._border], client_max_size=2**30)
        self.app.on_response_prepare.append(self._mark)
        self.app.add_routes(Inference(self.memory, Speech(self.faults, self.events)).routes())
        self.app.add_routes(self._reads())
        self.app.add_routes(self._controls())
        self.app.router.add_route("*", "/{anything:.*}", self._unserved)

    def _reads(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._root),
            web.get("/api/version", self._version),
            web.get("/api/tags", self._tags),
            web.get("/api/ps", self._ps, allow_head=False),
            web.post("/api/show", self._show),
            web.get("/v1/models", self._models, allow_head=False),
            web.get("/v1/models/{model}", self._model, allow_head=False),
        ]

    def _controls(self) -> list[web.RouteDef]:
        return [
            web.get(f"{CONTROLS}events", self._look_at_events),
            web.delete(f"{CONTROLS}events", self._forget_events),
            web.get(f"{CONTROLS}stage", self._look_at_stage),
            web.post(f"{CONTROLS}fault", self._set_fault),
            web.delete(f"{CONTROLS}fault", self._clear_faults),
            web.post(f"{CONTROLS}reset", self._reset),
        ]

    @web.middleware
    async def _border(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport
        if request.path.startswith(CONTROLS) or not isinstance(transport, asyncio.Transport):
            return await _answered(request, handler)
        if self.faults.strike("down") is not None:
            transport.abort()
            return web.Response(status=503)  # nobody will see it
        if (away := turned_away(request)) is not None:
            return away
        self._under_way.add(transport)
        try:
            await self._record(request)
            return await _answered(request, handler)
        finally:
            self._under_way.discard(transport)

    async def _record(self, request: web.Request) -> None:
        more: dict[str, Any] = {}
        if request.method == "POST":
            with suppress(Refusal):
                body = go_object(await request.read())
                more = {key: body[key] for key in ("model", "stream", "keep_alive", "options") if key in body}
        self.events.note("request", method=request.method, path=request.path, **more)

    async def _mark(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        response.headers[MARKER] = "1"
        response.headers.popall("Server", None)
        if isinstance(request, web.Request) and response.status not in (204, 403):
            response.headers.update(allowed_origin(request))

    async def _root(self, request: web.Request) -> web.Response:
        return web.Response(text="Ollama is running")

    async def _version(self, request: web.Request) -> web.Response:
        return _json({"version": self.stage.version})

    async def _tags(self, request: web.Request) -> web.Response:
        return _json(listings.tags(self.stage))

    async def _ps(self, request: web.Request) -> web.Response:
        hanging = self.faults.strike("hang_ps")
        if hanging is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(hanging.seconds or None):
                    await hanging.cleared.wait()
        return _json(listings.ps(list(self.memory.runners.values())))

    async def _show(self, request: web.Request) -> web.Response:
        body = go_object(await request.read())
        name = text_of(body, "model") or text_of(body, "name")
        if not name:
            raise Refusal(400, "model is required")
        model = self.stage.find(name)
        if model is None:
            raise Refusal(404, f"model '{_with_tag(name)}' not found")
        return _json(listings.show(model))

    async def _models(self, request: web.Request) -> web.Response:
        return web.Response(body=go_json(listings.openai_models(self.stage)) + b"\n", headers=_PLAIN)

    async def _model(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        if self.stage.find(name) is None:
            body = openai_error(404, f"model '{_with_tag(name)}' not found")
            return web.Response(status=404, body=body + b"\n", headers=_PLAIN)
        return web.Response(body=go_json(listings.openai_model(name)) + b"\n", headers=_PLAIN)

    async def _unserved(self, request: web.Request) -> web.Response:
        raise Refusal(501, f"the stand-in Ollama does not serve {request.method} {request.path}")

    async def _look_at_events(self, request: web.Request) -> web.Response:
        return _json(self.events.as_json())

    async def _forget_events(self, request: web.Request) -> web.Response:
        self.events.clear()
        return _json(self.events.as_json())

    async def _look_at_stage(self, request: web.Request) -> web.Response:
        return web.Response(text=self.stage.as_json(), content_type="application/json")

    async def _set_fault(self, request: web.Request) -> web.Response:
        try:
            fault = Fault.from_mapping(go_object(await request.read()))
        except (BadFault, TypeError) as error:
            raise Refusal(400, str(error)) from error
        self.faults.add(fault)
        if fault.kind == "down":
            self._cut_everyone(forget=fault.forget)
        return _json({"set": fault.kind, "model": fault.model, "at": time.monotonic()})

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self.faults.clear()
        return _json({"set": None})

    async def _reset(self, request: web.Request) -> web.Response:
        self.faults.clear()
        self._cut_everyone(forget=True)
        return _json({"reset": True})

    def _cut_everyone(self, *, forget: bool) -> None:
        for transport in list(self._under_way):
            transport.abort()
        if forget:
            self.memory.forget()


_PLAIN = {"Content-Type": PLAIN_JSON}


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        body = go_json({"error": refusal.message}) if refusal.body is None else refusal.body
        return web.Response(status=refusal.status, body=body, headers={"Content-Type": refusal.content_type})


def _with_tag(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _json(value: object) -> web.Response:
    return web.Response(body=go_json(value), headers={"Content-Type": GIN_JSON})

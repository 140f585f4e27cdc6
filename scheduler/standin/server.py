"""The web application: Ollama's routes, the border in front of them, and the stand-in's own controls."""

import asyncio
import time
from contextlib import suppress
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from scheduler.standin.answers import go_json
from scheduler.standin.border import allowed_origin, turned_away
from scheduler.standin.compatible import Compatible
from scheduler.standin.faults import BadFault, Events, Fault, Faults
from scheduler.standin.inference import Inference
from scheduler.standin.library import Library
from scheduler.standin.memory import Memory
from scheduler.standin.reads import Reads
from scheduler.standin.refusal import GIN_JSON, Refusal
from scheduler.standin.requests import go_object
from scheduler.standin.serving import Serving
from scheduler.standin.speech import Speech
from scheduler.standin.stage import Stage
from scheduler.standin.unrouted import Unrouted
from scheduler.standin.upkeep import Upkeep

MARKER = "X-Scheduler-Stand-In"
CONTROLS = "/standin/"
GO_BUFFER = 2048
"""Bytes up to which Go knows how long an answer is; a longer one comes in chunks (net/http)."""


class Server:
    """One stand-in Ollama; `app` is what aiohttp runs. Needs a running loop and the task group that owns its work."""

    def __init__(self, stage: Stage, tasks: asyncio.TaskGroup) -> None:
        self.stage = stage
        self.faults = Faults()
        self.events = Events()
        self.memory = Memory(stage, self.faults, self.events, tasks)
        self.library = Library(stage)
        self._under_way: set[asyncio.Transport] = set()
        self.app = web.Application(middlewares=[self._border], client_max_size=2**30)
        self.app.on_response_prepare.append(self._mark)
        serving = Serving(self.memory, self.library, Speech(self.faults, self.events))
        for room in (Inference(serving), Compatible(serving), Upkeep(self.library)):
            self.app.add_routes(room.routes())
        self.app.add_routes(Reads(self.library, self.memory, self.faults).routes())
        self._unrouted = Unrouted(self.app)
        self.app.add_routes(self._controls())

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
        allow = self._unrouted.allow(request)
        if (away := turned_away(request)) is not None:
            away.headers.update(allow)
            return away
        self._under_way.add(transport)
        try:
            await self._record(request)
            response = await _answered(request, handler)
            if not response.prepared:
                response.headers.update(allow)
            return response
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
        self.library.restore()
        return _json({"reset": True})

    def _cut_everyone(self, *, forget: bool) -> None:
        for transport in list(self._under_way):
            transport.abort()
        if forget:
            self.memory.forget()


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        response = await handler(request)
    except Refusal as refusal:
        response = _refused(request, refusal)
    long = isinstance(response, web.Response) and len(response.body or b"") > GO_BUFFER  # type: ignore[arg-type]
    if long and request.version >= (1, 1):
        response.enable_chunked_encoding()
    return response


def _refused(request: web.Request, refusal: Refusal) -> web.Response:
    body = go_json({"error": refusal.message}) if refusal.body is None else refusal.body
    headers = {"Content-Type": refusal.content_type, **refusal.headers}
    response = web.Response(status=refusal.status, body=body, headers=headers)
    if refusal.streamed and request.version >= (1, 1):
        response.enable_chunked_encoding()
    return response


def _json(value: object) -> web.Response:
    return web.Response(body=go_json(value), headers={"Content-Type": GIN_JSON})

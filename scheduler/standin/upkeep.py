"""The routes that change what is installed: create, copy, delete, blobs, and pull and push as without a network."""

import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from scheduler.standin.answers import NDJSON, PLAIN_JSON, go_json
from scheduler.standin.library import Library
from scheduler.standin.names import REGISTRY, is_valid, longest, parts_of, referred, source_of
from scheduler.standin.refusal import Refusal
from scheduler.standin.requests import go_object, text_of

_DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")
_MAGIC = b"GGUF"
_INVALID = "invalid model name"
_MODELS = "/standin/models"

Progress = AsyncIterator[dict[str, str]]


class Upkeep:
    """Answers them from the library."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.post("/api/create", self._create),
            web.post("/api/copy", self._copy),
            web.delete("/api/delete", self._delete),
            web.head("/api/blobs/{digest}", self._has_blob),
            web.post("/api/blobs/{digest}", self._take_blob),
            web.post("/api/pull", self._pull),
            web.post("/api/push", self._push),
        ]

    async def _copy(self, request: web.Request) -> web.Response:
        body = go_object(await request.read(), shape="api.CopyRequest")
        for key in ("source", "destination"):
            if not is_valid(text_of(body, key)):
                raise Refusal(400, f'{key} "{text_of(body, key)}" is invalid')
        source = self._library.find(body["source"])
        if source is None:
            raise Refusal(404, f'model "{body["source"]}" not found')
        self._library.copy(source, self._library.existing(body["destination"]))
        return web.Response()

    async def _delete(self, request: web.Request) -> web.Response:
        body = go_object(await request.read(), shape="api.DeleteRequest")
        raw = text_of(body, "model") or text_of(body, "name")
        if not raw.strip():
            raise Refusal(400, "model is required")
        name, _ = source_of(raw) if self._library.find(raw) is None else (raw, "")
        if not is_valid(name):
            raise Refusal(400, f'name "{raw}" is invalid')
        if not self._library.delete(name):
            raise Refusal(404, f"model '{raw}' not found")
        return web.Response()

    async def _has_blob(self, request: web.Request) -> web.Response:
        if not _DIGEST.fullmatch(request.match_info["digest"]):
            raise Refusal(400, "invalid digest format")
        if not self._library.has_blob(request.match_info["digest"]):
            raise Refusal(404, f'blob "{request.match_info["digest"]}" not found')
        return web.Response()

    async def _take_blob(self, request: web.Request) -> web.Response:
        digest = request.match_info["digest"]
        if not _DIGEST.fullmatch(digest):
            raise Refusal(400, "invalid digest format")
        if self._library.has_blob(digest):
            return web.Response()
        content = await request.read()
        got = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if got != digest:
            raise Refusal(400, f'digest mismatch, expected "{digest}", got "{got}"')
        self._library.blobs[digest] = content
        return web.Response(status=201)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body = go_object(await request.read(), shape="api.CreateRequest")
        for path, digest in (body.get("files") or {}).items():
            if path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
                raise Refusal(400, "file path must be relative")
            if not digest:
                raise Refusal(400, "invalid digest format")
        name = text_of(body, "model") or text_of(body, "name")
        if not is_valid(name):
            raise Refusal(400, _INVALID)
        return await _told(request, body, self._created(body, self._library.existing(name)))

    async def _created(self, body: dict[str, Any], name: str) -> Progress:
        if not text_of(body, "from"):
            async for line in self._from_files(body):
                yield line
            return
        if not is_valid(source_of(body["from"])[0]):
            raise Refusal(400, _INVALID)
        base, _ = referred(body["from"], missing=Refusal(400, _INVALID))
        source = self._library.find(base)
        if source is None:
            async for line in _fetched(base):
                yield line
        template = text_of(body, "template")
        if template.count("{{") != template.count("}}"):
            raise Refusal(400, "template error: template: :1: unclosed action")
        assert source is not None
        parameters = dict(body.get("parameters") or {})
        layers = self._library.derive(
            source, name, system=text_of(body, "system"), template=template, parameters=parameters
        )
        for status in (*layers, "writing manifest", "success"):
            yield {"status": status}

    async def _from_files(self, body: dict[str, Any]) -> Progress:
        if body.get("files") is None:
            raise Refusal(400, "neither 'from' or 'files' was specified")
        if not body["files"]:
            raise Refusal(400, "unknown type")
        for digest in body["files"].values():
            content = self._library.blobs.get(digest)
            if content is None:
                place = f"{_MODELS}/blobs/{digest.replace(':', '-')}"
                raise Refusal(500, f"open {place}: no such file or directory")
            yield {"status": "parsing GGUF"}
            if not content.startswith(_MAGIC):
                raise Refusal(500, "supplied file was not in GGUF format")
        raise Refusal(501, "the stand-in Ollama builds no model from a file: its stage says what there is")

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        body = go_object(await request.read(), shape="api.PullRequest")
        raw = text_of(body, "model") or text_of(body, "name")
        if not raw.strip() or not is_valid(source_of(raw)[0]):
            raise Refusal(400, _INVALID)
        return await _told(request, body, _fetched(source_of(raw)[0], insecure=body.get("insecure") is True))

    async def _push(self, request: web.Request) -> web.StreamResponse:
        body = go_object(await request.read(), shape="api.PushRequest")
        name = text_of(body, "model") or text_of(body, "name")
        if not name:
            raise Refusal(400, "model is required")
        return await _told(request, body, self._sent(name))

    async def _sent(self, name: str) -> Progress:
        yield {"status": "retrieving manifest"}
        if self._library.find(name) is not None:
            host = parts_of(name)[0]
            raise Refusal(500, f"dial tcp: lookup {host}: the stand-in Ollama has no network")
        yield {"status": "couldn't retrieve manifest"}
        if not is_valid(name):
            raise Refusal(500, f"unqualified name: {longest(name)}")
        path = longest(self._library.existing(name)).replace(":", "/")
        raise Refusal(500, f"open {_MODELS}/manifests/{path}: no such file or directory")


async def _fetched(name: str, *, insecure: bool = False) -> Progress:
    """A pull as it goes without a network; the local address that a test gives refuses, any other is not found."""
    yield {"status": "pulling manifest"}
    host, space, model, tag = parts_of(name)
    scheme = "http" if insecure and name.startswith("http://") else "https"
    why = f"lookup {host}: the stand-in Ollama has no network"
    if host != REGISTRY and re.fullmatch(r"127\.0\.0\.1:\d+", host):
        why = f"{host}: connect: connection refused"
    url = f"{scheme}://{host}/v2/{space}/{model}/manifests/{tag}"
    raise Refusal(500, f'pull model manifest: Get "{url}": dial tcp {why}')


async def _told(request: web.Request, body: dict[str, Any], lines: Progress) -> web.StreamResponse:
    """Each line as it comes, or (`stream: false`) the last; an error before the first line has its own status."""
    if body.get("stream") is False:
        return await _whole(lines)
    response = web.StreamResponse(headers={"Content-Type": NDJSON})
    try:
        async for line in lines:
            await _write(request, response, line)
    except Refusal as failure:
        if not response.prepared:
            failure.streamed, failure.content_type = True, PLAIN_JSON
            raise
        await _write(request, response, {"error": failure.message})
    await response.write_eof()
    return response


async def _whole(lines: Progress) -> web.Response:
    last: dict[str, str] = {}
    try:
        async for line in lines:
            last = line
    except Refusal as failure:
        failure.content_type = PLAIN_JSON
        raise
    return web.Response(body=go_json(last), headers={"Content-Type": PLAIN_JSON})


async def _write(request: web.Request, response: web.StreamResponse, line: dict[str, str]) -> None:
    if not response.prepared:
        if request.version >= (1, 1):
            response.enable_chunked_encoding()
        await response.prepare(request)
    await response.write(go_json(line) + b"\n")

"""A registry of models on a loopback port: it has one tiny model under two tags, and takes what it has already."""

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator

from aiohttp import web

CONFIG = json.dumps({"model_format": "gguf", "model_family": "llama", "os": "linux", "architecture": "amd64"}).encode()
WEIGHTS = b"GGUF" + bytes(2_000)
"""Enough for a pull, which looks only at digests."""


def _layer(kind: str, content: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(content).hexdigest()}", "size": len(content)}


MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "config": _layer("application/vnd.docker.container.image.v1+json", CONFIG),
    "layers": [_layer("application/vnd.ollama.image.model", WEIGHTS)],
}
BLOBS = {f"sha256:{hashlib.sha256(content).hexdigest()}": content for content in (CONFIG, WEIGHTS)}


async def _manifest(request: web.Request) -> web.Response:
    if request.match_info["name"] != "tiny":
        body = json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]})
        return web.Response(status=404, text=body, content_type="application/json")
    return web.json_response(MANIFEST)


async def _take(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(status=201)


async def _blob(request: web.Request) -> web.Response:
    """Where it lies, on a host of another name, as Ollama expects of a registry."""
    content = BLOBS.get(request.match_info["digest"])
    if content is None:
        return web.Response(status=404)
    if request.method == "HEAD":
        return web.Response(body=content)
    place = f"http://localhost:{request.url.port}/files/{request.match_info['digest']}"
    return web.Response(status=307, headers={"Location": place})


async def _file(request: web.Request) -> web.Response:
    content = BLOBS[request.match_info["digest"]]
    part = request.http_range
    return web.Response(status=206 if request.headers.get("Range") else 200, body=content[part])


@contextlib.asynccontextmanager
async def registry() -> AsyncIterator[str]:
    """Run it; gives host and port."""
    app = web.Application()
    app.router.add_get("/v2/library/{name}/manifests/{tag}", _manifest)
    app.router.add_put("/v2/library/{name}/manifests/{tag}", _take)
    app.router.add_get("/v2/library/{name}/blobs/{digest}", _blob)
    app.router.add_get("/files/{digest}", _file)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()

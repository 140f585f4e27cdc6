"""Who may ask: Ollama's rules for `Host` and `Origin` (server/routes.go, envconfig, gin-contrib/cors), in brief."""

import ipaddress
import re

from aiohttp import web

_LOCAL_ORIGIN = re.compile(r"https?://(localhost|127\.0\.0\.1|0\.0\.0\.0)(:\d+)?")
_APP_ORIGINS = ("app://", "file://", "tauri://", "vscode-webview://", "vscode-file://")
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
    "Access-Control-Allow-Headers": ",".join(
        (
            *("Authorization", "Content-Type", "User-Agent", "Accept", "X-Requested-With", "Openai-Beta"),
            *("X-Stainless-Arch", "X-Stainless-Async", "X-Stainless-Custom-Poll-Interval", "X-Stainless-Helper-Method"),
            *("X-Stainless-Lang", "X-Stainless-Os", "X-Stainless-Package-Version", "X-Stainless-Poll-Helper"),
            *("X-Stainless-Retry-Count", "X-Stainless-Runtime", "X-Stainless-Runtime-Version", "X-Stainless-Timeout"),
        )
    ),
    "Access-Control-Max-Age": "43200",
}


def turned_away(request: web.Request) -> web.Response | None:
    """The answer to a request that Ollama does not let in (403, or 204 to a preflight); None if it may pass."""
    origin = request.headers.get("Origin", "")
    if origin and not _same_origin(origin, request.host) and not _known_origin(origin):
        return web.Response(status=403)
    if origin and request.method == "OPTIONS" and not _same_origin(origin, request.host):
        response = web.Response(status=204, headers=_PREFLIGHT | allowed_origin(request))
        for asked in ("Access-Control-Request-Method", "Access-Control-Request-Headers"):
            response.headers.add("Vary", asked)
        return response
    name = re.sub(r":\d+$", "", request.host).strip("[]").lower()
    if _near_address(name):
        return None
    if name not in ("", "localhost") and not name.endswith((".localhost", ".local", ".internal")):
        return web.Response(status=403)
    return web.Response(status=204) if request.method == "OPTIONS" else None


def allowed_origin(request: web.Request) -> dict[str, str]:
    """The headers that tell a page of another origin that it may read the answer."""
    origin = request.headers.get("Origin", "")
    if not origin or _same_origin(origin, request.host):
        return {}
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


def _same_origin(origin: str, host: str) -> bool:
    return origin in (f"http://{host}", f"https://{host}")


def _known_origin(origin: str) -> bool:
    return bool(_LOCAL_ORIGIN.fullmatch(origin)) or origin.startswith(_APP_ORIGINS)


def _near_address(name: str) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified

"""Every path that Ollama serves, one row each; `route` says what becomes of a request by its method and path.

From `server/routes.go` (GenerateRoutes) of Ollama 0.32. What is not in the table and may change something is answered
by us as gin would: a path that a later Ollama adds could load a model behind our back.
"""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote, unquote

from scheduler.demand import Dialect

RouteKind = Literal["demand", "show", "library", "upload", "call", "read", "passive", "own", "control", "unserved"]
"""demand: needs a model in memory. show: names a model and loads none. library: changes what is installed. upload: a
blob, streamed. call: forwarded at once, however long it takes. read: a listing, forwarded at once. passive: any other
GET or HEAD, forwarded unscheduled because it cannot load. own: answered by us. control: a person's command to us.
unserved: Ollama's own 404, 405 or redirect, from us."""

_TABLE: tuple[tuple[str, str, RouteKind, Dialect], ...] = (
    ("HEAD GET", "/", "read", "generate"),
    ("HEAD GET", "/api/version", "read", "generate"),
    ("GET", "/api/status", "read", "generate"),
    ("HEAD GET", "/api/tags", "read", "generate"),
    ("GET", "/api/ps", "read", "generate"),
    ("GET", "/api/experimental/model-recommendations", "read", "generate"),
    ("GET", "/v1/models", "read", "openai-chat"),
    ("GET", "/v1/models/:model", "show", "openai-chat"),
    ("POST", "/api/show", "show", "library"),
    ("POST", "/api/pull", "library", "library"),
    ("POST", "/api/push", "library", "library"),
    ("POST", "/api/create", "library", "library"),
    ("POST", "/api/copy", "library", "library"),
    ("DELETE", "/api/delete", "library", "library"),
    ("HEAD", "/api/blobs/:digest", "read", "library"),
    ("POST", "/api/blobs/:digest", "upload", "library"),
    ("POST", "/api/me", "call", "library"),
    ("POST", "/api/signout", "call", "library"),
    ("DELETE", "/api/user/keys/:key", "call", "library"),
    ("POST", "/api/experimental/web_search", "call", "library"),
    ("POST", "/api/experimental/web_fetch", "call", "library"),
    ("POST", "/api/generate", "demand", "generate"),
    ("POST", "/api/chat", "demand", "chat"),
    ("POST", "/api/embed", "demand", "embed"),
    ("POST", "/api/embeddings", "demand", "embeddings"),
    ("POST", "/v1/chat/completions", "demand", "openai-chat"),
    ("POST", "/v1/completions", "demand", "openai-completions"),
    ("POST", "/v1/embeddings", "demand", "openai-embeddings"),
    ("POST", "/v1/responses", "demand", "openai-responses"),
    ("POST", "/v1/images/generations", "demand", "openai-images"),
    ("POST", "/v1/images/edits", "demand", "openai-image-edits"),
    ("POST", "/v1/audio/transcriptions", "demand", "openai-transcription"),
    ("POST", "/v1/messages", "demand", "anthropic"),
)
DEMANDS: Mapping[str, Dialect] = MappingProxyType({path: d for _, path, kind, d in _TABLE if kind == "demand"})
"""What needs a model in memory: path -> dialect."""
OWN = frozenset({"/status", "/healthz", "/readyz", "/why", "/bounds"})
CONTROL = "/control/"  # what begins so is a command, whatever the method
_METHODS = ("HEAD", "GET", "POST", "DELETE")  # in gin's order of trees: that of `Allow`


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes. `dialect` is that of its body, or the nearest one to give its error in; `path` is the path
    as Ollama understands it."""

    kind: RouteKind
    dialect: Dialect
    path: str = ""


def _rows() -> tuple[dict[tuple[str, str], Route], dict[tuple[str, str], Route]]:
    """The table by method and path, and, where a path ends in a parameter, by method and what stands before it."""
    plain: dict[tuple[str, str], Route] = {}
    open_ended: dict[tuple[str, str], Route] = {}
    for methods, path, kind, dialect in _TABLE:
        before, colon, _ = path.partition(":")
        for method in methods.split():
            (open_ended if colon else plain)[method, before] = Route(kind, dialect, path)
    return plain, open_ended


_PLAIN, _OPEN = _rows()


def route(method: str, target: str) -> Route:
    """Sort a request by its method and target (path, perhaps with a query)."""
    path = target.partition("?")[0]
    if path.startswith(CONTROL):
        return Route("control", "generate", path)
    served = _served(method, path)
    if served is not None:
        return served
    if method in ("GET", "HEAD"):
        return Route("own" if path in OWN else "passive", _nearest(path), path)
    return Route("unserved", _nearest(path), path)


def _served(method: str, path: str) -> Route | None:
    known = _PLAIN.get((method, path))
    if known is not None:
        return known
    plain = unquote(path) if "%" in path else path
    before, slash, last = plain.rpartition("/")
    return _PLAIN.get((method, plain)) or (_OPEN.get((method, before + slash)) if last else None)


def _nearest(path: str) -> Dialect:
    if path.startswith("/v1/messages"):
        return "anthropic"
    return "openai-chat" if path.startswith("/v1/") else "generate"


def unserved(method: str, target: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """What gin and Go's ServeMux answer where nothing is served: status, headers and body."""
    path, mark, query = target.partition("?")
    clean = _clean(path)
    if clean != path:
        return _redirect(clean, mark + query)
    other = path[:-1] if path.endswith("/") else f"{path}/"
    if path != "/" and _served(method, other):
        return _redirect(other, mark + query)
    allowed = ", ".join(tree for tree in _METHODS if tree != method and _served(tree, path))
    plain = (b"Content-Type", b"text/plain")
    if allowed:
        return 405, [(b"Allow", allowed.encode()), plain], b"405 method not allowed"
    return 404, [plain], b"404 page not found"


def allow(method: str, target: str) -> list[tuple[bytes, bytes]]:
    """gin says what a path allows before its rules for Host and Origin are asked, and so on a 204 and a 403 too."""
    if route(method, target).kind not in ("unserved", "passive"):
        return []
    return [pair for pair in unserved(method, target)[1] if pair[0] == b"Allow"]


def _redirect(path: str, query: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    location = quote(unquote(path), safe="/:@!$&'()*+,;=~-._") + query
    return 307, [(b"Location", location.encode("latin-1", "replace"))], b""


def _clean(path: str) -> str:
    """The path as net/http's ServeMux wants it: no empty, `.` or `..` part; a slash at the end stays."""
    if not path.startswith("/") or ("//" not in path and "/." not in path):
        return path
    clean = "/" + posixpath.normpath(path).lstrip("/")
    return f"{clean}/" if path.endswith("/") and clean != "/" else clean

"""What a request means: `route` sorts it by method and path, `understand` makes a Demand of a demand's body."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from scheduler.demand import Demand, Dialect
from scheduler.errors import Refused
from scheduler.routes import Aliases

RouteKind = Literal["demand", "read", "passive", "own", "refused"]
"""demand: needs a model in memory. read: a listing, forwarded at once. passive: any other GET or HEAD, forwarded
unscheduled because it cannot load. own: answered by us. refused: everything else."""

DEMANDS: Mapping[str, Dialect] = MappingProxyType(
    {
        "/api/generate": "generate",
        "/api/chat": "chat",
        "/api/embed": "embed",
        "/api/embeddings": "embeddings",
        "/v1/chat/completions": "openai-chat",
        "/v1/embeddings": "openai-embeddings",
        "/v1/messages": "anthropic",
    }
)
READS = frozenset({"/", "/api/version", "/api/tags", "/api/ps", "/v1/models"})
OWN = frozenset({"/status", "/healthz", "/readyz"})


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes. `dialect` is that of its body, or the nearest one to give its error in."""

    kind: RouteKind
    dialect: Dialect


@dataclass(frozen=True, slots=True)
class Rules:
    """What `understand` must know of the configuration. `key` (16 to 64 secret bytes) keys the digests."""

    aliases: Aliases
    probe_texts: frozenset[str]
    key: bytes


def route(method: str, target: str) -> Route:
    """Sort a request by its method and target (path, perhaps with a query)."""
    path = target.partition("?")[0]
    dialect = DEMANDS.get(path) or _nearest(path)
    if method == "POST":
        if path in DEMANDS:
            return Route("demand", dialect)
        return Route("read" if path == "/api/show" else "refused", dialect)
    if method not in ("GET", "HEAD"):
        return Route("refused", dialect)
    if path in OWN:
        return Route("own", dialect)
    return Route("read" if path in READS or path.startswith("/v1/models/") else "passive", dialect)


def _nearest(path: str) -> Dialect:
    if path.startswith("/v1/messages"):
        return "anthropic"
    return "openai-chat" if path.startswith("/v1/") else "generate"


def refusal(method: str, target: str) -> Refused:
    """The 501 for a route of kind `refused`."""
    path = target.partition("?")[0]
    return Refused(501, f"{method} {path} is not served yet by the scheduler in front of this Ollama")


def understand(
    route: Route, target: str, raw: bytes, headers: Mapping[str, str], rules: Rules, client: str = ""
) -> Demand:
    """Make a Demand of a demand route's body. `target` is path and query, `headers` fold case, `client` is the peer.

    Raises BadRequest with Ollama's own status and words where the body is not one Ollama would take, and Refused
    where the name's route is not configured.
    """
    raise NotImplementedError

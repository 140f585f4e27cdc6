"""The shapes of what people told the daemon, as `/status` shows them; part of `scheduler.status_schema`."""

from typing import Literal

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # pydantic reads typing's only from Python 3.12 on

_strict = with_config(ConfigDict(extra="forbid", use_attribute_docstrings=True))


@_strict
class Pin(TypedDict):
    model: str
    """What is kept in memory."""
    owner: str
    """Who said so."""
    until: str
    """When it ends by itself, ISO-8601 UTC."""
    left: float
    """Seconds until then."""
    others: Literal["wait", "refuse"]
    """What becomes of requests that it keeps out: they wait, if it ends within their patience, or get 503 at once."""


@_strict
class Pause(TypedDict):
    owner: str
    """Who said so."""
    since: str
    """When it began, ISO-8601 UTC."""
    until: str | None
    """When it ends by itself, ISO-8601 UTC; null: when somebody resumes."""
    left: float | None
    """Seconds until then; null where there is no end."""
    others: Literal["wait", "refuse"]
    """What becomes of requests meanwhile."""


@_strict
class Scheduled(TypedDict):
    at: str
    """When it is due, ISO-8601 UTC."""
    left: float
    """Seconds until then."""
    what: str
    """`phase NAME`, `quiet begins` or `quiet ends`."""
    by: str
    """Which entry of the configuration says so."""


@_strict
class Passthrough(TypedDict):
    owner: str
    """Who said so."""
    since: str
    """Since when, ISO-8601 UTC."""
    running: int
    """Requests that Ollama has now, scheduled by nobody."""
    suspended: list[str]
    """The promises that do not hold while it is on."""


@_strict
class RefusedWish(TypedDict):
    model: str
    """What a client wished to have unloaded."""
    client: str
    """Who wished it."""
    at: str
    """When, ISO-8601 UTC."""
    because: str
    """Why it was answered and not followed."""


@_strict
class Configuration(TypedDict):
    file: str | None
    """The file in force; null where the documented configuration holds, or it did not come from a file."""
    loaded_at: str
    """Since when it is in force, ISO-8601 UTC."""
    state: Literal["in force", "refused"]
    """`refused`: what the file said when it was read last is not in force, and what it said before still is."""
    tried_at: str
    """When it was read last, ISO-8601 UTC."""
    problems: list[str]
    """Why it was refused; empty while it is in force."""
    needs_restart: list[str]
    """What it says that only a restart puts in force."""

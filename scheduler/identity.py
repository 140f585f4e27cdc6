"""Who asks: what tells one client's conversation from everybody else's, as keyed hashes that name nobody.

A session is what asks one thing after another: not again while it waits, and once more when it has its answer. So only
what a client says of itself counts. An API key or an address is shared by everybody behind a proxy (LiteLLM sends one
key for all its users), and names a session only where the settings say so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

CLAUDE_CODE = "X-Claude-Code-Session-Id"  # Claude Code 2.1 sends it with every request; 2.0 has it in metadata.user_id
_METADATA = ("session_id", "conversation_id", "thread_id", "user_id")  # the most telling first
_FIELDS = ("prompt_cache_key", "user", "safety_identifier")
FIELDS = frozenset({"metadata", *_FIELDS})
"""The top-level fields of a body that may say who asks."""


@dataclass(frozen=True, slots=True)
class Telling:
    """What may tell clients apart: the header in which one names its session ("": none), and whether a key, or an
    address, is one client's alone."""

    header: str = "X-Ollama-Scheduler-Session"
    by_key: bool = False
    by_peer: bool = False


@dataclass(frozen=True, slots=True)
class Who:
    """`session` and `key` are keyed hashes ("": nothing tells); `name` is what the client calls itself, for rules
    alone: it is never kept or told."""

    session: str
    key: str
    name: str


def who(said: Mapping[str, Any], headers: Mapping[str, str], peer: str, telling: Telling, secret: bytes) -> Who:
    """Who asks. `said` are those of FIELDS that the body has, `headers` fold case, `peer` is address:port."""
    credential = _credential(headers)
    name = _name(said, headers, telling)
    known = [credential, name] if name else []
    if not known and telling.by_key and credential:
        known = [credential]
    if not known and telling.by_peer:
        known = [peer.rpartition(":")[0] or peer]
    return Who(_hashed("session", known, secret), key_hash(credential, secret), name)


def key_hash(credential: str, secret: bytes) -> str:
    """How an API key is told in /status and in rules; "" for none."""
    return _hashed("key", [credential] if credential else [], secret)


def _credential(headers: Mapping[str, str]) -> str:
    given = headers.get("Authorization") or headers.get("x-api-key") or ""
    scheme, _, rest = given.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else given.strip()


def _name(said: Mapping[str, Any], headers: Mapping[str, str], telling: Telling) -> str:
    metadata = said.get("metadata")
    told = [
        headers.get(telling.header) if telling.header else None,
        headers.get(CLAUDE_CODE),
        *(metadata.get(field) for field in _METADATA if isinstance(metadata, dict)),
        *(said.get(field) for field in _FIELDS),
    ]
    return next((each for each in told if isinstance(each, str) and each), "")


def _hashed(what: str, parts: list[str], secret: bytes) -> str:
    if not parts:
        return ""
    text = "\0".join([what, *parts]).encode("utf-8", "replace")
    return blake2b(text, key=secret, digest_size=8).hexdigest()

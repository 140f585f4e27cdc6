"""The names of models as Ollama reads them: what is valid, what is the same, what is the cloud's (types/model)."""

import re
from typing import Literal

from scheduler.standin.refusal import Refusal

REGISTRY, NAMESPACE, TAG = "registry.ollama.ai", "library", "latest"
NO_CLOUD = "ollama cloud is disabled: "
_PART = re.compile(r"[a-zA-Z0-9_][\w.-]{0,79}", re.ASCII)
_SPACE = re.compile(r"[a-zA-Z0-9_][\w-]{0,79}", re.ASCII)
_HOST = re.compile(r"[a-zA-Z0-9_][\w.:-]{0,349}", re.ASCII)

Source = Literal["", "local", "cloud"]


def parts_of(name: str) -> tuple[str, str, str, str]:
    """Host, namespace, model and tag, the defaults filled in; a scheme in front of the host is dropped."""
    tag = ""
    if name.rfind(":") > name.rfind("/"):
        name, _, tag = name.rpartition(":")
    rest, _, model = name.rpartition("/")
    before, _, space = rest.rpartition("/")
    return before.rpartition("://")[2] or REGISTRY, space or NAMESPACE, model, tag or TAG


def is_valid(name: str) -> bool:
    """Whether Ollama takes it for a name at all."""
    host, space, model, tag = parts_of(name)
    empty = name.endswith(":") or "//" in name.partition("://")[2] or not name
    parts = _HOST.fullmatch(host) and _SPACE.fullmatch(space) and _PART.fullmatch(model) and _PART.fullmatch(tag)
    return bool(parts) and not empty


def shortest(name: str) -> str:
    """As Ollama shows it: without the default host and namespace, always with a tag."""
    host, space, model, tag = parts_of(name)
    owner = "" if space.lower() == NAMESPACE else f"{space}/"
    return f"{'' if host.lower() == REGISTRY else f'{host}/'}{owner}{model}:{tag}"


def longest(name: str) -> str:
    """All four parts."""
    host, space, model, tag = parts_of(name)
    return f"{host}/{space}/{model}:{tag}"


def source_of(raw: str) -> tuple[str, Source]:
    """The name without `:local`, `:cloud` or `-cloud`, and which it was (internal/modelref). Raises `Refusal` 400."""
    raw = raw.strip()
    base, source = _cut_source(raw)
    if source and _cut_source(base)[1]:
        raise Refusal(400, f'use either :local or :cloud, not both: "{raw}"')
    return base, source


def referred(raw: str, *, missing: Refusal, disabled: str = "remote model is unavailable") -> tuple[str, Source]:
    """The name a request means; raises `Refusal`: `missing` if there is none, 403 for the cloud, 400 for nonsense."""
    if not raw.strip():
        raise missing
    base, source = source_of(raw)
    if not is_valid(base):
        raise Refusal(400, "invalid model name")
    if source == "cloud":
        raise Refusal(403, NO_CLOUD + disabled)
    return base, source


def _cut_source(raw: str) -> tuple[str, Source]:
    before, colon, last = raw.rpartition(":")
    suffix = last.strip().lower()
    if colon and suffix == "cloud":
        return before, "cloud"
    if colon and suffix == "local":
        return before, "local"
    if colon and "/" not in suffix and suffix.endswith("-cloud"):
        return f"{before}:{last.strip()[: -len('-cloud')]}", "cloud"
    return raw, ""

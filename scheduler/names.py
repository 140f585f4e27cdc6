"""Compare model names as Ollama does: call `normal_name` before any name is looked up, stored or compared."""

from __future__ import annotations

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"


def _source(name: str) -> tuple[str, str]:
    """The name without its suffix, and which side the suffix asks for: "local", "cloud" or "" (internal/modelref)."""
    base, colon, suffix = name.strip().rpartition(":")
    folded = suffix.strip().lower()
    if not colon:
        return name.strip(), ""
    if folded in ("cloud", "local"):
        return base, folded
    if folded.endswith("-cloud") and "/" not in folded:
        return f"{base}:{suffix.strip()[: -len('-cloud')]}", "cloud"
    return name.strip(), ""


def is_cloud(name: str) -> bool:
    """True when the name's own suffix (`:cloud`, `-cloud` on a tag) sends it to ollama.com: nothing is loaded here.

    A name that also asks for `:local` is neither; Ollama answers it with a 400 (internal/modelref).
    """
    base, source = _source(name)
    return source == "cloud" and _source(base)[1] == ""


def normal_name(name: str) -> str:
    """The one spelling of a model name: lower case, always a tag, without Ollama's own registry and namespace.

    It equals, but for case, what `/api/tags` and `/api/ps` call the model (types/model/name.go, DisplayShortest), and
    Ollama itself compares names without regard to case. A `:cloud` name keeps its suffix; `:local` only says "not the
    cloud" and is dropped. Nothing is checked: a name that Ollama would refuse stays one that it refuses.
    """
    base, source = _source(name)
    name = base if source == "local" else name.strip()
    path, slash, last = name.lower().rpartition("/")
    model, colon, tag = last.partition(":")
    place = _without_defaults(path) if slash else ""
    return f"{place}{model}:{tag if colon and tag else DEFAULT_TAG}"


def _without_defaults(path: str) -> str:
    """`host/namespace` with what Ollama would add by itself left out, ending in a slash unless nothing is left."""
    path = path.rpartition("://")[2]
    host, slash, namespace = path.rpartition("/")
    if slash and host != DEFAULT_HOST:
        return f"{path}/"
    return "" if namespace == DEFAULT_NAMESPACE else f"{namespace}/"

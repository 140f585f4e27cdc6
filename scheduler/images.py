"""What Ollama says about an image or a sound in a body: a URL (`decodeImageURL` in `openai/openai.go`), or base64."""

import base64
import binascii

_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_PREFIXES = ("data:;base64,", *(f"data:image/{kind};base64," for kind in ("jpeg", "jpg", "png", "webp")))


def image_fault(url: str) -> str:
    """Why Ollama does not take `url` for an image; "" where it does."""
    if url.startswith(("http://", "https://")):
        return "image URLs are not currently supported, please use base64 encoded data instead"
    prefix = next((prefix for prefix in _PREFIXES if url.startswith(prefix)), None)
    if prefix is None:
        return "invalid image input"
    return "" if base64_fault(url[len(prefix) :]) is None else "invalid image input"


def base64_fault(text: str) -> int | None:
    """Where Go's base64.StdEncoding finds the first byte it does not take; None where it takes all."""
    try:
        base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        return _fault(text.encode("utf-8", "replace"))
    return None


def _fault(raw: bytes) -> int:
    """decodeQuantum in encoding/base64, quantum by quantum."""
    quantum = 0
    for at, byte in enumerate(raw):
        if byte in b"\r\n":
            continue
        if byte not in _ALPHABET:
            return _padding(raw, at, quantum) if byte == ord("=") else at
        quantum = (quantum + 1) % 4
    return len(raw) - quantum


def _padding(raw: bytes, at: int, quantum: int) -> int:
    """What is wrong with a `=` at `at`, after `quantum` characters."""
    if quantum < 2:
        return at
    after = [place for place in range(at + 1, len(raw)) if raw[place] not in b"\r\n"]
    if quantum == 2:
        if not after:
            return len(raw)
        second = after.pop(0)
        if raw[second] != ord("="):
            return second - 1
    return after[0]

"""What Ollama says about an image given as a URL in a body (`decodeImageURL` in `openai/openai.go`)."""

import base64
import binascii

_PREFIXES = ("data:;base64,", *(f"data:image/{kind};base64," for kind in ("jpeg", "jpg", "png", "webp")))


def image_fault(url: str) -> str:
    """Why Ollama does not take `url` for an image; "" where it does."""
    if url.startswith(("http://", "https://")):
        return "image URLs are not currently supported, please use base64 encoded data instead"
    prefix = next((prefix for prefix in _PREFIXES if url.startswith(prefix)), None)
    if prefix is None:
        return "invalid image input"
    try:
        base64.b64decode(url[len(prefix) :].replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        return "invalid image input"
    return ""

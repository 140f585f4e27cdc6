"""What Ollama checks in a decoded body before it needs the model, and which requests have no prompt at all.

A request without a prompt only loads or unloads (`server/routes.go`); a bad one must not make a model be loaded first.
"""

from collections.abc import Mapping
from typing import Any, Literal

from scheduler.demand import NATIVE, Dialect
from scheduler.errors import BadRequest
from scheduler.goduration import parse_keep_alive
from scheduler.gojson import fold
from scheduler.gosyntax import NotJSON, only_kind
from scheduler.gotypes import member, text, word
from scheduler.images import base64_fault, image_fault
from scheduler.responses import check_responses, says_something

Wants = Literal["request", "preload", "unload"]


def wants(dialect: Dialect, values: Mapping[str, Any]) -> Wants:
    """What the body (field -> value) asks for. Call `check_values` first."""
    match dialect:
        case "generate":
            return "request" if values.get("prompt") else _load_or_unload(values)
        case "chat":
            return "request" if values.get("messages") else _load_or_unload(values)
        case "embed":  # Ollama has no unload here: without input it loads, whatever keep_alive says
            return "request" if values.get("input") else "preload"
        case "embeddings":
            return "request" if values.get("prompt") else "preload"
        case "openai-completions":
            return "request" if values.get("prompt") else "preload"
        case "openai-responses":
            return "request" if says_something(values) else "preload"
        case "openai-chat":
            return "request" if any(_openai_says(m) for m in values["messages"]) else "preload"
        case "anthropic":
            return "request" if _anthropic_says(values) else "preload"
        case _:
            return "request"


def _load_or_unload(values: Mapping[str, Any]) -> Wants:
    keep_alive = values.get("keep_alive")
    return "unload" if keep_alive is not None and parse_keep_alive(keep_alive) == 0 else "preload"


def check_values(dialect: Dialect, values: Mapping[str, Any]) -> None:
    """Raise BadRequest for what Ollama refuses before it looks at the model's name."""
    match dialect:
        case "generate" | "chat":
            _check_logprobs(values)
        case "openai-chat":
            _check_openai_chat(values)
            _check_logprobs(values)
        case "openai-completions":
            _check_completions(values)
        case "openai-responses":
            check_responses(values)
        case "openai-images" | "openai-image-edits":
            _check_images(dialect, values)
        case "openai-embeddings":
            _check_openai_embeddings(values)
        case "anthropic":
            _check_anthropic(values)


def check_input(dialect: Dialect, values: Mapping[str, Any]) -> None:
    """Raise BadRequest for what Ollama refuses after the model's name, but needs no model for."""
    if dialect in ("embed", "openai-embeddings"):
        given = values.get("input")
        texts = given if isinstance(given, list) else [given or ""]
        if (given is not None and not isinstance(given, str | list)) or not all(isinstance(t, str) for t in texts):
            raise BadRequest(400, "invalid input type", voice="writer")


_INTEGERS = frozenset({"num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict"})


def mistyped(dialect: Dialect, values: Mapping[str, Any]) -> str:
    """What Ollama says of a runner option of a wrong type (api/types.go, Options.FromMap), "" if there is none."""
    options = values.get("options")
    if dialect not in NATIVE or not isinstance(options, dict):
        return ""
    for name, value in options.items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and name in _INTEGERS and not is_number:
            return f'option "{name}" must be of type integer'
        if value is not None and name == "use_mmap" and not isinstance(value, bool):
            return 'option "use_mmap" must be of type boolean'
    return ""


def objection(dialect: Dialect, values: Mapping[str, Any]) -> str:
    """What Ollama says against it once it knows that it has the model; "" for nothing."""
    if dialect == "generate" and values.get("raw") and any(values.get(k) for k in ("template", "system", "context")):
        return "raw mode does not support template, system, or context"
    return ""


def _check_logprobs(values: Mapping[str, Any]) -> None:
    if not 0 <= values.get("top_logprobs", 0) <= 20:
        raise BadRequest(400, "top_logprobs must be between 0 and 20", voice="writer")


# --- OpenAI: middleware/openai.go, openai/openai.go ------------------------------------------------------------------


def _check_openai_embeddings(values: Mapping[str, Any]) -> None:
    encoding = values.get("encoding_format") or "float"
    if fold(encoding) not in ("float", "base64"):
        raise BadRequest(
            400, f"Invalid value for 'encoding_format' = {encoding}. Supported values: ['float', 'base64']."
        )
    if values.get("input") is None or values["input"] == []:
        raise BadRequest(400, "invalid input")


def _check_completions(values: Mapping[str, Any]) -> None:
    stop = values.get("stop")
    for item in stop if isinstance(stop, list) else ():
        if not isinstance(item, str):
            raise BadRequest(400, f"invalid type for 'stop' field: {_go_type(item)}")
    _check_logprobs({"top_logprobs": max(0, values.get("logprobs") or 0)})


def _check_images(dialect: Dialect, values: Mapping[str, Any]) -> None:
    for name in ("prompt", "model") if dialect == "openai-images" else ("prompt", "model", "image"):
        if not values.get(name):
            raise BadRequest(400, f"{name} is required")
    fault = image_fault(values["image"]) if dialect == "openai-image-edits" else ""
    if fault:
        raise BadRequest(400, f"invalid image: {fault}")


def _check_openai_chat(values: Mapping[str, Any]) -> None:
    messages = values.get("messages")
    if not messages:
        raise BadRequest(400, "[] is too short - 'messages'")
    for message in messages:
        _check_openai_message(message)
    reasoning = values.get("reasoning")
    effort = values.get("reasoning_effort") if reasoning is None else member(reasoning, "effort")
    if effort and effort not in ("high", "medium", "low", "max", "none"):
        levels = '"high", "medium", "low", "max", or "none"'
        raise BadRequest(400, f"invalid reasoning value: '{effort}' (must be {levels})")


def _check_openai_message(message: Any) -> None:
    content = member(message, "content")
    if isinstance(content, list):
        for part in content:
            if fault := _openai_part(part):
                raise BadRequest(400, fault)
    elif not isinstance(content, str) and member(message, "tool_calls") is None:
        raise BadRequest(400, f"invalid message content type: {_go_type(content)}")
    _check_calls(message)


def _openai_part(part: Any) -> str:
    """What Ollama says against this part of a message, "" for nothing. The keys of a part do not fold."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return ""
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        return image_fault(url) if isinstance(url, str) else "invalid message format"
    if kind == "input_audio":
        return _audio_fault(part.get("input_audio"))
    return "invalid message format"


def _audio_fault(audio: Any) -> str:
    if not isinstance(audio, dict):
        return "invalid input_audio format"
    if not isinstance(audio.get("data"), str):
        return "invalid input_audio format: missing data"
    at = base64_fault(audio["data"])
    return "" if at is None else f"invalid input_audio base64 data: illegal base64 data at input byte {at}"


def _check_calls(message: Any) -> None:
    """The arguments of a call are an object in a text."""
    for call in member(message, "tool_calls") or ():
        told = text(member(call, "function"), "arguments")
        try:
            fits = only_kind(told.encode("utf-8", "replace")) in ("object", "null")
        except NotJSON:
            fits = False
        if not fits:
            raise BadRequest(400, "invalid tool call arguments")


def _openai_says(message: Any) -> bool:
    """False for a message of which nothing is left: its content is an empty list."""
    return bool(member(message, "content") != [])


# --- Anthropic: middleware/anthropic.go, anthropic/anthropic.go ------------------------------------------------------


def _check_anthropic(values: Mapping[str, Any]) -> None:
    if not values.get("model"):
        raise BadRequest(400, "model is required")
    if values.get("max_tokens", 0) <= 0:
        raise BadRequest(400, "max_tokens is required and must be positive")
    if not values.get("messages"):
        raise BadRequest(400, "messages is required")
    for block in _blocks(values):
        kind = text(block, "type")
        if kind == "image":
            _check_image(member(block, "source"))
        for name in ("id", "name") if kind == "tool_use" else ():
            if not text(block, name):
                raise BadRequest(400, f"tool_use block missing required '{name}' field")


def _check_image(source: Any) -> None:
    if source is None:
        raise BadRequest(400, "invalid image source")
    kind = text(source, "type")
    if kind != "base64":
        raise BadRequest(400, f"invalid image source type: {kind}. Only base64 images are supported.")


def _anthropic_says(values: Mapping[str, Any]) -> bool:
    """True unless the conversion to Ollama's own messages leaves none."""
    system = values.get("system")
    if (isinstance(system, str) and system) or (isinstance(system, list) and any(map(_system_says, system))):
        return True
    if any(isinstance(member(m, "content"), str) and member(m, "content") for m in values["messages"]):
        return True
    return any(_block_says(block) for block in _blocks(values))


def _system_says(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and bool(part.get("text"))


def _block_says(block: Any) -> bool:
    kind = member(block, "type")
    if kind in ("text", "thinking"):
        return bool(member(block, kind))
    return kind in ("image", "tool_use", "tool_result", "server_tool_use", "web_search_tool_result")


def _blocks(values: Mapping[str, Any]) -> list[Any]:
    """Every content block of every message; a plain text is none."""
    contents = (member(message, "content") for message in values["messages"])
    return [block for content in contents if isinstance(content, list) for block in content if block is not None]


# --- values ----------------------------------------------------------------------------------------------------------


def _go_type(value: Any) -> str:
    """How Go's %T prints a decoded value."""
    if value is None:
        return "<nil>"
    names = {"number": "float64", "object": "map[string]interface {}", "array": "[]interface {}"}
    return names.get(word(value), word(value))

"""Tell a health check from a question: LiteLLM's probes carry no mark, so they are known by what they say.

`facts`: LiteLLM's `GET /health` sends one generation to every model at once. Its texts are unchanged over 27 releases;
everything else about a probe (num_predict, options, headers) varies with version and deployment and is not looked at.
A person who sends exactly such a line, alone and not streamed, is taken for a probe: it costs one canned answer, and
only while the model is not resident.
"""

from collections.abc import Collection, Mapping
from typing import Any

from scheduler.demand import Dialect
from scheduler.responses import question

_BEFORE, _AFTER = "### User:\n", "\n\n"  # how LiteLLM's `ollama/` provider writes a chat as a prompt

# What a probe never has; a real client that happens to use a probe's words nearly always has one of them.
_NEVER = ("system", "suffix", "template", "context", "images", "tools", "response_format", "raw", "instructions")
_NEVER_IN_MESSAGE = ("images", "tool_calls", "name", "tool_name", "tool_call_id", "thinking", "reasoning")


def is_probe(dialect: Dialect, values: Mapping[str, Any], stream: bool, texts: Collection[str]) -> bool:
    """True if a decoded body (field -> value) is a health check: one of `texts` and nothing else, not streamed."""
    if stream or any(values.get(name) for name in _NEVER) or values.get("format") not in (None, "", "json"):
        return False  # LiteLLM asks for JSON wherever a deployment's settings do
    match dialect:
        case "generate" | "openai-completions":
            return _unwrapped(values.get("prompt")) in texts
        case "embeddings":
            return values.get("prompt") in texts
        case "embed" | "openai-embeddings":
            return _only(values.get("input")) in texts
        case "openai-responses":
            return _said(question(values.get("input"))) in texts
        case "chat" | "openai-chat" | "anthropic":
            return _said(values.get("messages")) in texts
        case _:
            return False


def _unwrapped(prompt: Any) -> str:
    text = prompt if isinstance(prompt, str) else ""
    if text.startswith(_BEFORE) and text.endswith(_AFTER):
        return text[len(_BEFORE) : -len(_AFTER)]
    return text


def _only(value: Any) -> str:
    """The one text of an embedding's input, "" if it is not one text."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else ""


def _said(messages: Any) -> str:
    """What the only message says, "" unless it is a user's and nothing but text."""
    if not isinstance(messages, list) or len(messages) != 1 or not isinstance(messages[0], dict):
        return ""
    message = messages[0]
    if message.get("role") != "user" or any(message.get(name) for name in _NEVER_IN_MESSAGE):
        return ""
    content = message.get("content")
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        part = content[0]
        content = part.get("text") if part.get("type") == "text" else None
    return content if isinstance(content, str) else ""

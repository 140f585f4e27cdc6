"""What a short answer of ours says on `/v1/responses`, as plain values; `answers` writes them.

From `openai/responses.go` of Ollama 0.32: whole, its fields keep the order of a struct; in a stream, they are sorted.
What a request of these (a health check, a wish) says of instructions, tools and the like is not repeated.
"""

import secrets
from typing import Any

_IDS = 999_999


def whole(model: str, created: int, text: str, tokens: int) -> dict[str, Any]:
    """The body of an answer that was not streamed. `created` is seconds since 1970."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item = {"id": _id("msg"), "type": "message", "status": "completed", "role": "assistant", "content": [part]}
    return {
        "id": _id("resp"),
        "object": "response",
        "created_at": created,
        "completed_at": created,
        "status": "completed",
        "incomplete_details": None,
        "model": model,
        "previous_response_id": None,
        "instructions": None,
        "output": [item],
        "error": None,
        "tools": [],
        "tool_choice": "auto",
        "truncation": "disabled",
        "parallel_tool_calls": True,
        "text": {"format": {"type": "text"}},
        "top_p": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_logprobs": 0,
        "temperature": 1,
        "reasoning": None,
        "usage": {
            "input_tokens": tokens,
            "output_tokens": tokens,
            "total_tokens": 2 * tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
        "max_output_tokens": None,
        "max_tool_calls": None,
        "store": False,
        "background": False,
        "service_tier": "default",
        "metadata": {},
        "safety_identifier": None,
        "prompt_cache_key": None,
    }


def events(model: str, created: int, text: str, tokens: int) -> list[dict[str, Any]]:
    """The events of a streamed answer, in order."""
    done = whole(model, created, text, tokens)
    if not text:
        done["output"] = None
    begun = done | {"status": "in_progress", "completed_at": None, "output": [], "usage": None}
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        *(_text_events(done["output"][0], text) if text else ()),
        {"type": "response.completed", "response": done},
    ]
    return [_sorted(event | {"sequence_number": number}) for number, event in enumerate(told)]


def _text_events(item: dict[str, Any], text: str) -> list[dict[str, Any]]:
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    part = item["content"][0]
    return [
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": item | {"status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **place, "part": part | {"text": ""}},
        {"type": "response.output_text.delta", **place, "delta": text, "logprobs": []},
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _id(kind: str) -> str:
    return f"{kind}_{secrets.randbelow(_IDS)}"

"""What `/v1/responses` writes, field for field as Ollama 0.32 does (openai/responses.go)."""

import random
import time
from typing import Any, ClassVar

from scheduler.standin.answers import PLAIN_JSON, SSE, Tally, go_json, sse
from scheduler.standin.openai import openai_error

_ORDER = (
    *("id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id"),
    *("instructions", "output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p"),
    *("presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "reasoning", "usage"),
    *("max_output_tokens", "max_tool_calls", "store", "background", "service_tier", "metadata", "safety_identifier"),
    "prompt_cache_key",
)
"""The order of the fields in a whole answer; the events of a stream sort theirs, as Go does with a map."""


class Responses:
    """One answer to `body`, the request."""

    stream_type: ClassVar[str] = SSE
    whole_type: ClassVar[str] = PLAIN_JSON
    stream_headers: ClassVar[dict[str, str]] = {"Cache-Control": "no-cache", "Connection": "keep-alive"}

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body
        self._id = f"resp_{random.randrange(999999)}"
        self._item = f"msg_{random.randrange(999999)}"
        self._number = 0
        self._said = ""

    def word(self, text: str) -> bytes:
        begun = b"" if self._said else self._begin()
        self._said += text
        piece = {"item_id": self._item, "output_index": 0, "content_index": 0, "delta": text, "logprobs": []}
        return begun + self._event("response.output_text.delta", piece)

    def last(self, tally: Tally) -> bytes:
        begun = b"" if self._said else self._begin()
        place = {"item_id": self._item, "output_index": 0, "content_index": 0}
        item = self._message("completed", [_text(self._said)])
        return b"".join(
            (
                begun,
                self._event("response.output_text.done", {**place, "text": self._said, "logprobs": []}),
                self._event("response.content_part.done", {**place, "part": _text(self._said)}),
                self._event("response.output_item.done", {"output_index": 0, "item": item}),
                self._event("response.completed", {"response": self._response("completed", [item], tally)}),
            )
        )

    def whole(self, text: str, tally: Tally) -> bytes:
        message = self._message("completed", [_text(text)])
        order = ("id", "type", "status", "role", "content")
        response = self._response("completed", [{key: message[key] for key in order}], tally)
        return go_json({key: response[key] for key in _ORDER}) + b"\n"

    def broken(self, message: str) -> bytes:
        return b""  # the stream just ends, without response.completed

    def refused(self, status: int, message: str) -> bytes:
        return openai_error(status, message)

    def _begin(self) -> bytes:
        response = self._response("in_progress", [], None)
        place = {"item_id": self._item, "output_index": 0, "content_index": 0}
        return b"".join(
            (
                self._event("response.created", {"response": response}),
                self._event("response.in_progress", {"response": response}),
                self._event(
                    "response.output_item.added", {"output_index": 0, "item": self._message("in_progress", [])}
                ),
                self._event("response.content_part.added", {**place, "part": _text("")}),
            )
        )

    def _event(self, kind: str, value: dict[str, Any]) -> bytes:
        number, self._number = self._number, self._number + 1
        return sse(kind, _sorted({"type": kind, "sequence_number": number, **value}))

    def _message(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._item, "type": "message", "status": status, "role": "assistant", "content": content}

    def _response(self, status: str, output: list[dict[str, Any]], tally: Tally | None) -> dict[str, Any]:
        body, now = self._body, int(time.time())
        return {
            "id": self._id,
            "object": "response",
            "created_at": now,
            "completed_at": now if tally else None,
            "status": status,
            "incomplete_details": None,
            "model": body.get("model", ""),
            "previous_response_id": None,
            "instructions": body.get("instructions") or None,
            "output": output,
            "error": None,
            "tools": body.get("tools") or [],
            "tool_choice": "auto",
            "truncation": body.get("truncation") or "disabled",
            "parallel_tool_calls": True,
            "text": body.get("text") or {"format": {"type": "text"}},
            "top_p": _or_one(body.get("top_p")),
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "top_logprobs": 0,
            "temperature": _or_one(body.get("temperature")),
            "reasoning": body.get("reasoning") or None,
            "usage": _usage(tally),
            "max_output_tokens": body.get("max_output_tokens"),
            "max_tool_calls": None,
            "store": False,
            "background": bool(body.get("background")),
            "service_tier": "default",
            "metadata": {},
            "safety_identifier": None,
            "prompt_cache_key": None,
        }


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(tally: Tally | None) -> dict[str, Any] | None:
    if tally is None:
        return None
    return {
        "input_tokens": tally.prompt_tokens,
        "output_tokens": tally.counted,
        "total_tokens": tally.prompt_tokens + tally.counted,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }


def _or_one(value: object) -> object:
    return 1 if value is None else value


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value

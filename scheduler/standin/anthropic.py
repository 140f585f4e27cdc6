"""What `/v1/messages` writes, field for field as Ollama 0.32 does (anthropic/anthropic.go)."""

import secrets
from typing import Any, ClassVar

from scheduler.standin.answers import PLAIN_JSON, SSE, Tally, go_json, sse

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class Anthropic:
    """`/v1/messages`."""

    stream_type: ClassVar[str] = SSE
    whole_type: ClassVar[str] = PLAIN_JSON
    stream_headers: ClassVar[dict[str, str]] = {"Cache-Control": "no-cache", "Connection": "keep-alive"}

    def __init__(self, model: str, estimated_tokens: int) -> None:
        self._model = model
        self._estimated = estimated_tokens
        self._id = f"msg_{secrets.token_hex(12)}"
        self._begun = False
        self._open = False

    def word(self, text: str) -> bytes:
        events = self._begin()
        if not self._open:
            self._open = True
            block = {"type": "text", "text": ""}
            events += _sse("content_block_start", {"index": 0, "content_block": block})
        return events + _sse("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}})

    def last(self, tally: Tally) -> bytes:
        events = self._begin()
        if self._open:
            events += _sse("content_block_stop", {"index": 0})
        usage = {"input_tokens": tally.prompt_tokens, "output_tokens": tally.counted}
        events += _sse("message_delta", {"delta": {"stop_reason": _stop_reason(tally)}, "usage": usage})
        return events + _sse("message_stop", {})

    def whole(self, text: str, tally: Tally) -> bytes:
        content = [{"type": "text", "text": text}] if text else None
        stop = {"stop_reason": _stop_reason(tally)} if tally.reason else {}
        usage = {"input_tokens": tally.prompt_tokens, "output_tokens": tally.counted}
        return go_json({**self._message(), "content": content, **stop, "usage": usage}) + b"\n"

    def broken(self, message: str) -> bytes:
        return b""  # Ollama's stream just ends, without message_stop

    def refused(self, status: int, message: str) -> bytes:
        return anthropic_error(status, message)

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        usage = {"input_tokens": self._estimated, "output_tokens": 0}
        return _sse("message_start", {"message": {**self._message(), "content": [], "usage": usage}})

    def _message(self) -> dict[str, Any]:
        return {"id": self._id, "type": "message", "role": "assistant", "model": self._model}


def anthropic_error(status: int, message: str) -> bytes:
    """An error as `/v1/messages` writes it, without the line end that only errors of the runner have."""
    error = {"type": _KINDS.get(status, "api_error"), "message": message}
    return go_json({"type": "error", "error": error, "request_id": f"req_{secrets.token_hex(12)}"})


def _stop_reason(tally: Tally) -> str:
    return "max_tokens" if tally.reason == "length" else "end_turn"


def _sse(kind: str, rest: dict[str, Any]) -> bytes:
    return sse(kind, {"type": kind, **rest})

"""What `/v1/chat/completions` and `/v1/completions` write, field for field as Ollama 0.32 does (openai/openai.go)."""

import random
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

from scheduler.standin.answers import PLAIN_JSON, SSE, Tally, go_json

_KINDS = {400: "invalid_request_error", 404: "not_found_error"}


@dataclass
class OpenAI:
    """`/v1/chat/completions`; `usage` says that the client asked for the token counts of a stream."""

    stream_type: ClassVar[str] = SSE
    whole_type: ClassVar[str] = PLAIN_JSON
    stream_headers: ClassVar[dict[str, str]] = {}
    model: str
    usage: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{random.randrange(999)}")  # as Ollama does

    def word(self, text: str) -> bytes:
        return _event(self._chunk(self.model, text, None))

    def last(self, tally: Tally) -> bytes:
        chunk = self._chunk(self.model, "", tally.reason)
        usage = _event({**chunk, "choices": [], "usage": _usage(tally)}) if self.usage else b""
        return _event(chunk) + usage + b"data: [DONE]\n\n"

    def whole(self, text: str, tally: Tally) -> bytes:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": tally.reason or None}
        head = self._head("chat.completion", self.model)
        return go_json({**head, "choices": [choice], "usage": _usage(tally)}) + b"\n"

    def broken(self, message: str) -> bytes:
        return _event(self._chunk("", "", None))  # Ollama swallows the text and sends an empty piece

    def refused(self, status: int, message: str) -> bytes:
        return openai_error(status, message)

    def _head(self, kind: str, model: str) -> dict[str, Any]:
        created = int(time.time())
        return {"id": self.id, "object": kind, "created": created, "model": model, "system_fingerprint": "fp_ollama"}

    def _chunk(self, model: str, text: str, reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": reason}
        return {**self._head("chat.completion.chunk", model), "choices": [choice]}


@dataclass
class Completion:
    """`/v1/completions`; its pieces carry an empty `usage` where the client asked for the counts."""

    stream_type: ClassVar[str] = SSE
    whole_type: ClassVar[str] = PLAIN_JSON
    stream_headers: ClassVar[dict[str, str]] = {}
    model: str
    usage: bool = False
    id: str = field(default_factory=lambda: f"cmpl-{random.randrange(999)}")

    def word(self, text: str) -> bytes:
        return _event(self._chunk(self.model, text, None))

    def last(self, tally: Tally) -> bytes:
        chunk = self._chunk(self.model, "", tally.reason)
        usage = _event({**chunk, "choices": [], "usage": _usage(tally)}) if self.usage else b""
        return _event(chunk) + usage + b"data: [DONE]\n\n"

    def whole(self, text: str, tally: Tally) -> bytes:
        names = {"model": self.model, "system_fingerprint": "fp_ollama"}
        choices = [{"text": text, "index": 0, "finish_reason": tally.reason or None}]
        return go_json({**self._head(), **names, "choices": choices, "usage": _usage(tally)}) + b"\n"

    def broken(self, message: str) -> bytes:
        return _event(self._chunk("", "", None))

    def refused(self, status: int, message: str) -> bytes:
        return openai_error(status, message)

    def _head(self) -> dict[str, Any]:
        return {"id": self.id, "object": "text_completion", "created": int(time.time())}

    def _chunk(self, model: str, text: str, reason: str | None) -> dict[str, Any]:
        choices = [{"text": text, "index": 0, "finish_reason": reason}]
        counts = {"usage": _usage(Tally())} if self.usage else {}
        return {**self._head(), "choices": choices, "model": model, "system_fingerprint": "fp_ollama", **counts}


def openai_error(status: int, message: str) -> bytes:
    """An error as the OpenAI routes write it, without the line end that only errors of the runner have."""
    kind = _KINDS.get(status, "api_error")
    return go_json({"error": {"message": message, "type": kind, "param": None, "code": None}})


def _usage(tally: Tally) -> dict[str, int]:
    total = tally.prompt_tokens + tally.counted
    return {"prompt_tokens": tally.prompt_tokens, "completion_tokens": tally.counted, "total_tokens": total}


def _event(value: object) -> bytes:
    return b"data: " + go_json(value) + b"\n\n"

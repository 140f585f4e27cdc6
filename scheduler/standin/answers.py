"""The bytes of an answer in each dialect, field for field as Ollama 0.32 writes them (api/, openai/, anthropic/)."""

import json
import random
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle, islice
from typing import Any, Protocol

NDJSON, SSE = "application/x-ndjson", "text/event-stream"
PLAIN_JSON, GIN_JSON = "application/json", "application/json; charset=utf-8"
SENTENCES = (
    "This answer comes from a stand-in, not from a model.",
    "The sky looks blue because air scatters short waves more than long ones.",
    "A quiet machine keeps one large model in memory and lets the others wait their turn.",
    "Bread needs flour, water, salt, and a morning of patience.",
    "Every request is answered once, and none is forgotten.",
)
_ERROR_KINDS = {400: "invalid_request_error", 404: "not_found_error"}
_ANTHROPIC_KINDS = {
    **_ERROR_KINDS,
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


@dataclass
class Tally:
    """What the last line of an answer tells: token counts, and durations in seconds."""

    prompt_tokens: int = 0
    tokens: int = 0
    total: float = 0.0
    load: float = 0.0
    prompt: float = 0.0
    speaking: float = 0.0
    reason: str = ""
    """`stop` or `length`; empty for an answer that was cut."""


class Dialect(Protocol):
    """How one route writes its answer. `stream_type` and `whole_type` are its content types."""

    stream_type: str
    whole_type: str

    def word(self, text: str) -> bytes:
        """One piece of a streamed answer."""

    def last(self, tally: Tally) -> bytes:
        """The end of a streamed answer."""

    def whole(self, text: str, tally: Tally) -> bytes:
        """An answer that is not streamed."""

    def broken(self, message: str) -> bytes:
        """What follows the pieces when the runner fails in mid-stream."""

    def refused(self, status: int, message: str) -> bytes:
        """The body of an error that comes before the first piece."""


class Native:
    """`/api/generate`, and `/api/chat` with `chat=True`; `remote` adds the fields of a stub."""

    stream_type = NDJSON
    whole_type = GIN_JSON

    def __init__(self, model: str, *, chat: bool, remote: dict[str, str] | None = None) -> None:
        self._model = model
        self._chat = chat
        self._remote = remote or {}

    def word(self, text: str) -> bytes:
        return go_json(self._line(text, {"done": False})) + b"\n"

    def last(self, tally: Tally) -> bytes:
        return go_json(self._line("", self._end(tally))) + b"\n"

    def whole(self, text: str, tally: Tally) -> bytes:
        return go_json(self._line(text, self._end(tally)))

    def at_once(self, reason: str) -> bytes:
        """The answer to a load or an unload: nothing was said."""
        return go_json(self._line("", {"done": True, "done_reason": reason}))

    def broken(self, message: str) -> bytes:
        return go_json({"error": message}) + b"\n"

    def refused(self, status: int, message: str) -> bytes:
        return go_json({"error": message})

    def _line(self, text: str, rest: dict[str, Any]) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": text}} if self._chat else {"response": text}
        return {"model": self._model, **self._remote, "created_at": go_time(time.time()), **said, **rest}

    def _end(self, tally: Tally) -> dict[str, Any]:
        if not tally.reason:
            return {"done": False}
        context = {} if self._chat else {"context": list(range(1, tally.prompt_tokens + tally.tokens + 1))[:4096]}
        return {
            "done": True,
            "done_reason": tally.reason,
            **context,
            "total_duration": _nanoseconds(tally.total),
            "load_duration": _nanoseconds(tally.load),
            "prompt_eval_count": tally.prompt_tokens,
            "prompt_eval_duration": _nanoseconds(tally.prompt),
            "eval_count": tally.tokens,
            "eval_duration": _nanoseconds(tally.speaking),
        }


@dataclass
class OpenAI:
    """`/v1/chat/completions`; `usage` says that the client asked for the token counts of a stream."""

    stream_type = SSE
    whole_type = PLAIN_JSON
    model: str
    usage: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{random.randrange(999)}")  # as Ollama does

    def word(self, text: str) -> bytes:
        return self._event(self._chunk(self.model, text, None))

    def last(self, tally: Tally) -> bytes:
        chunk = self._chunk(self.model, "", tally.reason)
        usage = self._event({**chunk, "choices": [], "usage": self._usage(tally)}) if self.usage else b""
        return self._event(chunk) + usage + b"data: [DONE]\n\n"

    def whole(self, text: str, tally: Tally) -> bytes:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": tally.reason or None}
        head = self._head("chat.completion", self.model)
        return go_json({**head, "choices": [choice], "usage": self._usage(tally)}) + b"\n"

    def broken(self, message: str) -> bytes:
        return self._event(self._chunk("", "", None))  # Ollama swallows the text and sends an empty piece

    def refused(self, status: int, message: str) -> bytes:
        return openai_error(status, message)

    def _head(self, kind: str, model: str) -> dict[str, Any]:
        created = int(time.time())
        return {"id": self.id, "object": kind, "created": created, "model": model, "system_fingerprint": "fp_ollama"}

    def _chunk(self, model: str, text: str, reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": reason}
        return {**self._head("chat.completion.chunk", model), "choices": [choice]}

    def _usage(self, tally: Tally) -> dict[str, int]:
        total = tally.prompt_tokens + tally.tokens
        return {"prompt_tokens": tally.prompt_tokens, "completion_tokens": tally.tokens, "total_tokens": total}

    def _event(self, value: object) -> bytes:
        return b"data: " + go_json(value) + b"\n\n"


class Anthropic:
    """`/v1/messages`."""

    stream_type = SSE
    whole_type = PLAIN_JSON

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
        usage = {"input_tokens": tally.prompt_tokens, "output_tokens": tally.tokens}
        events += _sse("message_delta", {"delta": {"stop_reason": _stop_reason(tally)}, "usage": usage})
        return events + _sse("message_stop", {})

    def whole(self, text: str, tally: Tally) -> bytes:
        content = [{"type": "text", "text": text}] if text else None
        stop = {"stop_reason": _stop_reason(tally)} if tally.reason else {}
        usage = {"input_tokens": tally.prompt_tokens, "output_tokens": tally.tokens}
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


def openai_error(status: int, message: str) -> bytes:
    """An error as the OpenAI routes write it, without the line end that only errors of the runner have."""
    kind = _ERROR_KINDS.get(status, "api_error")
    return go_json({"error": {"message": message, "type": kind, "param": None, "code": None}})


def anthropic_error(status: int, message: str) -> bytes:
    """An error as `/v1/messages` writes it, without the line end that only errors of the runner have."""
    error = {"type": _ANTHROPIC_KINDS.get(status, "api_error"), "message": message}
    return go_json({"type": "error", "error": error, "request_id": f"req_{secrets.token_hex(12)}"})


def words(count: int) -> list[str]:
    """The pieces of an answer of that many tokens: a word each, blanks in front."""
    text = " ".join(SENTENCES).split()
    return [word if place == 0 else f" {word}" for place, word in enumerate(islice(cycle(text), count))]


def tokens_in(text: str) -> int:
    """Roughly as many tokens as a tokenizer would find: 1.3 a word."""
    return max(1, round(len(text.split()) * 1.3))


def go_json(value: object) -> bytes:
    """JSON as Go writes it: no blanks, no escapes for letters, but for `<`, `>` and `&`."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()


def go_time(seconds: float) -> str:
    """A wall-clock time as Go writes it, in UTC; what never comes is shown as the year 2318, as Ollama does."""
    latest = datetime(2318, 1, 1, tzinfo=UTC)
    moment = latest if seconds > latest.timestamp() else datetime.fromtimestamp(seconds, UTC)
    fraction = f"{moment.microsecond:06}".rstrip("0")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{'.' if fraction else ''}{fraction}Z"


def _stop_reason(tally: Tally) -> str:
    return "max_tokens" if tally.reason == "length" else "end_turn"


def _sse(kind: str, rest: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: ".encode() + go_json({"type": kind, **rest}) + b"\n\n"


def _nanoseconds(seconds: float) -> int:
    return max(1, round(seconds * 1e9))

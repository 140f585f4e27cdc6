"""The bytes of a native answer, field for field as Ollama 0.32 writes them (api/), and what all dialects share."""

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from typing import Any, ClassVar, Protocol

from scheduler.standin.refusal import GIN_JSON

NDJSON, SSE = "application/x-ndjson", "text/event-stream"
PLAIN_JSON = "application/json"
SENTENCES = (
    "This answer comes from a stand-in, not from a model.",
    "The sky looks blue because air scatters short waves more than long ones.",
    "A quiet machine keeps one large model in memory and lets the others wait their turn.",
    "Bread needs flour, water, salt, and a morning of patience.",
    "Every request is answered once, and none is forgotten.",
)


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

    @property
    def counted(self) -> int:
        """The tokens of the answer as Ollama counts them: the one that ends it by itself is one more."""
        return self.tokens + (self.reason == "stop")


class Dialect(Protocol):
    """How one route writes its answer. `stream_type` and `whole_type` are its content types."""

    stream_type: ClassVar[str]
    whole_type: ClassVar[str]
    stream_headers: ClassVar[dict[str, str]]
    """What else the head of a stream carries, also when an error comes instead."""

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

    stream_type: ClassVar[str] = NDJSON
    whole_type: ClassVar[str] = GIN_JSON
    stream_headers: ClassVar[dict[str, str]] = {}

    def __init__(self, model: str, *, chat: bool, raw: bool = False, remote: dict[str, str] | None = None) -> None:
        self._model = model
        self._chat = chat
        self._context = not (chat or raw)
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
        context = {"context": list(range(1, tally.prompt_tokens + tally.tokens + 1))[:4096]} if self._context else {}
        return {
            "done": True,
            "done_reason": tally.reason,
            **context,
            "total_duration": _nanoseconds(tally.total),
            "load_duration": _nanoseconds(tally.load),
            "prompt_eval_count": tally.prompt_tokens,
            "prompt_eval_duration": _nanoseconds(tally.prompt),
            "eval_count": tally.counted,
            "eval_duration": _nanoseconds(tally.speaking),
        }


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


def sse(kind: str, value: dict[str, Any]) -> bytes:
    """One named server-sent event."""
    return f"event: {kind}\ndata: ".encode() + go_json(value) + b"\n\n"


def _nanoseconds(seconds: float) -> int:
    return max(1, round(seconds * 1e9))

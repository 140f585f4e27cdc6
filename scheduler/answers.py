"""Answers of our own in the bytes Ollama would have sent: errors, canned probes, wishes; and how a real answer ended.

Shapes from Ollama 0.32: `server/routes.go`, `middleware/openai.go`, `middleware/anthropic.go`, `openai/`, `anthropic/`.
`now_iso` is UTC in RFC 3339 with a Z, as `created_at` shows it.
"""

import json
import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

from scheduler import said_responses
from scheduler.demand import NATIVE, STREAMS, Demand, Dialect
from scheduler.errors import Voice

JSON = "application/json; charset=utf-8"  # what gin sends
PLAIN_JSON = "application/json"  # what the /v1 writers send
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
TAIL = 16_384
"""Bytes of an answer's end that `ending` and `tokens` need; give them no more."""

_OPENAI_TYPES: Mapping[int, str] = MappingProxyType({400: "invalid_request_error", 404: "not_found_error"})
_ANTHROPIC_TYPES: Mapping[int, str] = MappingProxyType(
    {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        429: "rate_limit_error",
        503: "overloaded_error",
        529: "overloaded_error",
    }
)
_GO_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def go_json(value: object) -> bytes:
    """`value` as Go's encoding/json writes it: no spaces, UTF-8, and `<`, `>`, `&` escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_GO_ESCAPES)
    return text.encode("utf-8", "replace")


# --- errors ------------------------------------------------------------------------------------------------------


def error(dialect: Dialect, status: int, message: str, voice: Voice = "middleware") -> tuple[str, bytes]:
    """The content type and body of an error with this status, for a client that has got no byte yet."""
    if dialect in NATIVE or voice == "gin":
        return JSON, go_json({"error": message})
    body = go_json(_error_object(dialect, status, message))
    if status == 400 and voice == "middleware":  # said before Ollama's own writers are in place
        return JSON, body
    return PLAIN_JSON, body + b"\n"


def error_in_stream(dialect: Dialect, message: str, status: int = 500) -> bytes:
    """The bytes that end a streamed answer whose head was sent; close the connection after them.

    Ollama itself ends such a /v1 stream without a word; clients and LiteLLM then take it for whole, so we say it.
    """
    if dialect in NATIVE:
        return go_json({"error": message}) + b"\n"
    body = go_json(_error_object(dialect, status, message))
    if dialect == "anthropic":
        return b"event: error\ndata: %b\n\n" % body
    if (
        dialect == "openai-responses"
    ):  # both shapes that its clients look for: an error object, and an event of type error
        told = {"type": "error", "code": None, "message": message, "param": None, "sequence_number": 0}
        return b"event: error\ndata: %b\n\n" % go_json(told | _error_object(dialect, status, message))
    return b"data: %b\n\n" % body


def _error_object(dialect: Dialect, status: int, message: str) -> dict[str, Any]:
    if dialect == "anthropic":
        kind = _ANTHROPIC_TYPES.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": _id("req_")}
    kind = _OPENAI_TYPES.get(status, "api_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


# --- answers of our own ------------------------------------------------------------------------------------------


def canned(demand: Demand, now_iso: str) -> tuple[str, bytes]:
    """The content type and body of a minimal success for a probe whose model is not asked."""
    match demand.dialect:
        case "embed":
            return JSON, go_json({"model": demand.alias, "embeddings": [[0.0]], "prompt_eval_count": 1})
        case "embeddings":
            return JSON, go_json({"embedding": [0.0]})
        case "openai-embeddings":
            row = {"object": "embedding", "embedding": [0.0], "index": 0}
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            body = {"object": "list", "data": [row], "model": demand.alias, "usage": usage}
            return PLAIN_JSON, go_json(body) + b"\n"
        case "openai-images" | "openai-image-edits":
            created = int(datetime.fromisoformat(now_iso).timestamp())
            return PLAIN_JSON, go_json({"created": created, "data": []}) + b"\n"
        case "openai-transcription":
            return PLAIN_JSON, go_json({"text": "ok"}) + b"\n"
        case _:
            return _said(demand, now_iso, "ok", "stop", tokens=1)


def wish(demand: Demand, now_iso: str) -> tuple[str, bytes]:
    """The content type and body that Ollama gives to a preload (once loaded) or an unload (at once)."""
    match demand.dialect:
        case "embed":
            return JSON, go_json({"model": demand.alias, "embeddings": []})
        case "embeddings":
            return JSON, go_json({"embedding": []})
        case _:
            return _said(demand, now_iso, "", "unload" if demand.kind == "unload" else "load", tokens=0)


def head(dialect: Dialect, stream: bool) -> list[tuple[bytes, bytes]]:
    """The headers that Ollama sets on a stream before it knows how it goes, for an answer of ours in its place."""
    early = stream and dialect in ("anthropic", "openai-responses")
    return [(b"Cache-Control", b"no-cache"), (b"Connection", b"keep-alive")] if early else []


def _said(demand: Demand, now_iso: str, text: str, reason: str, tokens: int) -> tuple[str, bytes]:
    """One short answer of a dialect that generates. Ollama answers a wish whole even where a stream was asked for,
    except through the /v1 writers, which make a stream of it."""
    match demand.dialect:
        case "openai-chat":
            return _said_openai(demand, now_iso, text, reason, tokens)
        case "openai-completions":
            return _said_completion(demand, now_iso, text, reason, tokens)
        case "openai-responses":
            return _said_response(demand, now_iso, text, tokens)
        case "anthropic":
            return _said_anthropic(demand, text, reason, tokens)
    body: dict[str, Any] = {"model": demand.alias, "created_at": now_iso}
    if demand.dialect == "chat":
        body["message"] = {"role": "assistant", "content": text}
    else:
        body["response"] = text
    body |= {"done": True, "done_reason": reason}
    if tokens:
        body |= {"prompt_eval_count": tokens, "eval_count": tokens}
        if demand.stream:
            return NDJSON, go_json(body) + b"\n"
    return JSON, go_json(body)


def _said_openai(demand: Demand, now_iso: str, text: str, reason: str, tokens: int) -> tuple[str, bytes]:
    said = {"role": "assistant", "content": text}
    body: dict[str, Any] = {
        "id": f"chatcmpl-{secrets.randbelow(999)}",
        "object": "chat.completion.chunk" if demand.stream else "chat.completion",
        "created": int(datetime.fromisoformat(now_iso).timestamp()),
        "model": demand.alias,
        "system_fingerprint": "fp_ollama",
    }
    if demand.stream:
        body["choices"] = [{"index": 0, "delta": said, "finish_reason": reason}]
        return _streamed_openai(body, demand.usage, tokens)
    body["choices"] = [{"index": 0, "message": said, "finish_reason": reason}]
    return PLAIN_JSON, go_json(body | {"usage": _usage(tokens)}) + b"\n"


def _said_completion(demand: Demand, now_iso: str, text: str, reason: str, tokens: int) -> tuple[str, bytes]:
    body: dict[str, Any] = {"id": f"cmpl-{secrets.randbelow(999)}"}
    body["object"] = "text_completion"
    body["created"] = int(datetime.fromisoformat(now_iso).timestamp())
    told = {"model": demand.alias, "system_fingerprint": "fp_ollama"}
    choices = {"choices": [{"text": text, "index": 0, "finish_reason": reason}]}
    if demand.stream:
        body |= choices | told
        return _streamed_openai(body | ({"usage": _usage(0)} if demand.usage else {}), demand.usage, tokens)
    body |= told | choices
    return PLAIN_JSON, go_json(body | {"usage": _usage(tokens)}) + b"\n"


def _streamed_openai(body: dict[str, Any], usage: bool, tokens: int) -> tuple[str, bytes]:
    """One chunk that says all, one with the tokens where they were asked for, and the end."""
    chunks = [body, body | {"choices": [], "usage": _usage(tokens)}] if usage else [body]
    return SSE, b"".join(b"data: %b\n\n" % go_json(chunk) for chunk in chunks) + b"data: [DONE]\n\n"


def _said_response(demand: Demand, now_iso: str, text: str, tokens: int) -> tuple[str, bytes]:
    created = int(datetime.fromisoformat(now_iso).timestamp())
    if demand.stream:
        return SSE, _events(said_responses.events(demand.alias, created, text, tokens))
    return PLAIN_JSON, go_json(said_responses.whole(demand.alias, created, text, tokens)) + b"\n"


def _events(events: list[dict[str, Any]]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), go_json(e)) for e in events)


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "completion_tokens": tokens, "total_tokens": 2 * tokens}


def _said_anthropic(demand: Demand, text: str, reason: str, tokens: int) -> tuple[str, bytes]:
    why = "end_turn" if reason == "stop" else "stop_sequence"
    usage = {"input_tokens": tokens, "output_tokens": tokens}
    message: dict[str, Any] = {"id": _id("msg_"), "type": "message", "role": "assistant", "model": demand.alias}
    if not demand.stream:
        # Ollama's Go writes a list that was never made as null; only a wish has one.
        message["content"] = [{"type": "text", "text": text}] if text else None
        return PLAIN_JSON, go_json(message | {"stop_reason": why, "usage": usage}) + b"\n"
    message |= {"content": [], "usage": usage | {"output_tokens": 0}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
    if text:
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        events += [block, delta, {"type": "content_block_stop", "index": 0}]
    events += [{"type": "message_delta", "delta": {"stop_reason": why}, "usage": usage}, {"type": "message_stop"}]
    return SSE, _events(events)


def _id(prefix: str) -> str:
    return prefix + secrets.token_hex(12)


# --- how a real answer ended -------------------------------------------------------------------------------------

# In a JSON string a quote is written \", so a model that *says* one of these cannot be taken for the field itself.
_DONE = re.compile(rb'(?<!\\)"done":true[,}]|(?<!\\)"total_duration":\d')
_COUNTS: Mapping[Dialect, tuple[bytes, bytes]] = MappingProxyType(
    {
        "openai-chat": (b'"prompt_tokens":', b'"completion_tokens":'),
        "openai-completions": (b'"prompt_tokens":', b'"completion_tokens":'),
        "openai-embeddings": (b'"prompt_tokens":', b'"completion_tokens":'),
        "openai-responses": (b'"input_tokens":', b'"output_tokens":'),
        "anthropic": (b'"input_tokens":', b'"output_tokens":'),
    }
)
_NUMBER = re.compile(rb"\s*(\d{1,18})")
_NATIVE_COUNTS = (b'"prompt_eval_count":', b'"eval_count":')


def ending(demand: Demand, tail: bytes) -> Literal["whole", "error", "cut"]:
    """How a 200 answer ended, by its last bytes (`TAIL` of them suffice): whole; with an error that Ollama itself
    wrote into it; or cut, though the connection closed cleanly."""
    end = tail.rstrip()
    if demand.dialect in _PLAIN:
        return _ending_plain(end)
    if not demand.stream or demand.dialect not in STREAMS:
        return "whole" if end.endswith(b"}") else "cut"
    # A line of JSON holds no line break of its own, so what begins a line is never something the model said.
    if demand.dialect in _LAST_EVENTS:
        return _ending_events(b"\n" + end, _LAST_EVENTS[demand.dialect])
    line = end[end.rfind(b"\n") + 1 :]
    if demand.dialect in ("openai-chat", "openai-completions"):
        return "whole" if line == b"data: [DONE]" else "cut"
    if not line.endswith(b"}"):
        return "cut"
    if line.startswith(b'{"error":'):
        return "error"
    return "whole" if _DONE.search(line) else "cut"


_LAST_EVENTS: Mapping[Dialect, bytes] = MappingProxyType(
    {"anthropic": b"message_stop", "openai-responses": b"response.completed"}
)


_PLAIN = frozenset({"library", "openai-images", "openai-image-edits", "openai-transcription"})


def _ending_plain(end: bytes) -> Literal["whole", "error"]:
    """What may end in any way: a deletion says nothing, a transcription any text, an image asked of another model
    nothing; the last line of a creation may be an error."""
    return "error" if end[end.rfind(b"\n") + 1 :].startswith(b'{"error":') else "whole"


def _ending_events(end: bytes, mark: bytes) -> Literal["whole", "error", "cut"]:
    last = end[end.rfind(b"\nevent: ") + 1 :]
    if not last.endswith(b"}"):
        return "cut"
    if last.startswith(b"event: error\n"):
        return "error"
    return "whole" if last.startswith(b"event: %b\n" % mark) else "cut"


def tokens(demand: Demand, tail: bytes) -> tuple[int | None, int | None]:
    """Prompt and output tokens as the last bytes of an answer tell them (`TAIL` of them suffice); None: not told."""
    prompt, output = _COUNTS.get(demand.dialect, _NATIVE_COUNTS)
    return _count(tail, prompt), _count(tail, output)


def seconds(demand: Demand, tail: bytes) -> tuple[float | None, float | None]:
    """Seconds that Ollama says it read the prompt (what was not cached of it) and wrote the answer; None: not told,
    which only its own dialects do."""
    if demand.dialect not in NATIVE:
        return None, None
    told = (_count(tail, field) for field in (b'"prompt_eval_duration":', b'"eval_duration":'))
    read, wrote = (None if nanoseconds is None else nanoseconds / 1e9 for nanoseconds in told)
    return read, wrote


def _count(tail: bytes, field: bytes) -> int | None:
    """The number after the last `field` that is one: not part of a longer name, not inside a text."""
    at = len(tail)
    while (at := tail.rfind(field, 0, at)) >= 0:
        number = _NUMBER.match(tail, at + len(field))
        if number and tail[max(0, at - 1) : at] != b"\\":
            return int(number[1])
    return None

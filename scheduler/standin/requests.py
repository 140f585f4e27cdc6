"""Read what a client asks, by the rules of Go's JSON and of Ollama's own fields."""

import json
import math
import re
from typing import Any

from scheduler.standin.memory import RELOADING_OPTIONS, Refusal, RunnerOptions
from scheduler.standin.stage import Stage, StagedModel

_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+")
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


def go_object(raw: bytes, empty: str = "missing request body") -> dict[str, Any]:
    """The body as Go reads it into a struct: keys fold case and the last one wins. Raises `Refusal` 400."""
    if not raw.strip():
        raise Refusal(400, empty)
    try:
        body = json.loads(raw, object_pairs_hook=_folded)
    except json.JSONDecodeError as error:
        ended = error.pos >= len(error.doc.rstrip())
        raise Refusal(400, "unexpected EOF" if ended else f"invalid JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"invalid JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refusal(400, f"json: cannot unmarshal {_go_kind(body)} into Go value of type api.Request")
    return body


def text_of(body: dict[str, Any], key: str) -> str:
    """A field that must be text; absent is empty. Raises `Refusal` 400."""
    value = body.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Refusal(400, f"json: cannot unmarshal {_go_kind(value)} into Go struct field .{key} of type string")
    return value


def keep_alive_of(body: dict[str, Any]) -> float | None:
    """Seconds that the client wants the model kept: None if it says nothing, infinite for below zero.

    The accepted forms are those of `Duration.UnmarshalJSON` (api/types.go). Raises `Refusal` 400.
    """
    told = body.get("keep_alive")
    if told is None:
        return None
    if isinstance(told, str):
        seconds = _go_duration(told)
    elif isinstance(told, int | float) and not isinstance(told, bool):
        seconds = float(told)
    else:
        raise Refusal(400, f"Unsupported type: '{_go_kind(told)}'")
    return math.inf if seconds < 0 else seconds


def runner_options_of(stage: Stage, model: StagedModel, body: dict[str, Any]) -> RunnerOptions:
    """What a native request asks of the runner; `/v1` bodies have none of it."""
    options = options_of(body)
    rest = {name: options[name] for name in RELOADING_OPTIONS if options.get(name) is not None}
    if body.get("shift") is False:
        rest["shift"] = False
    if isinstance(rest.get("num_gpu"), int) and rest["num_gpu"] < 0:
        del rest["num_gpu"]
    return RunnerOptions(stage.context_of(model, whole_number(options, "num_ctx")), frozenset(rest.items()))


def options_of(body: dict[str, Any]) -> dict[str, Any]:
    """The `options` object of a native request, empty if there is none."""
    options = body.get("options")
    return options if isinstance(options, dict) else {}


def whole_number(body: dict[str, Any], key: str) -> int | None:
    """A field that must be a whole number; None if absent. Raises `Refusal` 400."""
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refusal(400, f'option "{key}" must be of type integer')
    return int(value)


def said_in(messages: object) -> str:
    """All text of a list of chat messages, whether their content is text or blocks."""
    if not isinstance(messages, list):
        return ""
    said: list[str] = []
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        blocks = content if isinstance(content, list) else [content]
        for block in blocks:
            text = block.get("text") if isinstance(block, dict) else block
            if isinstance(text, str):
                said.append(text)
    return "\n".join(said)


def inputs_of(value: object) -> list[str]:
    """The texts to embed, as `/api/embed` reads its `input`. Raises `Refusal` 400."""
    if value is None or value == "":
        return []
    given = value if isinstance(value, list) else [value]
    texts = [text for text in given if isinstance(text, str)]
    if len(texts) < len(given):
        raise Refusal(400, "invalid input type")
    return texts


def _folded(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for key, value in pairs:
        if value is not None or key.lower() not in body:  # null leaves a Go field as it was
            body[key.lower()] = value
    return body


def _go_duration(text: str) -> float:
    if text in ("0", "+0", "-0"):
        return 0.0
    if not _DURATION.fullmatch(text):
        missing = re.fullmatch(r"[-+]?\d+\.?\d*", text)
        raise Refusal(400, f'time: {"missing unit in" if missing else "invalid"} duration "{text}"')
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(text))
    return -seconds if text.startswith("-") else seconds


def _go_kind(value: object) -> str:
    kinds = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")

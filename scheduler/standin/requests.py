"""Read what a client asks, by the rules of Go's JSON and of Ollama's own fields."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from scheduler.standin.gosyntax import JSON_BLANKS, complaint
from scheduler.standin.memory import RELOADING_OPTIONS, RunnerOptions
from scheduler.standin.refusal import Refusal
from scheduler.standin.stage import Stage, StagedModel

_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+")
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")

_WHOLE = "num_ctx num_batch num_gpu main_gpu num_thread draft_num_predict num_keep seed num_predict top_k repeat_last_n"
_PARTIAL = "top_p min_p typical_p temperature repeat_penalty presence_penalty frequency_penalty"
OPTION_TYPES = {
    **dict.fromkeys(_WHOLE.split(), "integer"),
    **dict.fromkeys(_PARTIAL.split(), "float32"),
    "use_mmap": "boolean",
    "stop": "array",
}
"""The options that Ollama knows, with the words of its complaint (api/types.go)."""

_MEANS = {"integer": int | float, "float32": int | float, "boolean": bool, "array": list}
_STRING, _BOOL, _INT, _MAP = "string", "bool", "int", "map[string]interface {}"
SHAPES: dict[str, dict[str, str]] = {
    "api.GenerateRequest": {
        **dict.fromkeys(("model", "prompt", "suffix", "system", "template"), _STRING),
        **dict.fromkeys(("stream", "raw", "truncate", "shift", "logprobs"), _BOOL),
        "options": _MAP,
        "top_logprobs": _INT,
    },
    "api.ChatRequest": {
        "model": _STRING,
        "messages": "[]api.Message",
        **dict.fromkeys(("stream", "truncate", "shift", "logprobs"), _BOOL),
        "options": _MAP,
        "top_logprobs": _INT,
    },
    "api.EmbedRequest": {"model": _STRING, "truncate": _BOOL, "dimensions": _INT, "options": _MAP},
    "api.EmbeddingRequest": {"model": _STRING, "prompt": _STRING, "options": _MAP},
    "api.ShowRequest": {"model": _STRING, "name": _STRING, "verbose": _BOOL},
    "api.PullRequest": {"model": _STRING, "name": _STRING, "insecure": _BOOL, "stream": _BOOL},
    "api.PushRequest": {"model": _STRING, "name": _STRING, "insecure": _BOOL, "stream": _BOOL},
    "api.CopyRequest": {"source": _STRING, "destination": _STRING},
    "api.DeleteRequest": {"model": _STRING, "name": _STRING},
    "api.CreateRequest": {
        **dict.fromkeys(("model", "name", "from", "template", "system"), _STRING),
        "stream": _BOOL,
        "files": "map[string]string",
        "parameters": _MAP,
    },
    "openai.ChatCompletionRequest": {
        "model": _STRING,
        "messages": "[]openai.Message",
        "stream": _BOOL,
        "max_tokens": _INT,
        "seed": _INT,
    },
    "openai.CompletionRequest": {
        **dict.fromkeys(("model", "prompt", "suffix"), _STRING),
        "stream": _BOOL,
        "max_tokens": _INT,
        "seed": _INT,
    },
    "openai.EmbedRequest": {"model": _STRING, "encoding_format": _STRING, "dimensions": _INT},
    "openai.ResponsesRequest": {
        "model": _STRING,
        "instructions": _STRING,
        "max_output_tokens": _INT,
        "background": _BOOL,
        "stream": _BOOL,
    },
    "anthropic.MessagesRequest": {
        "model": _STRING,
        "max_tokens": _INT,
        "messages": "[]anthropic.MessageParam",
        "stream": _BOOL,
    },
}
"""The fields by which Go tells one body from another; others are read where they are needed."""
_FITS: dict[str, tuple[type, ...]] = {_STRING: (str,), _BOOL: (bool,), _INT: (int, float)}


def go_object(raw: bytes, empty: str = "missing request body", shape: str = "api.Request") -> dict[str, Any]:
    """The body as Go reads it into the struct `shape`: keys fold case, the last one wins. Raises `Refusal` 400."""
    text = raw.decode("utf-8", "replace").strip(JSON_BLANKS)
    if not text:
        raise Refusal(400, empty)
    try:
        body, _ = json.JSONDecoder(object_pairs_hook=_folded).raw_decode(text)  # what follows is left alone
    except json.JSONDecodeError as error:
        raise Refusal(400, complaint(error)) from error
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"invalid JSON: {error}") from error
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise Refusal(400, f"json: cannot unmarshal {_go_kind(body)} into Go value of type {shape}")
    _check(body, shape)
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
        kinds = {bool: "bool", dict: _MAP, list: "[]interface {}"}
        raise Refusal(400, f"Unsupported type: '{kinds[type(told)]}'")
    return math.inf if seconds < 0 else seconds


def runner_options_of(stage: Stage, model: StagedModel, body: dict[str, Any]) -> RunnerOptions:
    """What a native request asks of the runner; `/v1` bodies have none of it. Raises `Refusal` for an odd option."""
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


def check_options(body: dict[str, Any]) -> None:
    """Raise what Ollama says of an option of the wrong kind: a 500, found when it is about to be scheduled."""
    for name, value in options_of(body).items():
        kind = OPTION_TYPES.get(name)
        if kind is None or value is None:
            continue
        if not isinstance(value, _MEANS[kind]) or (isinstance(value, bool) and kind != "boolean"):
            raise Refusal(500, f'option "{name}" must be of type {kind}')


def whole_number(body: dict[str, Any], key: str) -> int | None:
    """A field that is a whole number; None if absent. Raises `Refusal` 400."""
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


def _check(body: Mapping[str, Any], shape: str) -> None:
    struct = shape.rpartition(".")[2]
    for key, value in body.items():
        wanted = SHAPES.get(shape, {}).get(key)
        if wanted is None or value is None:
            continue
        fits = _FITS.get(wanted, (list,) if wanted.startswith("[]") else (dict,))
        if not isinstance(value, fits) or (isinstance(value, bool) and wanted != _BOOL):
            raise _unfit(value, f"{struct}.{key}", wanted)
        if wanted == "[]api.Message":
            _check_messages(value, f"{struct}.{key}")


def _check_messages(messages: Any, field: str) -> None:
    for message in messages:
        if not isinstance(message, dict):
            raise _unfit(message, field, "api.Alias")
        for key in ("role", "content"):
            if not isinstance(message.get(key, ""), str | None):
                raise _unfit(message[key], f"{field}.{key}", _STRING)


def _unfit(value: object, field: str, wanted: str) -> Refusal:
    return Refusal(400, f"json: cannot unmarshal {_go_kind(value)} into Go struct field {field} of type {wanted}")


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

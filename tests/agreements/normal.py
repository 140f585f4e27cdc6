"""What of an answer must be the same on both sides: everything but times, digests, random ids and the model's words."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
DIGESTS = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
IDS = re.compile(r"^(chatcmpl-|cmpl-|msg_|req_|resp_|rs_|fc_|call_)[0-9a-z]+$")
TEMPLATES = re.compile(r"TEMPLATE .*?\n(?=PARAMETER|SYSTEM|$)", re.DOTALL)
TOKENS = re.compile(r'((?:request \(|"n_prompt_tokens":))\d+')
PLACES = re.compile(r"(?<= )/\S*/(?=blobs/|manifests/)")
COUNTS = frozenset({"prompt_eval_count", "prompt_tokens", "total_tokens", "input_tokens"})
"""How many tokens a prompt has is the tokenizer's affair."""
SAID = frozenset({"response", "content", "text", "delta"})
ROUGH = frozenset({"size", "size_vram"})
MADE_UP = frozenset({"parameter_size", "quantization_level", "template"})
FRAMING = frozenset({"content-length", "transfer-encoding"})
NEAR_GO_BUFFER = (1500, 2600)
UNCOMPARED_HEADERS = frozenset({"date", "x-scheduler-stand-in"})


def header_line(headers: Mapping[str, str], length: int) -> str:
    """All headers that count, by name; a length only by its presence, since words and digests differ.

    Near the length at which Go turns to chunks, which of the two it is depends on the length of a path: it is left out.
    """
    near = "json" in headers.get("Content-Type", "") and NEAR_GO_BUFFER[0] < length < NEAR_GO_BUFFER[1]
    uncompared = UNCOMPARED_HEADERS | (FRAMING if near and "ndjson" not in headers["Content-Type"] else set())
    shown = []
    for name, value in sorted(headers.items()):
        if name.lower() not in uncompared:
            shown.append(f"{name.lower()}: {'<n>' if name.lower() == 'content-length' else value}")
    return "; ".join(shown)


def body_lines(raw: bytes, content_type: str) -> list[str]:
    """The body, a line for each line of a stream; pieces of one kind that follow each other are counted."""
    if not raw:
        return []
    text = raw.decode("utf-8", "replace")
    if "ndjson" in content_type:
        lines = [part(line) for line in text.splitlines()]
    elif "event-stream" in content_type:
        lines = [_event(event) for event in text.removesuffix("\n\n").split("\n\n")]
    else:
        lines = [part(text)]
    return list(_counted(lines))


def part(text: str) -> str:
    """One piece of JSON (or of text) with what may differ taken out; a line end at its end is kept visible."""
    end = "\\n" if text.endswith("\n") else ""
    try:
        value = json.loads(text)
    except ValueError:
        return _plain(text.rstrip("\n")) + end
    return json.dumps(_same(value, ""), ensure_ascii=False, separators=(",", ":")) + end


def _event(event: str) -> str:
    return " | ".join(
        f"{field}: {part(value) if field == 'data' else value}"
        for field, _, value in (line.partition(": ") for line in event.split("\n"))
    )


def _counted(lines: list[str]) -> Iterator[str]:
    before, count = "", 0
    for line in [*lines, ""]:
        if line == before:
            count += 1
            continue
        if before:
            yield before if count == 1 else f"{before}  x {count}"
        before, count = line, 1


def _same(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: _same(inner, "model_info" if key == "model_info" else name) for name, inner in value.items()}
    if isinstance(value, list):
        return _list(value, key)
    if isinstance(value, bool) or value is None:
        return value
    return _text(value, key) if isinstance(value, str) else _number(value, key)


def _list(values: list[Any], key: str) -> Any:
    if values and all(isinstance(item, int | float) for item in values):
        kind = "floats" if isinstance(values[0], float) else "ints"
        return f"<{kind}>" if key == "context" else f"<{len(values)} {kind}>"
    if values and key in ("models", "data") and isinstance(values[0], dict):
        named = sorted(values, key=lambda each: str(each.get("name") or each.get("id") or each.get("index")))
        return [_same(item, key) for item in named]  # all of a stage's models are as old as each other
    return [_same(item, key) for item in values]


def _text(value: str, key: str) -> str:
    if key in SAID and value:
        return f"<{len(value.split())} words>"
    if key in MADE_UP and value:
        return f"<{key}>"
    if key == "modelfile":
        value = "\n".join(sorted(TEMPLATES.sub("TEMPLATE <template>\n", value).split("\n"), key=_parameter))
    if key == "parameters":
        value = "\n".join(sorted(value.split("\n")))
    if key == "embedding":
        return f"<{len(value)} characters>"
    return _plain(IDS.sub(r"\1<id>", value))


def _parameter(line: str) -> str:
    """Parameters last and by name: they come out of a map of Go's, which has no order."""
    return line if line.startswith("PARAMETER") else ""


def _plain(text: str) -> str:
    text = TOKENS.sub(r"\1<tokens>", text)
    return PLACES.sub("<models>/", DIGESTS.sub("<digest>", TIMES.sub("<time>", text)))


def _number(value: float, key: str) -> object:
    if key.endswith("_duration"):
        return "<ns>" if value > 0 else value
    if key in ("created", "created_at", "completed_at"):
        return "<unix time>" if value > 0 else value
    if key == "model_info":
        return "<number>"
    if key in COUNTS:
        return "<tokens>" if value > 0 else value
    if key in ROUGH:
        return float(f"{value:.3g}")
    return value

"""The body of `/v1/responses` as Ollama decodes and converts it: its input is one text, or items of several kinds.

From `openai/responses.go` of Ollama 0.32; the words of an error are Go's.
"""

from collections.abc import Mapping
from typing import Any

from scheduler.errors import BadRequest
from scheduler.gojson import sound
from scheduler.gosyntax import NotJSON, go_quote
from scheduler.gotypes import Check, Go, member, slice_of, struct, text, unmarshal, word
from scheduler.images import image_fault

_STRING = Go("string", "string")
_RAWS = "[]json.RawMessage"


def _raw(value: Any, run: Check) -> None:
    """json.RawMessage: anything, as it was written."""


RAW = Go("json.RawMessage", "any", own=_raw)


def _anonymous(**fields: Go) -> Go:
    names = {name: "".join(map(str.capitalize, name.split("_"))).replace("Id", "ID") for name in fields}
    told = "; ".join(f'{names[name]} {go.name} "json:\\"{name}\\""' for name, go in fields.items())
    return Go(f"struct {{ {told} }}", "struct", fields=fields)


def _texts(name: str, *fields: str) -> Go:
    return Go(f"openai.{name}", "struct", fields=dict.fromkeys(fields, _STRING))


_KIND = _anonymous(type=_STRING)
_KIND_ROLE = _anonymous(type=_STRING, role=_STRING)
_MESSAGE = _anonymous(type=_STRING, role=_STRING, content=RAW)
_OUTPUT = _anonymous(type=_STRING, call_id=_STRING, output=RAW)
_CALL = _texts("ResponsesFunctionCall", "id", "type", "call_id", "name", "arguments")
_SUMMARY = _texts("ResponsesReasoningSummary", "type", "text")
_REASONING = Go(
    "openai.ResponsesReasoningInput",
    "struct",
    fields={
        "id": _STRING,
        "type": _STRING,
        "summary": Go(f"[]{_SUMMARY.name}", "slice", _SUMMARY),
        "encrypted_content": _STRING,
    },
)
_CONTENTS: Mapping[str, Go] = {
    "input_text": _texts("ResponsesTextContent", "type", "text"),
    "output_text": _texts("ResponsesOutputTextContent", "type", "text"),
    "input_image": _texts("ResponsesImageContent", "type", "detail", "file_id", "image_url"),
    "input_file": _texts("ResponsesFileContent", "type", "file_data", "file_id", "file_url", "filename"),
}

# --- decoding --------------------------------------------------------------------------------------------------------


def decode_input(value: Any, run: Check) -> None:
    """ResponsesInput.UnmarshalJSON. Raises NotJSON."""
    for number, item in enumerate(_listed(value, "input")):
        try:
            _decode_item(item)
        except NotJSON as error:
            raise NotJSON(f"input[{number}]: {error}") from error


def _decode_item(item: Any) -> None:
    unmarshal(item, _KIND_ROLE)
    kind = _kind(item)
    match kind:
        case "message":
            unmarshal(item, _MESSAGE)
            _decode_contents(member(item, "content"), "content")
        case "function_call":
            unmarshal(item, _CALL)
        case "function_call_output":
            unmarshal(item, _OUTPUT)
            _decode_contents(member(item, "output"), "output")
        case "reasoning":
            unmarshal(item, _REASONING)
        case "":
            raise NotJSON("input item missing required 'type' field")
        case _:
            raise NotJSON(f"unknown input item type: {go_quote(kind, chr(34))}")


def _decode_contents(value: Any, name: str) -> None:
    for number, content in enumerate(_listed(value, name)):
        try:
            unmarshal(content, _KIND)
            kind = sound(text(content, "type"))
            if kind not in _CONTENTS:
                raise NotJSON(f"unknown content type: {kind}")
            unmarshal(content, _CONTENTS[kind])
        except NotJSON as error:
            raise NotJSON(f"{name}[{number}]: {error}") from error


def _listed(value: Any, name: str) -> list[Any]:
    """The items of a list; none of a text. Raises NotJSON for what is neither."""
    if value is None or isinstance(value, str):
        return []
    if not isinstance(value, list):
        told = f"json: cannot unmarshal {word(value)} into Go value of type {_RAWS}"
        raise NotJSON(f"{name} must be a string or array: {told}")
    return value


def _kind(item: Any) -> str:
    kind = sound(text(item, "type"))
    return kind or ("message" if text(item, "role") else "")


_BOOL, _INT, _FLOAT = Go("bool", "bool"), Go("int", "int"), Go("float64", "float")
_TOOL = struct(
    "openai.ResponsesTool",
    type=_STRING,
    name=_STRING,
    description=_STRING,
    strict=_BOOL,
    parameters=Go("map[string]interface {}", "map"),
)
RESPONSES = struct(
    "openai.ResponsesRequest",
    model=_STRING,
    background=_BOOL,
    conversation=RAW,
    include=slice_of(_STRING),
    input=Go("openai.ResponsesInput", "any", own=decode_input),
    instructions=_STRING,
    max_output_tokens=_INT,
    reasoning=_texts("ResponsesReasoning", "effort", "generate_summary", "summary"),
    temperature=_FLOAT,
    text=struct(
        "openai.ResponsesText",
        format=struct("openai.ResponsesTextFormat", type=_STRING, name=_STRING, schema=RAW, strict=_BOOL),
    ),
    top_p=_FLOAT,
    truncation=_STRING,
    tools=slice_of(_TOOL),
    stream=Go("bool", "bool", pointer=True),
)
"""What the body is decoded into."""

# --- conversion ------------------------------------------------------------------------------------------------------


def check_responses(values: Mapping[str, Any]) -> None:
    """Raise BadRequest for what FromResponsesRequest refuses. Function calls' arguments and tools Ollama checks."""
    for item in _items(values):
        contents = member(item, "content" if _kind(item) == "message" else "output")
        for content in contents if isinstance(contents, list) else ():
            _check_content(content)
    effort = text(values.get("reasoning"), "effort")
    if effort and effort not in ("high", "medium", "low", "max", "none"):
        levels = '"high", "medium", "low", "max", or "none"'
        raise BadRequest(400, f"invalid reasoning value: {go_quote(effort, chr(34))} (must be {levels})")


def _check_content(content: Any) -> None:
    kind = text(content, "type")
    if kind == "input_file":
        raise BadRequest(400, "file inputs are not currently supported")
    url = text(content, "image_url") if kind == "input_image" else ""
    fault = image_fault(url) if url else ""
    if fault:
        raise BadRequest(400, fault)


def says_something(values: Mapping[str, Any]) -> bool:
    """False where the conversion leaves no message: the model is only loaded."""
    given = values.get("input")
    if values.get("instructions") or (isinstance(given, str) and given):
        return True
    return any(_kind(item) != "reasoning" or text(item, "encrypted_content") for item in _items(values))


def question(given: Any) -> Any:
    """The input as the messages of a chat, so that a health check is known in it; a text is a user's."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or len(given) != 1 or _kind(given[0]) != "message":
        return None
    contents = given[0].get("content")
    if isinstance(contents, list):
        texts = [{"type": "text", "text": part.get("text")} for part in contents if part.get("type") == "input_text"]
        contents = texts if len(texts) == len(contents) else None
    return [{"role": given[0].get("role"), "content": contents}]


def _items(values: Mapping[str, Any]) -> list[Any]:
    given = values.get("input")
    return given if isinstance(given, list) else []

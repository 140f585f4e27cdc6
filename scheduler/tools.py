"""The Go types of tools and of calls of them, as Ollama's native and OpenAI routes decode them.

From `api/types.go` of Ollama 0.32. Arguments and properties keep their order there, in a map that decodes itself.
"""

from typing import Any

from scheduler.gosyntax import NotJSON
from scheduler.gotypes import ANY, Check, Go, slice_of, struct

_STRING = Go("string", "string")
_STRINGS = slice_of(_STRING)
NO_OBJECT = "Value looks like object, but can't find closing '}' symbol"


def _arguments(value: Any, run: Check) -> None:
    if not isinstance(value, dict):
        raise NotJSON(NO_OBJECT)


def _properties(value: Any, run: Check) -> None:
    _arguments(value, run)
    for item in value.values():
        _within(item, _PROPERTY, run)


def _property_type(value: Any, run: Check) -> None:
    if not isinstance(value, str):
        _within(value, _STRINGS, run)


def _within(value: Any, go: Go, run: Check) -> None:
    """Decode by a second call of json.Unmarshal: its first mismatch ends the outer one too."""
    inner = Check(struct=run.struct, path=run.path, field=run.field, inner=True)
    inner.visit(value, go)
    if inner.saved:
        raise NotJSON(inner.saved)


ARGUMENTS = Go("api.ToolCallFunctionArguments", "any", own=_arguments)
_PROPERTIES = Go("api.ToolPropertiesMap", "any", own=_properties)
_PROPERTY = struct(
    "api.ToolProperty",
    type=Go("api.PropertyType", "any", own=_property_type),
    items=ANY,
    description=_STRING,
    enum=slice_of(ANY),
    properties=_PROPERTIES,
    required=_STRINGS,
)
TOOL = struct(
    "api.Tool",
    type=_STRING,
    items=ANY,
    function=struct(
        "api.ToolFunction",
        name=_STRING,
        description=_STRING,
        parameters=struct(
            "api.ToolFunctionParameters",
            type=_STRING,
            items=ANY,
            required=_STRINGS,
            properties=_PROPERTIES,
        ),
    ),
)
TOOL_CALL = struct(
    "api.ToolCall",
    id=_STRING,
    function=struct(
        "api.ToolCallFunction",
        index=Go("int", "int"),
        name=_STRING,
        arguments=ARGUMENTS,
    ),
)

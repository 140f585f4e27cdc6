"""Make `docs/status.schema.json` and `docs/status.md` from the shape itself: `python -m scheduler.status_docs`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from scheduler.status_schema import Status


def status_schema() -> dict[str, Any]:
    """The JSON schema of the answer."""
    schema = TypeAdapter(Status).json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_untitled(schema)}


def schema_text() -> str:
    """The whole of docs/status.schema.json."""
    return json.dumps(status_schema(), indent=2, ensure_ascii=False) + "\n"


_HEAD = """# GET /status

<!-- Made by `python -m scheduler.status_docs` from scheduler/status_schema.py; a test keeps them alike. -->

What the daemon is doing and why, as one JSON object ([schema](status.schema.json)). It is built from memory alone, so
it answers while a load runs and while Ollama hangs. Sizes are bytes, durations are seconds, times are ISO-8601 in UTC.
`ollama-scheduler status` shows the same to people. Every field is always there; later versions may add fields.
"""


def status_page() -> str:
    """The whole of docs/status.md."""
    schema = status_schema()
    parts = [_HEAD, _section("The answer", schema)]
    parts += [_section(name, definition) for name, definition in schema["$defs"].items()]
    return "\n".join(parts)


def _section(title: str, definition: dict[str, Any]) -> str:
    return f"## {title}\n\n" + "\n".join(_rows(definition)) + "\n"


def _rows(definition: dict[str, Any]) -> Iterator[str]:
    yield "| field | type | meaning |"
    yield "|---|---|---|"
    for name, field in definition["properties"].items():
        yield f"| `{name}` | {_kind(field)} | {field['description']} |"


def _kind(field: dict[str, Any]) -> str:
    """The type of a field, for people."""
    match field:
        case {"anyOf": options}:
            return " or ".join(map(_kind, options))
        case {"$ref": reference}:
            name = reference.rsplit("/", 1)[-1]
            return f"[{name}](#{name.lower()})"
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"type": "array", "items": items}:
            return f"list of {_kind(items)}"
        case {"type": "object", "additionalProperties": values}:
            return f"by name: {_kind(values)}"
        case {"type": kind}:
            return str(kind)
    raise ValueError(f"no words for {field}")


def _untitled(schema: Any) -> Any:
    """Without pydantic's titles, which say nothing that the names do not, and with each description on one line."""
    match schema:
        case dict():
            return {k: _untitled(v) for k, v in schema.items() if not (k == "title" and isinstance(v, str))}
        case list():
            return [_untitled(each) for each in schema]
        case str():
            return " ".join(schema.split())
    return schema


if __name__ == "__main__":
    docs = Path(__file__).parents[1] / "docs"
    (docs / "status.schema.json").write_text(schema_text(), encoding="utf-8")
    (docs / "status.md").write_text(status_page(), encoding="utf-8")

"""What a call that names a model without using it means: which installed model it would replace, what to show.

Aliases stand for a model where it is asked or shown; what changes the library takes names as they are, so that nobody
deletes a 35 GB model by one of its nicknames.
"""

import json
from typing import Any
from urllib.parse import quote, unquote

from scheduler import gotypes
from scheduler.demand import Body, Demand
from scheduler.errors import Refused
from scheduler.gojson import Field, sound
from scheduler.gosyntax import NotJSON
from scheduler.gotypes import Go
from scheduler.names import is_cloud, normal_name
from scheduler.paths import Route
from scheduler.routes import Aliases, name_fault

_NAMES = ("model", "name", "source", "destination")
_STRUCT = Go("api.Names", "struct", fields={name: Go("string", "string") for name in _NAMES})
_REPLACES = {
    "/api/delete": ("model", "name"),
    "/api/create": ("model", "name"),
    "/api/copy": ("destination",),
}
"""By path: the fields that name what a call overwrites or removes; the first that says something counts."""


def shown(route: Route, target: str, raw: bytes, aliases: Aliases) -> tuple[str, bytes]:
    """Target and body of a call that shows one model, with an alias put right. What is no alias stays as it is."""
    if route.path.startswith("/v1/models/"):
        path, mark, query = target.partition("?")
        name = unquote(path.removeprefix("/v1/models/"))
        model = _meant(name, aliases)
        return (target, raw) if model == name else (f"/v1/models/{quote(model, safe=':')}{mark}{query}", raw)
    fields = _fields(raw)
    values = gotypes.effective(fields, _STRUCT)
    name = _first(values, ("model", "name"))
    model = _meant(name, aliases)
    if model == name:
        return target, raw
    kept = [pair.pair for pair in fields if not gotypes.field_name(pair.name, ("model", "name"))]
    named = f'"model":{json.dumps(model, ensure_ascii=False)}'.encode()
    return target, b"{%b}" % b",".join([*kept, named])


def replacing(route: Route, method: str, target: str, raw: bytes, client: str) -> Demand | None:
    """The demand to hold until the model it names is out of memory; None for a call that replaces none by name."""
    values = gotypes.effective(_fields(raw), _STRUCT)
    name = _first(values, _REPLACES.get(route.path, ()))
    if not name or is_cloud(name) or name_fault(name):
        return None
    return Demand(
        method=method,
        path=target,
        dialect="library",
        alias=name,
        model=normal_name(name),
        kind="replace",
        cls="interactive",
        stream=route.path == "/api/create",
        body=Body(raw, b"", takes_context=False),
        client=client,
    )


def _fields(raw: bytes) -> list[Field]:
    """The body's keys; none where Ollama will find it bad."""
    try:
        return gotypes.read(raw, _STRUCT)
    except NotJSON:
        return []


def _first(values: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((sound(values[name]) for name in names if values.get(name)), "")


def _meant(name: str, aliases: Aliases) -> str:
    try:
        return aliases.resolve(name).model if name else name
    except Refused:  # a paid name is no model: Ollama says so
        return name

"""Decode a body's values into Go types as encoding/json does: what fits, what is kept, and the words for what does not.

The types of Ollama's own requests are in `scheduler.structs`. Messages are Go 1.26's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from scheduler.gojson import Field, Real, fold, read_body
from scheduler.gosyntax import NotJSON
from scheduler.images import base64_fault

_NONE: Mapping[str, Go] = MappingProxyType({})
_INTS = {
    "int": (-(2.0**63), 2.0**63),
    "int64": (-(2.0**63), 2.0**63),
    "int32": (-(2.0**31), 2.0**31),
    "uint8": (0, 256),
}
_FLOAT32 = 3.4028235677973366e38  # halfway from the largest float32 to what would be the next


@dataclass(frozen=True)
class Go:
    """One Go type. `name` is what Go prints, `own` its own UnmarshalJSON, whose error ends the decoding at once."""

    name: str
    kind: Literal["string", "bool", "int", "float", "any", "bytes", "slice", "map", "struct"]
    elem: Go | None = None
    fields: Mapping[str, Go] = field(default_factory=lambda: _NONE)
    own: Callable[[Any, Check], None] | None = None
    null: str | None = None  # the error of `own` for null; None: null is taken
    pointer: bool = False  # null forgets an earlier value, as it does for slices, maps and the like

    @property
    def keeps_null(self) -> bool:
        """True where null is a value of its own; into a plain string, bool or number it is no value at all."""
        return self.pointer or self.own is not None or self.kind in ("any", "slice", "map", "bytes")


ANY = Go("interface {}", "any")
_BYTE = Go("uint8", "int")


def slice_of(elem: Go) -> Go:
    """A Go slice."""
    return Go(f"[]{elem.name}", "slice", elem)


def struct(type_name: str, /, **fields: Go) -> Go:
    """A Go struct, by its name with its package and its fields as JSON calls them."""
    return Go(type_name, "struct", fields=MappingProxyType(fields))


@dataclass(slots=True)
class Check:
    """The decoding of one body: the first mismatch is kept, while decoding goes on, as Go does it."""

    saved: str | None = None
    struct: str = ""
    path: tuple[str, ...] = ()
    field: Field | None = None  # the one of the body that is under way
    inner: bool = False  # inside a type's own UnmarshalJSON: the outer struct is the one named

    def visit(self, value: Any, go: Go, top: bool = False) -> None:
        """Decode `value` into `go`. Raises NotJSON where a type's own UnmarshalJSON fails."""
        if value is None:
            if go.null:
                raise NotJSON(go.null)
            return
        if go.own:
            go.own(value, self)
            return
        match go.kind:
            case "slice":
                self._slice(value, go)
            case "struct":
                self._struct(value, go)
            case "map" | "any":
                self._any(value, go)
            case _:
                self._scalar(value, go, top)

    def mismatch(self, what: str, name: str) -> None:
        """Keep, if it is the first, that `what` does not go into the Go type `name`."""
        place = f"Go struct field {self.struct}.{'.'.join(self.path)}" if self.path else "Go value"
        self.saved = self.saved or f"json: cannot unmarshal {what} into {place} of type {name}"

    def _slice(self, value: Any, go: Go) -> None:
        if not isinstance(value, list):
            self.mismatch(word(value), go.name)
            return
        if go.elem:
            for item in value:
                self.visit(item, go.elem)

    def _struct(self, value: Any, go: Go) -> None:
        if not isinstance(value, dict):
            self.mismatch(word(value), go.name)
            return
        struct, path = self.struct, self.path
        if not self.inner:
            self.struct = "" if go.name.startswith("struct ") else go.name.rpartition(".")[2]
        for key, item in value.items():
            name = field_name(key, go.fields)
            if name:
                self.path = (*path, name)
                self.visit(item, go.fields[name])
        self.struct, self.path = struct, path

    def _any(self, value: Any, go: Go) -> None:
        """A value of any shape holds float64 numbers, and one that is none is a mismatch."""
        if go.kind == "map" and not isinstance(value, dict):
            self.mismatch(word(value), go.name)
        elif isinstance(value, dict):
            for item in value.values():
                self._any(item, ANY)
        elif isinstance(value, list):
            for item in value:
                self._any(item, ANY)
        elif isinstance(value, float) and math.isinf(value):
            self.mismatch(f"number {_out_of_range(self.field)}", "float64")

    def _scalar(self, value: Any, go: Go, top: bool) -> None:
        if isinstance(value, bool):
            fits = go.kind == "bool"
        elif isinstance(value, str):
            fits = go.kind in ("string", "bytes")
        elif isinstance(value, float) and go.kind in ("int", "float"):
            self._number(value, go, top)
            return
        elif go.kind == "bytes" and isinstance(value, list):
            for item in value:
                self.visit(item, _BYTE)
            return
        else:
            fits = False
        if isinstance(value, str) and go.kind == "bytes" and (at := base64_fault(value)) is not None:
            self.saved = self.saved or f"illegal base64 data at input byte {at}"
        if not fits:
            self.mismatch(word(value), go.name)

    def _number(self, value: float, go: Go, top: bool) -> None:
        if go.kind == "float":
            fits = math.isfinite(value) and (go.name != "float32" or abs(value) <= _FLOAT32)
        else:
            least, limit = _INTS[go.name]
            fits = not isinstance(value, Real) and least <= value < limit
        if not fits:
            whole = not isinstance(value, Real) and math.isfinite(value)
            written = f"{value:.0f}" if whole else f"{value:g}"  # how an inner number was written is not kept
            self.mismatch(f"number {self.field.text if top and self.field else written}", go.name)


_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def _out_of_range(field: Field | None) -> str:
    """The first number in a field's text that no float64 holds, as it was written."""
    numbers = _NUMBER.findall(field.text) if field else []
    return next((number for number in numbers if math.isinf(float(number))), "out of range")


def word(value: Any) -> str:
    """What Go calls a JSON value of this kind in its messages."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, float):
        return "number"
    return "array" if isinstance(value, list) else "object"


def unmarshal(value: Any, go: Go) -> None:
    """Decode one value on its own, as a type's own UnmarshalJSON does inside. Raises NotJSON with Go's message."""
    run = Check()
    run.visit(value, go)
    if run.saved:
        raise NotJSON(run.saved)


def member(value: Any, name: str) -> Any:
    """The field `name` of an object that Go decodes into a struct: by folded key, the last one wins."""
    if not isinstance(value, dict):
        return None
    return next((value[key] for key in reversed(value) if key == name or fold(key) == name), None)


def text(value: Any, name: str) -> str:
    """A field of an object that is a plain string in Go: null leaves it what it was."""
    if not isinstance(value, dict):
        return ""
    told = (value[key] for key in reversed(value) if key == name or fold(key) == name)
    return next((item for item in told if item is not None), "")


def read(raw: bytes, into: Go) -> list[Field]:
    """The keys of a body that decodes into the request struct `into`. Raises NotJSON with Go's message."""
    try:
        fields = read_body(raw, into.name)
        check(fields, into)
    except RecursionError:
        fields = read_body(raw, into.name, deep=True)
        check(fields, into)
    return fields


def check(fields: list[Field], into: Go) -> None:
    """Decode a body's keys into the request struct `into`. Raises NotJSON with Go's message where it does not fit."""
    run = Check(struct=into.name.rpartition(".")[2])
    for pair in fields:
        name = field_name(pair.name, into.fields)
        if name:
            run.path, run.field = (name,), pair
            run.visit(pair.value, into.fields[name], top=True)
    if run.saved:
        raise NotJSON(run.saved)


def effective(fields: list[Field], into: Go) -> dict[str, Any]:
    """What the request struct holds once decoded, by field name: the last one wins, null as Go takes it."""
    values: dict[str, Any] = {}
    for pair in fields:
        name = field_name(pair.name, into.fields)
        if name and (pair.value is not None or into.fields[name].keeps_null):
            values[name] = pair.value
    return values


def field_name(key: str, names: Container[str]) -> str:
    """The one of `names` that a key of the body goes to, "" for none: its own, or the one that it folds to."""
    if key in names:
        return key
    folded = fold(key)
    return folded if folded in names else ""

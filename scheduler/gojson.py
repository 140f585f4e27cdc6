"""Read a JSON object as Go's encoding/json reads it into a struct, keeping each value's own text.

Ollama decodes with gin's `ShouldBindJSON`: a `json.Decoder` reads the first value and leaves what follows it alone;
keys find their field whatever their case (Go's simple folding) and the last one wins. Text is kept as it was written,
so that what goes upstream is the client's own, number for number, wherever we decided nothing.
"""

import json
import re
from typing import Any, NamedTuple, NoReturn

from scheduler.gosyntax import NotJSON, value_kind

_SPACE = re.compile(r"[ \t\n\r]*")
_KEY = re.compile(r'"([^"\\\x00-\x1f]*)"[ \t\n\r]*:[ \t\n\r]*')  # one without an escape, and its colon
_AFTER = re.compile(r"[ \t\n\r]*([,}])[ \t\n\r]*")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Real(float):
    """A number written with a point or an exponent: Go refuses it where a whole number belongs."""


class Source(NamedTuple):
    """A body as text and, where each character of it is one byte, as the bytes it came in: those need no copy."""

    text: str
    raw: bytes | None = None

    def cut(self, begin: int, end: int) -> bytes | memoryview:
        """The bytes of one stretch of the text."""
        if self.raw is None:
            return self.text[begin:end].encode()
        return memoryview(self.raw)[begin:end]


class Field(NamedTuple):
    """One key of an object. `text` is the value as it was written, `pair` the key with it.

    In `value` a whole number is a plain float and any other number a `Real`: both are read without a limit on digits,
    and one out of range is infinite. `name` has U+FFFD where Go would have put it.
    """

    name: str
    value: Any
    source: Source
    begin: int
    value_at: int
    end: int

    @property
    def text(self) -> str:
        return self.source.text[self.value_at : self.end]

    @property
    def text_bytes(self) -> bytes | memoryview:
        return self.source.cut(self.value_at, self.end)

    @property
    def pair(self) -> bytes | memoryview:
        return self.source.cut(self.begin, self.end)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_int=float, parse_float=Real, parse_constant=_no_constant)


def read_body(raw: bytes, into: str, *, deep: bool = False) -> list[Field]:
    """The keys of the object in a request's body, in order, none merged yet; a body of `null` has none.

    `into` is the Go type named in the error for another kind of value, such as "api.ChatRequest".
    Raises NotJSON, with the text "EOF" for a body without a value, and RecursionError for one nested deeper than the
    interpreter allows; Go takes 10,000 levels. `deep` takes them: what lies beyond level 64, deeper than any struct of
    Ollama's, is checked and kept as it was written, but read as empty.
    """
    text = raw.decode("utf-8", "replace")
    begin = _skip(text, 0)
    if not text.startswith("{", begin):
        kind = value_kind(raw)
        if kind == "null":
            return []
        raise NotJSON(f"json: cannot unmarshal {kind} into Go value of type {into}")
    source = Source(text, raw if raw.isascii() else None)
    try:
        if not deep:
            return _read_object(source, begin)
        value_kind(raw)
        return _read_object(source, begin, _shallow(text))
    except ValueError as error:
        value_kind(raw)  # says in Go's words what is wrong
        raise NotJSON(str(error)) from error


def read_object(text: str) -> list[Field]:
    """The keys of one object's own text (a `Field.text` that was read before)."""
    try:
        return _read_object(Source(text), _skip(text, 0))
    except RecursionError:
        return _read_object(Source(text), _skip(text, 0), _shallow(text))


_MARK = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_DEEPEST = 64


def _shallow(text: str) -> str:
    """`text`, which is JSON, with spaces in place of all that is nested too deep."""
    kept: list[str] = []
    depth = begin = 0
    for mark in _MARK.finditer(text):
        if mark[0] in ("[", "{"):
            depth += 1
            if depth == _DEEPEST:
                kept.append(text[begin : mark.end()])
                begin = mark.end()
        elif mark[0] in ("]", "}"):
            if depth == _DEEPEST:
                kept.append(" " * (mark.start() - begin))
                begin = mark.start()
            depth -= 1
            if not depth:
                break
    return "".join((*kept, text[begin:]))


def _read_object(source: Source, at: int, shallow: str | None = None) -> list[Field]:
    """The keys of the object that begins at `at`, read from `shallow` if given. Raises ValueError."""
    fields: list[Field] = []
    text = shallow or source.text
    at = _skip(text, at + 1)
    if text.startswith("}", at):
        return fields
    while True:
        begin = at
        if key := _KEY.match(text, at):
            name, value_at = key[1], key.end()
        else:
            name, value_at = _odd_key(text, at)
        value, at = _decoder.raw_decode(text, value_at)
        fields.append(Field(name, value, source, begin, value_at, at))
        after = _AFTER.match(text, at)
        if after is None:
            raise ValueError("neither a comma nor the end after a value")
        if after[1] == "}":
            return fields
        at = after.end()


def _odd_key(text: str, at: int) -> tuple[str, int]:
    """A key with an escape in it, or none at all, and where its value begins. Raises ValueError."""
    if not text.startswith('"', at):
        raise ValueError("a key does not begin with a quote")
    name, at = _decoder.raw_decode(text, at)
    at = _skip(text, at)
    if not text.startswith(":", at):
        raise ValueError("a key without a colon")
    return sound(name), _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def sound(text: str) -> str:
    """`text` with lone surrogates (from `\\ud800` and the like) replaced by U+FFFD, as Go's decoder does."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def fold(key: str) -> str:
    """`key` as Go compares it with a field's name: equal for two keys exactly when Go holds them for one.

    That is so for fields whose names are ASCII, as all of Ollama's are: beside A-Z only U+212A (Kelvin, a k) and
    U+017F (long s) fold to an ASCII letter.
    """
    if key.isascii():
        return key.lower()
    return key.replace("\u017f", "s").lower()  # which makes a k of U+212A, and an ASCII letter of nothing else

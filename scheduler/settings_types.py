"""The kinds of value a setting may hold: each checks what was typed and says what would have been right."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from policies import POLICIES
from scheduler.names import normal_name
from scheduler.units import (
    DURATION_ADVICE,
    SIZE_ADVICE,
    format_duration,
    format_size,
    parse_duration,
    parse_memory,
    parse_size,
)

NAME = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)  # RFC 9110, token
KEY = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|[0-9a-f]{16}", re.ASCII)
V = TypeVar("V")


class Wrong(ValueError):
    """A value that cannot stand; `problem` says what is wrong with it, `mend` what would be right. One that may be
    `secret` is not told."""

    def __init__(self, problem: str, mend: str, secret: bool = False) -> None:
        super().__init__(f"{problem}; {mend}")
        self.problem = problem
        self.mend = mend
        self.secret = secret


@dataclass(frozen=True)
class Kind:
    """What `docs/settings.md` calls this kind of value; pydantic passes it by."""

    words: str


def _size(value: object) -> int:
    size = parse_size(value)
    if size == 0:
        raise Wrong("is nothing at all", SIZE_ADVICE)
    return size


def _memory(value: object) -> int:
    _size(value)
    return parse_memory(value)


def _duration(value: object) -> float:
    seconds = parse_duration(value)
    if seconds == 0:
        raise Wrong("is no time at all", DURATION_ADVICE)
    return seconds


def _or_auto(parse: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: value if value == "auto" else parse(value)


def _or_never(value: object) -> object:
    return value if value == "never" else _duration(value)


def _policy(value: object) -> str:
    if not isinstance(value, str) or value not in POLICIES:
        raise Wrong("is not known here", f"write {' or '.join(map(repr, POLICIES))}")
    return value


def _count(value: object) -> int:
    """A whole number of at least one; text of digits too, because the environment has only text."""
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Wrong("is not a whole number", "write a whole number such as 1")
    if value < 1:
        raise Wrong("is too small", "write 1 or more")
    return value


def _listen(value: object) -> str:
    advice = 'write address and port, such as "127.0.0.1:11450" or "[::1]:11450"'
    if not isinstance(value, str):
        raise Wrong("is not an address", advice)
    url = _split(f"//{value.strip()}", advice)
    if not url.hostname or url.port is None or url.path or url.query or url.username is not None:
        raise Wrong("is not an address and port", advice)
    return url.netloc.lower()


def _upstream(value: object) -> str:
    advice = 'write it as "http://127.0.0.1:11434"'
    if not isinstance(value, str):
        raise Wrong("is not an address", advice)
    url = _split(value.strip(), advice)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise Wrong("does not begin with http:// or https:// and a host", advice)
    if url.path not in ("", "/") or url.query or url.fragment or url.username is not None:
        raise Wrong("holds more than a scheme, a host and a port", advice)
    return f"{url.scheme}://{url.netloc.lower()}"


def _split(text: str, advice: str) -> SplitResult:
    """urlsplit, but a port that is none (`:99999`, `:http`) is noticed here instead of where it is first read."""
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError as error:
        raise Wrong("is not an address that can be read", advice) from error
    return url


def _model(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Wrong("is not a model's name", 'write it as `ollama list` shows it, such as "qwen-fast:latest"')
    return normal_name(value)


def _name(value: object) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise Wrong("is not a name", "write letters, digits, and any of - _ . (no colon: models have that)")
    return value


def _pattern(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Wrong("is not a pattern", 'write text with * or ? for what may differ, such as "claude-3-*"')
    return value.strip()


def _endpoint(value: object) -> str:
    pattern = _pattern(value)
    if pattern[0] not in "/*":
        raise Wrong("is not a path", 'write it from the slash on, such as "/v1/embeddings" or "/api/*"')
    return pattern


def _header_name(value: object) -> str:
    if value != "" and not (isinstance(value, str) and HEADER.fullmatch(value)):
        raise Wrong("is not a header's name", 'write it without a value, such as "X-Class"; "" for none')
    return value


def _header_pattern(value: object) -> str:
    name, colon, pattern = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not HEADER.fullmatch(name.strip()) or (colon and not pattern.strip()):
        raise Wrong("is not a header", 'write "X-App" for one that is there, "X-App: nightly*" for one with a value')
    return f"{name.strip()}: {pattern.strip()}" if colon else name.strip()


def _key(value: object) -> str:
    if not isinstance(value, str) or not KEY.fullmatch(value):
        advice = 'write the 16 hexadecimal digits that /status shows for it, or "env:NAME" for a variable that holds it'
        raise Wrong("does not name an API key (what it says may be one, and is not shown)", advice, secret=True)
    return value


def _unique(key: Callable[[str], str], what: str) -> Callable[[Any], Any]:
    """Refuse a list that names a thing twice; `key` tells which spellings are one thing."""

    def check(value: Any) -> Any:
        seen: dict[str, str] = {}
        for item in value if isinstance(value, list | tuple) else ():
            if isinstance(item, str) and item:
                _once(seen, key(item), item, what)
        return value

    return check


def _keys(check: Callable[[object], str], what: str) -> Callable[[Any], Any]:
    """A table with each of its names checked and brought to its one spelling, or Wrong if two come to the same."""

    def rename(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        seen: dict[str, str] = {}
        renamed: dict[str, Any] = {}
        for typed, item in value.items():
            try:
                name = check(typed)
            except Wrong as wrong:
                raise Wrong(f"holds {typed!r}, which {wrong.problem}", wrong.mend) from None
            _once(seen, normal_name(name) if what == "alias" else name, typed, what)
            renamed[name] = item
        return renamed

    return rename


def _once(seen: dict[str, str], name: str, typed: str, what: str) -> None:
    if name in seen:
        same = f"{seen[name]!r} and {typed!r} are the same" if seen[name] != typed else f"{typed!r} stands there again"
        raise Wrong(f"has one {what} twice: {same}", "keep one of them")
    seen[name] = typed


def _alias(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Wrong("is not an alias", "write the name clients ask for")
    return value.strip()


_SIZE_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "examples": ["35GB", "32GiB"]}]}
_SIZE0_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "examples": ["64MB", "0"]}]}
_TIME_SCHEMA = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "examples": ["90s", "2m"]}]}
_TIME0_SCHEMA = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "examples": ["90s", "0"]}]}
_COUNT_SCHEMA = {"type": "integer", "minimum": 1}


def _text(form: Callable[[Any], str]) -> PlainSerializer:
    """Write it as a person would where text is asked for (JSON, `config show`); inside it stays a number."""
    return PlainSerializer(lambda value: value if isinstance(value, str) else form(value), when_used="json")


Size = Annotated[int, BeforeValidator(_size), _text(format_size), WithJsonSchema(_SIZE_SCHEMA), Kind("size")]
MemorySize = Annotated[int, BeforeValidator(_memory), _text(format_size), WithJsonSchema(_SIZE_SCHEMA), Kind("size")]
SizeOrNone = Annotated[
    int, BeforeValidator(parse_size), _text(format_size), WithJsonSchema(_SIZE0_SCHEMA), Kind("size, 0 for none")
]
SizeOrAuto = Annotated[
    int | Literal["auto"],
    BeforeValidator(_or_auto(_memory)),
    _text(format_size),
    WithJsonSchema(_SIZE_SCHEMA),
    Kind('size or "auto"'),
]
Duration = Annotated[
    float, BeforeValidator(_duration), _text(format_duration), WithJsonSchema(_TIME_SCHEMA), Kind("duration")
]
DurationOrNone = Annotated[
    float,
    BeforeValidator(parse_duration),
    _text(format_duration),
    WithJsonSchema(_TIME0_SCHEMA),
    Kind("duration, 0 for none"),
]
DurationOrAuto = Annotated[
    float | Literal["auto"],
    BeforeValidator(_or_auto(_duration)),
    _text(format_duration),
    WithJsonSchema(_TIME_SCHEMA),
    Kind('duration or "auto"'),
]
DurationOrNever = Annotated[
    float | Literal["never"],
    BeforeValidator(_or_never),
    _text(format_duration),
    WithJsonSchema(_TIME_SCHEMA),
    Kind('duration or "never"'),
]
Count = Annotated[int, BeforeValidator(_count), WithJsonSchema(_COUNT_SCHEMA), Kind("whole number from 1")]
Listen = Annotated[str, BeforeValidator(_listen), Kind("address:port")]
Upstream = Annotated[str, BeforeValidator(_upstream), Kind("http(s)://host:port")]
Model = Annotated[str, BeforeValidator(_model), Kind("model")]
Models = Annotated[tuple[Model, ...], BeforeValidator(_unique(normal_name, "model")), Kind("list of models")]
SetName = Annotated[str, BeforeValidator(_name), Kind("set")]
SetNames = Annotated[tuple[SetName, ...], BeforeValidator(_unique(str, "set")), Kind("list of sets")]
PolicyName = Annotated[
    str,
    BeforeValidator(_policy),
    WithJsonSchema({"enum": list(POLICIES), "type": "string"}),
    Kind(" or ".join(f'"{name}"' for name in POLICIES)),
]
PhaseName = Annotated[str, BeforeValidator(_name), Kind("phase")]
Pattern = Annotated[str, BeforeValidator(_pattern), Kind("pattern")]
Endpoint = Annotated[str, BeforeValidator(_endpoint), Kind("pattern of a path")]
HeaderName = Annotated[str, BeforeValidator(_header_name), Kind("header")]
HeaderPattern = Annotated[str, BeforeValidator(_header_pattern), Kind('header, or "header: pattern"')]
KeyName = Annotated[str, BeforeValidator(_key), Kind('hash, or "env:NAME"')]
Text = Annotated[str, Kind("text")]
Texts = Annotated[tuple[Text, ...], Kind("list of texts")]
Switch = Annotated[bool, Kind("true or false")]

# Tables whose names the user chooses. They cannot be changed once read, like everything else in the settings.
_FROZEN = (AfterValidator(MappingProxyType), PlainSerializer(dict))
ByModel = Annotated[Mapping[str, V], BeforeValidator(_keys(_model, "model")), *_FROZEN]
BySet = Annotated[Mapping[str, V], BeforeValidator(_keys(_name, "set")), *_FROZEN]
ByPhase = Annotated[Mapping[str, V], BeforeValidator(_keys(_name, "phase")), *_FROZEN]
ByAlias = Annotated[Mapping[str, V], BeforeValidator(_keys(_alias, "alias")), *_FROZEN]

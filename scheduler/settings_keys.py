"""Every key a configuration may hold, found by walking the settings: to know one, or to guess which was meant."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from scheduler.settings import Settings
from scheduler.settings_types import Kind

NAME = "NAME"  # stands in a path for a name that the user chooses
BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True)
class Key:
    """One key of the file."""

    path: tuple[str, ...]
    """From the top; NAME where the user chooses."""
    kind: str
    """What kind of value it takes, in words."""
    sentence: str
    default: object
    """As it would be written in the file; None where leaving it out means something else than a value."""
    required: bool
    about: str
    """The sentence of the table it stands in; empty where the table is only names."""
    many: bool = False
    """Whether the table stands in a list of such tables."""

    @property
    def in_environment(self) -> bool:
        """Whether a variable can set it: one value, and no name of the user's on the way to it."""
        return NAME not in self.path and "list" not in self.kind and not self.many


def dotted(path: Sequence[str | int]) -> str:
    """A path as TOML writes it, names quoted where they must be, with [n] for the n-th of a list (from 0)."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if BARE.fullmatch(part) else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
            text += f".{name}" if text else name
    return text


@functools.cache
def known_keys() -> tuple[Key, ...]:
    """All keys, in the order of the file."""
    return tuple(_walk(Settings, ()))


def _walk(section: type[BaseModel], path: tuple[str, ...], many: bool = False) -> Iterator[Key]:
    defaults = section.model_construct().model_dump(mode="json", by_alias=True)
    about = section.__doc__ or ""
    for name, field in section.model_fields.items():
        here = (*path, field.alias or name)
        sentence = " ".join((field.description or "").split())
        item = _item(field)
        below = _section(item or field.annotation)
        if (each := _each(field)) is not None:
            yield from _walk(each, here, many=True)
        elif below is not None:
            yield from _walk(below, here if item is None else (*here, NAME))
        elif item is not None:
            yield Key((*here, NAME), _kind(item, ()), sentence, None, False, "")
        else:
            kind = _kind(field.annotation, field.metadata)
            yield Key(here, kind, sentence, defaults.get(here[-1]), field.is_required(), about, many)


def _each(field: FieldInfo) -> type[BaseModel] | None:
    """The table that a list of tables holds; None for any other field."""
    return _section(get_args(field.annotation)[0]) if get_origin(field.annotation) is tuple else None


def _section(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _item(field: FieldInfo) -> Any:
    """What a table with names of the user's choice holds under each of them; None for any other field."""
    return get_args(field.annotation)[1] if get_origin(field.annotation) is get_origin(Mapping[str, Any]) else None


def _kind(annotation: Any, metadata: Sequence[Any]) -> str:
    for mark in metadata:
        if isinstance(mark, Kind):
            return mark.words
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0], annotation.__metadata__)
    return next((words for part in get_args(annotation) if (words := _kind(part, ()))), "")


def key_at(path: Sequence[str | int]) -> Key | None:
    """The key that stands at a path of real names, or None for a table and for what is unknown."""
    plain = [part for part in path if isinstance(part, str)]
    return next((key for key in known_keys() if _fits(key.path, plain) and len(key.path) == len(plain)), None)


def _fits(pattern: Sequence[str], path: Sequence[str]) -> bool:
    return all(known in (NAME, part) for known, part in zip(pattern, path, strict=False))


def nearest_key(path: Sequence[str]) -> str:
    """The known key or table that an unknown path most likely meant, dotted; never empty.

    A near neighbour in the same table wins, then the same word in another table, then the least unlike neighbour.
    """
    parent, word = tuple(path[:-1]), path[-1].lower()
    beside = sorted(
        {key.path[len(parent)] for key in known_keys() if len(key.path) > len(parent) and _fits(key.path, parent)}
    )
    close = difflib.get_close_matches(word, beside, n=1, cutoff=0.8)
    elsewhere = [key.path for key in known_keys() if key.path[-1] == word]
    if not close and elsewhere:
        return dotted(elsewhere[0])
    return dotted((*parent, difflib.get_close_matches(word, beside, n=1, cutoff=0.0)[0]))


def nearest_name(word: str, known: Sequence[str]) -> str:
    """Advice naming the nearest of the known names, or all there is to choose from if none is near."""
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f'the nearest known is "{close[0]}"'
    return f"known are {', '.join(known)}" if known else "none is defined"

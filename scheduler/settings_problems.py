"""What can be wrong with a configuration, said so that a person can mend it: thing, value, and what would be right."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from scheduler.settings_keys import dotted, key_at, nearest_key
from scheduler.settings_types import Wrong
from scheduler.units import UnitError

_LIST = 'write a list, such as ["one", "two"]'
# pydantic's own kinds of error (pydantic_core.list_all_errors) in our words; those not here keep pydantic's message.
_WORDS = {
    "model_type": ("is not a table", "write a [table] with keys below it"),
    "model_attributes_type": ("is not a table", "write a [table] with keys below it"),
    "mapping_type": ("is not a table", "write a [table] with names below it"),
    "dict_type": ("is not a table", "write a [table] with names below it"),
    "tuple_type": ("is not a list", _LIST),
    "string_type": ("is not text", "put it in quotes"),
    "bool_type": ("is neither true nor false", "write true or false, without quotes"),
    "bool_parsing": ("is neither true nor false", "write true or false"),
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where it stands, the value as typed ("" for none), why it cannot stand, what can."""

    where: str
    value: str
    problem: str
    mend: str

    def __str__(self) -> str:
        return f"{self.where}: {self.value} {self.problem}; {self.mend}".replace(":  ", ": ")


class SettingsError(Exception):
    """A configuration that cannot be used. Its text is plain lines, one for each problem, under the file's name."""

    def __init__(self, problems: Iterable[Problem], source: str = "the configuration") -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__("\n".join([f"{source} cannot be used:", *(f"  {problem}" for problem in self.problems)]))


def problems_of(error: ValidationError, variables: Mapping[tuple[str, ...], str]) -> list[Problem]:
    """Our words for what pydantic found. `variables` names the environment variable that set a path, if one did."""
    return [_problem(dict(each), variables) for each in error.errors(include_url=False)]


def _problem(found: dict[str, Any], variables: Mapping[tuple[str, ...], str]) -> Problem:
    path: tuple[str | int, ...] = found["loc"]
    where = variables.get(tuple(part for part in path if isinstance(part, str))) or dotted(path) or "the file"
    kind, reason = found["type"], found.get("ctx", {}).get("error")
    if kind == "extra_forbidden":
        nearest = nearest_key([part for part in path if isinstance(part, str)])
        return Problem(where, "", "there is no such setting", f"the nearest known is {nearest}")
    if kind == "missing":
        key = key_at(path)
        return Problem(where, "", "is missing", f"write it as {key.kind}" if key else "write it")
    if isinstance(reason, Wrong | UnitError):
        value = "" if isinstance(reason, Wrong) and reason.secret else typed(found["input"])
        return Problem(where, value, reason.problem, reason.mend)
    if kind == "literal_error":
        return Problem(where, typed(found["input"]), "is not known here", f"write {found['ctx']['expected']}")
    if kind == "tuple_type" and isinstance(found["input"], Mapping):
        return Problem(where, "", "is not a list", f"write [[{where}]] for each table of it")
    problem, mend = _WORDS.get(kind, (f"cannot be used ({found['msg']})", "see docs/settings.md"))
    return Problem(where, typed(found["input"]), problem, mend)


def typed(value: object) -> str:
    """A value as it was typed in TOML, near enough to recognise it; tables, which are long, not at all."""
    if isinstance(value, Mapping):
        return ""
    if isinstance(value, str | bool | int | list | tuple) or value is None:
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)

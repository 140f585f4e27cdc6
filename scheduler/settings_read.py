"""Read the settings, once: defaults, then the file, then the environment, each over the one before it.

How the file meets the defaults: a key it names counts, a key it does not name keeps its default. The four tables with
names in them (`models`, `sets`, `phases`, `aliases`) are taken whole, never mixed with the documented ones. A file that
brings its own `models` starts a routing table of its own: what else of the four it does not name is then empty, not
ours, since ours speaks of models it may not have. Without phases there is one, `normal`, that allows every set.
"""

from __future__ import annotations

import os
import re
import socket
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import psutil
from platformdirs import user_config_path
from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from scheduler.settings import Settings
from scheduler.settings_check import check, named_phases
from scheduler.settings_environment import (
    DELIMITER,
    PREFIX,
    config_path,
    environment_problems,
    missing_keys,
    overridden,
)
from scheduler.settings_keys import dotted
from scheduler.settings_problems import Problem, SettingsError, problems_of

LARGEST = 2**63 - 1  # whole number that TOML promises to hold; the longest cannot even be written for people again

# What each table of names speaks of: where the file brings one of those, ours would speak of what is not there.
_RESTS_ON = {"models": (), "sets": ("models",), "phases": ("models", "sets"), "aliases": ("models",)}


class _Reader(Settings, BaseSettings):
    """Settings with the environment laid over what the file gave."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter=DELIMITER)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


@dataclass(frozen=True)
class Read:
    """The settings in force and where they came from."""

    settings: Settings
    file: Path | None
    """The file that was read; None where there is none and the defaults hold."""
    origin: Mapping[str, str]
    """For each dotted key: "default", "file", or the environment variable that set it."""
    warnings: tuple[Problem, ...]
    """What works, but hardly as meant."""


def default_path() -> Path:
    """Where the configuration is looked for: the platform's folder for it."""
    return user_config_path("ollama-scheduler", appauthor=False) / "config.toml"


def read_settings(config: Path | None = None) -> Read:
    """Read and check everything. `config` (--config, or OLLAMA_SCHEDULER_CONFIG) must exist; the default file need not.

    Raises SettingsError with every problem found.
    """
    named = config or config_path(os.environ)
    path = named or (default_path() if default_path().is_file() else None)
    source = str(path) if path else "the configuration"
    given = parse(path) if path else {}
    alone = _validated(given, environment_problems(os.environ), source)
    variables = overridden(os.environ)
    try:
        settings: Settings = _Reader(**complete(given))
    except ValidationError as error:
        raise SettingsError(problems_of(error, variables), "the environment") from None
    wrong, warnings = check(settings, _own_addresses())
    if wrong:
        raise SettingsError(wrong, source)
    warnings += missing_keys(settings, os.environ)
    return Read(settings, path, _origins(settings, alone, variables), tuple(warnings))


def _own_addresses() -> set[str]:
    """What this machine is called: its names and the addresses of its interfaces, lower case, without a zone."""
    addresses = {each.address for found in psutil.net_if_addrs().values() for each in found}
    name = socket.gethostname().lower()
    return {name, f"{name}.local", *(address.partition("%")[0].lower() for address in addresses)}


def _validated(given: Mapping[str, Any], problems: list[Problem], source: str) -> Settings:
    """What the file says by itself: it is reported wrong even where the environment would cover the mistake."""
    try:
        Settings.model_validate(complete(given))
        alone = Settings.model_validate(given)
    except ValidationError as error:
        wrong = problems_of(error, {})
        said = {problem.where for problem in wrong}
        wrong += [problem for problem in named_phases(complete(given)) if problem.where not in said]
        raise SettingsError([*problems, *wrong], source) from None
    if problems:
        raise SettingsError(problems, "the environment")
    return alone


def settings_of(given: Mapping[str, Any]) -> Settings:
    """Settings from the content of a file, without looking at the environment. Raises SettingsError."""
    try:
        settings = Settings.model_validate(complete(given))
    except ValidationError as error:
        raise SettingsError(problems_of(error, {})) from None
    wrong, _ = check(settings)
    if wrong:
        raise SettingsError(wrong)
    return settings


def documented() -> dict[str, Any]:
    """The content of default.toml: what holds without a file."""
    return tomllib.loads(documented_text())


def documented_text() -> str:
    """default.toml as it stands, comments and all."""
    return files("scheduler").joinpath("default.toml").read_text("utf-8")


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """A file's content with the tables of names it leaves to us, by the rule at the head of this module."""
    ours = documented()
    data = dict(given)
    for table, grounds in _RESTS_ON.items():
        if table not in given and not any(ground in given for ground in grounds):
            data[table] = ours[table]
    if not data.get("phases") and isinstance(data.get("sets", {}), Mapping):
        data["phases"] = {"normal": {"sets": list(data.get("sets", {}))}}
    return data


def replaced(settings: Settings) -> dict[str, list[str]]:
    """What the documented tables of names have and these settings have not, by table: a table of one's own stands in
    the place of ours, whole."""
    gone = {
        table: [name for name in documented()[table] if name not in getattr(settings, table)] for table in _RESTS_ON
    }
    return {table: names for table, names in gone.items() if names}


def _origins(settings: Settings, alone: Settings, variables: Mapping[tuple[str, ...], str]) -> dict[str, str]:
    written = {path for path, _ in leaves(alone.model_dump(exclude_unset=True, by_alias=True))}
    origins = {}
    for path, _ in leaves(settings.model_dump(by_alias=True)):
        origins[dotted(path)] = variables.get(path) or ("file" if path in written else "default")
    return origins


def leaves(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value of nested tables with its path; an empty table is no value."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def parse(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises SettingsError naming the file and, for bad TOML, line and column."""
    try:
        text = path.read_bytes().decode("utf-8")
        content = tomllib.loads(text)
        problem = _too_large(content)
        if problem is None:
            return content
    except FileNotFoundError:
        problem = Problem("the file", "", "is not there", "name another, or write one with `init`")
    except OSError as error:
        problem = Problem("the file", "", f"cannot be read ({error.strerror})", "name a file you may read")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problem = Problem(f"line {line}", "", "is not UTF-8 text", "save the file as UTF-8")
    except tomllib.TOMLDecodeError as error:
        problem = _syntax(str(error), text)
    except RecursionError:
        problem = Problem("the file", "", "has lists or tables too deep within each other", "no setting is that deep")
    except ValueError:  # Python reads no whole number beyond some thousand digits
        problem = Problem("the file", "", "has a number of thousands of digits", f"write at most {LARGEST}")
    raise SettingsError([problem], str(path))


def _too_large(content: dict[str, Any]) -> Problem | None:
    """The first whole number that is larger than any setting's, wherever it stands."""
    tables: list[tuple[tuple[str, ...], Any]] = [((), content)]
    for path, value in tables:  # grows as it is walked: no depth is too much
        if isinstance(value, dict):
            tables += [((*path, name), each) for name, each in value.items()]
        elif isinstance(value, list):
            tables += [(path, each) for each in value]
        elif isinstance(value, int) and abs(value) > LARGEST:
            return Problem(dotted(path), "", "is too large a number", f"write at most {LARGEST}")
    return None


# Python's wording (tomllib has no codes before 3.14) for a name that stands twice; the rest of its words are plain.
_TWICE = re.compile(r"Cannot (overwrite a value|declare .* twice|mutate immutable|redefine)", re.IGNORECASE)
_PLACE = re.compile(r"^(.*) \(at line (\d+), column (\d+)\)$", re.DOTALL)


def _syntax(message: str, text: str) -> Problem:
    """Line, column and the line itself for a TOML error; "at end of document" is the last line."""
    lines = text.splitlines() or [""]
    found = _PLACE.match(message)
    reason = found[1] if found else message.replace(" (at end of document)", "")
    line, column = (int(found[2]), int(found[3])) if found else (len(lines), len(lines[-1]) + 1)
    where = f"line {line}, column {column}"
    shown = lines[min(line, len(lines)) - 1].strip()
    if _TWICE.search(reason):
        return Problem(where, shown, "gives a name twice", "keep one of the two")
    return Problem(
        where, shown, f"is not TOML: {reason[:1].lower()}{reason[1:]}", "text needs quotes, tables [brackets]"
    )

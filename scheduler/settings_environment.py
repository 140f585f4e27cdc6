"""Which environment variables override a setting, and what is wrong with those that only look as if they did."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from scheduler.settings import Settings
from scheduler.settings_keys import NAME, Key, dotted, known_keys
from scheduler.settings_problems import Problem, typed

PREFIX = "OLLAMA_SCHEDULER_"
DELIMITER = "__"

CONFIG_VARIABLE = "OLLAMA_SCHEDULER_CONFIG"
# Not settings, though they bear the prefix: the file to read (the same as --config), and two that the tests look at.
EXEMPT = (CONFIG_VARIABLE, "OLLAMA_SCHEDULER_TEST_CACHE", "OLLAMA_SCHEDULER_REQUIRE_REAL")


def variable_of(key: Key) -> str:
    """The variable that sets a key."""
    return PREFIX + DELIMITER.join(key.path).upper()


def config_path(environ: Mapping[str, str]) -> Path | None:
    """The file that OLLAMA_SCHEDULER_CONFIG names, if it names one."""
    named = environ.get(CONFIG_VARIABLE, "")
    return Path(named) if named else None


def overridden(environ: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """The path of each setting that the environment sets, with the variable that does."""
    known = {variable_of(key): key.path for key in known_keys() if key.in_environment}
    return {known[name.upper()]: name for name in environ if name.upper() in known}


def environment_problems(environ: Mapping[str, str]) -> list[Problem]:
    """Every variable with our prefix that sets nothing: misspelt, or for a key that a variable cannot set."""
    known = {variable_of(key) for key in known_keys() if key.in_environment}
    return [
        _problem(name, environ[name], sorted(known))
        for name in sorted(environ)
        if name.upper().startswith(PREFIX) and name.upper() not in known and name.upper() not in EXEMPT
    ]


def missing_keys(settings: Settings, environ: Mapping[str, str]) -> list[Problem]:
    """A warning for each rule whose API key is in no variable."""
    named = [(n, rule.key or "") for n, rule in enumerate(settings.classes.rules)]
    return [
        Problem(
            f"classes.rules[{n}].key",
            typed(key),
            "is not in the environment: the rule matches nothing",
            "set it where the daemon starts, or write the hash that /status shows",
        )
        for n, key in named
        if key.startswith("env:") and not environ.get(key.removeprefix("env:"))
    ]


def _problem(name: str, value: str, known: list[str]) -> Problem:
    path = name.upper()[len(PREFIX) :].lower().split(DELIMITER)
    keys = known_keys()
    if any(key.path[0] == path[0] and NAME in key.path for key in keys):
        mend = f"set [{path[0]}] in the configuration file"
        return Problem(name, typed(value), "cannot be set by environment: its names are keys in quotes", mend)
    listed = next((key for key in keys if list(key.path) == path or (key.many and list(key.path[:-1]) == path)), None)
    if listed is not None:
        mend = f"set {dotted(path)} in the configuration file"
        return Problem(name, typed(value), "cannot be set by environment: it is a list", mend)
    nearest = difflib.get_close_matches(name.upper(), [*known, *EXEMPT], n=1, cutoff=0.0)[0]
    return Problem(name, "", "there is no such setting", f"the nearest known is {nearest}")

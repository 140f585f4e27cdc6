"""Which class a request is of: what its client says, else the first rule that matches, else what its name has."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import cache

from scheduler.identity import Who
from scheduler.names import normal_name

CLASSES = ("interactive", "agent", "helper", "batch", "probe")
"""What a header or a rule may say. `probe` makes a health check of a request."""
_LATEST = ":latest"


@dataclass(frozen=True, slots=True)
class Asked:
    """What rules look at. `alias` is the model's name as the client said it, `model` what it leads to, `endpoint` the
    path without its query; `headers` fold case."""

    alias: str
    model: str
    endpoint: str
    headers: Mapping[str, str]
    who: Who


@dataclass(frozen=True, slots=True)
class Rule:
    """`cls` for whatever matches all that is given here ("" matches anything). Patterns have * and ?; those of names
    fold case, and `:latest` may be left out. `header` is "Name" (it is there) or "Name: pattern"; `key` is a keyed
    hash; `session` is a keyed hash, or a pattern for what the client calls itself."""

    cls: str
    alias: str = ""
    model: str = ""
    endpoint: str = ""
    header: str = ""
    key: str = ""
    session: str = ""

    def matches(self, asked: Asked) -> bool:
        """Whether everything it gives is so."""
        return (
            (not self.alias or _named(asked.alias, self.alias))
            and (not self.model or _named(asked.model, self.model))
            and (not self.endpoint or _like(asked.endpoint, self.endpoint))
            and (not self.header or _has(asked.headers, self.header))
            and (not self.key or asked.who.key == self.key)
            and (not self.session or self.session == asked.who.session or _like(asked.who.name, self.session))
        )


@dataclass(frozen=True, slots=True)
class Classes:
    """Every rule in order, and the header in which a client may say its class itself ("": none)."""

    header: str = "X-Ollama-Scheduler-Class"
    rules: tuple[Rule, ...] = ()

    def of(self, asked: Asked, otherwise: str) -> str:
        """The class of a request; `otherwise` is what its name has. A class that is none is as if it were not said."""
        said = asked.headers.get(self.header, "").strip().lower() if self.header else ""
        if said in CLASSES:
            return said
        return next((rule.cls for rule in self.rules if rule.matches(asked)), otherwise)


def _named(name: str, pattern: str) -> bool:
    name, pattern = normal_name(name).lower(), pattern.lower()
    return _like(name, pattern) or (name.endswith(_LATEST) and _like(name.removesuffix(_LATEST), pattern))


def _has(headers: Mapping[str, str], wanted: str) -> bool:
    name, colon, pattern = wanted.partition(":")
    value = headers.get(name.strip())
    return value is not None and (not colon or _like(value, pattern.strip()))


def _like(text: str, pattern: str) -> bool:
    return _compiled(pattern).match(text) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))

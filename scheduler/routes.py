"""The routing table: which model a name means. Ask `Aliases.resolve` before a name goes anywhere.

Plain values only; the composition root fills it from the settings.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from scheduler.errors import Refused
from scheduler.names import normal_name


@dataclass(frozen=True, slots=True)
class Target:
    """What a name means: `model` as it is to be said to Ollama, and the class of requests that come by that name."""

    model: str
    cls: str


class Aliases:
    """Every name that stands for another.

    `table`: alias -> (model or another alias, class or None). `paid`: names whose route is known and not configured;
    an alias of the same name in `table` wins. A name that is neither stands for itself. Names are compared as Ollama
    compares model names: case and `:latest` make no difference.
    """

    def __init__(
        self,
        table: Mapping[str, tuple[str, str | None]] | None = None,
        paid: Collection[str] = (),
        default_class: str = "interactive",
    ) -> None:
        self._table = {normal_name(alias): target for alias, target in (table or {}).items()}
        self._paid = frozenset(map(normal_name, paid))
        self._default = default_class

    @property
    def names(self) -> list[str]:
        """Every name that is known here, as `normal_name` writes it."""
        return sorted({*self._table, *self._paid})

    def resolve(self, name: str) -> Target:
        """Follow `name` to its model. A class given nearer to the client wins over one further down the chain.

        Raises Refused (503) for a paid name without a route and (500) for a loop, which the settings do not allow.
        """
        cls: str | None = None
        seen: set[str] = set()
        while (key := normal_name(name)) in self._table:
            if key in seen:
                raise Refused(500, f"alias {name!r} leads back to itself")
            seen.add(key)
            name, given = self._table[key]
            cls = cls or given
        if key in self._paid:
            raise Refused(503, f"paid route not configured: {name!r} is not a local model and no alias gives it one")
        return Target(name, cls or self._default)


# types/model/name.go, isValidPart: host, namespace, model, tag; only ASCII, each beginning with a letter, digit or _
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_SOURCE = re.compile(r"(?s)(.*):(?:[^:/]*-cloud|\s*cloud\s*|\s*local\s*)", re.IGNORECASE)


def name_fault(name: str) -> Literal["missing", "invalid", "conflict"] | None:
    """What keeps Ollama from taking `name` for a model's name at all, None if nothing does.

    internal/modelref: "conflict" is a name that asks for :local and :cloud both.
    """
    name = name.strip()
    if not name:
        return "missing"
    source = _SOURCE.fullmatch(name)
    if source and _SOURCE.fullmatch(source[1]):
        return "conflict"
    base = name
    if source:
        base = name[: -len("-cloud")] if name.lower().endswith("-cloud") else source[1]
    return None if _valid(base) else "invalid"


def _valid(name: str) -> bool:
    """types/model/name.go: ParseName and IsValid. A part that its separator promises must be there."""
    tag = "latest"
    if name.rfind(":") > name.rfind("/"):
        name, _, tag = name.rpartition(":")
    rest, slash, model = name.rpartition("/")
    if not (_PART.fullmatch(model) and _PART.fullmatch(tag)) or (slash and not rest):
        return False
    host, slash, namespace = rest.rpartition("/")
    if not rest:
        return True
    if not _NAMESPACE.fullmatch(namespace) or (slash and not host):
        return False
    return not host or bool(_HOST.fullmatch(host.partition("://")[2] or host.partition("://")[0]))

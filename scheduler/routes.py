"""The routing table: which model a name means. Ask `Aliases.resolve` before a name goes anywhere.

Plain values only; the composition root fills it from the settings.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

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

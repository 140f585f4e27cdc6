"""Follow aliases to the model that answers: the routing table as plain values, and the loops that make it none."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.names import normal_name
from scheduler.settings import PAID_ALIASES, Settings


@dataclass(frozen=True)
class Route:
    """Where a name leads: the model that answers, the class its requests get (None: the default), and if it is paid."""

    model: str
    class_: str | None
    paid: bool = False


def routes(settings: Settings) -> dict[str, Route]:
    """Every alias by its normal name, chains followed to the end; the first class met on the way counts.

    Look names up with `normal_name`. A name that is not in it is a model's own name.
    """
    table = {normal_name(name): Route(normal_name(name), None, paid=True) for name in PAID_ALIASES}
    aliases = _by_normal_name(settings)
    for start in aliases:
        class_, name = None, start
        for _ in range(len(aliases)):
            if name not in aliases:
                break
            _, name, own = aliases[name]
            class_ = class_ or own
        paid = name in table and table[name].paid
        table[start] = Route(name, class_, paid)
    return table


def alias_loops(settings: Settings) -> list[tuple[str, ...]]:
    """Each loop of aliases once, as the names one meets, beginning and ending with the same."""
    aliases = _by_normal_name(settings)
    loops: list[tuple[str, ...]] = []
    done: set[str] = set()
    for start in aliases:
        way: list[str] = []
        name = start
        while name in aliases and name not in done:
            done.add(name)
            way.append(name)
            name = aliases[name][1]
        if name in way:
            loop = [*way[way.index(name) :], name]
            loops.append(tuple(aliases[each][0] for each in loop))
    return loops


def _by_normal_name(settings: Settings) -> dict[str, tuple[str, str, str | None]]:
    """Normal name -> (alias as written, normal name of its target, its class)."""
    return {normal_name(name): (name, alias.model, alias.class_) for name, alias in settings.aliases.items()}

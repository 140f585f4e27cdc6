"""One journal line as bytes and back: a snapshot of the core, or a fact with the orders it gave; exact both ways.

Pydantic writes and reads the dataclasses themselves, so a new field needs no line here; a float comes back to the bit.
"""

import json
from dataclasses import dataclass, fields
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from scheduler.core import messages as m
from scheduler.core.state import CoreState

FORMAT = 1  # of the file; raised when an old reader could misread it


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a file begins with: everything needed to replay it alone. `state` holds the settings the core got."""

    format: int
    version: str  # of the daemon that wrote it
    wall: str  # ISO-8601 UTC at `monotonic`
    monotonic: float  # seconds
    state: CoreState


@dataclass(frozen=True, slots=True)
class Step:
    """One fact and the orders it gave; None where the core broke its law on it and gave none."""

    fact: m.Fact
    orders: list[m.Order] | None


class Unreadable(Exception):
    """A line that is no journal line of this format."""


FACTS: dict[str, type[m.Fact]] = {cls.__name__: cls for cls in get_args(m.Fact)}
ORDERS: dict[str, type[m.Order]] = {cls.__name__: cls for cls in get_args(m.Order)}


class _Adapters(dict[type[Any], TypeAdapter[Any]]):
    """What writes and reads each class, made when first asked for: all of them at once would slow every start."""

    def __missing__(self, cls: type[Any]) -> TypeAdapter[Any]:
        self[cls] = adapter = TypeAdapter[Any](cls)
        return adapter


_ADAPTERS = _Adapters()


def _tagged(message: m.Fact | m.Order) -> bytes:
    cls = type(message)
    return b'{"type":"%b",%b' % (cls.__name__.encode(), _ADAPTERS[cls].dump_json(message)[1:])


def step_line(fact: m.Fact, orders: list[m.Order] | None) -> bytes:
    """The line of one step. Raises ValueError where a text in it cannot be written as UTF-8."""
    if orders is None:
        return b'{"fact":%b,"orders":null}\n' % _tagged(fact)
    return b'{"fact":%b,"orders":[%b]}\n' % (_tagged(fact), b",".join(map(_tagged, orders)))


def snapshot_line(snapshot: Snapshot) -> bytes:
    """The line a file begins with. Raises ValueError where a text in it cannot be written as UTF-8."""
    return b'{"snapshot":%b}\n' % _ADAPTERS[Snapshot].dump_json(snapshot)


def copy_of(state: CoreState) -> CoreState:
    """A state that shares nothing with `state`: as if it had been read back from a journal."""
    adapter = _ADAPTERS[CoreState]
    copied: CoreState = adapter.validate_json(adapter.dump_json(state), strict=True)
    return copied


def read_snapshot(line: bytes) -> Snapshot:
    """The snapshot that `line` holds. Raises Unreadable."""
    content = _content(line).get("snapshot")
    if not isinstance(content, dict):
        raise Unreadable("no snapshot: a journal file begins with one")
    if content.get("format") != FORMAT:
        raise Unreadable(f"format {content.get('format')!r}: this reads format {FORMAT}")
    snapshot: Snapshot = _validated(Snapshot, content)
    return snapshot


def read_step(line: bytes) -> Step:
    """The step that `line` holds. Raises Unreadable."""
    content = _content(line)
    if "fact" not in content or "orders" not in content:
        raise Unreadable("no fact with its orders")
    orders = content["orders"]
    if orders is not None and not isinstance(orders, list):
        raise Unreadable("orders are a list, or null")
    fact: m.Fact = _message(content["fact"], FACTS, "fact")
    return Step(fact, None if orders is None else [_message(order, ORDERS, "order") for order in orders])


def _content(line: bytes) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise Unreadable(f"not JSON: {error}") from None
    if not isinstance(content, dict):
        raise Unreadable("not an object")
    return content


def _message(content: Any, known: dict[str, type[Any]], what: str) -> Any:
    if not isinstance(content, dict):
        raise Unreadable(f"a {what} is an object")
    name = content.pop("type", None)
    cls = known.get(name)
    if cls is None:
        raise Unreadable(f"unknown {what} {name!r}")
    unknown = content.keys() - {field.name for field in fields(cls)}
    if unknown:
        raise Unreadable(f"{name} has no {', '.join(sorted(unknown))}")
    return _validated(cls, content)


def _validated(cls: type[Any], content: dict[str, Any]) -> Any:
    try:
        return _ADAPTERS[cls].validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Unreadable(f"{cls.__name__}.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None

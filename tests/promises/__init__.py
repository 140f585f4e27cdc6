"""The promises of docs/design.md as watchers of the virtual world: each sees every step and raises Broken.

They reckon from the truth (what really is in memory, who was really answered) and from the core's state, never from
its code: the arithmetic of gates and bounds is written out here a second time.
"""

from collections.abc import Sequence

from tests.promises.answers import P3, P5, Order
from tests.promises.bound import Bound
from tests.promises.leaving import P6, P9, Home
from tests.promises.persons import Persons
from tests.promises.promise import Promise
from tests.promises.replay import P7, Wakes
from tests.promises.safety import P1, P2, P8, Phases
from tests.promises.unasked import Idle, Quiet, Short
from tests.promises.use import Use
from tests.world_model import World
from tests.world_script import play

__all__ = ("PROMISES", "Promise", "proved", "watchers")

PROMISES: tuple[type[Promise], ...] = (
    P1, P2, P3, Order, Bound, P5, P6, P7, P8, P9, Wakes, Phases, Home, Use, Persons, Short, Idle, Quiet
)  # fmt: skip


def watchers(policy: str) -> list[Promise]:
    """A watcher of each promise."""
    return [promise() for promise in PROMISES]


def proved(policy: str, script: bytes, seed: int, watching: Sequence[Promise]) -> World:
    """A whole run under the eyes of `watching`; raises Broken where a promise breaks."""
    world = play(policy, script, seed, watching)
    for promise in watching:
        promise.ended(world)
    return world

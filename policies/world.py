"""What a policy may look at: models, their queues, residency sets, memory and the time; read-only, never a copy.

The core owns every value behind these protocols and keeps the aggregates as facts arrive, so that the cost of a
decision does not grow with the number of requests waiting. Memory is bytes, time is monotonic seconds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

T = TypeVar("T")

State = Literal["absent", "loading", "ready", "draining", "leaving"]

CLASSES = ("interactive", "agent", "helper", "batch")
"""Classes of requests that wait, highest first. A probe never waits, so it is none of them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to have a model in memory: who leaves, and what is loaded, in order."""

    leave: tuple[str, ...]
    load: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Requests that came within a moment of each other: when the first did (monotonic seconds; below zero: in an
    earlier life of the daemon), and what was asked for, with what a second of waiting for it costs."""

    at: float
    weights: Mapping[str, float]
    session: str = ""  # of whom it is waited for most; empty: not known
    seq: int = 0  # the request that is waited for most
    expected: str = ""  # the model that was expected before it came; empty: none

    @property
    def names(self) -> frozenset[str]:
        """What was asked for."""
        return frozenset(self.weights)

    @property
    def top(self) -> str:
        """What is waited for most."""
        return max(self.weights, key=self.weights.__getitem__)


class Waiting(Protocol):
    """One waiting request."""

    @property
    def id(self) -> str: ...
    @property
    def seq(self) -> int: ...  # order of arrival, unique
    @property
    def model(self) -> str: ...
    @property
    def cls(self) -> str: ...
    @property
    def arrived(self) -> float: ...


class Model(Protocol):
    """One model as a policy sees it."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> State: ...
    @property
    def usable(self) -> bool: ...  # ready, right context, not stalled or to be replaced: it may take requests
    @property
    def replacing(self) -> bool: ...  # being deleted or overwritten: neither served nor loaded until that has ended
    @property
    def pinned(self) -> bool: ...  # a person keeps it in memory
    @property
    def keep(self) -> bool: ...  # declared to stay beside whatever fits
    @property
    def sent_away(self) -> bool: ...  # a person unloaded it: it comes back for a request, not by itself
    @property
    def wrong_context(self) -> bool: ...  # resident with another context than we would load it with
    @property
    def installed(self) -> bool: ...
    @property
    def size(self) -> int: ...  # bytes we promise for it
    @property
    def held(self) -> int: ...  # bytes booked for it now; 0 while absent
    @property
    def free_after(self) -> int: ...  # bytes of the device that were free once it was loaded
    @property
    def predicted(self) -> int: ...  # bytes Ollama's own preflight expects of it
    @property
    def parallel(self) -> int: ...
    @property
    def running(self) -> int: ...  # slots taken, probes and abandoned requests included
    @property
    def serving(self) -> int: ...  # slots taken by requests that somebody waits for: only these are demand (P5)
    @property
    def since(self) -> float: ...  # when its present state began
    @property
    def away_since(self) -> float: ...  # when it was last seen to leave memory (or became known)
    @property
    def last_used(self) -> float: ...  # end or start of its last request
    @property
    def waiting(self) -> int: ...  # requests waiting, wishes left out
    @property
    def anonymous(self) -> int: ...  # of those waiting, how many are of no known session
    @property
    def weight(self) -> float: ...  # what a second costs all its requests that wait, by class
    @property
    def wishes(self) -> int: ...  # preloads waiting: demand without patience
    @property
    def not_before(self) -> float: ...  # no load is tried before this time (pause after a failed load)
    @property
    def stays_until(self) -> float: ...  # no unload is tried before this time (pause after one that failed)
    @property
    def load_seconds(self) -> float: ...
    @property
    def unload_seconds(self) -> float: ...
    @property
    def service_seconds(self) -> float: ...  # mean time a request keeps its slot

    @property
    def stay_seconds(self) -> float: ...  # mean time it stays once it is loaded, until it leaves for another

    @property
    def reprompt(self) -> float: ...  # seconds of prompt reading that its warm caches save those likely to come back

    def tally(self) -> Iterable[tuple[str, int, float]]:
        """Of each class that waits: its name, how many requests, and when they arrived on average."""
        ...

    def heads(self) -> Iterable[Waiting]:
        """The oldest waiting request of each class, highest class first."""
        ...


class Transition(Protocol):
    """The change of residency under way; there is at most one."""

    @property
    def leave(self) -> Sequence[str]: ...
    @property
    def load(self) -> Sequence[str]: ...
    @property
    def began(self) -> float: ...


class World(Protocol):
    """Everything a policy may know."""

    @property
    def at(self) -> float: ...
    @property
    def healthy(self) -> bool: ...  # Ollama answers and what is resident is known
    @property
    def budget(self) -> int: ...
    @property
    def promised(self) -> int: ...  # bytes loading + resident + leaving + orphans + unreachable
    @property
    def orphans(self) -> int: ...  # bytes that runners without a parent still hold
    @property
    def unreachable(self) -> Mapping[str, int]: ...  # bytes of runners that no name leads to; Ollama counts them too
    @property
    def device(self) -> int: ...  # bytes Ollama sees as GPU memory
    @property
    def stale_free(self) -> bool: ...  # Ollama's idea of what is free can be as old as any resident
    @property
    def max_loaded(self) -> int: ...
    @property
    def models(self) -> Mapping[str, Model]: ...
    @property
    def present(self) -> Sequence[Model]: ...  # every model that is not absent
    @property
    def demanded(self) -> Sequence[Model]: ...  # every model with requests or wishes waiting
    @property
    def transition(self) -> Transition | None: ...
    @property
    def sets(self) -> Mapping[str, tuple[str, ...]]: ...  # sets allowed in this phase, by name
    @property
    def home(self) -> tuple[str, ...]: ...  # the models of this phase's home set, or none
    @property
    def kept(
        self,
    ) -> Sequence[Model]: ...  # models with `keep` that the phase allows, as they are declared
    @property
    def home_due(self) -> bool: ...  # the phase was entered, or home was left, in this life of the daemon
    @property
    def quiet(
        self,
    ) -> bool: ...  # nothing is to be loaded unasked: there is no home then, and nothing is kept by itself
    @property
    def heard(self) -> bool: ...  # in this life of the daemon somebody has asked for something
    @property
    def settle(self) -> float: ...
    @property
    def quiet_since(self) -> float: ...  # when the last request ended with none left running or waiting
    @property
    def patience(self) -> Mapping[str, float]: ...

    @property
    def groups(self) -> Sequence[Group]: ...  # the past, oldest first

    def idle_limit(self, model: Model) -> float | None:
        """Seconds without use after which `model` is unloaded; None for never."""
        ...

    def answered(self, group: Group) -> float | None:
        """When what `group` waited for most was answered; None: not yet, or it is not known any more."""
        ...

    @property
    def usual_weight(self) -> float: ...  # of all who wait, by class, on average lately

    def rides(self, model: Model) -> bool:
        """Whether a member of a set that nobody waits for is worth loading with the others."""
        ...

    def first(self, model: Model) -> Waiting | None:
        """The waiting request of `model` that the law of promise 4 lets run next."""
        ...

    def plan(self, model: Model) -> Plan | None:
        """How to bring `model` in with its set (`policies.fit.plan_for`), worked out once while nothing it depends on
        has changed; None if nothing would fit now."""
        ...

    def derived(self, work: Callable[["World"], T]) -> T:
        """What `work` makes of this world; done once while no model, queue's emptiness or slot has changed, so `work`
        must not read the time or how many wait."""
        ...

    def sets_of(self, model: str) -> Sequence[tuple[str, ...]]:
        """The allowed sets that hold `model`; a model in no set is a set of its own."""
        ...

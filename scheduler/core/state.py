"""Everything the core remembers: plain mutable records, owned by the machine alone, serialised whole into a journal."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from policies.verdict import Cause, Memo
from policies.world import CLASSES, Group, State
from scheduler.core.commands import Others
from scheduler.core.config import Config
from scheduler.core.messages import Kind, Listed, Pressure


@dataclass(slots=True)
class Pin:
    """`model` is kept in memory until `until` (monotonic seconds) because `owner` said so."""

    model: str
    until: float
    owner: str
    others: Others


@dataclass(slots=True)
class Pause:
    """Nobody is served since `since`, until `until` (None: until resumed), because `owner` said so."""

    since: float
    until: float | None
    owner: str
    others: Others


@dataclass(slots=True)
class Growing:
    """A larger budget that is not trusted yet: `budget` bytes are there since `since` (monotonic seconds), and `seen`
    bytes were there when memory was looked at last."""

    budget: int
    since: float
    seen: int = 0


@dataclass(slots=True)
class Request:
    """An accepted request, from arrival to its answer. `place` says where it is; it is in exactly one place."""

    id: str
    seq: int
    model: str
    cls: str
    kind: Kind
    arrived: float
    alias: str = ""
    dialect: str = ""
    client: str = ""
    session: str = ""
    body_bytes: int = 0
    place: Literal["waiting", "running", "recalled"] = "waiting"
    started: float | None = None  # forwarded at
    sent: int = 0  # times forwarded
    abandoned: bool = False  # its client left while it ran: its slot is taken until it has ended
    named: str = ""  # the full name it was asked by, where the model is kept under another
    cancelled: str = ""  # who ended it, until it has ended
    key: str = ""  # keyed hash of its API key
    cold: bool = False  # the first after its model was loaded: nothing of its prompt was cached


@dataclass(frozen=True, slots=True)
class Past:
    """One request of the past. Times are monotonic seconds, below zero where an earlier life of the daemon saw it;
    `service` is seconds in its slot, None while it is not over and where it was not answered."""

    at: float  # when it arrived
    model: str
    cls: str
    session: str = ""  # keyed hash of who asked
    ended_at: float | None = None
    service: float | None = None


@dataclass(frozen=True, slots=True)
class Warm:
    """A prompt with its answer in a runner's cache: tokens, and when it was used last (monotonic seconds)."""

    tokens: float
    at: float


@dataclass(slots=True)
class ModelState:
    """One model: its place in memory, its queue, and what was learned of it. Sizes in bytes, times in seconds."""

    name: str
    declared: int = 0
    parallel: int = 1
    installed: bool = False
    listed_size: int = 0
    kv_token: int = 0
    trained: int = 0
    modelfile_ctx: int = 0
    embedding: bool = False
    digest: str = ""
    blob: str = ""  # what its runner is started with
    same_as: str = ""  # another name of the same blob, under which both are kept: Ollama has one runner for them
    keep: bool = False  # declared to stay beside whatever fits
    pinned: bool = False
    sent_away: bool = False  # unloaded by a person: only a request, a load or a pin brings it back
    # what is reckoned with now: derived from the above and what was learned, kept here because it is read often
    size: int = 0
    predicted: int = 0
    load_seconds: float = 0.0
    unload_seconds: float = 1.0
    service_seconds: float = 10.0
    stay_seconds: float = 120.0
    # memory
    state: State = "absent"
    since: float = 0.0
    away_since: float = 0.0
    held: int = 0  # bytes booked while not absent
    free_after: int = 0  # bytes of the device that were free once it was loaded (or adopted)
    measured: int = 0  # largest size seen in /api/ps at `context`
    context: int = 0  # of the resident runner
    unaided: int = 0  # the context Ollama chose when we loaded it; 0: not known yet
    wrong_context: bool = False
    stalled: bool = False
    idle_engine_since: float | None = None
    short_since: float | None = None  # since when fewer of its slots work than requests are silent
    last_cut: float | None = None
    loaded_at: float | None = None
    left_because: str = ""
    load_because: str = ""
    abandoned_load: bool = False  # past its limit and told to end
    loads: int = 0
    # failures
    failures: int = 0
    last_error: str = ""
    not_before: float = 0.0
    kept_failures: int = 0  # unloads in a row that did not happen
    stays_until: float = 0.0  # no unload is tried before this time (pause after one that failed)
    # learned
    load_learned: float | None = None
    unload_learned: float | None = None
    service_learned: float | None = None
    first_byte_per_byte: float | None = None  # slowest known seconds to the first byte per prompt byte
    load_cold: float | None = None  # of loads from disk
    load_warm: float | None = None  # of loads from the page cache
    stay_learned: float | None = None  # from when it is loaded until it leaves for another
    load_believed: float | None = None  # what its first load from disk was believed to take
    token_bytes: float | None = None  # of a request's body for each token of its prompt
    read_seconds: float | None = None  # for each token of a prompt that nothing was cached of
    write_seconds: float | None = None  # for each token of an answer
    output_tokens: float | None = None  # of an answer
    warm: dict[str, Warm] = field(default_factory=dict)  # by session, or request where it is not known; oldest first
    fresh: bool = False  # nothing was read since it was loaded
    left_after: int | None = None  # bytes loaded in all when it left memory last
    # requests
    queues: dict[str, dict[str, Request]] = field(default_factory=lambda: {c: {} for c in CLASSES})
    waiting: int = 0  # requests in the queues
    anonymous: int = 0  # of them, those without a session
    weight: float = 0.0  # of them all, by class
    arrived_sums: dict[str, float] = field(default_factory=dict)  # by class: when those in its queue arrived, added up
    pulse: float = 0.0  # requests that came, each fading with the time since
    rides: bool = True  # worth loading with the others of its set, though nobody waits for it
    pulse_at: float = 0.0
    reprompt: float = 0.0  # seconds of prompt reading that its warm caches save those likely to come back
    preloads: dict[str, Request] = field(default_factory=dict)
    running_ids: dict[str, None] = field(default_factory=dict)
    unwanted: int = 0  # of those running: probes, and requests whose client left
    replacements: dict[str, Request] = field(default_factory=dict)  # what deletes or overwrites it, waiting or running
    replaced_at: float | None = None  # until what is installed has been read again
    last_used: float = 0.0

    @property
    def usable(self) -> bool:
        """Ready, with the right context, not stalled and not to be replaced: it may take requests."""
        return self.state == "ready" and not self.wrong_context and not self.stalled and not self.replacing

    @property
    def replacing(self) -> bool:
        """Somebody deletes it or overwrites it: until that has ended and what is installed has been read again, it is
        neither served nor loaded."""
        return bool(self.replacements) or self.replaced_at is not None

    @property
    def running(self) -> int:
        return len(self.running_ids)

    @property
    def serving(self) -> int:
        """Slots taken by requests that somebody waits for."""
        return len(self.running_ids) - self.unwanted

    @property
    def wishes(self) -> int:
        return len(self.preloads)

    def heads(self) -> Iterable[Request]:
        """The oldest waiting request of each class, highest class first."""
        return [next(iter(queue.values())) for queue in self.queues.values() if queue]

    def tally(self) -> Iterable[tuple[str, int, float]]:
        """Of each class that waits: its name, how many requests, and when they arrived on average."""
        return (
            (cls, len(queue), self.arrived_sums.get(cls, 0.0) / len(queue))
            for cls, queue in self.queues.items()
            if queue
        )

    def requests(self) -> Iterable[Request]:
        """Every waiting request, wishes left out, class by class."""
        return (request for queue in self.queues.values() for request in queue.values())


@dataclass(slots=True)
class TransitionState:
    """The change of residency under way. `leave` are the models not yet gone, `load` those not yet loaded, in order."""

    leave: list[str]
    load: list[str]
    because: str
    cause: Cause
    forced: bool
    began: float
    first_order: float | None = None  # when its first unload or load was ordered
    stage: Literal["draining", "unloading", "loading"] = "draining"
    planned: tuple[str, ...] = ()  # what it set out to load
    left: tuple[str, ...] = ()  # what it set out to unload


@dataclass(slots=True)
class CoreState:
    """The whole memory of the core."""

    config: Config
    at: float = 0.0
    seq: int = 0
    phase: str = "normal"
    models: dict[str, ModelState] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    listed: tuple[Listed, ...] | None = None  # None: never heard
    present: dict[str, None] = field(default_factory=dict)  # models that are not absent
    demanded: dict[str, None] = field(default_factory=dict)  # models somebody waits for
    revision: int = 0  # grows with every change that a plan depends on; what was derived from an older one is stale
    transition: TransitionState | None = None
    verdict: str = ""  # why nothing changes now, as the policy said it last
    memo: Memo = field(default_factory=Memo)
    ollama: Literal["unknown", "up", "down"] = "unknown"
    ollama_since: float = 0.0
    ollama_version: str = ""
    ollama_error: str = ""
    hung: bool = False  # it takes connections, and answers nothing
    restart_wanted: str = ""  # why Ollama is to be restarted as soon as what still answers is done
    restart_since: float = 0.0
    restarting: bool = False
    restarted_at: float | None = None  # when the last restart was ordered
    restart_error: str = ""  # why the last one was none
    restarts: int = 0
    stand_in: bool = False
    looking: bool = True  # what is resident must be read before anything is ordered
    look_since: float = 0.0  # a reading that was asked before this says nothing
    budget: int | None = None
    budget_source: str = ""
    whole: int = 0  # what the budget would be without pressure
    pressure: Pressure = "normal"
    growing: Growing | None = None
    pressed: bool = False  # the budget shrank below what is promised, and that has not been mended yet
    device: int = 0
    orphans: int = 0
    orphan_pids: tuple[int, ...] = ()
    quiet_since: float = 0.0
    home_due: bool = False
    stopping: bool = False
    pins: dict[str, Pin] = field(default_factory=dict)
    paused: Pause | None = None
    quiet: str = ""  # who said that nothing is loaded unasked; "": nobody
    passthrough: str = ""  # who let everything through; "": nobody
    strays: dict[str, None] = field(default_factory=dict)  # let through and still running
    asked: dict[str, str] = field(default_factory=dict)  # loads that a person waits for, by whom
    asked_out: dict[str, str] = field(default_factory=dict)  # unloads that a person waits for, by whom
    unreachable: dict[str, int] = field(default_factory=dict)  # bytes of runners whose name got another blob, by digest
    keep_alive_ignored: int = 0  # requests that came with a keep_alive
    wishes_refused: int = 0  # unload wishes of clients that were not followed
    wake_at: float | None = None
    healed: int = 0
    groups: list[Group] = field(default_factory=list)  # of requests that came within a moment, oldest first
    began: float = 0.0  # when this life began
    loaded_bytes: int = 0  # of all loads of ours, added up
    heard: bool = False  # in this life of the daemon somebody has asked for something
    weight: float = 0.0  # of all requests that wait, by class
    usual_weight: float = 0.0  # the same on average lately
    weighed_at: float = 0.0  # until when that is reckoned
    history: dict[int, Past] = field(default_factory=dict)  # by Request.seq, in that order; below 0: earlier lives

    @property
    def memory_is_short(self) -> bool:
        """Whether the budget is less than it would be without pressure, or a larger one is not trusted yet: the bound
        of promise 4 does not count that time."""
        return self.pressed or self.growing is not None or (self.budget or 0) < self.whole


def relink(state: CoreState) -> None:
    """A state read back holds each request twice; make them one again."""
    for model in state.models.values():
        for cls, queue in model.queues.items():
            model.queues[cls] = {i: state.requests[i] for i in queue}
        model.preloads = {i: state.requests[i] for i in model.preloads}
        model.replacements = {i: state.requests[i] for i in model.replacements}

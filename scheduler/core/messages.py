"""Every fact that may enter the core and every order that may leave it; frozen, plain values, no behaviour.

`at` is monotonic seconds and the only time the core knows. Memory is bytes. Orders about a request answer the client;
orders about a model change residency; `WakeAt` comes back as `Ticked`. Every order says `because`.
"""

from dataclasses import dataclass
from typing import Literal

from scheduler.core.commands import (
    Cancelled,
    LoadAsked,
    PassthroughSet,
    Paused,
    PhaseSet,
    Pinned,
    QuietSet,
    Resumed,
    UnloadAsked,
    Unpinned,
)
from scheduler.core.config import Config

Kind = Literal["request", "preload", "unload", "probe", "replace"]
"""`replace` deletes or overwrites a model by name: it is held until the model is out of memory."""
Pressure = Literal["normal", "warning", "critical"]
"""How short memory is, by the system's own word."""
Outcome = Literal["answered", "failed", "abandoned", "stalled", "canned", "cancelled", "pressure"]
"""How a request left its slot: answered whole; Ollama failed it; its client left; ended to heal a stalled runner;
a probe that got its canned success; ended by a person; ended because memory was critical."""


# --- facts: requests ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request was heard and understood. `model` is the full name Ollama knows it by, `alias` what the client said."""

    at: float
    id: str
    model: str
    kind: Kind = "request"
    cls: str = "interactive"
    alias: str = ""
    dialect: str = ""
    client: str = ""  # peer, as shown in /status
    session: str = ""  # keyed hash of who asks; "": nobody said, it may be anyone behind a proxy
    body_bytes: int = 0
    digest: str = ""  # keyed digest of the conversation; never its words
    keep_alive: bool = False  # it came with a keep_alive that is not followed
    key: str = ""  # keyed hash of the API key it came with


@dataclass(frozen=True, slots=True)
class Left:
    """The client of this request hung up, waiting or running."""

    at: float
    id: str


@dataclass(frozen=True, slots=True)
class Returned:
    """Forwarding this request ended before Ollama gave a byte and it can be sent again: it takes its place back."""

    at: float
    id: str
    error: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A forwarded request left its slot, however it went. Seconds count from the forwarding."""

    at: float
    id: str
    outcome: Outcome
    first_byte: float | None = None
    service: float = 0.0
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    status: int | None = None
    cut: bool = False  # we closed Ollama's answer before its end: the next first byte is watched more closely
    error: str = ""
    prompt_seconds: float | None = None  # as Ollama told them: to read what was not cached of the prompt
    output_seconds: float | None = None  # and to write the answer


# --- facts: models -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loaded:
    """A load we ordered is done and the model was seen in /api/ps."""

    at: float
    model: str
    size: int
    context: int
    took: float


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A load we ordered failed; what is resident is read again after it."""

    at: float
    model: str
    error: str
    took: float


@dataclass(frozen=True, slots=True)
class Unloaded:
    """An unload we ordered is done: /api/ps no longer shows the model."""

    at: float
    model: str
    took: float


@dataclass(frozen=True, slots=True)
class UnloadFailed:
    """An unload we ordered did not happen within its limit: the model is still there."""

    at: float
    model: str
    error: str


@dataclass(frozen=True, slots=True)
class Resident:
    """One row of /api/ps."""

    name: str
    size: int
    context: int
    vram: int = 0
    digest: str = ""
    dead: bool = False  # its runner's process is gone: Ollama would load it anew inside the next request


@dataclass(frozen=True, slots=True)
class Residents:
    """What /api/ps said; it was asked at `asked` (monotonic seconds), so later changes of ours outweigh it."""

    at: float
    asked: float
    models: tuple[Resident, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """One installed model: `size` from /api/tags, the f16 KV bytes of one token, the trained context and the
    Modelfile's num_ctx (0: not set), from /api/show. `blob` is what its runner is started with (weights and adapters):
    names of one blob have one runner."""

    name: str
    size: int
    kv_token: int = 0
    trained: int = 0
    num_ctx: int = 0
    digest: str = ""
    embedding: bool = False
    remote: bool = False
    blob: str = ""


@dataclass(frozen=True, slots=True)
class ModelsListed:
    """What is installed, whole; it was asked at `asked` (monotonic seconds; None: at `at`)."""

    at: float
    models: tuple[Listed, ...]
    asked: float | None = None


@dataclass(frozen=True, slots=True)
class EngineSeen:
    """The runner of `model` was looked at while requests of ours were outstanding. `busy` is None where it cannot be
    asked; `silent` is seconds since the last byte of any of them (or since the last was forwarded); `outstanding` is
    the largest body among them, in bytes."""

    at: float
    model: str
    busy: bool | None
    silent: float
    outstanding: int = 0
    working: int = 0  # slots of the engine that are at work
    quiet: tuple[str, ...] = ()  # requests that it has given no byte lately


# --- facts: the world --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OllamaUp:
    """Ollama answers."""

    at: float
    version: str
    stand_in: bool = False


@dataclass(frozen=True, slots=True)
class OllamaDown:
    """Ollama does not answer. `hung`: it takes connections, and says nothing."""

    at: float
    error: str
    hung: bool = False


@dataclass(frozen=True, slots=True)
class Restarted:
    """The restart of Ollama that we ordered is done, or `error` says why it is not."""

    at: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class MemorySeen:
    """The budget there is, where it is from, and the bytes that runners without a parent still hold. `whole` is what it
    would be without pressure (0: as `budget`); `configured`: a person set it, so that it holds at once either way and
    unloads nothing."""

    at: float
    budget: int
    source: str
    orphans: int = 0
    device: int = 0  # bytes Ollama sees as GPU memory; 0: as the budget
    orphan_pids: tuple[int, ...] = ()
    pressure: Pressure = "normal"
    whole: int = 0
    configured: bool = False


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The configuration changed."""

    at: float
    config: Config


@dataclass(frozen=True, slots=True)
class ClockGap:
    """The wall clock ran ahead of the monotonic one by this many seconds: the machine slept."""

    at: float
    gap: float


@dataclass(frozen=True, slots=True)
class Started:
    """The daemon began this life, with what an earlier one had learned already in the state."""

    at: float
    version: str


@dataclass(frozen=True, slots=True)
class Stopping:
    """The daemon was told to stop: nothing new is taken, nothing waiting is kept."""

    at: float


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed: the answer to `WakeAt`."""

    at: float


Fact = (
    Arrived
    | Left
    | Returned
    | Ended
    | Loaded
    | LoadFailed
    | Unloaded
    | UnloadFailed
    | Residents
    | ModelsListed
    | EngineSeen
    | OllamaUp
    | OllamaDown
    | Restarted
    | MemorySeen
    | PhaseSet
    | Pinned
    | Unpinned
    | LoadAsked
    | UnloadAsked
    | Paused
    | Resumed
    | Cancelled
    | PassthroughSet
    | QuietSet
    | Reloaded
    | ClockGap
    | Started
    | Stopping
    | Ticked
)


# --- orders: to a client -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Forward:
    """Send this request to Ollama now; its slot is taken. `context` is the num_ctx that native paths carry (0: none);
    where the path carries none it goes out under the name `name` ("": as it was asked for), since the one it was asked
    by would be loaded anew. A probe may be forwarded too; a wish only while everything passes through, as its client
    sent it."""

    id: str
    model: str
    context: int
    because: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer this waiting request with an error of its dialect. `retry_after` in seconds, None: no header."""

    id: str
    status: int
    message: str
    because: str
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class AnswerProbe:
    """Answer this probe with a canned success of its dialect, ending its forwarding if it has one."""

    id: str
    because: str


@dataclass(frozen=True, slots=True)
class AnswerWish:
    """Answer this prompt-less preload or unload as Ollama answers it; `granted` says whether it was followed."""

    id: str
    because: str
    granted: bool = True


@dataclass(frozen=True, slots=True)
class Recall:
    """Stop forwarding this request. Untouched, it comes back as `Returned`; with its head sent it is ended with its
    dialect's error and comes back as `Ended` with this `outcome`."""

    id: str
    because: str
    outcome: Outcome = "stalled"


# --- orders: to a model ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """Load this model, on a request of our own, with the context Ollama chooses unaided."""

    model: str
    because: str


@dataclass(frozen=True, slots=True)
class AbandonLoad:
    """The load has failed by its time limit: close it; it comes back as `LoadFailed`."""

    model: str
    because: str


@dataclass(frozen=True, slots=True)
class Unload:
    """Unload this model, which serves nobody."""

    model: str
    because: str


@dataclass(frozen=True, slots=True)
class Look:
    """Read what is resident now; it comes back as `Residents` or `OllamaDown`."""

    because: str


# --- orders: to what runs Ollama -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RestartOllama:
    """Have its service restart Ollama: something in it answers nobody, and unloading cannot mend it. Comes back as
    `Restarted`."""

    because: str


# --- orders: to ourselves ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """Something happened to a model that no order of ours caused or that changes a plan; kept in the ledger."""

    model: str
    what: str
    because: str


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Post `Ticked` at this time; replaces any earlier wish."""

    when: float


Order = (
    Forward
    | Refuse
    | AnswerProbe
    | AnswerWish
    | Recall
    | Load
    | AbandonLoad
    | Unload
    | Look
    | RestartOllama
    | Record
    | WakeAt
)

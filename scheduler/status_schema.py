"""The shape of `GET /status`, field by field; what the page and the schema in docs/ are made of."""

from typing import Literal

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # pydantic reads typing's only from Python 3.12 on

from scheduler.status_commanded import Configuration, Passthrough, Pause, Pin, RefusedWish, Scheduled
from scheduler.status_counted import Counters as Counters, Decision as Decision, Spans as Spans
from scheduler.status_learned import Learned

Verdict = Literal["ok", "busy", "changing", "paused", "degraded", "stuck", "passthrough"]
Stage = Literal["held", "loading", "prefill", "generating"]
SizeSource = Literal["declared", "measured", "listed", "unknown"]
Fit = Literal["fits", "too_large", "no_order", "unknown"]

_strict = with_config(ConfigDict(extra="forbid", use_attribute_docstrings=True))


@_strict
class Need(TypedDict):
    what: str
    """What is wrong, as a sentence."""
    since: str
    """When it began, ISO-8601 UTC."""
    type_this: str
    """A command that mends it or shows more; copy and paste it."""


@_strict
class Ollama(TypedDict):
    address: str
    """Where Ollama is, as configured."""
    version: str | None
    """What it said its version is; null until it has answered once."""
    state: Literal["unknown", "up", "down"]
    """Whether it answers: `unknown` before the first answer or failure."""
    since: str
    """Since when it is in this state, ISO-8601 UTC."""
    error: str
    """Why it does not answer; empty while it does."""
    stand_in: bool
    """True where this is our stand-in and no real Ollama."""
    reading: bool
    """True while what is resident is being read; nothing is ordered meanwhile."""


@_strict
class Memory(TypedDict):
    budget: int | None
    """Bytes that models may hold together; null until it is known."""
    whole: int | None
    """What it would be without memory pressure; null until it is known."""
    pressure: Literal["normal", "warning", "critical"]
    """How short memory is, by the system's own word; `normal` where it is not heeded."""
    growing: int | None
    """A larger budget, in bytes, that is seen and will be trusted once it has stayed; null where there is none."""
    source: str
    """Where the budget is from."""
    device: int | None
    """Bytes that Ollama sees as GPU memory, for its own gates; null until known."""
    promised: int
    """Bytes booked: loading, resident, leaving, and what orphans hold."""
    free: int | None
    """Budget less promised, in bytes; below zero where others took more than the budget."""
    orphans: int
    """Bytes held by runners whose Ollama is gone."""
    unreachable: int
    """Bytes held by runners whose name got another blob: only a restart of Ollama ends them."""
    models: dict[str, int]
    """Bytes booked for each model that is not absent, by name."""


@_strict
class Set(TypedDict):
    name: str
    """The set's name in the configuration."""
    models: list[str]
    """Its models."""
    allowed: bool
    """Whether the phase allows it."""
    size: int
    """Bytes that its models need together."""
    fit: Fit
    """`fits`; `too_large` for the budget; `no_order` where Ollama's own gates let its models in in no order;
    `unknown` until the budget is known."""


@_strict
class Phase(TypedDict):
    name: str
    """The phase in force."""
    home: str | None
    """The set that is loaded when nobody waits for another; null where the phase has none."""
    settle: float
    """Seconds a set must be drained and quiet before home comes back."""
    sets: list[Set]
    """Every set of the configuration."""


@_strict
class Model(TypedDict):
    name: str
    """The full name, as Ollama lists it."""
    state: Literal["absent", "loading", "ready", "draining", "leaving"]
    """Its place in memory."""
    since: str
    """Since when it is in this state, ISO-8601 UTC."""
    because: str
    """Why it was loaded (`adopted`: it was there already); empty while it is absent."""
    usable: bool
    """Whether it may take requests now."""
    keep: bool
    """Whether it is declared to stay beside whatever fits."""
    trouble: str
    """What is wrong with it: not installed, stalled, wrong context, its load failed; empty where nothing is."""
    size: int
    """Bytes we reckon with."""
    size_source: SizeSource
    """Where that number is from: the configuration, `/api/ps`, or `/api/tags` and the context."""
    predicted: int
    """Bytes that Ollama's own preflight expects of it."""
    context: int | None
    """Tokens of context of the resident runner; null while absent."""
    expected_context: int
    """Tokens of context that Ollama chooses unaided."""
    running: int
    """Requests in its slots."""
    parallel: int
    """Slots."""
    waiting: int
    """Requests that wait for it."""
    preloads: int
    """Wishes to load it that wait."""
    last_used: str | None
    """When a request last began or ended, ISO-8601 UTC; null for never."""
    left_at: str | None
    """When it left memory, ISO-8601 UTC; null while it is there and where it never was."""
    left_because: str
    """Why it last left; empty for never."""
    loads: int
    """Loads of ours since the daemon started."""
    load_seconds: float
    """Seconds a load is expected to take."""
    load_seconds_learned: bool
    """Whether that was measured, or is only reckoned from its size."""
    learned: Learned
    """What was learned of it."""
    retry_in: float | None
    """Seconds until a failed load is tried again; null where none is due."""


@_strict
class Transition(TypedDict):
    stage: Literal["draining", "unloading", "loading"]
    """What is under way."""
    cause: Literal["demand", "home", "repair", "asked", "pressure", "idle"]
    """What asked for it."""
    forced: bool
    """Whether somebody's patience was over."""
    leave: list[str]
    """Models it set out to unload."""
    load: list[str]
    """Models it set out to load, in order."""
    remaining: list[str]
    """Models of both that are not done yet."""
    began: str
    """When it was decided, ISO-8601 UTC."""
    elapsed: float
    """Seconds since then."""
    expected: list[float]
    """Seconds it should take in all, at least and at most; wide until loads were measured."""
    because: str
    """Why it was decided."""


@_strict
class Request(TypedDict):
    id: str
    """Our name for it, as in the log."""
    client: str
    """Who asked."""
    alias: str
    """The model as the client called it."""
    model: str
    """The model it gets."""
    dialect: str
    """The shape of its route."""
    kind: Literal["request", "preload", "probe", "replace"]
    """`preload` is a wish to load without a prompt, `probe` a health check, `replace` deletes or overwrites a model."""
    cls: str
    """Its class: `interactive`, `agent`, `helper`, `batch`."""
    session: str
    """Who asks, as a keyed hash; empty where nothing tells its client from others."""
    key: str
    """The API key it came with, as a keyed hash: what a rule of `classes.rules` names; empty for none."""
    stage: Stage
    """`held`: it waits; `loading`: it waits and its model is being loaded; `prefill`: Ollama reads its prompt;
    `generating`: its answer is coming."""
    prompt_done: int | None
    """Prompt tokens read so far; null where the engine cannot be asked."""
    prompt_total: int | None
    """Prompt tokens in all; null where the engine cannot be asked."""
    tokens: int
    """Pieces of the answer so far: about its tokens."""
    age: float
    """Seconds since it arrived."""
    running: float | None
    """Seconds since it was forwarded; null while it waits."""
    waits_for: str
    """What it waits for; empty while it runs."""
    client_left: bool
    """Whether its client hung up; its slot counts as taken until Ollama has ended."""


@_strict
class Status(TypedDict):
    verdict: Verdict
    """`ok`: nothing to do; `busy`: requests run or wait; `changing`: a transition is under way; `paused`: a person gave
    the memory back, nobody is served; `degraded`: it works, but something is wrong; `stuck`: nothing moves until
    somebody does something; `passthrough`: everything is forwarded unscheduled and most promises are suspended."""
    headline: str
    """The whole of it in one sentence."""
    needs_you: list[Need]
    """What a person has to do; empty where nothing is."""
    at: str
    """When this was said, ISO-8601 UTC."""
    version: str
    """Of the daemon."""
    started: str
    """When the daemon started, ISO-8601 UTC."""
    service: str
    """The job of launchd that runs the daemon, by its label; empty where a person or another program started it."""
    state_folder: str
    """Where journal, learned values and token are kept; commands find the token there."""
    ollama: Ollama
    """The Ollama behind us."""
    memory: Memory
    """The budget and what is promised of it."""
    phase: Phase
    """The phase in force and the sets."""
    models: list[Model]
    """Every model that is installed, configured, resident or asked for."""
    disk_factor: float
    """How many times what had been believed loads from disk take: a model that was never loaded is reckoned with that.
    1 until one was loaded, and near 1 while little was."""
    transition: Transition | None
    """The change of residency under way; null where there is none."""
    pins: list[Pin]
    """What a person keeps in memory; the first to end first."""
    paused: Pause | None
    """The pause in force; null where there is none."""
    quiet: str
    """Who said that nothing is loaded unasked for now; empty where nobody did."""
    scheduled: Scheduled | None
    """What the timetable changes next; null where nothing is scheduled."""
    passthrough: Passthrough | None
    """The escape hatch, if it is open; null where we schedule."""
    loads_asked: dict[str, str]
    """Loads that a person asked for and that have not happened yet: by model, who asked."""
    unloads_asked: dict[str, str]
    """Unloads that a person asked for and that have not happened yet: by model, who asked."""
    policy: str
    """How the next step is chosen: the policy in force."""
    because: str
    """Why nothing changes now, in the words of the policy; empty where it has nothing to say."""
    waiting: int
    """Requests that wait, preloads included."""
    running: int
    """Requests in a slot."""
    requests: list[Request]
    """Every running and waiting request, in order of arrival."""
    decisions: list[Decision]
    """The last 50 decisions, newest first."""
    counters: Spans
    """What happened lately."""
    healed: int
    """Stalled runners healed since the daemon started."""
    journal_lost: int
    """Steps the journal could not keep since the daemon started."""
    keep_alive_ignored: int
    """Requests whose `keep_alive` was not followed, since the daemon started."""
    wishes_refused: int
    """Wishes of clients to unload a model that were answered and not followed, since the daemon started."""
    refused_wishes: list[RefusedWish]
    """The last of them for each model, newest first; at most 20."""
    configuration: Configuration
    """Which configuration is in force."""
    warnings: list[str]
    """What is not as it should be and stops nothing."""

"""Every setting with its type, default and unit: the public contract of the configuration file.

Later versions add keys and never change the meaning of one. `scheduler.settings_read` reads them, once;
`docs/settings.md` and the file's JSON schema are made from the sentences below.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, model_validator

from scheduler.settings_classes import ClassesSettings, ClassName
from scheduler.settings_machine import MemorySettings, QuietSettings, ScheduleSettings, Section
from scheduler.settings_types import (
    ByAlias,
    ByModel,
    ByPhase,
    BySet,
    Count,
    Duration,
    DurationOrAuto,
    DurationOrNever,
    DurationOrNone,
    HeaderName,
    Kind,
    Listen,
    MemorySize,
    Model,
    Models,
    PhaseName,
    PolicyName,
    SetName,
    SetNames,
    Size,
    SizeOrAuto,
    SizeOrNone,
    Switch,
    Texts,
    Upstream,
)

# Known by name, but on a paid route that is not configured yet: never a local model, unless an alias says so.
PAID_ALIASES = ("claude-opus-4",)


class OllamaSettings(Section):
    """What you run Ollama itself with; the daemon cannot see its environment, so say it here."""

    num_parallel: Count = 1
    """Its OLLAMA_NUM_PARALLEL: requests it runs at once in one model."""

    max_loaded_models: Count = 3
    """Its OLLAMA_MAX_LOADED_MODELS: with as many loaded it evicts before it loads another."""

    device: SizeOrAuto = "auto"
    """What it sees as GPU memory, in bytes. "auto" is Metal's recommended working set, else the budget."""

    origins: Texts = ()
    """Its OLLAMA_ORIGINS: web origins it answers beside its own defaults."""

    reap_orphans: Switch = False
    """Whether the daemon may end runners that a killed Ollama left behind; otherwise it only counts their memory."""


class ModelSettings(Section):
    """One model, under its name as `ollama list` shows it."""

    size: MemorySize | None = None
    """What it takes in memory, in bytes. A larger reported or measured size counts instead, never a smaller one.
    Left out: the size that Ollama reports."""

    num_ctx: Count | None = None
    """The context you expect, in tokens. Ollama's own choice is used; a differing one is told at start and in /status.
    Left out: whatever Ollama chooses."""

    parallel: Count = 1
    """How many requests it is given at once; never above ollama_settings.num_parallel."""

    keep: Switch = False
    """Whether it shall always stay beside whatever fits: it leaves last, and comes back by itself where there is room.
    For a small model."""

    unload_after_idle: DurationOrNever | None = None
    """The same as memory.unload_after_idle, for this model alone. Left out: as it is there."""


class PhaseSettings(Section):
    """One phase: which sets may be loaded while it is in force."""

    sets: SetNames
    """The sets allowed in this phase. A model in no set is a set of its own and allowed in every phase."""

    home: SetName | None = None
    """The set loaded on entering the phase, and again when the others are drained and quiet; one of its sets."""

    settle: DurationOrNone = 30.0
    """How long, in seconds, the other set must be drained and quiet, in both directions."""


def _or_text(schema: dict[str, Any]) -> None:
    """Tell the JSON schema what `_bare_name` allows: the model alone, as text."""
    table = dict(schema)
    schema.clear()
    schema["anyOf"] = [{"type": "string"}, table]


class AliasSettings(Section):
    """One alias, under the name clients ask for; the bare model as text is the same as a table with only `model`."""

    model_config = ConfigDict(serialize_by_alias=True, json_schema_extra=_or_text)

    model: Model
    """The model (or another alias) that answers."""

    class_: ClassName | None = Field(default=None, alias="class")
    """The class of requests that come under this name. Left out: interactive."""

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value


class SessionSettings(Section):
    """Who asks. A session waits for its answer before it asks again, so it is known by what a client says of itself:
    `X-Claude-Code-Session-Id`, `metadata` (Anthropic's `user_id`), `user`, always together with its API key."""

    header: HeaderName = "X-Ollama-Scheduler-Session"
    """The header in which a client may name its session; "" for none."""

    by_key: Switch = False
    """Whether an API key alone is one client's. Not behind a proxy: it sends one key for everybody."""

    by_peer: Switch = False
    """Whether an address alone is one client's. Not with a proxy or several programs on one machine."""


class QueueSettings(Section):
    """Waiting requests: how many, how long, and where their bodies stay."""

    give_up: Duration = 3600.0
    """How long, in seconds, a request waits before it is refused with 503 and Retry-After."""

    ollama_wait: Duration = 60.0
    """The same, in seconds, while no Ollama answers."""

    limit: Count = 1000
    """How many requests may wait; beyond it Ollama's own 503 ("server busy") is given."""

    body_memory: SizeOrNone = 64_000_000
    """Bytes of waiting bodies kept in memory; what is beyond goes to unlinked files only you can read."""

    body_disk: SizeOrNone = 2_000_000_000
    """Bytes of waiting bodies kept in those files; beyond it requests are refused as over the limit."""


class LoadSettings(Section):
    """Loading a model."""

    limit: DurationOrAuto = "auto"
    """How long a load may take, in seconds, before it has failed.
    "auto" is the larger of 10 minutes and five times what loads of this model took before."""


class StallSettings(Section):
    """When a silent model counts as stalled, where its engine cannot be asked."""

    silence: Duration = 1800.0
    """Seconds without a byte, at least, before an answer counts as stalled."""

    after_cut: Duration = 60.0
    """The same, in seconds, for a model on which an answer was just cut off: that may have wedged it."""

    action: Annotated[Literal["report", "restart-ollama"], Kind('"report" or "restart-ollama"')] = "report"
    """What is done where unloading cannot mend it: `/status` tells, or Ollama's service is restarted, after what still
    answers is done. Only one whose service is known is restarted: see `service` and `restart_command`."""

    service: Annotated[str, Kind("text")] = ""
    """The service that runs Ollama: a label of launchd or a unit of systemd; "" for the usual ones (Homebrew's, the
    app's; ollama.service)."""

    restart_command: Texts = ()
    """The command that restarts Ollama, word by word, instead of a service that is looked for."""

    restart_every: Duration = 1800.0
    """Seconds between two restarts, at least."""

    restart_drain: Duration = 120.0
    """How long, in seconds, running answers get before a restart; then they are ended."""


class ProbeSettings(Section):
    """What counts as a health check: it never waits for a model and never loads one."""

    texts: Texts = ("Hey how's it going?", "What's 1 + 1?", "test from litellm")
    """Prompts that health checkers send, word for word."""


class JournalSettings(Section):
    """The record of every fact and order."""

    keep: Size = 1_000_000_000
    """Bytes of journal kept; the oldest files go first."""


class ControlSettings(Section):
    """Who may command the daemon, beside needing its token."""

    hosts: Texts = ()
    """Names of this machine under which commands may come from elsewhere, each with a port or with our own.
    Loopback, and the address in `listen`, are always taken."""


class SimulatedModel(Section):
    """One model in a simulation. What is left out is 18, 12 and 4 s of loading and 2, 4 and 4 requests at once for the
    documented models, and for others loading at 1 GB/s, 1 s of unloading and `models.NAME.parallel`."""

    load: Duration | None = None
    """How long loading it takes, in seconds."""

    unload: DurationOrNone | None = None
    """How long unloading it takes, in seconds."""

    parallel: Count | None = None
    """How many requests it serves at once."""


class SimulateSettings(Section):
    """What `simulate` and `whatif` reckon with; a running daemon measures instead."""

    models: ByModel[SimulatedModel] = Field(default_factory=dict)


class Settings(Section):
    """The whole configuration."""

    listen: Listen = "127.0.0.1:11450"
    """Where clients find us. Port 0 takes any free port."""

    ollama: Upstream = "http://127.0.0.1:11434"
    """Where Ollama is. OLLAMA_HOST is never read: clients use that to find us."""

    policy: PolicyName = "default"
    """How the next step is chosen: "fifo" is strict arrival order, as Ollama does it."""

    phase: PhaseName = "normal"
    """The phase to start in when no saved state says otherwise."""

    memory: MemorySettings = MemorySettings()
    ollama_settings: OllamaSettings = OllamaSettings()
    models: ByModel[ModelSettings] = Field(default_factory=dict)
    sets: BySet[Models] = Field(default_factory=dict)
    """Models that are loaded and kept together, by the set's name. A model may be in several sets, or in none."""

    schedule: tuple[ScheduleSettings, ...] = ()
    quiet: tuple[QuietSettings, ...] = ()
    phases: ByPhase[PhaseSettings] = Field(default_factory=dict)
    aliases: ByAlias[AliasSettings] = Field(default_factory=dict)
    classes: ClassesSettings = ClassesSettings()
    sessions: SessionSettings = SessionSettings()
    queue: QueueSettings = QueueSettings()
    load: LoadSettings = LoadSettings()
    stall: StallSettings = StallSettings()
    probes: ProbeSettings = ProbeSettings()
    journal: JournalSettings = JournalSettings()
    control: ControlSettings = ControlSettings()
    simulate: SimulateSettings = Field(default_factory=SimulateSettings)

    @property
    def listen_at(self) -> tuple[str, int]:
        """Host (an IPv6 one without brackets) and port to listen on."""
        place = urlsplit(f"//{self.listen}")
        return place.hostname or "", place.port or 0

    @property
    def ollama_at(self) -> tuple[str, int]:
        """Ollama's host (an IPv6 one without brackets) and port; without a port, the scheme's own."""
        place = urlsplit(self.ollama)
        return place.hostname or "", place.port or (443 if place.scheme == "https" else 80)

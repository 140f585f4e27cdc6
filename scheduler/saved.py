"""What outlives a restart: the phase, what was learned of each model, the last arrivals; one file, always whole."""

import logging
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from scheduler.core import rhythm, sizes
from scheduler.core.history import PAST
from scheduler.core.machine import Machine
from scheduler.core.state import CoreState, ModelState, Past, Warm

log = logging.getLogger(__name__)

FORMAT = 2
READ = (1, FORMAT)  # 1 had no history and no rates
KEY_BYTES = 32

Whole = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Wall = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned of one model; it belongs to the blob `digest`. Names, units and defaults as in ModelState."""

    digest: str = ""
    measured: Whole = 0
    unaided: Whole = 0
    load_learned: Seconds | None = None
    unload_learned: Seconds | None = None
    service_learned: Seconds | None = None
    first_byte_per_byte: Seconds | None = None
    load_cold: Seconds | None = None
    load_warm: Seconds | None = None
    load_believed: Seconds | None = None
    stay_learned: Seconds | None = None
    token_bytes: Seconds | None = None
    read_seconds: Seconds | None = None
    write_seconds: Seconds | None = None
    output_tokens: Seconds | None = None


class Arrival(NamedTuple):
    """One request that is over, as a row. Times are seconds since 1970, the rest is as in `core.state.Past`."""

    at: Wall
    model: str
    cls: str
    session: str
    ended_at: Wall
    service: Seconds | None


class WarmPrompt(NamedTuple):
    """A prompt in the cache of a resident runner, which outlives us: `at` in seconds since 1970."""

    session: str
    tokens: Seconds
    at: Wall


@dataclass(frozen=True, slots=True)
class Saved:
    """The whole file. An empty phase: none was saved."""

    format: int = FORMAT
    phase: str = ""
    models: dict[str, Learned] = field(default_factory=dict)
    history: list[Arrival] = field(default_factory=list)  # in order of arrival
    warm: dict[str, list[WarmPrompt]] = field(default_factory=dict)  # by model, oldest first


_NOTHING = Learned()
_FILE = TypeAdapter(Saved)


def load(path: Path) -> Saved:
    """What `path` holds; nothing where there is no file. A bad file is kept aside (`.bad`), told and ignored."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Saved()
    except OSError as error:
        log.warning("saved state %s cannot be read and is ignored: %s", path, error.strerror or error)
        return Saved()
    try:
        saved = _FILE.validate_json(content, strict=True)
        if saved.format not in READ:
            raise ValueError(f"its format is {saved.format}, not {FORMAT}")
    except ValueError as error:
        aside = path.with_name(path.name + ".bad")
        with suppress(OSError):
            path.replace(aside)
        log.warning("saved state %s is bad, ignored and kept as %s: %s", path, aside.name, _why(error))
        return Saved()
    return saved


def save(path: Path, state: CoreState, ahead: float) -> None:
    """Write what is to outlive a restart, as a file of mode 0600 that is whole at any moment. `ahead` is how many
    seconds the wall clock is ahead of the monotonic one. Raises OSError."""
    _write(path, _FILE.dump_json(saved_of(state, ahead)) + b"\n")


def _write(path: Path, content: bytes) -> None:
    """Put `content` in place of the file at once."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600 by its contract
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)  # no fsync: it would hold up the event loop, and a bad file costs little
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def saved_of(state: CoreState, ahead: float) -> Saved:
    """What of `state` is to outlive a restart; models that are no longer installed are forgotten.

    The configured phase is not kept: a changed configuration shall take effect. One that somebody entered is.
    """
    models = {
        model.name: learned
        for model in state.models.values()
        if (model.installed or state.listed is None) and (learned := _learned(model)) != _NOTHING
    }
    phase = state.phase if state.phase != state.config.phase else ""
    warm = {
        name: [
            WarmPrompt(session, known.tokens, known.at + ahead) for session, known in state.models[name].warm.items()
        ]
        for name in state.present
        if state.models[name].warm
    }
    return Saved(FORMAT, phase, models, list(_arrivals(state, ahead)), warm)


def apply(saved: Saved, fresh: Machine, ahead: float) -> Machine:
    """The machine that goes on with `saved`; `fresh` must not be used any more. `ahead` is how many seconds the wall
    clock is ahead of the monotonic one now.

    A phase the configuration no longer has is ignored. What belongs to a blob that has changed since is dropped by the
    core once it hears the models listed.
    """
    state = fresh.state
    if saved.phase in {phase.name for phase in state.config.phases}:
        state.phase = saved.phase
    for name, learned in saved.models.items():
        model = state.models.get(name)
        if model is None:
            model = ModelState(name, parallel=state.config.num_parallel, since=state.at, away_since=state.at)
            state.models[name] = model
        for each in fields(Learned):
            setattr(model, each.name, getattr(learned, each.name))
    sizes.refresh_all(state)  # what one has learned tells of the others, too
    for name, prompts in saved.warm.items():
        if name in saved.models:  # it counts if the model is still resident, as long as it is
            state.models[name].warm = {p.session: Warm(p.tokens, min(p.at - ahead, state.at)) for p in prompts}
    state.history = _history(saved.history[-PAST:], state.at, ahead)
    rhythm.recall(state)
    return Machine(state)  # what a machine keeps beside its state depends on the phase


def key(path: Path) -> bytes:
    """The secret that digests are keyed with, made at the first start and kept in `path` (0600), so that a conversation
    keeps its digest over restarts. Where it cannot be kept it lasts for this life of the daemon."""
    with suppress(OSError):
        known = path.read_bytes()
        if len(known) == KEY_BYTES:
            return known
    made = secrets.token_bytes(KEY_BYTES)
    keep_key(path, made)
    return made


def keep_key(path: Path, key: bytes) -> None:
    """Keep the secret; where that cannot be, it is told."""
    try:
        _write(path, key)
    except OSError as error:
        log.warning("the key %s cannot be kept: %s", path, error.strerror or error)


def _arrivals(state: CoreState, ahead: float) -> Iterator[Arrival]:
    for past in state.history.values():
        if past.ended_at is not None:
            yield Arrival(past.at + ahead, past.model, past.cls, past.session, past.ended_at + ahead, past.service)


def _history(rows: Sequence[Arrival], now: float, ahead: float) -> dict[int, Past]:
    """The rows on this life's monotonic clock. Where the wall clock was set back meanwhile, they end now."""
    ahead = max([ahead, *(row.ended_at - now for row in rows)])
    pasts = (Past(row.at - ahead, row.model, row.cls, row.session, row.ended_at - ahead, row.service) for row in rows)
    return dict(enumerate(pasts, -len(rows)))


def _learned(model: ModelState) -> Learned:
    known = Learned(**{each.name: getattr(model, each.name) for each in fields(Learned)})
    return _NOTHING if known == Learned(digest=model.digest) else known


def _why(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)

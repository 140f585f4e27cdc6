"""Reads journals into what was asked and what came of it: requests with their real services, loads, what was resident.

Nothing is replayed: the facts and orders say it all, so journals of an older daemon can be read as well. Times are
seconds since 1970 (the wall clock of each file's snapshot, moved on by its monotonic one and by every sleep).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from scheduler.core import messages as m
from scheduler.core.config import Config
from scheduler.core.state import CoreState, ModelState
from scheduler.journal_lines import Snapshot, Step, Unreadable, read_snapshot, read_step
from scheduler.names import normal_name
from scheduler.stays import SHOWN, Stays

ASKED = ("load asked for by ", "pinned by ")  # why the core loads what a person told it to


class BadJournal(Exception):
    """A journal that cannot be read; the message names file and line."""


@dataclass(slots=True)
class Asked:
    """One request: who wanted what, when, and when it was in a slot. `cls` is `probe` for health checks."""

    id: str
    model: str
    cls: str
    session: str
    arrived: float
    started: float | None = None
    ended: float = 0.0
    service: float = 0.0


@dataclass(frozen=True, slots=True)
class LoadSeen:
    """One load that was ordered at `at` and took `took` seconds; `size` bytes (0: it failed); `asked` by a person."""

    at: float
    model: str
    took: float
    size: int
    asked: bool = False


@dataclass(slots=True)
class Recorded:
    """What journals hold of a stretch of time."""

    begin: float
    end: float
    config: Config = field(default_factory=Config)
    phase: str = ""
    budget: int = 0
    device: int = 0  # bytes that Ollama saw as GPU memory
    models: dict[str, ModelState] = field(default_factory=dict)  # as the last snapshot knew them
    resident: tuple[str, ...] = ()  # when it began
    served: list[Asked] = field(default_factory=list)
    loads: list[LoadSeen] = field(default_factory=list)
    unloads: list[tuple[str, float]] = field(default_factory=list)  # model, seconds
    budgets: list[tuple[float, int, int]] = field(default_factory=list)  # from when, bytes, bytes of Ollama's device
    phases: list[tuple[float, str]] = field(default_factory=list)  # from when
    stays: Stays = field(default_factory=Stays)
    refused: int = 0
    hung_up: int = 0  # before they were served
    cut_off: int = 0  # by an end of the daemon
    commands: int = 0  # pins, pauses, loads, unloads of a person


def first_moment(file: Path) -> float:
    """When the journal `file` begins. Raises BadJournal."""
    return _wall(_snapshot(file))


def read(files: Sequence[Path], begin: float, end: float) -> Recorded:
    """What arrived from `begin` until before `end`, from journal files in any order; it begins with the first request.
    Raises BadJournal."""
    begins = sorted((first_moment(file), file) for file in files)
    reading = _Reading(begin, end)
    for number, (starts, file) in enumerate(begins):
        over = number + 1 < len(begins) and begins[number + 1][0] <= begin
        if starts < end and not over:
            reading.file(file)
    return reading.done()


def _snapshot(file: Path) -> Snapshot:
    try:
        with file.open("rb") as lines:
            return read_snapshot(lines.readline())
    except OSError as error:
        raise BadJournal(f"{file}: {error.strerror or error}") from None
    except Unreadable as error:
        raise BadJournal(f"{file}:1: {error}") from None


def _wall(snapshot: Snapshot) -> float:
    return datetime.fromisoformat(snapshot.wall).timestamp()


class _Reading:
    """Goes through the files in order of time."""

    def __init__(self, begin: float, end: float) -> None:
        self._found = Recorded(begin, end)
        self._open: dict[str, Asked] = {}
        self._ordered: dict[str, tuple[float, bool]] = {}  # loads under way: since when, and whether a person asked
        self._offset = 0.0  # wall less monotonic seconds
        self._same: dict[str, str] = {}  # names of one blob
        self._began = False
        self._last = 0.0  # what was read last happened then

    def file(self, file: Path) -> None:
        """Take in one file."""
        self._take(_snapshot(file))
        for number, line in _lines(file):
            if b'"orders":[]' in line and _idle(line):
                continue
            try:
                step = read_step(line)
            except Unreadable as error:
                raise BadJournal(f"{file}:{number}: {error}") from None
            self._step(step)

    def done(self) -> Recorded:
        """Everything found; what is under way at the end is nobody's."""
        self._found.end = min(self._found.end, self._last)
        self._found.stays.close(self._found.end)
        return self._found

    def _take(self, snapshot: Snapshot) -> None:
        found, state = self._found, snapshot.state
        self._offset = _wall(snapshot) - snapshot.monotonic
        self._same = {name: model.same_as for name, model in state.models.items() if model.same_as}
        kept = {i: request for i, request in state.requests.items() if request.kind in ("request", "probe")}
        found.cut_off += sum(self._within(asked.arrived) for i, asked in self._open.items() if i not in kept)
        self._open = {i: self._open.get(i) or self._known(state, i) for i in kept}
        now = snapshot.monotonic + self._offset
        for name, model in state.models.items():
            found.stays.change(name, SHOWN.get(model.state, model.state), now)
        if not self._began:
            found.config = state.config
        found.models = state.models
        self._budget(now, state.budget or 0, state.device)
        self._phase(now, state.phase)

    def _known(self, state: CoreState, ident: str) -> Asked:
        """A request that had arrived before the first file."""
        request = state.requests[ident]
        started = None if request.started is None else request.started + self._offset
        cls = "probe" if request.kind == "probe" else request.cls
        return Asked(ident, self._name(request.model), cls, request.session, request.arrived + self._offset, started)

    def _step(self, step: Step) -> None:
        now = self._last = step.fact.at + self._offset
        if isinstance(step.fact, m.Arrived) and step.fact.kind == "request" and now >= self._found.begin:
            self._start(now)
        self._fact(step.fact, now)
        for order in step.orders or ():
            self._order(order, now)

    def _start(self, now: float) -> None:
        """The first request: what is resident now was there when the stretch began."""
        if not self._began:
            self._began = True
            self._found.begin = now
            self._found.resident = tuple(self._found.stays.now("resident"))

    def _fact(self, fact: m.Fact, now: float) -> None:  # noqa: C901 - one arm per fact, each a call
        stays = self._found.stays
        match fact:
            case m.Arrived(kind="request" | "probe"):
                cls = "probe" if fact.kind == "probe" else fact.cls
                self._open[fact.id] = Asked(fact.id, self._name(fact.model), cls, fact.session, now)
            case m.Ended():
                self._ended(fact, now)
            case m.Left():
                self._left(fact)
            case m.Returned() if fact.id in self._open:
                self._open[fact.id].started = None
            case m.Loaded():
                self._loaded(fact.model, now, fact.took, fact.size, "resident")
            case m.LoadFailed():
                self._loaded(fact.model, now, fact.took, 0, "absent")
            case m.Unloaded():
                stays.change(self._name(fact.model), "absent", now)
                if self._within(now):
                    self._found.unloads.append((self._name(fact.model), fact.took))
            case m.UnloadFailed():
                stays.change(self._name(fact.model), "resident", now)
            case m.Residents():
                self._residents(fact, now)
            case m.MemorySeen():
                self._budget(now, fact.budget, fact.device)
            case m.PhaseSet():
                self._phase(now, fact.phase)
            case m.ClockGap():
                self._offset += fact.gap
            case m.Pinned() | m.Paused() | m.LoadAsked() | m.UnloadAsked() | m.PassthroughSet() | m.Cancelled():
                self._found.commands += self._within(now)
            case _:
                pass

    def _order(self, order: m.Order, now: float) -> None:
        match order:
            case m.Forward() if order.id in self._open:
                self._open[order.id].started = now
            case m.Refuse() if asked := self._open.pop(order.id, None):
                self._found.refused += self._within(asked.arrived)
            case m.AnswerProbe() if (asked := self._open.get(order.id)) and asked.started is None:
                asked.started = now
                self._over(asked, now, 0.0)
            case m.Load():
                self._ordered[self._name(order.model)] = now, order.because.startswith(ASKED)
                self._found.stays.change(self._name(order.model), "loading", now)
            case m.Unload():
                self._found.stays.change(self._name(order.model), "leaving", now)
            case _:
                pass

    def _ended(self, fact: m.Ended, now: float) -> None:
        asked = self._open.get(fact.id)
        if asked is not None and asked.started is not None:
            self._over(asked, now, fact.service or now - asked.started)

    def _over(self, asked: Asked, now: float, service: float) -> None:
        del self._open[asked.id]
        asked.ended, asked.service = now, service
        if self._within(asked.arrived):
            self._found.served.append(asked)

    def _left(self, fact: m.Left) -> None:
        asked = self._open.get(fact.id)
        if asked is not None and asked.started is None:
            del self._open[fact.id]
            self._found.hung_up += self._within(asked.arrived)

    def _loaded(self, model: str, now: float, took: float, size: int, becomes: str) -> None:
        name = self._name(model)
        self._found.stays.change(name, becomes, now)
        at, asked = self._ordered.pop(name, (now - took, False))
        if self._within(at):
            self._found.loads.append(LoadSeen(at, name, took, size, asked))

    def _residents(self, fact: m.Residents, now: float) -> None:
        """What was adopted or has vanished; a load or an unload of ours that is under way is told by its own facts."""
        stays = self._found.stays
        seen = [self._name(row.name) for row in fact.models]
        here = stays.now("resident", "loading", "leaving")
        for name in [name for name in seen if name not in here]:
            stays.change(name, "resident", now)
        for name in [name for name in stays.now("resident") if name not in seen]:
            stays.change(name, "absent", now)

    def _budget(self, now: float, budget: int, device: int) -> None:
        found = self._found
        if budget and (not found.budgets or found.budgets[-1][1:] != (budget, device)):
            found.budgets.append((now, budget, device))
            if not self._began or not found.budget:  # a daemon takes requests before it knows its memory
                found.budget, found.device = budget, device or budget

    def _phase(self, now: float, phase: str) -> None:
        if not self._found.phases or self._found.phases[-1][1] != phase:
            self._found.phases.append((now, phase))
            if not self._began:
                self._found.phase = phase

    def _within(self, moment: float) -> bool:
        return self._found.begin <= moment < self._found.end

    def _name(self, name: str) -> str:
        name = normal_name(name)
        return self._same.get(name, name)


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Whole lines behind the snapshot, with their numbers; a last one that was never finished is left out."""
    try:
        with file.open("rb") as lines:
            next(lines, None)
            for number, line in enumerate(lines, 2):
                if line.endswith(b"\n"):
                    yield number, line
    except OSError as error:
        raise BadJournal(f"{file}: {error.strerror or error}") from None


_NOTHING = (b'{"fact":{"type":"Ticked"', b'{"fact":{"type":"EngineSeen"', b'{"fact":{"type":"ModelsListed"')


def _idle(line: bytes) -> bool:
    """Whether a line without orders says nothing that is looked for here."""
    return line.startswith(_NOTHING)

"""The ledger: what facts and orders add up to, the last decisions, and one log line for each order; constant work each.

Every number of `/status` that looks back is from here, so that log, status and journal tell one story.
"""

import json
import logging
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from scheduler.core import messages as m

log = logging.getLogger(__name__)

WORTH_TELLING = 1.0  # seconds a request waited before its forwarding is a line of the log; the journal has them all

DECISIONS = 50  # of the last ones are kept
PROBES_EVERY = 60.0  # seconds between log lines about probes
PLAIN = re.compile(r"[^\s\"=\\]+")  # a log value that needs no quotes


@dataclass(slots=True)
class Counts:
    """What happened within some time. Seconds; `requests` by (class, outcome)."""

    changes: int = 0  # transitions begun
    loads: int = 0
    load_failures: int = 0
    unloads: int = 0
    seconds_loading: float = 0.0  # failed loads included
    probes_absorbed: int = 0
    worst_wait: float = 0.0  # until forwarded, refused or gone
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, other: "Counts") -> None:
        """Take in what happened in another span of time."""
        self.changes += other.changes
        self.loads += other.loads
        self.load_failures += other.load_failures
        self.unloads += other.unloads
        self.seconds_loading += other.seconds_loading
        self.probes_absorbed += other.probes_absorbed
        self.worst_wait = max(self.worst_wait, other.worst_wait)
        self.requests.update(other.requests)


class Window:
    """The counts of the last `slices` spans of `width` seconds; the span under way is one of them."""

    def __init__(self, width: float, slices: int) -> None:
        self._width = width
        self._slices = slices
        self._spans: deque[tuple[int, Counts]] = deque()

    def at(self, when: float) -> Counts:
        """The counts that hold `when`, to be added to."""
        number = int(when // self._width)
        if not self._spans or self._spans[-1][0] < number:
            self._spans.append((number, Counts()))
            while self._spans[0][0] <= number - self._slices:
                self._spans.popleft()
        return self._spans[-1][1]

    def total(self, now: float) -> Counts:
        """Everything within the window that ends now."""
        first = int(now // self._width) - self._slices
        total = Counts()
        for number, counts in self._spans:
            if number > first:
                total.add(counts)
        return total


@dataclass(slots=True)
class Decision:
    """An order worth remembering; `times` counts it where it came again and again, `at` is the last time."""

    at: float
    order: str
    model: str
    request: str
    because: str
    times: int = 1


@dataclass(slots=True)
class _Open:
    """A request heard of and not yet over."""

    arrived: float
    cls: str
    model: str
    waiting: bool = True
    left: bool = False  # its client is gone, and it still runs


class Ledger:
    """Told of each step after it was taken."""

    def __init__(self) -> None:
        self._hour = Window(60.0, 60)
        self._day = Window(3600.0, 24)
        self._open: dict[str, _Open] = {}
        self._decisions: deque[Decision] = deque(maxlen=DECISIONS)
        self._probes = 0
        self._probes_told: float | None = None
        self._ollama_told = ""
        self.orphans_since: float | None = None
        """Since when runners without a parent hold memory; None while none does."""
        self.passthrough_since: float | None = None
        """Since when everything passes through; None while we schedule."""

    def note(self, fact: m.Fact, orders: list[m.Order], _machine: object = None) -> None:
        """Add one step."""
        self._fact(fact)
        if isinstance(fact, m.OllamaUp | m.OllamaDown):
            self._ollama(fact)
        for order in orders:
            self._order(order, fact.at)
        if self._probes:
            self._tell_probes(fact.at)

    def hour(self, now: float) -> Counts:
        """What the last sixty minutes add up to."""
        return self._hour.total(now)

    def day(self, now: float) -> Counts:
        """What the last twenty-four hours add up to."""
        return self._day.total(now)

    def decisions(self) -> Iterator[Decision]:
        """The last decisions, newest first."""
        return reversed(self._decisions)

    def _spans(self, at: float) -> tuple[Counts, Counts]:
        return self._hour.at(at), self._day.at(at)

    def _fact(self, fact: m.Fact) -> None:
        match fact:
            case m.Arrived():
                cls = "probe" if fact.kind == "probe" else fact.cls
                self._open[fact.id] = _Open(fact.at, cls, fact.model)
            case m.Left() | m.Returned():
                self._left_or_returned(fact)
            case m.Ended():
                self._over(fact.id, fact.at, _told(fact))
            case m.Loaded() | m.LoadFailed():
                for counts in self._spans(fact.at):
                    counts.seconds_loading += fact.took
                    counts.loads += isinstance(fact, m.Loaded)
                    counts.load_failures += isinstance(fact, m.LoadFailed)
            case m.Unloaded():
                for counts in self._spans(fact.at):
                    counts.unloads += 1
            case m.PassthroughSet():
                self.passthrough_since = fact.at if fact.on else None
            case m.MemorySeen():
                self.orphans_since = (self.orphans_since or fact.at) if fact.orphans else None
            case _:
                pass  # the rest changes nothing that is counted

    def _ollama(self, fact: m.OllamaUp | m.OllamaDown) -> None:
        """A line when it comes and when it goes, not with each look at it."""
        if isinstance(fact, m.OllamaUp):
            level, told = logging.INFO, f"up version={_value(fact.version)}"
        else:
            level, told = logging.WARNING, f"down because={_value(fact.error)}"
        if told != self._ollama_told:
            self._ollama_told = told
            log.log(level, "ollama=%s", told)

    def _left_or_returned(self, fact: m.Left | m.Returned) -> None:
        request = self._open.get(fact.id)
        if request is None:
            return
        if isinstance(fact, m.Left) and not request.waiting:
            request.left = True
        elif isinstance(fact, m.Returned) and not request.left:
            request.waiting = True
        else:
            self._over(fact.id, fact.at, "left")

    def _order(self, order: m.Order, at: float) -> None:
        match order:
            case m.Forward():
                self._forwarded(order, at)
            case m.AnswerProbe():
                self._absorbed(order, at)
            case m.AnswerWish():
                self._over(order.id, at, "wish")
                log.info("order=AnswerWish id=%s because=%s", order.id, _value(order.because))
            case m.Refuse():
                model = self._over(order.id, at, "refused")
                self._decided(at, "Refuse", model, order.id, order.because)
                text = "order=Refuse id=%s model=%s status=%d message=%s because=%s"
                log.info(text, order.id, _value(model), order.status, _value(order.message), _value(order.because))
            case m.Recall():
                model = self._open[order.id].model if order.id in self._open else ""
                self._decided(at, "Recall", model, order.id, order.because)
                log.info("order=Recall id=%s model=%s because=%s", order.id, _value(model), _value(order.because))
            case m.Load() | m.AbandonLoad() | m.Unload():
                name = type(order).__name__
                self._decided(at, name, order.model, "", order.because)
                log.info("order=%s model=%s because=%s", name, _value(order.model), _value(order.because))
            case m.Record():
                self._recorded(order, at)
            case m.RestartOllama():
                self._decided(at, "RestartOllama", "", "", order.because)
                log.warning("order=RestartOllama because=%s", _value(order.because))
            case m.Look() | m.WakeAt():  # says only what is looked at, or when
                log.debug("order=%s", order)

    def _absorbed(self, order: m.AnswerProbe, at: float) -> None:
        self._over(order.id, at, "canned")
        self._probes += 1
        for counts in self._spans(at):
            counts.probes_absorbed += 1

    def _forwarded(self, order: m.Forward, at: float) -> None:
        request = self._open.get(order.id)
        if request is None:
            return
        request.waiting = False
        waited = at - request.arrived
        self._waited(waited, at)
        if request.cls != "probe" and (waited >= WORTH_TELLING or log.isEnabledFor(logging.DEBUG)):
            text = "order=Forward id=%s model=%s waited=%.1f because=%s"
            log.info(text, order.id, _value(order.model), waited, _value(order.because))

    def _recorded(self, order: m.Record, at: float) -> None:
        if order.what == "transition begun":
            for counts in self._spans(at):
                counts.changes += 1
        self._decided(at, order.what, order.model, "", order.because)
        log.info("record=%s model=%s because=%s", _value(order.what), _value(order.model), _value(order.because))

    def _over(self, request_id: str, at: float, outcome: str) -> str:
        """The request is over; answers its model, or "" where it was over already."""
        request = self._open.pop(request_id, None)
        if request is None:
            return ""
        if request.waiting and outcome in ("left", "refused"):
            self._waited(at - request.arrived, at)
        for counts in self._spans(at):
            counts.requests[request.cls, outcome] += 1
        return request.model

    def _waited(self, seconds: float, at: float) -> None:
        for counts in self._spans(at):
            counts.worst_wait = max(counts.worst_wait, seconds)

    def _decided(self, at: float, order: str, model: str, request: str, because: str) -> None:
        last = self._decisions[-1] if self._decisions else None
        if last is not None and (last.order, last.model, last.because) == (order, model, because):
            last.at, last.request = at, request
            last.times += 1
        else:
            self._decisions.append(Decision(at, order, model, request, because))

    def _tell_probes(self, at: float) -> None:
        if self._probes_told is None or at >= self._probes_told + PROBES_EVERY:
            log.info("probes absorbed=%d", self._probes)
            self._probes, self._probes_told = 0, at


def _value(text: str) -> str:
    """`text` as a log value: quoted where a reader, or a line, could be misled."""
    return text if PLAIN.fullmatch(text) and text.isprintable() else json.dumps(text)


def _told(ended: m.Ended) -> str:
    """The outcome as it is counted: an answer that is Ollama's own 500 is a request that failed."""
    return "failed" if ended.outcome == "answered" and (ended.status or 0) >= 500 else ended.outcome

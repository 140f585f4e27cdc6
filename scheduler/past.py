"""What became of the requests that are over, and of the wishes that were not followed; the last of each, for `why`."""

from collections import OrderedDict
from dataclasses import dataclass

from scheduler.core import messages as m

REQUESTS = 1000  # that are over are remembered
WISHES = 200  # models whose last refused wish is remembered


@dataclass(slots=True)
class Fate:
    """One request, from its arrival on. Times are monotonic seconds; `ended` None: it is not over."""

    id: str
    model: str
    alias: str
    cls: str
    kind: str
    arrived: float
    forwarded: float | None = None  # the last time
    because: str = ""  # why it was forwarded, or ended as it did
    ended: float | None = None
    outcome: str = ""  # as in the counters of /status
    status: int | None = None
    message: str = ""  # what its client read instead of an answer


@dataclass(frozen=True, slots=True)
class RefusedWish:
    """A wish to unload that was answered and not followed."""

    at: float
    client: str
    because: str


class Past:
    """Told of each step after it was taken; constant work each, and no more memory than the limits above."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Fate, str]] = {}  # by id, with its client
        self._over: OrderedDict[str, Fate] = OrderedDict()
        self._wishes: OrderedDict[str, RefusedWish] = OrderedDict()

    def note(self, fact: m.Fact, orders: list[m.Order], _machine: object = None) -> None:
        """Add one step."""
        match fact:
            case m.Arrived():
                fate = Fate(fact.id, fact.model, fact.alias, fact.cls, fact.kind, fact.at)
                self._open[fact.id] = fate, fact.client
            case m.Left() if (known := self._open.get(fact.id)) and known[0].forwarded is None:
                self._close(fact.id, fact.at, "left", "its client hung up while it waited")
            case m.Returned() if (known := self._open.get(fact.id)) and not _cancelled(orders, fact.id):
                known[0].forwarded = None
            case m.Ended():
                self._close(fact.id, fact.at, fact.outcome, fact.error, fact.status)
        for order in orders:
            self._order(order, fact.at)

    def fate(self, request: str) -> Fate | None:
        """What is known of this request; None where it is not known, or no longer."""
        known = self._open.get(request)
        return known[0] if known else self._over.get(request)

    def refused_wish(self, model: str) -> RefusedWish | None:
        """The last wish to unload `model` that was not followed."""
        return self._wishes.get(model)

    @property
    def refused_wishes(self) -> dict[str, RefusedWish]:
        """Of every model the last wish that was not followed, oldest first."""
        return dict(self._wishes)

    def _order(self, order: m.Order, at: float) -> None:
        match order:
            case m.Forward() if known := self._open.get(order.id):
                known[0].forwarded, known[0].because = at, order.because
            case m.Refuse():
                self._close(order.id, at, "refused", order.because, order.status, order.message)
            case m.AnswerProbe() if (known := self._open.get(order.id)) and known[0].forwarded is None:
                self._close(order.id, at, "canned", order.because, 200)
            case m.AnswerWish():
                self._wish(order, at)
            case m.Recall() if known := self._open.get(order.id):
                known[0].because = order.because

    def _wish(self, order: m.AnswerWish, at: float) -> None:
        known = self._open.get(order.id)
        if known is not None and not order.granted:
            model = known[0].model
            self._wishes[model] = RefusedWish(at, known[1], order.because)
            self._wishes.move_to_end(model)
            while len(self._wishes) > WISHES:
                self._wishes.popitem(last=False)
        self._close(order.id, at, "wish" if order.granted else "wish refused", order.because, 200)

    def _close(
        self, request: str, at: float, outcome: str, because: str, status: int | None = None, message: str = ""
    ) -> None:
        known = self._open.pop(request, None)
        if known is None:
            return
        fate = known[0]
        fate.ended, fate.outcome, fate.status, fate.message = at, outcome, status, message
        fate.because = because or fate.because
        self._over[request] = fate
        while len(self._over) > REQUESTS:
            self._over.popitem(last=False)


def _cancelled(orders: list[m.Order], request: str) -> bool:
    """Whether this request does not wait again, but is refused: it came back because a person ended it."""
    return any(isinstance(order, m.Refuse) and order.id == request for order in orders)

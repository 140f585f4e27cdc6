"""What loads and unloads took lately, one by one: the spread that a learned mean does not tell; for `why`."""

from collections import defaultdict, deque

from scheduler.core import messages as m

KEPT = 50  # of each model


class Measured:
    """Told of each step after it was taken. Seconds, by model, oldest first."""

    def __init__(self) -> None:
        self.loads: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))
        self.unloads: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))

    def note(self, fact: m.Fact, _orders: object = None, _machine: object = None) -> None:
        """Add one step."""
        match fact:
            case m.Loaded():
                self.loads[fact.model].append(fact.took)
            case m.Unloaded():
                self.unloads[fact.model].append(fact.took)
            case _:
                pass

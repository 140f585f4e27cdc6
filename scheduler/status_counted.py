"""The shapes of what is behind us, as `/status` shows it: decisions and counters; part of `scheduler.status_schema`."""

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # pydantic reads typing's only from Python 3.12 on

_strict = with_config(ConfigDict(extra="forbid", use_attribute_docstrings=True))


@_strict
class Decision(TypedDict):
    order: str
    """What was ordered (`Load`, `Unload`, `Refuse` …) or recorded (`transition begun`, `adopted` …)."""
    model: str
    """The model concerned, or empty."""
    request: str
    """The request concerned, or empty."""
    because: str
    """Why."""
    at: str
    """When, ISO-8601 UTC; the last time where it came more than once."""
    age: float
    """Seconds ago."""
    times: int
    """How often in a row."""


@_strict
class Counters(TypedDict):
    changes: int
    """Transitions begun."""
    loads: int
    """Loads done."""
    load_failures: int
    """Loads that failed."""
    unloads: int
    """Unloads done."""
    seconds_loading: float
    """Seconds lost to loads, failed ones included."""
    probes_absorbed: int
    """Health checks answered without touching a model."""
    worst_wait: float
    """The longest wait in seconds, of those who wait still too."""
    requests: dict[str, dict[str, int]]
    """Requests that are over: by class, then by outcome (`answered`, `failed`, `abandoned`, `stalled`, `canned`,
    `refused`, `left` while waiting, `wish`)."""


@_strict
class Spans(TypedDict):
    hour: Counters
    """The last 60 minutes."""
    day: Counters
    """The last 24 hours, counted in whole hours."""

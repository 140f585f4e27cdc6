"""How often the daemon looks at things."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the chores run and how long a stop may take, in seconds."""

    look: float = 5.0  # /api/ps
    listing: float = 60.0  # /api/tags
    memory: float = 10.0
    pressure: float = 5.0
    timetable: float = 1.0
    runners: float = 1.0
    clocks: float = 5.0
    save: float = 30.0
    stop: float = 30.0  # running work may take so long to finish after SIGTERM

"""Settings of the machine itself: its memory, and the times at which phases and quiet hours begin."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from scheduler.settings_types import (
    DurationOrNever,
    DurationOrNone,
    Kind,
    PhaseName,
    Share,
    SizeOrAuto,
    Timed,
    Zone,
)


class Section(BaseModel):
    """A table of the file: frozen, and with no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)


class MemorySettings(Section):
    """How much memory the models may have together."""

    budget: SizeOrAuto = "auto"
    """What loading, resident and leaving models may hold together, in bytes.
    "auto" is 0.75 of physical memory on a Mac, the total less 4 GB elsewhere, and the staged size of a stand-in."""

    pressure: Annotated[Literal["auto", "heed", "ignore"], Kind('"auto", "heed" or "ignore"')] = "auto"
    """Whether the budget shrinks while the system says that memory is short. "auto" is to heed it on a Mac, in front of
    an Ollama that is no stand-in."""

    under_warning: Share = 1.0
    """The part of the budget that is left while the system warns (on a Mac that is common with a large model)."""

    under_critical: Share = 0.75
    """The part of the budget that is left while the system says that memory is critical."""

    grow_after: DurationOrNone = 60.0
    """How long, in seconds, more memory must have been there before it is trusted; less holds at once."""

    unload_after_idle: DurationOrNever = "never"
    """How long, in seconds, nobody may use a model before it is unloaded, unless it is home, kept or pinned."""


class ScheduleSettings(Section):
    """A phase that is entered at a time. What was missed while the machine slept is entered on waking, the latest of it
    alone; what was missed while no daemon ran is not."""

    cron: Timed
    """When: minute, hour, day of the month, month and day of the week, such as "0 9 * * mon-fri"; or "HH:MM" every day.
    A local time that the clocks leave out comes as they are put forward, one that they show twice comes once."""

    phase: PhaseName
    """The phase to enter."""

    timezone: Zone = ""
    """Whose time, as an IANA name such as "Europe/Berlin". "" is the machine's own."""


class QuietSettings(Section):
    """Hours in which nothing is loaded unasked: home does not come back, and nothing is loaded because it may be wanted
    soon. Requests are served as ever."""

    from_: Timed = Field(alias="from")
    """When it begins, as in `schedule.cron`; it takes turns with `to`."""

    to: Timed
    """When it ends."""

    timezone: Zone = ""
    """Whose time, as an IANA name. "" is the machine's own."""

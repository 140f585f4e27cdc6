"""Settings of the machine itself: its memory, and the times at which phases and quiet hours begin."""

from __future__ import annotations

import contextlib
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from scheduler.settings_types import (
    DurationOrNever,
    DurationOrNone,
    Kind,
    PhaseName,
    SizeOrAuto,
    Switch,
    Wrong,
)


def _share(value: object) -> float:
    """A part of the whole; text of a number too, because the environment has only text."""
    with contextlib.suppress(TypeError, ValueError):
        share = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else 0.0
        if 0.0 < share <= 1.0:
            return share
    raise Wrong("is no share of the whole", "write a number above 0 and at most 1, such as 0.75")


def _timed(value: object) -> str:
    """A cron line; what reads it is asked for only here, since few configurations have one."""
    from scheduler.timetable import NoSuchTime, Rule

    if not isinstance(value, str):
        raise Wrong("is no cron line", 'write "0 9 * * mon-fri", or "22:00" for every day')
    try:
        Rule(value)
    except NoSuchTime as error:
        raise Wrong(error.problem, error.mend) from None
    return value


def _zone(value: object) -> str:
    from scheduler.timetable import NoSuchTime, zone_of

    if not isinstance(value, str):
        raise Wrong("is no time zone", 'write one such as "Europe/Berlin"')
    if value:
        try:
            zone_of(value)
        except NoSuchTime as error:
            raise Wrong(error.problem, error.mend) from None
    return value


Share = Annotated[
    float,
    BeforeValidator(_share),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
    Kind("number up to 1"),
]
Timed = Annotated[str, BeforeValidator(_timed), Kind('cron line, or "HH:MM"')]
Zone = Annotated[str, BeforeValidator(_zone), Kind("time zone")]


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

    end_at_critical: Switch = False
    """Whether, while memory is critical, the requests of agents and batches that keep a model from leaving may be
    ended, the longest first, with an error; one that had no answer yet waits again instead."""

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

    @model_validator(mode="after")
    def _has_length(self) -> QuietSettings:
        from scheduler.timetable import Quiet, Rule

        if Quiet(Rule(self.from_), Rule(self.to), "").empty:
            raise Wrong("ends as it begins", "write two different times, or type `ollama-scheduler quiet on`")
        return self

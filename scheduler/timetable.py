"""When scheduled phases and quiet hours begin: cron lines in local time, by APScheduler's cron trigger.

The trigger goes through the days of a calendar without a time zone, and each local time it names is then looked up in
the zone, once: one that the clocks leave out (summer time begins) is the moment they are put forward, one that they
show twice (summer time ends) is the first of the two. So nothing is passed over and nothing comes twice.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import tzlocal
from apscheduler.triggers.cron import CronTrigger

DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")  # as cron counts them; 7 is Sunday too
CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
LIKE_CLOCK = re.compile(r"[0-9]+:[0-9]*")
BACK = (3600.0, 86400.0, 8 * 86400.0, 400 * 86400.0)  # seconds: how far back what was missed is looked for, in turn
MINUTE = timedelta(minutes=1)


class NoSuchTime(ValueError):
    """A cron line or a zone that means nothing; `problem` says what is wrong, `mend` what would be right."""

    def __init__(self, problem: str, mend: str) -> None:
        super().__init__(f"{problem}; {mend}")
        self.problem = problem
        self.mend = mend


class Rule:
    """The times that one cron line names: `minute hour day-of-month month day-of-week`, or just `HH:MM` for every day.

    Raises NoSuchTime. `zone` is an IANA name, or "" for the machine's own, as it was read last (`Timetable.travelled`).
    """

    def __init__(self, cron: str, zone: str = "") -> None:
        self.cron = cron
        self._zone = None if zone == "" else zone_of(zone)
        self._trigger = _trigger(cron)
        if self._trigger.get_next_fire_time(None, datetime(2024, 1, 1, tzinfo=UTC)) is None:
            raise NoSuchTime("never comes", "name a day that there is")

    def next(self, after: float) -> float:
        """The first of its times after `after`; both in seconds since 1970."""
        zone = self._zone or tzlocal.get_localzone()
        moment = datetime.fromtimestamp(after, zone)
        local = moment.replace(
            tzinfo=UTC, microsecond=0, fold=0
        )  # the calendar's day and hour, as if there were no zone
        while True:
            found = self._trigger.get_next_fire_time(None, local)
            if found is None:
                return float("inf")
            at = _moment(found.replace(tzinfo=None), zone)
            if at > after:
                return at
            local = found + MINUTE  # in the hour that the clocks show twice, all that was named is over

    def is_as(self, other: "Rule") -> bool:
        """Whether the other names the same times, however it is written."""
        return str(self._trigger) == str(other._trigger)

    def last(self, after: float, until: float) -> float | None:
        """The latest of its times after `after` and not after `until`; None where there is none."""
        for back in BACK:
            at = self.next(max(after, until - back))
            if at <= until:
                while (later := self.next(at)) <= until:
                    at = later
                return at
            if until - back <= after:
                break
        return None


@dataclass(frozen=True, slots=True)
class Phase:
    """At the times of `rule` `phase` is entered; `by` is who says so."""

    rule: Rule
    phase: str
    by: str


@dataclass(frozen=True, slots=True)
class Quiet:
    """From `begin` until `end`, which take turns, nothing is loaded unasked; `by` is who says so."""

    begin: Rule
    end: Rule
    by: str

    def at(self, now: float) -> bool:
        """Whether it is quiet now: its end comes before its beginning."""
        return self.end.next(now) < self.begin.next(now)

    @property
    def empty(self) -> bool:
        """Whether it ends at the very times at which it begins."""
        return self.begin.is_as(self.end)


@dataclass(frozen=True, slots=True)
class Planned:
    """What changes at `at` (seconds since 1970): a phase is entered, or quiet begins or ends."""

    at: float
    what: str  # "phase NAME", "quiet begins" or "quiet ends"
    by: str


@dataclass(frozen=True, slots=True)
class Timetable:
    """All that is scheduled."""

    phases: Sequence[Phase] = ()
    quiets: Sequence[Quiet] = ()

    def missed(self, after: float, until: float) -> Phase | None:
        """The phase that was to be entered last after `after` and not after `until`: of several missed, only that."""
        found = [(at, phase) for phase in self.phases if (at := phase.rule.last(after, until)) is not None]
        return max(found, key=lambda each: each[0], default=(0.0, None))[1]

    def quiet(self, now: float) -> str:
        """Who says that it is quiet now; "" where nobody does."""
        return next((quiet.by for quiet in self.quiets if quiet.at(now)), "")

    def upcoming(self, now: float) -> Planned | None:
        """What changes next."""
        return min(self._all(now), key=lambda each: each.at, default=None)

    def travelled(self) -> bool:
        """Read the machine's own time zone anew, which takes milliseconds; whether it is another than before."""
        before = tzlocal.get_localzone()
        return str(tzlocal.reload_localzone()) != str(before)

    def _all(self, now: float) -> Iterator[Planned]:
        for phase in self.phases:
            yield Planned(phase.rule.next(now), f"phase {phase.phase}", phase.by)
        for quiet in self.quiets:
            yield Planned(quiet.begin.next(now), "quiet begins", quiet.by)
            yield Planned(quiet.end.next(now), "quiet ends", quiet.by)


def zone_of(name: str) -> tzinfo:
    """The IANA time zone of that name. Raises NoSuchTime."""
    with contextlib.suppress(OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return ZoneInfo(name)
    raise NoSuchTime("is no time zone", 'write one such as "Europe/Berlin", or leave it out for the machine\'s own')


def _moment(local: datetime, zone: tzinfo) -> float:
    """When the clocks of `zone` first show `local`, or pass it."""
    at = local.replace(tzinfo=zone, fold=0)
    moment = at.timestamp()
    if datetime.fromtimestamp(moment, zone).replace(tzinfo=None) == local:
        return moment
    # The clocks were put forward over it: with the offset from before, it is as long after that moment as it is after
    # the last time that was shown; step back to the moment itself.
    before, after = at.utcoffset(), at.replace(fold=1).utcoffset()
    low, high = moment - abs(((after or timedelta()) - (before or timedelta())).total_seconds()), moment
    while high - low > 1.0:
        middle = (low + high) // 2
        early = datetime.fromtimestamp(middle, zone).utcoffset() == before
        low, high = (middle, high) if early else (low, middle)
    return high


def _trigger(cron: str) -> CronTrigger:
    advice = 'write "HH:MM", or "minute hour day month weekday" such as "0 9 * * mon-fri"'
    clock = CLOCK.fullmatch(cron.strip())
    if clock is None and LIKE_CLOCK.fullmatch(cron.strip()):
        raise NoSuchTime("is no time of day", 'write one from "00:00" to "23:59"')
    fields = [clock[2], clock[1], "*", "*", "*"] if clock else cron.lower().split()
    if len(fields) != 5:
        raise NoSuchTime("is no cron line: it has not five fields", advice)
    if not fields[2].startswith("*") and not fields[4].startswith("*"):
        raise NoSuchTime("names days of the month and of the week: cron would take either", "write two of them instead")
    try:
        minute, hour, day, month, weekday = fields
        return CronTrigger(
            minute=minute, hour=hour, day=day, month=month, day_of_week=_weekdays(weekday), second=0, timezone=UTC
        )
    except ValueError as error:
        raise NoSuchTime(f"is no cron line: {error}", advice) from None


def _weekdays(field: str) -> str:
    """Days of the week as APScheduler names them; it counts from Monday, cron from Sunday. Raises ValueError."""
    if field == "*":
        return field
    named: list[str] = []
    for part in field.split(","):
        days, _, step = part.partition("/")
        first, dash, last = ("0", "-", "6") if days == "*" else days.partition("-")
        low, high = _weekday(first), _weekday(last if dash else first)
        if low > high and last in ("sun", "0"):
            high = 7
        if low > high:
            high += 7  # "fri-mon" goes over the weekend
        named += [DAYS[day % 7] for day in range(low, high + 1, _step(step))]
    return ",".join(dict.fromkeys(named))


def _step(text: str) -> int:
    if text and (not text.isdecimal() or int(text) < 1):
        raise ValueError(f'"{text}" is no step')
    return int(text or 1)


def _weekday(text: str) -> int:
    if text in DAYS:
        return DAYS.index(text)
    if text.isdecimal() and int(text) <= 7:
        return int(text)
    raise ValueError(f'"{text}" is no day of the week')

"""Cron lines in local time: what they name, over changes of the clocks too, and what is refused."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from scheduler.timetable import NoSuchTime, Phase, Quiet, Rule, Timetable

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> float:
    """Seconds since 1970 of a local time."""
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


def times(cron: str, begin: str, count: int, zone: str = "Europe/Berlin") -> list[str]:
    """The next `count` times after a local time, in UTC."""
    rule, moment = Rule(cron, zone), at(begin, ZoneInfo(zone))
    found = []
    for _ in range(count):
        moment = rule.next(moment)
        found.append(datetime.fromtimestamp(moment, ZoneInfo("UTC")).strftime("%a %d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 9 * * mon-fri", ["Fri 02 08:00", "Mon 05 08:00", "Tue 06 08:00"]),
        ("0 9 * * 1-5", ["Fri 02 08:00", "Mon 05 08:00", "Tue 06 08:00"]),
        ("22:30", ["Thu 01 21:30", "Fri 02 21:30", "Sat 03 21:30"]),
        ("0 12 * * 0", ["Sun 04 11:00", "Sun 11 11:00", "Sun 18 11:00"]),
        ("0 12 * * 7", ["Sun 04 11:00", "Sun 11 11:00", "Sun 18 11:00"]),
        ("0 12 * * fri-mon", ["Fri 02 11:00", "Sat 03 11:00", "Sun 04 11:00"]),
        ("0 12 * * 0-6/3", ["Sat 03 11:00", "Sun 04 11:00", "Wed 07 11:00"]),
        ("*/30 13 * * *", ["Thu 01 12:00", "Thu 01 12:30", "Fri 02 12:00"]),
        ("0 0 29 feb *", ["Mon 28 23:00"]),
    ],
)
def test_cron_lines_mean_what_cron_means(cron: str, expected: list[str]) -> None:
    """Five fields as cron has them, Sunday being 0 and 7, or a time of every day."""
    assert times(cron, "2026-01-01T12:00", len(expected)) == expected


@pytest.mark.parametrize(
    ("cron", "problem"),
    [
        ("9 * *", "five fields"),
        ("24:00", "no time of day"),
        ("61 * * * *", "61"),
        ("0 9 * * mon-fry", "fry"),
        ("0 9 * * 8", '"8" is no day'),
        ("0 9 * * */0", '"0" is no step'),
        ("0 9 1 * mon", "either"),
        ("0 0 31 2 *", "never comes"),
    ],
)
def test_what_is_no_cron_line_is_told(cron: str, problem: str) -> None:
    """Each mistake by its own name, with what would be right."""
    with pytest.raises(NoSuchTime) as told:
        Rule(cron)
    assert problem in told.value.problem
    assert told.value.mend


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "Europe"])
def test_what_is_no_zone_is_told(zone: str) -> None:
    """A name that the zone database does not hold."""
    with pytest.raises(NoSuchTime, match="no time zone"):
        Rule("0 9 * * *", zone)


def test_an_hour_that_is_left_out_comes_once_and_at_once() -> None:
    """Summer time begins: 02:30 is not shown, so it is the moment the clocks are put forward; 03:00 is its own."""
    assert times("30 2 * * *", "2026-03-28T12:00", 2) == ["Sun 29 01:00", "Mon 30 00:30"]
    assert times("0 3 * * *", "2026-03-28T12:00", 2) == ["Sun 29 01:00", "Mon 30 01:00"]
    assert times("*/20 * * * *", "2026-03-29T01:30", 3) == ["Sun 29 00:40", "Sun 29 01:00", "Sun 29 01:20"]


def test_an_hour_that_is_shown_twice_comes_once() -> None:
    """Summer time ends: 02:30 is shown twice and counts the first time."""
    assert times("30 2 * * *", "2026-10-24T12:00", 2) == ["Sun 25 00:30", "Mon 26 01:30"]
    assert times("*/30 * * * *", "2026-10-25T01:45", 4) == [
        "Sun 25 00:00", "Sun 25 00:30", "Sun 25 02:00", "Sun 25 02:30"
    ]  # fmt: skip
    second = at("2026-10-25T02:10", fold=1)
    assert Rule("30 2 * * *", "Europe/Berlin").next(second) == at("2026-10-26T02:30")


def test_half_an_hour_and_midnight_are_changed_as_well() -> None:
    """Lord Howe's clocks go forward by half an hour, and Cairo's at midnight."""
    assert times("15 2 * * *", "2026-10-03T12:00", 1, "Australia/Lord_Howe") == ["Sat 03 15:30"]
    assert times("0 0 * * *", "2026-04-23T12:00", 2, "Africa/Cairo") == ["Thu 23 22:00", "Fri 24 21:00"]


def test_what_was_missed_is_the_latest_alone() -> None:
    """Of all that was due while nobody looked, one phase is entered: the one that would be in force."""
    morning = Phase(Rule("0 9 * * mon-fri", "Europe/Berlin"), "work", "schedule: morning")
    evening = Phase(Rule("18:00", "Europe/Berlin"), "home", "schedule: evening")
    table = Timetable((morning, evening))
    friday, monday = at("2026-01-02T08:00"), at("2026-01-05T07:00")
    assert table.missed(friday, monday) is evening
    assert table.missed(friday, at("2026-01-05T09:00")) is morning
    assert table.missed(at("2026-01-05T09:00"), at("2026-01-05T17:59")) is None
    assert table.missed(at("2025-01-01T00:00"), at("2026-01-05T17:59")) is morning
    planned = table.upcoming(friday)
    assert planned is not None
    assert (planned.at, planned.what, planned.by) == (at("2026-01-02T09:00"), "phase work", "schedule: morning")


def test_quiet_from_evening_to_morning() -> None:
    """It is quiet from the first of the two times on, not before, and not from the second on; over a change of clocks
    as well."""
    table = Timetable((), (Quiet(Rule("22:00", "Europe/Berlin"), Rule("07:00", "Europe/Berlin"), "quiet: nights"),))
    for moment, by in (
        ("2026-03-28T21:59", ""),
        ("2026-03-28T22:00", "quiet: nights"),
        ("2026-03-29T06:59", "quiet: nights"),
        ("2026-03-29T07:00", ""),
    ):
        assert table.quiet(at(moment)) == by
    planned = table.upcoming(at("2026-03-28T23:00"))
    assert planned is not None
    assert (planned.at, planned.what) == (at("2026-03-29T07:00"), "quiet ends")


def test_nothing_is_scheduled() -> None:
    """An empty timetable has nothing to come, and it is never quiet."""
    assert Timetable().upcoming(0.0) is None
    assert Timetable().missed(0.0, 1e9) is None
    assert Timetable().quiet(1e9) == ""

"""Scheduled phases and quiet hours as a chore: each posted once, at its time, over sleep and changes of the clocks."""

import asyncio
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from freezegun import freeze_time

from scheduler.composition import timetable
from scheduler.core import messages as m
from scheduler.housekeeping import Housekeeping
from scheduler.scheduled import Scheduled
from scheduler.settings_read import settings_of

BERLIN = "Europe/Berlin"
WAIT = 5.0
OFTEN = 0.01  # seconds between two looks

GIVEN = {
    "models": {"a": {}, "b": {}},
    "sets": {"one": ["a"], "two": ["b"]},
    "phases": {"normal": {"sets": ["one", "two"]}, "work": {"sets": ["one"]}, "night": {"sets": ["two"]}},
    "schedule": [
        {"cron": "30 2 * * *", "phase": "night", "timezone": BERLIN},
        {"cron": "0 9 * * mon-fri", "phase": "work", "timezone": BERLIN},
    ],
    "quiet": [{"from": "22:00", "to": "07:00", "timezone": BERLIN}],
}


def at(text: str) -> float:
    """Seconds since 1970 of a time in Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(BERLIN)).timestamp()


class Scene:
    """The chore with a wall clock of the test's."""

    def __init__(self, wall: str, given: dict[str, object] = GIVEN) -> None:
        self.wall = at(wall)
        self.posted: list[m.Fact] = []
        table = timetable(settings_of(given))
        self.scheduled = Scheduled(table, self.posted.append, lambda: 5.0, lambda: self.wall)

    def look(self, wall: str) -> list[str]:
        """Look at that time; what is posted, in words."""
        self.wall = at(wall)
        self.posted.clear()
        self.scheduled.look()
        return [told(fact) for fact in self.posted]


def told(fact: m.Fact) -> str:
    """A fact in words."""
    if isinstance(fact, m.PhaseSet):
        return f"{fact.phase} by {fact.by}"
    assert isinstance(fact, m.QuietSet)
    return f"quiet {'on' if fact.on else 'off'} by {fact.by}"


def test_a_start_enters_no_phase_and_finds_out_whether_it_is_quiet() -> None:
    """A phase is entered by an act and not by a start, whatever was due before; quiet is a state."""
    by_day, by_night = Scene("2026-01-05T09:00:01"), Scene("2026-01-05T23:00")
    assert by_day.look("2026-01-05T09:00:02") == []
    assert by_night.look("2026-01-05T23:00:01") == ["quiet on by quiet hours: 22:00 to 07:00"]
    assert by_night.look("2026-01-05T23:00:02") == []


def test_each_is_posted_once_at_its_time() -> None:
    """A day: quiet ends at seven, work begins at nine, and it is quiet again at ten in the evening."""
    scene = Scene("2026-01-05T06:00")
    assert scene.look("2026-01-05T06:59:59") == ["quiet on by quiet hours: 22:00 to 07:00"]
    assert scene.look("2026-01-05T07:00:00") == ["quiet off by quiet hours: 22:00 to 07:00"]
    assert scene.look("2026-01-05T08:59:59") == []
    planned = scene.scheduled.upcoming()
    assert planned is not None
    assert (planned.at, planned.what, planned.by) == (at("2026-01-05T09:00"), "phase work", "schedule: 0 9 * * mon-fri")
    assert scene.look("2026-01-05T09:00:00") == ["work by schedule: 0 9 * * mon-fri"]
    assert scene.look("2026-01-05T09:00:01") == []
    assert scene.look("2026-01-05T22:00:00") == ["quiet on by quiet hours: 22:00 to 07:00"]


def test_what_was_missed_asleep_is_done_once_and_the_latest_alone() -> None:
    """The lid was closed from Friday to Tuesday noon: work is entered once, not night and work for each day; and it was
    quiet in between, which is over."""
    scene = Scene("2026-01-02T12:00")
    assert scene.look("2026-01-02T12:00:01") == []
    assert scene.look("2026-01-06T12:00") == ["work by schedule: 0 9 * * mon-fri"]
    assert scene.look("2026-01-06T12:00:01") == []
    assert scene.look("2026-01-07T03:00") == [
        "quiet on by quiet hours: 22:00 to 07:00", "night by schedule: 30 2 * * *"
    ]  # fmt: skip


def test_a_clock_that_is_adjusted_repeats_nothing_and_one_set_back_does() -> None:
    """A second back is an adjustment: nine o'clock comes once. An hour back is another nine o'clock."""
    scene = Scene("2026-01-05T08:00")
    scene.look("2026-01-05T08:00:01")
    assert scene.look("2026-01-05T09:00:00") == ["work by schedule: 0 9 * * mon-fri"]
    assert scene.look("2026-01-05T08:59:59") == []
    assert scene.look("2026-01-05T09:00:00") == []
    assert scene.look("2026-01-05T08:00:00") == []
    assert scene.look("2026-01-05T09:00:00") == ["work by schedule: 0 9 * * mon-fri"]


def test_another_timetable_holds_from_now_on() -> None:
    """After a reload the new times count; what they would have brought before it is not caught up with, and quiet that
    is no longer configured ends."""
    scene = Scene("2026-01-05T23:00")
    assert scene.look("2026-01-05T23:00:01") == ["quiet on by quiet hours: 22:00 to 07:00"]
    changed = {**GIVEN, "schedule": [{"cron": "22:30", "phase": "night", "timezone": BERLIN}], "quiet": []}
    scene.scheduled.renew(timetable(settings_of(changed)))
    assert scene.look("2026-01-05T23:00:02") == ["quiet off by quiet hours: 22:00 to 07:00"]
    assert scene.look("2026-01-06T22:30") == ["night by schedule: 22:30"]
    scene.scheduled.renew(None)
    assert scene.look("2026-01-07T22:30") == []
    assert scene.scheduled.upcoming() is None


@pytest.mark.parametrize(
    ("evening", "instant"),
    [
        ("2026-03-28T22:30:00+00:00", "2026-03-29T01:00:00+00:00"),  # 02:30 is left out: it comes with 03:00
        ("2026-10-24T22:30:00+00:00", "2026-10-25T00:30:00+00:00"),  # 02:30 is shown twice: it comes the first time
    ],
)
async def test_over_a_change_of_the_clocks(evening: str, instant: str) -> None:
    """As the chore it is, by the wall clock: in the night of the change the phase is entered once, and then."""
    posted: list[tuple[float, m.Fact]] = []
    news = asyncio.Event()

    with freeze_time(evening, real_asyncio=True) as wall:

        def post(fact: m.Fact) -> None:
            posted.append((datetime.now().timestamp(), fact))  # noqa: DTZ005 - the frozen clock
            news.set()

        scheduled = Scheduled(timetable(settings_of({**GIVEN, "quiet": []})), post, lambda: 0.0)
        looked = asyncio.Event()

        def look() -> None:
            scheduled.look()
            looked.set()

        chores = Housekeeping()
        chores.every(OFTEN, "look at the timetable", look)
        chores.start()
        end = datetime.fromisoformat(evening).timestamp() + 6 * 3600.0
        while datetime.now().timestamp() < end:  # noqa: DTZ005 - the frozen clock
            looked.clear()
            wall.tick(600.0)
            async with asyncio.timeout(WAIT):
                await looked.wait()
        chores.stop()
    assert [told(fact) for _, fact in posted] == ["night by schedule: 30 2 * * *"]
    assert posted[0][0] == datetime.fromisoformat(instant).timestamp()


def test_who_travels_takes_the_timetable_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a zone of its own a time is that of the machine: in Tokyo nine o'clock comes hours before Berlin's, and
    in New York hours after it."""
    here = [BERLIN]
    read = list(here)

    def reload() -> ZoneInfo:
        read[:] = here
        return ZoneInfo(read[0])

    monkeypatch.setattr("tzlocal.get_localzone", lambda: ZoneInfo(read[0]))
    monkeypatch.setattr("tzlocal.reload_localzone", reload)
    given = {**GIVEN, "schedule": [{"cron": "0 9 * * *", "phase": "work"}], "quiet": []}
    scene = Scene("2026-01-04T20:00", given)
    assert scene.look("2026-01-04T20:00:01") == []
    here[:] = ["Asia/Tokyo"]  # eight hours ahead
    assert scene.look("2026-01-04T20:02") == []
    assert scene.look("2026-01-05T00:59:59") == []
    assert scene.look("2026-01-05T01:00:00") == ["work by schedule: 0 9 * * *"]
    here[:] = ["America/New_York"]  # six hours behind
    assert scene.look("2026-01-05T09:00:01") == []
    assert scene.look("2026-01-05T15:00:01") == ["work by schedule: 0 9 * * *"]

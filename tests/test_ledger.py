"""The ledger's sums are those of the facts and orders it was told, window by window, and its log tells each order."""

import logging
import timeit
from collections import Counter
from dataclasses import replace

import pytest

from scheduler.core import messages as m
from scheduler.core.config import Config
from scheduler.core.machine import Machine
from scheduler.ledger import DECISIONS, Counts, Ledger, Window
from tests.played import CODER, FAST, QUALITY, Play


def played(seed: int, requests: int, seconds: float) -> tuple[Ledger, list[tuple[m.Fact, list[m.Order]]], Play]:
    """A ledger that watched a play, and what it saw."""
    play, ledger = Play(seed), Ledger()
    steps: list[tuple[m.Fact, list[m.Order]]] = []
    play.witnesses += [lambda fact, orders: steps.append((fact, orders)), ledger.note]
    play.begin()
    play.demand(requests, seconds)
    play.run()
    return ledger, steps, play


def test_counts_of_a_play() -> None:
    """Changes, loads, unloads, seconds of loading and probes are what a recount of the whole play finds."""
    ledger, steps, play = played(8, 400, 2500.0)
    facts = [fact for fact, _ in steps]
    orders = [order for _, given in steps for order in given]
    day = ledger.day(play.at)
    assert day.changes == sum(isinstance(o, m.Record) and o.what == "transition begun" for o in orders) > 3
    assert day.loads == sum(isinstance(f, m.Loaded) for f in facts) > 3
    assert day.load_failures == sum(isinstance(f, m.LoadFailed) for f in facts) > 0
    assert day.unloads == sum(isinstance(f, m.Unloaded) for f in facts) > 3
    assert day.seconds_loading == pytest.approx(sum(f.took for f in facts if isinstance(f, m.Loaded | m.LoadFailed)))
    assert day.probes_absorbed == sum(isinstance(o, m.AnswerProbe) for o in orders) > 3


def test_every_request_is_counted_once() -> None:
    """Each request is over with exactly one outcome, under its own class; probes have a class of their own."""
    ledger, steps, play = played(8, 300, 2000.0)
    arrived = Counter("probe" if f.kind == "probe" else f.cls for f, _ in steps if isinstance(f, m.Arrived))
    over: Counter[str] = Counter()
    for (cls, _), number in ledger.day(play.at).requests.items():
        over[cls] += number
    assert over == arrived
    outcomes = {outcome for _, outcome in ledger.day(play.at).requests}
    assert {"answered", "failed", "left", "canned"} <= outcomes


def test_the_worst_wait_is_of_whoever_waited_longest() -> None:
    """A wait ends with the forwarding, a refusal or the client's leaving; the longest counts."""
    ledger = Ledger()
    ledger.note(m.Arrived(10.0, "a", FAST), [])
    ledger.note(m.Arrived(11.0, "b", FAST), [m.Forward("b", FAST, 0, "free")])
    ledger.note(m.Ticked(14.0), [m.Forward("a", FAST, 0, "free")])
    assert ledger.hour(14.0).worst_wait == 4.0
    ledger.note(m.Arrived(20.0, "c", FAST), [])
    ledger.note(m.Left(27.0, "c"), [])
    assert ledger.hour(27.0).worst_wait == 7.0
    ledger.note(m.Arrived(30.0, "d", FAST), [])
    ledger.note(m.Ticked(39.0), [m.Refuse("d", 503, "busy", "give up")])
    assert ledger.hour(39.0).worst_wait == 9.0


def test_a_client_that_leaves_while_served_is_counted_when_its_slot_is_free() -> None:
    """Leaving while running is no outcome; the end is."""
    ledger = Ledger()
    ledger.note(m.Arrived(1.0, "a", FAST), [m.Forward("a", FAST, 0, "free")])
    ledger.note(m.Left(2.0, "a"), [])
    assert not ledger.hour(2.0).requests
    ledger.note(m.Ended(3.0, "a", "abandoned"), [])
    assert ledger.hour(3.0).requests == {("interactive", "abandoned"): 1}


def test_a_probe_whose_slot_was_taken_back_is_counted_once() -> None:
    """A probe that got its canned success while it sat in a slot does not count again when the slot is free."""
    ledger = Ledger()
    ledger.note(m.Arrived(1.0, "p", FAST, "probe"), [m.Forward("p", FAST, 0, "free")])
    ledger.note(m.Ticked(2.0), [m.AnswerProbe("p", "its model is to leave")])
    ledger.note(m.Ended(2.1, "p", "canned"), [])
    assert ledger.hour(3.0).requests == {("probe", "canned"): 1}
    assert ledger.hour(3.0).probes_absorbed == 1


def test_windows_forget() -> None:
    """The hour forgets what is older than sixty minutes, the day what is older than twenty-four hours."""
    ledger = Ledger()
    ledger.note(m.Loaded(100.0, FAST, 1, 1, 4.0), [])
    assert ledger.hour(3500.0).loads == 1
    assert ledger.hour(3700.0).loads == 0
    assert ledger.day(3700.0).loads == 1
    assert ledger.day(100.0 + 86_400.0).loads == 0


def test_a_window_keeps_as_many_spans_as_it_has() -> None:
    """Months of facts cost no more memory than one window, whatever the gaps between them."""
    window = Window(60.0, 60)
    for minute in range(0, 100_000, 7):
        window.at(minute * 60.0).loads += 1
    assert len(window._spans) <= 60
    assert window.total(100_000 * 60.0).loads == 8


def test_decisions_are_the_last_ones_and_repeats_are_counted() -> None:
    """Newest first, at most fifty, and the same refusal a thousand times is one row."""
    ledger = Ledger()
    for number in range(60):
        ledger.note(m.Ticked(float(number)), [m.Load(f"m{number}", "somebody waits"), m.WakeAt(1.0)])
    for number in range(1000):
        at = 100.0 + number
        ledger.note(m.Arrived(at, f"r{number}", FAST), [m.Refuse(f"r{number}", 503, "busy", "the queue is full")])
    decisions = list(ledger.decisions())
    assert len(decisions) == DECISIONS
    assert (decisions[0].order, decisions[0].model, decisions[0].times) == ("Refuse", FAST, 1000)
    assert (decisions[0].at, decisions[0].request) == (1099.0, "r999")
    assert [d.model for d in decisions[1:4]] == ["m59", "m58", "m57"]


def test_orphans_are_dated() -> None:
    """It is known since when orphans hold memory, and forgotten when they are gone."""
    ledger = Ledger()
    seen = m.MemorySeen(5.0, 10, "set", orphans=3)
    ledger.note(seen, [])
    ledger.note(replace(seen, at=9.0, orphans=2), [])
    assert ledger.orphans_since == 5.0
    ledger.note(replace(seen, at=11.0, orphans=0), [])
    assert ledger.orphans_since is None


def test_one_line_for_each_order(caplog: pytest.LogCaptureFixture) -> None:
    """Every order that does something is told once in the log, with its reason."""
    caplog.set_level(logging.INFO, "scheduler.ledger")
    ledger = Ledger()
    ledger.note(m.Arrived(1.0, "r1", QUALITY), [])
    orders: list[m.Order] = [
        m.Forward("r1", QUALITY, 4096, "its model is resident"),
        m.Load(CODER, "1 waiting"),
        m.Unload(FAST, "room for coder"),
        m.AbandonLoad(CODER, "too slow"),
        m.Recall("r1", "stalled: no byte"),
        m.Refuse("r1", 503, "gave up", "give up", 5),
        m.AnswerWish("w1", "it is loaded"),
        m.Record(FAST, "adopted", "seen resident"),
        m.WakeAt(7.0),
    ]
    ledger.note(m.Ticked(2.0), orders)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == f'order=Forward id=r1 model={QUALITY} waited=1.0 because="its model is resident"'
    assert lines[5] == f'order=Refuse id=r1 model={QUALITY} status=503 message="gave up" because="give up"'
    assert len(lines) == len(orders) - 1
    assert all(order.because.split()[0] in line for order, line in zip(orders, lines, strict=False))  # type: ignore[union-attr]


def test_ollama_is_told_when_it_comes_and_goes(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever started it for a daemon that waits sees it found; looks that find the same are no news."""
    caplog.set_level(logging.INFO, "scheduler.ledger")
    ledger = Ledger()
    for fact in (
        *(m.OllamaDown(at, "connection refused") for at in (1.0, 2.0, 3.0)),
        m.OllamaUp(4.0, "0.32.0"),
        m.OllamaDown(5.0, "connection refused"),
    ):
        ledger.note(fact, [])
    down = 'ollama=down because="connection refused"'
    assert [record.getMessage() for record in caplog.records] == [down, "ollama=up version=0.32.0", down]


def test_probes_are_told_as_a_count(caplog: pytest.LogCaptureFixture) -> None:
    """A burst of health checks is a line a minute, not a line each."""
    caplog.set_level(logging.INFO, "scheduler.ledger")
    ledger = Ledger()
    for number in range(600):
        at = number / 10
        ledger.note(m.Arrived(at, f"p{number}", FAST, "probe"), [m.AnswerProbe(f"p{number}", "never waits")])
    ledger.note(m.Ticked(60.0), [])
    assert [record.getMessage() for record in caplog.records] == ["probes absorbed=1", "probes absorbed=599"]


def test_no_value_breaks_its_line(caplog: pytest.LogCaptureFixture) -> None:
    """A client cannot forge log lines or keys through a name it sends."""
    caplog.set_level(logging.INFO, "scheduler.ledger")
    Ledger().note(m.Ticked(1.0), [m.Refuse("r1", 404, 'no\nmodel="x" order=Load \u2028', "not installed")])
    line = caplog.records[0].getMessage()
    assert line.splitlines() == [line]
    assert "\\n" in line
    assert 'message="no' in line


def test_a_step_costs_the_same_after_many() -> None:
    """The ten-thousandth request costs about what the first hundred did: nothing grows with what was seen."""
    ledger = Ledger()

    def hundred(start: int) -> float:
        def serve() -> None:
            for number in range(start, start + 100):
                ledger.note(m.Arrived(float(number), f"r{number}", FAST), [m.Forward(f"r{number}", FAST, 0, "free")])
                ledger.note(m.Ended(number + 0.5, f"r{number}", "answered"), [])

        return timeit.timeit(serve, number=1)

    early = min(hundred(start) for start in range(0, 1000, 100))
    late = min(hundred(start) for start in range(9000, 10_000, 100))
    assert late < 5 * early
    assert not ledger._open


def test_sums_add_up() -> None:
    """Adding two spans adds the numbers and keeps the worse wait."""
    one = Counts(changes=1, worst_wait=3.0, requests=Counter({("agent", "answered"): 2}))
    one.add(Counts(changes=2, worst_wait=2.0, requests=Counter({("agent", "answered"): 1})))
    assert (one.changes, one.worst_wait, one.requests["agent", "answered"]) == (3, 3.0, 3)


def test_ollamas_own_500_is_counted_as_failed() -> None:
    """The answer was whole, the request failed all the same."""
    ledger, machine = Ledger(), Machine.fresh(Config(), 0.0)
    for fact in (m.Arrived(1.0, "1", "a:latest"), m.Ended(2.0, "1", "answered", status=500)):
        ledger.note(fact, [], machine)
    assert dict(ledger.hour(3.0).requests) == {("interactive", "failed"): 1}

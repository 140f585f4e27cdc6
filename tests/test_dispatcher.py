"""The one inbox: facts in turn, orders handed out, a step that breaks the law ends it, time is never early."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from scheduler.core import messages as m
from scheduler.core.config import Config
from scheduler.core.lifecycle import IllegalMove
from scheduler.core.machine import Machine
from scheduler.dispatcher import Answer, Dispatcher

Step = Callable[[m.Fact], list[m.Order]]
WAIT = 5.0


class Scripted(Machine):
    """A machine whose answer to a fact is the test's; `facts` are those that it was stepped with, in order."""

    def __init__(self) -> None:
        fresh = Machine.fresh(Config(), 0.0)
        super().__init__(fresh.state)
        self.answer: Step = lambda _: []
        self.facts: list[m.Fact] = []
        self.depth = 0
        self.news = asyncio.Event()

    def step(self, fact: m.Fact) -> list[m.Order]:
        """One step; two at once would be two owners of one state."""
        self.depth += 1
        assert self.depth == 1, "a step within a step"
        try:
            self.facts.append(fact)
            self.news.set()
            return self.answer(fact)
        finally:
            self.depth -= 1


class Told:
    """An exchange or a residency that keeps its orders and may do something with each."""

    def __init__(self, upon: Callable[[m.Order], None] = lambda _: None) -> None:
        self.orders: list[m.Order] = []
        self.upon = upon

    def take(self, order: Answer | m.Load | m.AbandonLoad | m.Unload | m.Look) -> None:
        """Keep an order."""
        self.orders.append(order)
        self.upon(order)


@pytest.fixture
async def machine() -> Scripted:
    """A scripted core."""
    return Scripted()


@pytest.fixture
async def dispatcher(machine: Scripted) -> AsyncIterator[Dispatcher]:
    """A dispatcher over it."""
    made = Dispatcher(machine)
    yield made
    made.close()


def arrived(name: str) -> m.Arrived:
    """A request of this id."""
    return m.Arrived(0.0, name, "a:latest")


async def ticked(machine: Scripted, number: int = 1) -> list[m.Ticked]:
    """Wait until the core was told the time so often."""
    async with asyncio.timeout(WAIT):
        while len(ticks := [fact for fact in machine.facts if isinstance(fact, m.Ticked)]) < number:
            machine.news.clear()
            await machine.news.wait()
    return ticks


async def test_facts_posted_while_orders_are_handed_out_wait_their_turn(
    machine: Scripted, dispatcher: Dispatcher
) -> None:
    """An exchange that answers its order with a fact at once neither steps the core within a step nor comes before the
    orders and the books of the step under way."""
    said: list[str] = []
    left = m.Left(0.0, "1")

    def upon(order: m.Order) -> None:
        said.append(f"{type(order).__name__} {order.id}")  # type: ignore[union-attr]
        if order == refuse:
            dispatcher.post(left)
            assert machine.facts == [first], "stepped before its turn"

    refuse, forward = m.Refuse("1", 503, "full", "a test"), m.Forward("1", "a:latest", 0, "a test")
    first = arrived("1")
    machine.answer = lambda fact: [refuse, forward] if fact == first else [m.Record("", "left", "a test")]
    dispatcher.witness(lambda fact, orders, _: said.append(f"{type(fact).__name__}: {len(orders)}"))
    dispatcher.admit(first, Told(upon))
    assert said == ["Refuse 1", "Forward 1", "Arrived: 2", "Left: 1"]
    assert machine.facts == [first, left]


async def test_orders_reach_those_they_are_for(machine: Scripted, dispatcher: Dispatcher) -> None:
    """Orders about a request go to its exchange, orders about models to the residency, `Record` to the books alone."""
    residency, one, two = Told(), Told(), Told()
    dispatcher.attach(residency)
    about = [m.Load("a", "x"), m.AbandonLoad("a", "x"), m.Unload("a", "x"), m.Look("x")]
    mine = [m.AnswerProbe("1", "x"), m.AnswerWish("1", "x"), m.Recall("1", "x"), m.Refuse("1", 503, "x", "x")]
    dispatcher.admit(arrived("2"), two)
    machine.answer = lambda _: [*about, *mine, m.Record("a", "x", "x")]
    dispatcher.admit(arrived("1"), one)
    assert residency.orders == about
    assert one.orders == mine
    assert two.orders == []


async def test_without_a_residency_and_for_the_gone_orders_fall_on_the_floor(
    machine: Scripted, dispatcher: Dispatcher
) -> None:
    """Before the residency is there, and after an exchange is over, an order is nobody's; nothing breaks."""
    machine.answer = lambda _: [m.Load("a", "x"), m.Refuse("1", 503, "x", "x"), m.AnswerProbe("1", "x")]
    exchange = Told()
    dispatcher.admit(arrived("1"), exchange)
    dispatcher.forget("1")
    dispatcher.forget("1")
    dispatcher.post(m.Left(0.0, "1"))
    assert len(exchange.orders) == 2
    assert not dispatcher.failed.done()


async def test_a_forward_for_an_exchange_that_is_gone_gives_its_slot_back(
    machine: Scripted, dispatcher: Dispatcher
) -> None:
    """Its client left between the step that serves it and the order: the core is told, once, that it ended."""
    machine.answer = lambda fact: [m.Forward("1", "a", 0, "x")] if isinstance(fact, m.Left) else []
    before = dispatcher.now()
    dispatcher.post(m.Left(0.0, "9"))
    assert [type(fact) for fact in machine.facts] == [m.Left, m.Ended]
    ended = machine.facts[-1]
    assert isinstance(ended, m.Ended)
    assert (ended.id, ended.outcome) == ("1", "abandoned")
    assert before <= ended.at <= dispatcher.now()


@pytest.mark.parametrize("where", ["step", "exchange", "witness"])
async def test_a_step_that_breaks_the_law_ends_it(
    machine: Scripted, dispatcher: Dispatcher, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`failed` ends with the bug, whoever made it; the step's own later facts and all others are stepped no more."""

    def bug(*_: object) -> list[m.Order]:
        dispatcher.post(m.Left(0.0, "2"))  # waits its turn, which never comes
        raise IllegalMove("a: absent -> leaving")

    machine.answer = bug if where == "step" else lambda _: [m.Refuse("1", 503, "x", "x")]
    if where == "witness":
        dispatcher.witness(lambda *_: bug() and None)
    dispatcher.admit(arrived("1"), Told(bug if where == "exchange" else lambda _: None))  # type: ignore[arg-type]
    assert "broke its law" in caplog.text
    with pytest.raises(IllegalMove, match="absent -> leaving"):
        await asyncio.wait_for(dispatcher.failed, WAIT)
    stepped = len(machine.facts)
    dispatcher.post(m.Left(0.0, "3"))
    assert len(machine.facts) == stepped == 1


async def test_who_precedes_sees_the_state_before_the_step(machine: Scripted, dispatcher: Dispatcher) -> None:
    """A journal file begins with the state that the fact finds, not with the one that it leaves."""
    seen: list[tuple[m.Fact, str, int]] = []

    def answer(fact: m.Fact) -> list[m.Order]:
        machine.state.phase = "after"
        return []

    machine.answer = answer
    dispatcher.precede(lambda fact, state: seen.append((fact, state.phase, len(machine.facts))))
    left = m.Left(0.0, "1")
    dispatcher.post(left)
    assert seen == [(left, "normal", 0)]
    assert dispatcher.state.phase == "after"


async def test_time_is_told_never_before_it_was_asked_for(machine: Scripted, dispatcher: Dispatcher) -> None:
    """A loop may fire early by a tick of its clock; the core hears the time that it asked for, or a later one."""
    whens = [dispatcher.now() + 0.001 * n for n in range(1, 21)]
    waiting = list(whens)
    machine.answer = lambda _: [m.WakeAt(waiting.pop(0))] if waiting else []
    dispatcher.post(m.Left(0.0, "1"))
    ticks = await ticked(machine, len(whens))
    assert all(tick.at >= when for tick, when in zip(ticks, whens, strict=True))
    assert all(tick.at <= dispatcher.now() for tick in ticks)


async def test_a_loop_that_fires_early_is_corrected(machine: Scripted) -> None:
    """By the dispatcher's own clock it is not yet time when the timer fires: still the core hears the time wished."""
    dispatcher = Dispatcher(machine, now=lambda: 100.0)
    machine.answer = lambda fact: [] if isinstance(fact, m.Ticked) else [m.WakeAt(100.01)]
    dispatcher.post(m.Left(0.0, "1"))
    assert [tick.at for tick in await ticked(machine)] == [100.01]
    dispatcher.close()


async def test_a_time_that_is_past_is_told_soon_and_not_at_once(machine: Scripted, dispatcher: Dispatcher) -> None:
    """A wish for the past is no step within a step: it is told when the loop comes round."""
    past = dispatcher.now() - 1.0
    machine.answer = lambda fact: [] if isinstance(fact, m.Ticked) else [m.WakeAt(past)]
    dispatcher.post(m.Left(0.0, "1"))
    assert len(machine.facts) == 1
    assert (await ticked(machine))[0].at > past


@pytest.mark.parametrize(("old", "new"), [(0.01, 0.05), (30.0, 0.02)])
async def test_a_newer_wish_replaces_the_older(
    machine: Scripted, dispatcher: Dispatcher, old: float, new: float
) -> None:
    """Earlier or later: only the last wish is heard, and once."""
    start = dispatcher.now()
    wishes = [old, new]
    machine.answer = lambda fact: [] if isinstance(fact, m.Ticked) else [m.WakeAt(start + wishes.pop(0))]
    dispatcher.post(m.Left(0.0, "1"))
    dispatcher.post(m.Left(0.0, "2"))
    assert (await ticked(machine))[0].at >= start + new
    assert len(await ticked(machine)) == 1


async def test_after_close_nothing_is_stepped(machine: Scripted, dispatcher: Dispatcher) -> None:
    """No timer fires and no fact is taken any more, and `failed` is over without a failure."""
    machine.answer = lambda _: [m.WakeAt(dispatcher.now() + 0.005)]
    dispatcher.post(m.Left(0.0, "1"))
    dispatcher.close()
    dispatcher.close()
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.03, later.set)
    await later.wait()
    dispatcher.post(m.Left(0.0, "2"))
    assert len(machine.facts) == 1
    assert dispatcher.failed.cancelled()

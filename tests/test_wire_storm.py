"""Whatever Ollama, clients and core do at once, each Forward comes back once and each client that stays hears once."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import pytest
import uvloop

from scheduler.core.messages import AnswerProbe, Arrived, Ended, Fact, Left, Recall, Refuse, Returned
from scheduler.exchange import Exchange
from tests.stub_upstream import Call, StubUpstream
from tests.wired import BODIES, Core, Wired, wired

REQUESTS = 250
LINE = b'{"model":"m","message":{"content":"x"},"done":false}\n'
LAST = b'{"model":"m","message":{},"done":true,"total_duration":1}\n'


class RestlessCore(Core):
    """A core that forwards all, sends again what returned (or gives up), and recalls what it likes."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.forwards: Counter[str] = Counter()
        self.gone: set[str] = set()

    def admit(self, arrived: Arrived, exchange: Exchange) -> None:
        """Forward at once, or a little later."""
        self.serve = False
        super().admit(arrived, exchange)
        self.later(arrived.id)

    def later(self, request_id: str) -> None:
        """Forward now or soon, and perhaps recall."""
        loop = asyncio.get_running_loop()
        delay = self.chance.choice((0.0, 0.0, 0.01))
        if delay:
            loop.call_later(delay, self.send, request_id)
        else:
            self.send(request_id)

    def send(self, request_id: str) -> None:
        """Forward, if the client is still there, or refuse after the third time."""
        exchange = self.exchanges.get(request_id)
        if exchange is None or request_id in self.gone:
            return
        if self.forwards[request_id] == 3:
            exchange.take(Refuse(request_id, 502, "three times in vain", "the test says so"))
            return
        self.forwards[request_id] += 1
        exchange.take(self.forward(request_id))
        roll = self.chance.random()
        if roll < 0.2:
            order = Recall(request_id, "storm") if roll < 0.15 else AnswerProbe(request_id, "storm")
            asyncio.get_running_loop().call_later(self.chance.choice((0.0, 0.005, 0.02)), exchange.take, order)

    def post(self, fact: Fact) -> None:
        """Send again what came back."""
        super().post(fact)
        if isinstance(fact, Left):
            self.gone.add(fact.id)
        if isinstance(fact, Returned):
            self.later(fact.id)


async def moody(call: Call, chance: random.Random) -> None:
    """An Ollama that answers, dawdles, breaks off or says nothing at all."""
    mood = chance.random()
    if mood < 0.1:
        call.reset() if mood < 0.05 else call.close()
        return
    if mood < 0.2:
        await call.hung_up()
        return
    await asyncio.sleep(chance.choice((0, 0.005)))
    if mood < 0.4:
        await call.whole(LAST)
        return
    await call.head()
    for number in range(20):
        await call.chunk(LINE)
        await asyncio.sleep(0.001)
        if mood < 0.5 and number == 5:
            call.reset()
            return
    await call.chunk(LAST)
    await call.end()


async def client(world: Wired, chance: random.Random) -> str:
    """A client that reads its answer, or hangs up before or in the middle of it. Says what it got."""
    mood = chance.random()
    await asyncio.sleep(chance.random() * 0.5)
    connection = await world.ask("/api/chat", BODIES["/api/chat"])
    if mood < 0.15:
        await asyncio.sleep(chance.random() * 0.02)
        connection.hang_up()
        return "left"
    if mood < 0.3:
        await connection.head()
        connection.hang_up()
        return "left"
    answer = await connection.answer()
    if answer.status != 200:
        return "refused"
    if not answer.whole:
        return "broken"
    assert answer.body.endswith(LAST) or b'"content":"ok"' in answer.body
    return "whole"


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("seed", range(2))
def test_a_storm(seed: int, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Hundreds of requests, hang-ups, resets, recalls and probes: no fact twice, none missing, nothing left behind;
    on the loop the daemon runs on, and on the one of the other tests."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_storm(seed))


async def _storm(seed: int) -> None:
    chance = random.Random(seed)
    core = RestlessCore(chance)
    async with StubUpstream() as stub:
        stub.scripts["/api/chat"] = lambda call: moody(call, chance)
        async with wired(stub.url, drain=0.05, core=core) as world:
            async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
                heard = [tasks.create_task(client(world, chance)) for _ in range(REQUESTS)]
                # A hung upstream is what a stall watcher ends; here, the core recalls whatever is silent for long.
                watcher = asyncio.ensure_future(_recall_the_silent(world))
                await asyncio.wait(heard)
                watcher.cancel()
            assert await world.listener.drain(5) == 0
            async with asyncio.timeout(5):
                while world.forwarder.runs():  # noqa: ASYNC110 - abandoned answers end by their own time
                    await asyncio.sleep(0.01)
            ends = Counter(fact.id for fact in core.facts if isinstance(fact, Ended))
            returns = Counter(fact.id for fact in core.facts if isinstance(fact, Returned))
            assert core.count(Arrived) > REQUESTS * 0.8
            for request_id, forwards in core.forwards.items():
                assert ends[request_id] <= 1
                assert ends[request_id] + returns[request_id] == forwards, request_id
            assert max(Counter(fact.id for fact in core.facts if isinstance(fact, Left)).values()) == 1
            assert (world.bodies.memory, core.exchanges, world.listener.exchanges) == (0, {}, {})
            outcomes = {fact.outcome for fact in core.facts if isinstance(fact, Ended)}
            assert outcomes >= {"answered", "failed", "abandoned"}
            assert returns.total() > 10
            results = Counter(task.result() for task in heard)
            assert results["whole"] > REQUESTS / 3
            assert {"left", "broken"} <= set(results)


async def _recall_the_silent(world: Wired) -> None:
    while True:
        await asyncio.sleep(0.1)
        for run in world.forwarder.runs():
            if world.core.now() - run.last_byte > 0.3:
                run.exchange.take(Recall(run.exchange.id, "silent"))

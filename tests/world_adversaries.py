"""Clients that mean ill, for the virtual machine: they see every step and ask at the worst moment.

Each is one trick, played from what a step shows; a run has some of them at once. What they may do is only what clients
can do: ask for any model in any class, at any time, and hang up.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence

from scheduler.core import messages as m
from tests.world_model import World
from tests.world_parts import Watcher
from tests.world_script import befall, start
from tests.world_stages import CLASSES, stage_of

FACTS = 200  # after which an attack is over, or
LATEST = 4000.0  # at this second (runs begin at 1000)
SIEGE = 900  # facts of the attacks, one in five, in which the greedy are alone with those whom they keep out
CROWD = 40  # requests of theirs that are open at once, at most


class Adversary:
    """A watcher that asks and hangs up; it rests once `over`. `played` counts what each trick asked for."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(f"adversary {seed}")
        names = sorted(TRICKS)
        self.tricks = self.chance.sample(names, self.chance.randint(1, len(names)))
        self.played: Counter[str] = Counter()
        self.over = False
        self.playing = ""
        self.habit = 0.0  # seconds between two of the habitual
        self.favourite = ""  # the model that the greedy keep busy
        self.classes = self.chance.choice((CLASSES, CLASSES[:1], ("helper",), CLASSES[:2]))

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        """Play every trick that this step invites."""
        if not self.over:
            for trick in self.tricks:
                self.playing = trick
                TRICKS[trick](self, world, fact, orders)

    def ended(self, world: World) -> None:
        """Nothing is kept from one life of the daemon to the next."""

    def ask(self, world: World, model: str, cls: str = "", seconds: float = 0.0) -> None:
        """Ask for `model` so many seconds from now, once what this step ordered is under way."""
        self.played[self.playing] += 1
        session = "" if self.playing in ("just_before", "bursts") else self.playing

        def now() -> None:
            if not self.over and len(world.clients) < CROWD:
                world.arrive(model, "request", cls or self.chance.choice(self.classes), session=session)

        world.after(seconds, now)

    def others(self, world: World, than: Sequence[str]) -> list[str]:
        """Models that are none of these."""
        return [name for name in sorted(world.stage.models) if name not in than]


def greedy(self: Adversary, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
    """Keep the first model that comes busy without a gap: two wait wherever one is served."""
    ready = [name for name in world.machine.state.present if world.machine.state.models[name].state == "ready"]
    if not self.favourite and ready:
        self.favourite = self.chance.choice(ready)
    if isinstance(fact, m.Ended | m.Loaded) and self.favourite:
        mine = sum(client.model == self.favourite for client in world.clients.values())
        for _ in range(3 - mine):
            self.ask(world, self.favourite)


def everywhere(self: Adversary, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
    """Whoever was answered asks at once for the same again, whatever it was."""
    if isinstance(fact, m.Ended):
        models = [order.model for order in orders if isinstance(order, m.Forward)]
        for name in models or world.machine.state.present:
            self.ask(world, name)


def alternating(self: Adversary, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
    """As soon as a model is there, ask for all the others."""
    if isinstance(fact, m.Loaded):
        for name in self.others(world, [fact.model]):
            self.ask(world, name)


def bursts(self: Adversary, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
    """The moment a change is decided, a crowd wants what is to leave."""
    under_way = world.machine.state.transition
    if any(isinstance(order, m.Record) and order.what == "transition begun" for order in orders) and under_way:
        for name in under_way.left:
            for _ in range(self.chance.randint(2, 8)):
                self.ask(world, name)


def helpers(self: Adversary, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
    """A small request for a third model at the instant a change begins."""
    for order in orders:
        if isinstance(order, m.Load | m.Unload):
            for name in self.others(world, [order.model])[:2]:
                self.ask(world, name, "helper")


def just_before(self: Adversary, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
    """A moment before the core wanted to be woken, somebody asks for something else, and who keeps it busy is gone."""
    for order in orders:
        if isinstance(order, m.WakeAt) and order.when > world.now + 1.0:
            seconds = order.when - world.now - 0.01
            self.ask(world, self.chance.choice(sorted(world.stage.models)), seconds=seconds)
            if self.chance.random() < 0.3:
                world.after(seconds, lambda: _hang_up(self, world, list(world.machine.state.present)))


def fickle(self: Adversary, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
    """Those for whom a change was decided hang up while it drains, and ask again."""
    under_way = world.machine.state.transition
    if any(isinstance(order, m.Record) and order.what == "transition begun" for order in orders) and under_way:
        wanted = list(under_way.planned)
        if self.chance.random() < 0.5:
            world.after(self.chance.uniform(0.0, 5.0), lambda: _hang_up(self, world, wanted))
            for name in wanted:
                self.ask(world, name, seconds=5.0)


def habitual(self: Adversary, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
    """Ask for two models in turn, on the dot, until the core expects it; and the moment it acts on that, for others."""
    names = sorted(world.stage.models)
    if isinstance(fact, m.OllamaUp) and not self.habit:
        self.habit = self.chance.uniform(15.0, 60.0)
        for turn in range(40):
            self.ask(world, names[turn % 2], "agent", self.habit * (turn + 1))
    under_way = world.machine.state.transition
    begun = any(isinstance(order, m.Record) and order.what == "transition begun" for order in orders)
    if begun and under_way and under_way.cause == "home":
        for name in self.others(world, under_way.planned):
            self.ask(world, name)


def _hang_up(self: Adversary, world: World, models: Sequence[str]) -> None:
    if not self.over:
        for client in [c for c in world.clients.values() if c.model in models and c.kind == "request"]:
            world.leave(client)


TRICKS: dict[str, Callable[[Adversary, World, m.Fact, Sequence[m.Order]], None]] = {
    trick.__name__: trick for trick in (greedy, everywhere, alternating, bursts, helpers, just_before, fickle, habitual)
}


def beset(policy: str, seed: int, watchers: Sequence[Watcher]) -> tuple[World, Adversary]:
    """A whole run under attack; things go wrong too where the stage of this seed is troubled. Raises Broken, or what
    the core raises."""
    chance = random.Random(f"beset {seed}")
    adversary = Adversary(seed)
    stage = stage_of(policy, seed)
    stage.troubled = chance.random() < 0.35
    world = World(stage, seed, [*watchers, adversary])
    start(world)
    if seed % 5 == 0:
        _besiege(world, adversary)
    else:
        _harass(world, chance)
    adversary.over = True
    world.heal()
    world.rest()
    return world, adversary


def _harass(world: World, chance: random.Random) -> None:
    """Others ask now and then, in between the tricks; something goes wrong where the stage is troubled."""
    names = sorted(world.stage.models)
    while world.facts < FACTS and world.now < LATEST:
        for name in chance.sample(names, chance.randint(1, len(names))):
            world.arrive(name, "request", chance.choice(CLASSES))
        if world.stage.troubled and chance.random() < 0.4:
            befall(world, chance.randrange(256), chance.randrange(256), chance.randrange(256))
        world.advance(chance.choice((1.0, 10.0, 100.0, 400.0)) * chance.random())


def _besiege(world: World, adversary: Adversary) -> None:
    """The greedy keep a model; one of each class waits for each of the others."""
    adversary.tricks = ["greedy"]
    names = sorted(world.stage.models, key=lambda name: world.stage.models[name].real)
    world.arrive(names[-1], "request", "agent")
    world.advance(60.0)
    for name in names[:-1]:
        for cls in CLASSES[:3]:
            world.arrive(name, "request", cls)
    while world.facts < SIEGE and world.now < LATEST:
        world.advance(20.0)

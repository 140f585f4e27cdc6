"""What befalls the virtual machine: a stage drawn from a seed, and a script of bytes, four to each happening.

Bytes rather than lists of values: hypothesis draws and shrinks them fast, and a fixed seed makes the same ones.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from scheduler.core import messages as m
from scheduler.core.commands import Command, Others
from scheduler.core.config import Config
from tests.world_model import World
from tests.world_parts import Runner, Watcher
from tests.world_stages import CLASSES, IMPATIENT, stage_of

GAPS = (0.0, 0.05, 0.5, 2.0, 5.0, 15.0, 40.0, 120.0)
LEAST_FACTS = 30


def some_script(seed: int) -> bytes:
    """A script as hypothesis might draw one, for plays of fixed seeds."""
    chance = random.Random(seed)
    return chance.randbytes(4 * chance.randint(12, 60))


def play(policy: str, script: bytes, seed: int, watchers: Sequence[Watcher] = ()) -> World:
    """A whole run, from the daemon's start to the last answer; raises Broken, or what the core raises."""
    world = World(stage_of(policy, seed), seed, watchers)
    start(world)
    if world.stage.starving:
        starve(world)
    for at in range(0, len(script) - 3, 4):
        what, who, how, gap = script[at : at + 4]
        world.advance(GAPS[gap % 8] * (0.5 + (gap // 8) / 32))
        befall(world, what, who, how)
    if world.stage.starving:
        world.advance(900.0)
    while world.facts < LEAST_FACTS:
        world.advance(1.0)
        world.arrive(_name(world, world.facts), "request")
    world.heal()
    world.rest()
    return world


def start(world: World) -> None:
    """What a daemon learns first."""
    world.post(m.Started(world.now, "1.0"))
    world.memory()
    world.listing()
    world.up()
    if world.stage.quiet:
        world.post(m.QuietSet(world.now, True, "a schedule"))
    world.advance(world.some(0.0, 0.6))


def starve(world: World) -> None:
    """Agents whose requests overlap keep one model busy; one of each class waits for every other."""
    names = sorted(world.stage.models)
    busy = world.chance.randrange(len(names))
    for cls in CLASSES[:3]:
        world.arrive(names[busy], "request", cls, again=60)
    for name in names[:busy] + names[busy + 1 :]:
        world.arrive(name, "request", world.chance.choice(CLASSES))


def befall(world: World, what: int, who: int, how: int) -> None:
    """One happening; `who` and `how` say to whom and in what way."""
    if how % 5 == 0:
        world.after(world.some(0.0, 5.0), world.look)
    for limit, happening, ill in _TABLE:
        if what < limit:
            (_arrival if ill and world.calm else happening)(world, who, how)
            return


def _name(world: World, who: int) -> str:
    names = sorted(world.stage.models)
    return names[who % len(names)]


def _arrival(world: World, who: int, how: int) -> None:
    kinds: tuple[m.Kind, ...] = ("request",) * 12 + ("preload", "probe", "probe", "unload")
    if how == 255 and world.stage.troubled:
        world.arrive(_name(world, who), "replace")
        return
    world.arrive(_name(world, who), kinds[how % 16], CLASSES[how // 16 % 4])


def _burst(world: World, who: int, how: int) -> None:
    for n in range(3 + how % 6):
        world.arrive(_name(world, who + n * (how // 64)), "request", CLASSES[(how // 8 + n) % 4])


def _loop(world: World, who: int, how: int) -> None:
    """Agents that ask again as soon as they are answered."""
    for n in range(2 + how % 2):
        world.arrive(_name(world, who), "request", CLASSES[(how // 8 + n) % 4], again=6 + how // 4)


def _probes(world: World, who: int, how: int) -> None:
    for name in sorted(world.stage.models):
        world.arrive(name, "probe")


def _hang_up(world: World, who: int, how: int) -> None:
    there = [client for client in world.clients.values() if not client.left]
    if there and how < 64:
        for client in there:
            world.leave(client)
    elif there:
        world.leave(there[who % len(there)])


def _kill(world: World, who: int, how: int) -> None:
    if not world.alive:
        return
    orphaned = how % 4 == 0
    world.kill(orphaned=orphaned)
    pause = (0.2, 3.0, 20.0, 100.0)[who % 4]
    if pause > 1.0:
        world.after(0.5, lambda: world.post(m.OllamaDown(world.now, "connection refused")))
    world.after(pause, world.revive)
    if orphaned:
        world.after(pause + world.some(0.0, 200.0), lambda: _orphans_end(world))


def _orphans_end(world: World) -> None:
    if world.orphans:
        world.orphans = 0
        world.memory()


def _hiccup(world: World, who: int, how: int) -> None:
    """Ollama does not answer for a moment; nothing in it changes."""
    world.post(m.OllamaDown(world.now, "timed out"))
    world.after(0.2 + how / 50, world.up)


def _stranger(world: World, who: int, how: int) -> None:
    """Somebody else loads, unloads, reloads or kills a model."""
    name = _name(world, who)
    runner = world.runners.get(name)
    if not world.alive or name in world.unloading or world.loading is not None:
        return
    if runner is None:
        fits = sum(r.size for r in world.runners.values()) + world.orphans + world.real(name) <= world.stage.device
        if name in world.installed and not world.gates_admit(name) and fits:
            world.changed()
            world.runners[name] = Runner(name, world.real(name), world.installed[name].context)
    elif how % 4 == 0 and not world.outstanding(name):
        world.changed()
        runner.context = 2048
    elif how % 8 == 2:
        world.changed()
        runner.size += runner.size // 50  # it has grown
    else:
        world.changed()
        del world.runners[name]
        for client in world.outstanding(name):
            world.after(world.some(0.0, 0.5), partial(world.broken_off, client, client.run))
    if how % 2:
        world.after(world.some(0.0, 5.0), world.look)


def _budget(world: World, who: int, how: int) -> None:
    world.budget = world.stage.budget * (6, 7, 8, 9, 10, 10, 10, 10)[how % 8] // 10
    match who % 4:
        case 0:
            world.memory(pressure="critical", whole=world.stage.budget)
        case 1:
            world.memory(configured=True)
        case _:
            world.memory()


def _phase(world: World, who: int, how: int) -> None:
    if how % 4 == 0:
        world.post(m.QuietSet(world.now, how % 8 == 0, "a schedule"))
    phases = world.config.phases
    world.post(m.PhaseSet(world.now, phases[who % len(phases)].name, "a person"))


def _person(world: World, who: int, how: int) -> None:
    """A person commands something; what the core objects to changes nothing."""
    name = _name(world, who)
    others: Others = "refuse" if how % 3 == 0 else "wait"
    there = sorted(world.clients)
    commands: tuple[Command, ...] = (
        m.Pinned(world.now, name, world.now + 2.0 * how, "a person", others),
        m.Unpinned(world.now, name, "a person"),
        m.LoadAsked(world.now, name, "a person"),
        m.UnloadAsked(world.now, name if how % 2 else "", "a person"),
        m.Paused(world.now, "a person", world.now + how if how % 2 else None, others),
        m.Resumed(world.now, "a person"),
        m.Cancelled(world.now, there[who % len(there)] if there else "nobody", "a person"),
    )
    command = commands[how % len(commands)]
    told = world.machine.objection(command)
    world.post(command)
    if told is None and isinstance(command, m.Paused):
        world.after(300.0, lambda: world.post(m.Resumed(world.now, "a person")))


def _reload(world: World, who: int, how: int) -> None:
    config = replace(world.config, patience=(IMPATIENT, Config().patience)[how % 2])
    models = tuple(replace(model, parallel=1 + (how // 2) % config.num_parallel) for model in config.models)
    config = replace(config, models=models)
    match how // 32:
        case 0:
            config = replace(config, sets=config.sets[1:] or world.stage.config.sets)
        case 1:
            config = replace(config, max_loaded=5 - config.max_loaded)
        case 2:
            config = replace(config, phases=world.stage.config.phases[: 1 + who % 3])
        case 3:
            config = replace(config, sets=world.stage.config.sets, phases=world.stage.config.phases)
        case _:
            pass
    world.config = config
    world.post(m.Reloaded(world.now, world.config))


def _gap(world: World, who: int, how: int) -> None:
    world.post(m.ClockGap(world.now, 60.0 + how))


def _deleted(world: World, who: int, how: int) -> None:
    """A model is deleted, or pulled anew with another size and context, or everything is back."""
    name = _name(world, who)
    if how % 8 == 2 and name in world.installed:
        world.remade(name, str(how))
    elif how % 2 and len(world.installed) > 1:
        world.installed.pop(name, None)
    else:
        world.installed = dict(world.stage.models)
    world.listing()


def _wedge(world: World, who: int, how: int) -> None:
    runners = list(world.runners.values())
    if runners:
        world.wedge(runners[who % len(runners)])


def _bad_loads(world: World, who: int, how: int) -> None:
    world.trouble.loads += ["never ends"] if how % 4 == 0 else ["fails"] * (1 + how % 4)


def _bad_unloads(world: World, who: int, how: int) -> None:
    world.trouble.unloads += 1 + how % 2


def _daemon_restarts(world: World, who: int, how: int) -> None:
    """A new daemon, which knows nothing; the connections of the old one are cut."""
    world.restart()
    start(world)


def _stops(world: World, who: int, how: int) -> None:
    if how < 32:
        world.stopped = True
        world.post(m.Stopping(world.now))


def _quiet(world: World, who: int, how: int) -> None:
    world.advance((40.0, 100.0, 200.0, 700.0)[how % 4])


_TABLE: Sequence[tuple[int, Callable[[World, int, int], None], bool]] = (
    (120, _arrival, False),
    (136, _burst, False),
    (142, _loop, False),
    (150, _probes, False),
    (166, _hang_up, False),
    (172, _kill, True),
    (175, _hiccup, True),
    (186, _stranger, True),
    (194, _budget, True),
    (200, _phase, False),
    (204, _person, False),
    (209, _reload, False),
    (212, _gap, False),
    (217, _deleted, True),
    (228, _wedge, True),
    (235, _bad_loads, True),
    (239, _bad_unloads, True),
    (242, _daemon_restarts, False),
    (245, _stops, True),
    (256, _quiet, False),
)
"""What happens for which first byte; the last column: an ill that spares calm worlds."""

"""The stated bound of promise 4, piece by piece: when whoever waits for an absent model must see the change begin.

A forced change costs everybody: the host works for nobody while it unloads and loads. So no patience counts for less
than `floor`, which has two parts. FLOOR x S, S being one round through the contended sets, keeps all forced changes
together below 1/FLOOR of the time. BACKLOG x the work that waits keeps them from coming before the backlog could have
been served anyway: in a long line everybody is overdue, and a scheduler that only asks who is overdue only swaps. A few
clients that ask again as soon as they are answered never have a long line, however much they ask, so that their endless
demand does not put the others off; nobody needs to be told apart for that.
"""

from policies.world import Model, World

FLOOR = 2.5  # forced changes take at most 1/FLOOR of the time (scheduling study, phi = 0.4)
BACKLOG = 8.0  # times the seconds of work that wait
KNOWN = 0.58  # what one with a known session counts of it: nobody asks again before his answer
CEILING = 10.0  # x S: what the backlog may put off a forced change to
AHEAD = 0.96  # share of what a change probably takes, that is begun before it is due
SHARE = 0.5  # of its part of the floor that a resident keeps its place against a forced change
SHORTEST_TURN = 5.0  # seconds a forced-in model keeps its place at least


def floor(world: World) -> float:
    """Seconds that every patience is at least: the larger of FLOOR x S (S: over the contended sets, load, unload and
    mean service) and BACKLOG x the seconds of work that wait, the latter at most CEILING x S (P4)."""
    seconds = world.derived(cycle)[0]
    return max(FLOOR * seconds, min(BACKLOG * work(world), CEILING * seconds))


def lead(world: World, model: Model) -> float:
    """Seconds that a change to `model` will take from its beginning, about: who works is waited for, who leaves is
    unloaded, `model` is loaded."""
    members = set_of(world, model.name)
    for name, seconds in world.derived(_drains):
        if name not in members:
            return AHEAD * (seconds + model.load_seconds)
    return AHEAD * model.load_seconds


def _drains(world: World) -> list[tuple[str, float]]:
    """Who works, and after how many seconds it could be out of memory, about; the longest first."""
    drains = [(model.name, model.service_seconds + model.unload_seconds) for model in world.present if model.serving]
    return sorted(drains, key=lambda drain: -drain[1])


def turn(world: World) -> float:
    """Seconds that a resident with requests waiting keeps its place against a forced change (P4)."""
    count = world.derived(cycle)[1]
    return max(SHORTEST_TURN, SHARE * floor(world) / max(1, count))


def work(world: World) -> float:
    """Seconds until everything that waits now would be served, if the changes between were free: over the models that
    somebody waits for, requests x mean service / slots."""
    return sum(
        [
            (model.anonymous + KNOWN * (model.waiting - model.anonymous)) * model.service_seconds / model.parallel
            for model in world.demanded
        ]
    )


def cycle(world: World) -> tuple[float, int]:
    """Over the contended sets (those somebody waits for, or that serve somebody): the sum of load, unload and mean
    service seconds, and how many there are."""
    wanted: dict[tuple[str, ...], None] = {}
    for model in world.demanded:
        wanted.setdefault(set_of(world, model.name))
    for model in world.present:
        if model.serving:
            wanted.setdefault(set_of(world, model.name))
    seconds = 0.0
    for members in wanted:
        service = 0.0
        for name in members:
            model = world.models[name]
            seconds += model.load_seconds + model.unload_seconds
            service += model.service_seconds
        seconds += service / len(members)
    return seconds, len(wanted)


def set_of(world: World, name: str) -> tuple[str, ...]:
    """The first allowed set of the model; one that the phase excludes stands for itself."""
    sets = world.sets_of(name)
    return sets[0] if sets else (name,)

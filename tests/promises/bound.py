"""P4's bound: how long a request may wait for the change to its model to begin, by the durations that occurred."""

from collections.abc import Sequence

from scheduler.core import messages as m
from scheduler.core.state import CoreState, TransitionState
from tests.promises.promise import Promise, alive, healthy, set_of
from tests.world_model import World


class Spell:
    """A model is away and wanted: what happened meanwhile, in seconds."""

    __slots__ = (
        "counted",
        "counted_before",
        "floor",
        "longest_change",
        "longest_service",
        "others",
        "patience",
        "started",
        "turn",
    )

    def __init__(self) -> None:
        self.counted = self.counted_before = 0.0
        self.floor = self.turn = self.longest_service = self.longest_change = 0.0
        self.others: set[tuple[str, ...]] = set()
        self.started: dict[str, float] = {}
        self.patience: dict[str, float] = {}


class Bound(Promise):
    """With Ollama and memory healthy, a request whose model is away sees the change to it begin (our first unload or
    load order for it) within B(class) = max(patience, floor) + longest running request + transitions already committed
    + one forced turn for each other contended set, with the durations that occurred."""

    name = "P4 (bound)"

    def __init__(self) -> None:
        super().__init__()
        self._reset(0.0)

    def _reset(self, at: float) -> None:
        self.at = at
        self.spells: dict[str, Spell] = {}
        self.transition: TransitionState | None = None
        self.began = 0.0
        self.counting = False
        self.paused: dict[str, float] = {}

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        state = world.machine.state
        if world.config.policy != "default":
            return
        self._pass(world.now)
        self._transitions(state, world.now)
        self._surroundings(world, state)
        away = {n for n in state.demanded if state.models[n].waiting and not state.models[n].usable}
        for name in [n for n in self.spells if n not in away]:
            del self.spells[name]
        for name in away:
            self.spells.setdefault(name, Spell())
        self._surroundings(world, state)
        self._begun(world, state)
        self.paused = {name: state.models[name].not_before for name in self.spells}
        self.counting = self._counts(state)

    def _pass(self, now: float) -> None:
        """The time since the last step counts for those whom nothing ill held up."""
        for name, spell in self.spells.items():
            since = max(self.at, self.paused.get(name, 0.0))
            if self.counting and now > since:
                spell.counted += now - since
        self.at = now

    def _counts(self, state: CoreState) -> bool:
        transition = state.transition
        models = [state.models[name] for name in state.present]
        held = state.orphans + sum(model.held for model in models)
        well = healthy(state) and not state.stopping and not state.memory_is_short
        well = well and not state.orphans and held <= (state.budget or 0)
        well = well and not state.pins and not any(model.replacing for model in state.models.values())
        if not well or any(model.stalled or model.stays_until > self.at for model in models):
            return False
        if transition is not None:
            return transition.cause == "demand"
        return not any(model.state in ("loading", "leaving") for model in models)

    def _transitions(self, state: CoreState, now: float) -> None:
        """What a transition took, once it is over; one that failed is not counted."""
        transition = state.transition
        if transition is self.transition:
            return
        if self.transition is not None:
            failed = bool(self.transition.leave or self.transition.load)
            for spell in self.spells.values():
                spell.longest_change = max(spell.longest_change, now - self.began)
                if failed:
                    spell.counted = min(spell.counted, spell.counted_before)
        self.transition, self.began = transition, now
        for spell in self.spells.values():
            spell.counted_before = spell.counted

    def _begun(self, world: World, state: CoreState) -> None:
        """A transition for it has given its first order: its waiting ends here, within the bound or not."""
        transition = state.transition
        for name, spell in list(self.spells.items()):
            heads = [c for c in alive(world, name) if c.kind == "request" and c.place == "waiting"]
            first = transition is not None and name in transition.planned and transition.first_order is not None
            for client in heads:
                since = spell.started.setdefault(client.id, spell.counted)
                waited = spell.counted - since
                patience = dict(world.config.patience)[client.cls]
                spell.patience[client.id] = max(patience, spell.patience.get(client.id, 0.0))
                bound = self._bound(spell, spell.patience[client.id])
                self.hold(waited <= bound, f"{client} has waited {waited:.0f} s of {bound:.0f} for {name}")
            if first:
                del self.spells[name]

    def _bound(self, spell: Spell, patience: float) -> float:
        turn = spell.longest_change + spell.turn + spell.longest_service
        return (
            max(patience, spell.floor) + spell.longest_service + spell.longest_change + len(spell.others) * turn + 1.0
        )

    def _surroundings(self, world: World, state: CoreState) -> None:
        if not self.spells:
            return
        sent = [c for c in world.clients.values() if c.place == "sent"]
        service = max((world.now - c.sent_at for c in sent), default=0.0)
        change = world.now - self.began if self.transition is not None else 0.0
        served = {c.model for c in sent if c.kind == "request" and not c.left}
        contended = {set_of(state, name) for name in served | set(state.demanded)}
        floor, turn = _floor_and_turn(state, contended)
        for name, spell in self.spells.items():
            spell.floor = max(spell.floor, floor)
            spell.turn = max(spell.turn, turn)
            spell.longest_service = max(spell.longest_service, service)
            spell.longest_change = max(spell.longest_change, change)
            spell.others |= contended - {set_of(state, name)}

    def ended(self, world: World) -> None:
        self._reset(world.now)


def _floor_and_turn(state: CoreState, contended: set[tuple[str, ...]]) -> tuple[float, float]:
    """The floor, 2.5 x the sum of load, unload and mean service over the contended sets, and the turn that a model
    forced in has: the floor over twice their number, or 5 s."""
    total = 0.0
    for members in contended:
        models = [state.models[name] for name in members]
        total += sum(model.load_seconds + model.unload_seconds for model in models)
        total += sum(model.service_seconds for model in models) / len(models)
    floor = 2.5 * total
    return floor, max(5.0, floor / (2 * max(1, len(contended))))

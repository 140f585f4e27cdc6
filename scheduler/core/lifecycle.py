"""The stay of one model in memory, as a table of legal moves; every change of a model's state goes through `move`."""

from policies.world import State
from scheduler.core import learned
from scheduler.core.state import CoreState, ModelState

MOVES: dict[tuple[State, State], str] = {
    ("absent", "loading"): "a load was ordered",
    ("absent", "ready"): "seen resident without an order of ours: adopted",
    ("loading", "ready"): "the load is done and seen",
    ("loading", "absent"): "the load failed",
    ("ready", "draining"): "a transition sends it away: it admits nothing more",
    ("ready", "absent"): "it vanished",
    ("draining", "ready"): "the transition was called off",
    ("draining", "leaving"): "it serves nobody: an unload was ordered",
    ("draining", "absent"): "it vanished",
    ("leaving", "absent"): "seen gone",
    ("leaving", "ready"): "the unload did not happen: it is still there",
}


class IllegalMove(Exception):
    """A bug of ours: something asked for a step the law forbids. Caught nowhere; the journal replays it."""


def move(state: CoreState, model: ModelState, to: State, at: float) -> None:
    """Move `model` to `to` at `at`, booking or returning its memory. Raises IllegalMove."""
    if (model.state, to) not in MOVES:
        raise IllegalMove(f"{model.name}: {model.state} -> {to}")
    if to == "absent":
        model.held = 0
        model.away_since = at
        model.context = 0
        model.kept_failures = 0
        model.stays_until = 0.0
        model.wrong_context = model.stalled = False
        model.idle_engine_since = model.last_cut = None
        state.present.pop(model.name, None)
        if model.state != "loading":
            learned.gone(state, model)
    else:
        state.present.setdefault(model.name)
        model.sent_away = model.sent_away and model.state != "absent"
        if model.state == "absent" and to == "ready":
            learned.came(model)
    state.revision += 1
    model.state = to
    model.since = at
    model.abandoned_load = False

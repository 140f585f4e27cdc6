"""When Ollama itself is restarted: what hangs in it cannot be mended by unloading, its service is known, and the user
allowed it. What still answers is drained first, for so long; what runs then is ended, with its dialect's error.
"""

from collections.abc import Iterator

from scheduler.core.messages import Order, Recall, Record, Restarted, RestartOllama
from scheduler.core.requests import look
from scheduler.core.state import CoreState

KEPT = 2  # unloads in a row that a stalled runner may ignore


def order(state: CoreState) -> list[Order]:
    """Want a restart, wait for what runs, order it, or forget it because things are well again."""
    if state.config.restart_every is None or state.restarting or state.stopping or state.passthrough:
        state.restart_wanted = ""
        return []
    because = _beyond_unloading(state)
    if not because:
        state.restart_wanted = ""
        return []
    orders: list[Order] = []
    if not state.restart_wanted:
        if state.at < _allowed_from(state):
            return []
        state.restart_wanted, state.restart_since = because, state.at
        state.revision += 1
        orders.append(Record("", "restart wanted", because))
    if _running(state) and state.at < state.restart_since + state.config.restart_drain:
        return orders
    for request_id in _running(state):
        state.requests[request_id].place = "recalled"
        orders.append(Recall(request_id, f"Ollama is restarted: {because}"))
    state.restarting, state.restarted_at, state.restart_wanted = True, state.at, ""
    return [*orders, RestartOllama(because)]


def done(state: CoreState, fact: Restarted) -> list[Order]:
    """It was restarted, or could not be: either way what is resident is read."""
    state.restarting = False
    state.restart_error = fact.error
    state.revision += 1
    if not fact.error:
        state.restarts += 1
        state.hung = False  # said of the one that is gone
    what = Record("", "Ollama not restarted" if fact.error else "Ollama restarted", fact.error or "as ordered")
    return [what] if state.ollama == "down" else [what, *look(state, "Ollama was restarted")]


def next_due(state: CoreState) -> Iterator[float]:
    """The times at which `order` may have something to do."""
    if state.config.restart_every is None or state.restarting:
        return
    if state.restart_wanted:
        yield state.restart_since + state.config.restart_drain
    elif state.ollama == "down" and state.hung:
        yield max(state.ollama_since + state.config.stall_after_cut, _allowed_from(state))
    elif _beyond_unloading(state):
        yield _allowed_from(state)


def _beyond_unloading(state: CoreState) -> str:
    """What hangs and cannot be mended by unloading; empty for nothing."""
    if state.ollama == "down":
        silent = state.at - state.ollama_since
        hangs = state.hung and silent >= state.config.stall_after_cut
        return f"it takes connections and has answered nothing for {silent:.0f} s" if hangs else ""
    for name in state.present:
        model = state.models[name]
        if model.stalled and model.kept_failures >= KEPT:
            return f"{name} is stalled and did not leave when told to {model.kept_failures} times"
    return ""


def _allowed_from(state: CoreState) -> float:
    every = state.config.restart_every or 0.0
    return 0.0 if state.restarted_at is None else state.restarted_at + every


def _running(state: CoreState) -> list[str]:
    """Requests that run and are not ended yet."""
    return [request.id for request in state.requests.values() if request.place == "running"]

"""What the passing of time alone does: give up, Ollama too long away, a load past its limit; and when to look next."""

from collections.abc import Iterator

from scheduler.core import idle, operator, pressure, requests, restarts
from scheduler.core.messages import AbandonLoad, Order
from scheduler.core.refusals import RETRY_AFTER
from scheduler.core.state import CoreState, ModelState, Request

LONGEST_LOAD = 600.0  # seconds: the least limit of a load ("auto")
SLOWEST = 5.0  # times the learned load


def expire(state: CoreState) -> list[Order]:
    """Refuse who waited too long; abandon a load that takes too long."""
    orders = pressure.expire(state) + operator.expire(state)
    config = state.config
    while (oldest := _oldest(state)) is not None and state.at >= oldest.arrived + config.give_up:
        message = f"gave up after {config.give_up:.0f} s: {state.verdict or 'its model could not be loaded'}"
        orders.append(requests.refuse(state, oldest, 503, message, "give up", RETRY_AFTER))
    while state.ollama != "up" and (oldest := _oldest(state)) is not None and state.at >= _away_due(state, oldest):
        message = f"ollama is not reachable: {state.ollama_error or 'never answered'}"
        orders.append(requests.refuse(state, oldest, 503, message, "Ollama is away", RETRY_AFTER))
    for model in _loading(state):
        if state.at >= model.since + load_limit(state, model) and not model.abandoned_load:
            model.abandoned_load = True
            orders.append(AbandonLoad(model.name, f"loading took over {load_limit(state, model):.0f} s"))
    return orders


def next_due(state: CoreState) -> float | None:
    """The next time at which `expire` has something to do; None for never."""
    times = []
    for name in state.present:
        model = state.models[name]
        if model.state == "loading" and not model.abandoned_load:
            times.append(model.since + load_limit(state, model))
        if model.stays_until > state.at:
            times.append(model.stays_until)
    times += [*operator.next_due(state), *restarts.next_due(state), *idle.next_due(state)]
    if (grown := pressure.next_due(state)) is not None:
        times.append(grown)
    oldest = _oldest(state)
    if oldest is not None:
        times.append(oldest.arrived + state.config.give_up)
        if state.ollama != "up":
            times.append(_away_due(state, oldest))
    return min(times, default=None)


def load_limit(state: CoreState, model: ModelState) -> float:
    """Seconds after which a load of `model` has failed."""
    if state.config.load_limit is not None:
        return state.config.load_limit
    return max(LONGEST_LOAD, SLOWEST * model.load_seconds)


def _away_due(state: CoreState, request: Request) -> float:
    return max(request.arrived, state.ollama_since) + state.config.ollama_wait


def _loading(state: CoreState) -> Iterator[ModelState]:
    return (state.models[name] for name in state.present if state.models[name].state == "loading")


def _oldest(state: CoreState) -> Request | None:
    """The waiting request or wish that arrived first; those that run stand before it, and they are few."""
    for request in state.requests.values():
        if request.place == "waiting":
            return request
    return None

"""Wishes of clients, which are no commands: prompt-less loads and unloads, answered as Ollama answers them."""

from policies.verdict import Change
from scheduler.core import naming, refusals, requests
from scheduler.core.messages import AnswerWish, Arrived, Order, Record
from scheduler.core.state import CoreState, ModelState
from scheduler.core.view import WorldView


def grant(state: CoreState, world: WorldView) -> list[Order]:
    """Preloads of a model that is there are answered; they take no slot."""
    orders: list[Order] = []
    for name in list(state.demanded) if world.healthy else ():
        model = state.models[name]
        if model.preloads and model.usable:
            for request in list(model.preloads.values()):
                requests.granted(state, request)
                orders.append(AnswerWish(request.id, f"{name} is loaded"))
    return orders


def unload(state: CoreState, world: WorldView, fact: Arrived) -> tuple[list[Order], Change | None]:
    """The answer to a wish to unload, which is given at once, and the change that follows it, if it is followed."""
    name = naming.known_as(state, fact.model)
    model, client = state.models[name], fact.client or "a client"
    against = _against(state, world, model)
    if against is not None:
        state.wishes_refused += 1
        refused = Record(name, "wish refused", f"{client} would have it unloaded: {against}")
        return [AnswerWish(fact.id, against, granted=False), refused], None
    if model.state != "ready":
        return [AnswerWish(fact.id, f"{name} is not in memory")], None
    return [AnswerWish(fact.id, f"nobody wants {name}")], Change((name,), (), f"asked for by {client}", cause="asked")


def _against(state: CoreState, world: WorldView, model: ModelState) -> str | None:
    """Why `model` is not unloaded at a client's wish; None if it is, or if it is not there anyway."""
    if not world.healthy:
        return "what is in memory is not known now"
    if model.state == "absent":
        return None
    if model.state != "ready" or state.transition is not None or state.stopping:
        return "what is in memory is changing now"
    if model.serving or model.waiting or model.wishes:
        return f"{model.serving} of its requests run and {model.waiting + model.wishes} wait"
    if model.running or model.replacing:
        return "it is still at work"
    if model.pinned:
        return refusals.pinned(state, state.pins[model.name])
    if model.keep:
        return "it is declared to be kept"
    return "it did not leave when told to a moment ago" if model.stays_until > state.at else None

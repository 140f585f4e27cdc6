"""What is switched on and off, by a person or a schedule: passthrough, and quiet, when nothing is loaded unasked."""

from scheduler.core import requests, transition
from scheduler.core.commands import PassthroughSet, QuietSet
from scheduler.core.messages import Order, Record
from scheduler.core.state import CoreState


def pass_through(state: CoreState, fact: PassthroughSet) -> list[Order]:
    """Let everything through, or schedule it again."""
    state.verdict = "everything passes through" if fact.on else ""
    if not fact.on:
        state.passthrough = ""
        state.strays = {i: None for i, request in state.requests.items() if request.place != "waiting"}
        return [Record("", "passthrough off", f"by {fact.by}"), *requests.look(state, "everything passed through")]
    state.passthrough = fact.by
    state.paused = None
    state.asked.clear()
    state.asked_out.clear()
    orders: list[Order] = [Record("", "passthrough on", f"by {fact.by}")]
    orders += transition.abort(state, "everything passes through")
    return orders + requests.let_through(state)


def quiet(state: CoreState, fact: QuietSet) -> list[Order]:
    """What was going home unasked stops where it stands."""
    state.quiet = fact.by if fact.on else ""
    orders: list[Order] = [Record("", f"quiet {'on' if fact.on else 'off'}", f"by {fact.by}")]
    going_home = state.transition is not None and state.transition.cause == "home"
    return orders + transition.abort(state, f"quiet by {fact.by}") if fact.on and going_home else orders

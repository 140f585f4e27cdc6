"""What those who wait are waiting for, in words, and how long it should take; read from the core's state alone.

`/status` and `why` both speak from here, so that they cannot contradict each other.
"""

from collections.abc import Mapping, Sequence

from policies import fit
from scheduler.core import pins, residency, sizes
from scheduler.core.deadlines import load_limit
from scheduler.core.state import CoreState, ModelState, Pin, TransitionState
from scheduler.core.view import Sets, WorldView
from scheduler.status_schema import Fit

LEARNED = (0.7, 1.5)  # a load once measured takes between these shares of what is expected
RECKONED = (0.2, 3.0)  # one that is only reckoned from its size


class EmptyMemory(WorldView):
    """The world with nobody's leftovers in memory and no pressure: whether a set can be held is no matter of today."""

    @property
    def budget(self) -> int:
        return max(self._state.budget or 0, self._state.whole)

    @property
    def orphans(self) -> int:
        return 0

    @property
    def unreachable(self) -> Mapping[str, int]:
        return {}


IDS = "`ollama-scheduler status --json` has the ids of those that wait or run, the log those of all"


def short(name: str) -> str:
    """A model's name as people say it."""
    return name.removesuffix(":latest")


def gigabytes(count: int) -> str:
    """Bytes for people, in units of 10^9."""
    return f"{count / 1e9:.1f} GB"


def size_of(state: CoreState, members: Sequence[str]) -> int:
    """Bytes that these models need together, as far as they are known."""
    return sum(state.models[name].size for name in members if name in state.models)


def fit_of(state: CoreState, sets: Sets, members: Sequence[str]) -> Fit:
    """Whether these models can be held together, by the budget and by Ollama's own gates."""
    if state.budget is None:
        return "unknown"
    if size_of(state, members) > max(state.budget, state.whole):
        return "too_large"
    models = [state.models[name] for name in members if name in state.models]
    return "fits" if fit.holdable(EmptyMemory(state, sets), models) else "no_order"


def expected(state: CoreState, transition: TransitionState) -> tuple[float, float]:
    """Seconds the whole transition should take, at least and at most: drain, unloads and loads."""
    leave = [state.models[name] for name in transition.left if name in state.models]
    load = [state.models[name] for name in transition.planned if name in state.models]
    least = most = sum(model.unload_seconds for model in leave)
    for model in load:
        low, high = LEARNED if model.load_learned is not None else RECKONED
        least += low * model.load_seconds
        most += high * model.load_seconds
    drain = max((model.service_seconds for model in leave if model.running), default=0.0)
    return least, most + RECKONED[1] * drain


def trouble(state: CoreState, model: ModelState, now: float) -> str:
    """What is wrong with `model`; empty where nothing is."""
    if model.same_as:
        return ""
    if state.listed is not None and not model.installed and model.state == "absent":
        return "not installed"
    if model.stalled:
        return f"stalled: {model.last_error}"
    if model.wrong_context:
        return f"resident with {model.context} tokens of context, not {sizes.expected_context(state, model)}"
    if model.state == "loading" and model.abandoned_load:
        return f"loading for {now - model.since:.0f} s, over its limit of {load_limit(state, model):.0f} s"
    if model.kept_failures:
        return f"{model.kept_failures} unloads of it failed: {model.last_error}"
    told = model.failures >= residency.TRIES or model.not_before > now or model.name in state.demanded
    if model.failures and told:  # a single failure that nobody waits for any more is history
        return f"its load failed {model.failures} times: {model.last_error}"
    return ""


def ends_in(until: float | None, now: float) -> str:
    """When something ends, as words to follow what it is; empty where it has no end."""
    return "" if until is None else f" for another {max(0.0, until - now):.0f} s"


def pin_against(state: CoreState, name: str) -> Pin | None:
    """The pin that must end before model `name` can be held; None where none must."""
    if not state.pins or state.budget is None or name not in state.models:
        return None
    return pins.kept_out(state, WorldView(state, Sets(state.config, state.phase)), name)


def waits(seconds: Sequence[float]) -> str:
    """A range of waiting, as `scheduler.waits` reckons it, as a sentence."""
    return f"By what was measured it gets its slot in {spread(seconds)}, in eight cases of ten."


def spread(seconds: Sequence[float]) -> str:
    """At least and at most so many seconds, for people."""
    least, most = (round(each) for each in seconds)
    return f"about {most} s" if least == most else f"{least} to {most} s"


def there(expected: Sequence[float], wait: Sequence[float] | None) -> list[float]:
    """Seconds until a model is there: `expected`, but never later than the slot in it, whose `wait` is by what was
    measured and so the better known."""
    return [min(pair) for pair in zip(expected, wait or expected, strict=True)]


def waits_for(state: CoreState, model: ModelState, now: float) -> str:
    """What a request that waits for `model` is waiting for."""
    known = _for_the_world(state, now) or _for_the_model(state, model, now)
    return known or (f"its turn: {state.verdict}" if state.verdict else "its turn")  # a verdict is a sentence


def _for_the_world(state: CoreState, now: float) -> str:
    if state.ollama == "down":
        return f"Ollama, which does not answer: {state.ollama_error}"
    if state.ollama == "unknown":
        return "Ollama, which has not answered yet"
    if state.budget is None:
        return "the memory budget, which is not known yet"
    if state.looking:
        return "what is resident, which is being read"
    if state.paused is not None:
        return f"the pause by {state.paused.owner} to end{ends_in(state.paused.until, now)}"
    return ""


def _for_the_model(state: CoreState, model: ModelState, now: float) -> str:
    transition = state.transition
    if model.usable and model.running >= model.parallel:
        return f"a free slot: {model.running} of {model.parallel} taken"
    if model.state == "loading":
        return "its load"
    if model.replacing:
        return "its replacement or deletion, which is under way"
    pin = pin_against(state, model.name)
    if pin is not None:
        return f"the pin of {short(pin.model)} by {pin.owner} to end{ends_in(pin.until, now)}"
    if transition is not None:
        return _for_the_change(state, model, transition)
    if state.memory_is_short and not model.usable and model.size > (state.budget or 0):
        return f"memory, which is short: it needs {gigabytes(model.size)} and {gigabytes(state.budget or 0)} are left"
    if model.stalled:
        return f"its runner to be healed: {model.last_error}"
    if model.not_before > now:
        return f"the next try of its load in {model.not_before - now:.0f} s; the last failed: {model.last_error}"
    return ""


def _for_the_change(state: CoreState, model: ModelState, transition: TransitionState) -> str:
    leaving = [name for name in transition.leave if name in state.models]
    if model.name not in transition.load:
        return f"the change under way to end: {transition.because}"
    if leaving:
        busy = sum(state.models[name].running for name in leaving)
        drain = f", {busy} running there" if busy else ""
        return f"{' and '.join(map(short, leaving))} to leave{drain}"
    ahead = transition.load[: transition.load.index(model.name)]
    return f"{' and '.join(map(short, ahead))} to be loaded first" if ahead else "its load"

"""The judgement of `/status`: one word, one sentence, and what a person has to do about it."""

from collections.abc import Callable, Iterator

from scheduler.core import sizes
from scheduler.core.state import CoreState, ModelState, TransitionState
from scheduler.core.view import Sets
from scheduler.ledger import Ledger
from scheduler.outlook import (
    ends_in,
    expected,
    fit_of,
    gigabytes,
    pin_against,
    short,
    size_of,
    trouble,
    waits_for,
)
from scheduler.status_schema import Need, Verdict

ORPHANS_PATIENCE = 5.0  # seconds that orphans may take to end by themselves
FAILURES = 3  # loads in a row after which somebody should look
IDLE_PATIENCE = 60.0  # seconds somebody may wait while nothing runs, changes or is to be tried again

SUSPENDED = ("P1", "P2", "P4", "P5", "P6", "P8")  # promises that do not hold while everything passes through

Clock = Callable[[float], str]
"""Monotonic seconds as ISO-8601 UTC."""


def needs(state: CoreState, now: float, iso: Clock, ledger: Ledger, address: str) -> list[Need]:
    """What only a person can mend, most pressing first."""
    return [
        *_passthrough(state, iso, ledger),
        *_ollama(state, iso, address),
        *_memory(state, now, iso, ledger),
        *_models(state, now, iso),
    ]


def verdict(state: CoreState, now: float, needed: list[Need], waiting: int, running: int) -> Verdict:
    """The one word."""
    if state.passthrough:
        return "passthrough"
    if any(state.models[name].abandoned_load for name in state.present):
        return "stuck"
    if state.paused is not None and not needed:
        return "paused"
    if waiting and not running and state.transition is None and (needed or _idle(state, now)):
        return "stuck"
    if needed or _degraded(state, now):
        return "degraded"
    if state.transition is not None:
        return "changing"
    return "busy" if waiting or running else "ok"


def headline(state: CoreState, now: float, needed: list[Need], waiting: int, running: int) -> str:
    """The whole of it in one sentence; the order is that of `verdict`."""
    queue = f"{waiting} waiting" if waiting else "nobody waits"
    if state.passthrough:
        return f"{needed[0]['what']}; {running} running."
    if needed:
        return f"{needed[0]['what']}; {queue}."
    if state.ollama != "up":
        return f"Ollama has not answered yet; {queue}."
    if state.transition is not None:
        return f"{_change(state, state.transition, now)}; {queue}."
    if state.paused is not None:
        there = " and ".join(short(name) for name in state.present) or "nothing"
        return f"Paused by {state.paused.owner}{ends_in(state.paused.until, now)}; {there} in memory; {queue}."
    if waiting and not running and _idle(state, now):
        first = min((state.models[name] for name in state.demanded), key=lambda model: model.away_since)
        return f"Nothing moves: {queue}, {short(first.name)} for {waits_for(state, first, now)}."
    wrong = next((f"{short(m.name)}: {text}" for m, text in _troubled(state, now)), "")
    if wrong:
        return f"{wrong}; {queue}."
    resident = " and ".join(short(name) for name in state.present) or "nothing"
    memory = f"{resident} in memory"
    if state.budget is not None:
        memory += f" ({sizes.promised(state) / 1e9:.1f} of {gigabytes(state.budget)})"
    return f"{running} running, {queue}; {memory}." if waiting or running else f"Idle; {memory}."


def warnings(state: CoreState) -> Iterator[str]:
    """What is not as it should be and stops nothing."""
    for config in state.config.models:
        model = state.models.get(config.name)
        if model is None or state.listed is None:
            continue
        if model.same_as:
            continue
        if not model.installed:
            yield f"{config.name} is configured but not installed: ollama pull {config.name}"
        elif config.num_ctx and config.num_ctx != (context := sizes.expected_context(state, model)):
            yield f"{config.name}: Ollama loads it with {context} tokens of context unaided, not {config.num_ctx}"
    if state.memory_is_short:
        left, whole = gigabytes(state.budget or 0), gigabytes(state.whole)
        yield f"memory is short ({state.pressure}): {left} of {whole} may be used"
    yield from _name_warnings(state)
    if state.unreachable:
        held = gigabytes(sum(state.unreachable.values()))
        yield f"{held} are held by runners whose name got another blob: restart Ollama to end them"
    yield from _set_warnings(state)


def _name_warnings(state: CoreState) -> Iterator[str]:
    """Names that share a runner, where they are configured or would have another context alone."""
    configured = {config.name for config in state.config.models}
    for model in state.models.values():
        if model.same_as:
            context = sizes.expected_context(state, state.models[model.same_as])
            other = sizes.expected_context(state, model)
            but = f", with {context} tokens of context, not {other}" if other != context else ""
            if but or model.name in configured:
                yield f"{model.name} is another name of {model.same_as}: one runner serves both{but}"


def _set_warnings(state: CoreState) -> Iterator[str]:
    sets = Sets(state.config, state.phase)
    for name, members in sets.every.items():
        match fit_of(state, sets, members):
            case "too_large":
                size = gigabytes(size_of(state, members))
                yield f"set {name} needs {size}, more than the budget of {gigabytes(state.budget or 0)}: it is refused"
            case "no_order":
                yield f"set {name} cannot be held together: Ollama's own gates let its models in in no order"


def _ollama(state: CoreState, iso: Clock, address: str) -> Iterator[Need]:
    if state.ollama == "down":
        what = f"Ollama at {address} does not answer: {state.ollama_error or 'no reason given'}"
        yield Need(what=what, since=iso(state.ollama_since), type_this="ollama serve")


def _passthrough(state: CoreState, iso: Clock, ledger: Ledger) -> Iterator[Need]:
    if state.passthrough:
        what = (
            f"PASSTHROUGH is on, by {state.passthrough}: everything is forwarded unscheduled, and promises "
            f"{', '.join(SUSPENDED)} are suspended"
        )
        yield Need(
            what=what, since=iso(ledger.passthrough_since or state.at), type_this="ollama-scheduler passthrough off"
        )


def _memory(state: CoreState, now: float, iso: Clock, ledger: Ledger) -> Iterator[Need]:
    since = ledger.orphans_since
    if since is not None and now >= since + ORPHANS_PATIENCE:
        what = f"Runners that Ollama left behind hold {gigabytes(state.orphans)}"
        yield Need(what=what, since=iso(since), type_this=f"kill {' '.join(map(str, state.orphan_pids))}")


def _models(state: CoreState, now: float, iso: Clock) -> Iterator[Need]:
    for model in state.models.values():
        what = f"{short(model.name)}: {trouble(state, model, now)}"
        if model.kept_failures >= FAILURES:  # a model deleted while resident leaves only with Ollama itself
            mend = f"ollama stop {model.name}"
            if not model.installed:
                what = f"{what}; it was deleted, and only a restart of Ollama frees its memory"
                mend = "pkill -x ollama; ollama serve"
            yield Need(what=what, since=iso(model.since), type_this=mend)
        elif model.abandoned_load or model.failures >= FAILURES:
            yield Need(what=what, since=iso(model.since), type_this=f"ollama-scheduler why {model.name}")


def _troubled(state: CoreState, now: float) -> Iterator[tuple[ModelState, str]]:
    """Models with something wrong that somebody would notice."""
    for model in state.models.values():
        if (model.state != "absent" or model.failures) and (text := trouble(state, model, now)):
            yield model, text


def _degraded(state: CoreState, now: float) -> bool:
    if state.ollama != "up" or state.budget is None or state.orphans or state.stopping:
        return True
    return sizes.promised(state) > state.budget or any(_troubled(state, now))


def _idle(state: CoreState, now: float) -> bool:
    """Whether somebody has long been waiting and nothing is on its way to them."""
    models = [state.models[name] for name in state.demanded if pin_against(state, name) is None]
    if state.memory_is_short or any(model.not_before > now for model in models):
        return False
    arrived = [head.arrived for model in models for head in model.heads()]
    return bool(arrived) and now >= max(min(arrived), state.quiet_since) + IDLE_PATIENCE


def _change(state: CoreState, transition: TransitionState, now: float) -> str:
    least, most = expected(state, transition)
    elapsed = now - transition.began
    time = (
        f"{elapsed:.0f} s of {least:.0f} to {most:.0f} s" if elapsed <= most else f"{elapsed:.0f} s, over {most:.0f} s"
    )
    to = " and ".join(map(short, transition.planned)) or "nothing else"
    match transition.stage:
        case "loading":
            now_loading = next((short(n) for n in transition.load), to)
            return f"Loading {now_loading} ({time})"
        case "unloading":
            return f"Unloading {' and '.join(map(short, transition.leave))} for {to} ({time})"
        case "draining":
            running = sum(state.models[name].running for name in transition.leave)
            return f"{running} running on {' and '.join(map(short, transition.leave))} before {to} ({time})"

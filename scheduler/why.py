"""What a request for a model would meet now: a copy of the core meets one, so no second set of rules can disagree.

The copy is of bounded size, however many wait: of each queue only its head, and the numbers as they are.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import islice
from typing import Literal

from typing_extensions import TypedDict

from scheduler.core import messages as m, sizes
from scheduler.core.machine import Machine
from scheduler.core.refusals import installed
from scheduler.core.state import CoreState, ModelState, Request
from scheduler.core.view import Sets
from scheduler.journal_lines import copy_of
from scheduler.measured import Measured
from scheduler.names import normal_name
from scheduler.outlook import IDS, ends_in, expected, gigabytes, short, spread, there, trouble, waits, waits_for
from scheduler.past import RefusedWish
from scheduler.waits import Range, ahead_of, due_of, wait_of

TRIAL = "why"  # the id of the request that only the copy meets
NEAREST, MANY = 3, 8  # names that are told where one is unknown: like it, or where none is, of all
HEAD = 4  # requests of each queue that the copy holds: one step serves no more of them


class Why(TypedDict):
    """The answer of `GET /why`. Sizes in bytes, times in seconds."""

    model: str
    alias: str  # as it was asked for; empty where that is the model itself
    would: Literal["be served", "wait", "be refused"]
    because: str
    status: int | None  # of the refusal
    message: str  # of the refusal
    state: str
    size: int
    sets: list[str]  # that hold the model
    allowed: list[str]  # of those, in this phase
    waiting: int  # requests that wait for it already
    running: int
    parallel: int
    leave: list[str]  # that would be unloaded, or are being, before it is there
    load: list[str]
    expected: list[float] | None  # seconds until it is there, at least and at most; None where no change is under way
    wait: list[float] | None  # seconds it would wait for its slot: a tenth of what was measured is below, a tenth above
    sentences: list[str]  # the same for people


def why(
    state: CoreState,
    name: str,
    now: float,
    *,
    alias: str = "",
    cls: str = "interactive",
    wish: RefusedWish | None = None,
    measured: Measured | None = None,
    names: Sequence[str] = (),
) -> Why:
    """What a request of class `cls` for `name` (the model's full name) would meet at `now`; changes nothing. `wish` is
    the last one to unload the model that was not followed; `names` may be asked for beside those of models."""
    trial = Machine(copy_of_head(state))
    orders = trial.step(m.Arrived(now, TRIAL, name, cls=cls, alias=alias))
    sets = Sets(state.config, state.phase)
    model = state.models.get(name) or ModelState(name)
    answer = Why(
        model=name,
        alias=alias if alias != name else "",
        would="wait",
        because="",
        status=None,
        message="",
        state=model.state,
        size=model.size,
        sets=list(sets.names_of(name)),
        allowed=[set_name for set_name, members in sets.allowed.items() if name in members],
        waiting=model.waiting,
        running=model.running,
        parallel=model.parallel,
        leave=[],
        load=[],
        expected=None,
        wait=None,
        sentences=[],
    )
    _meet(answer, trial.state, orders)
    if answer["would"] == "wait" and measured is not None:
        ahead = ahead_of(model, cls, math.inf)
        answer["wait"] = _range(wait_of(trial.state, measured, name, ahead, due_of(trial.state, model, cls, now), now))
        if answer["expected"] is not None:
            answer["expected"] = there(answer["expected"], answer["wait"])
    who = _who(answer, model, state) if _is_known(state, name) else _unknown(answer, state, names)
    answer["sentences"] = [who, _fate(answer, state, trial.state), *_more(answer, model, state)]
    if answer["wait"] is not None:
        answer["sentences"].insert(2, waits(answer["wait"]))
    answer["sentences"] += _said(model, state, now, wish)
    return answer


def _range(found: Range | None) -> list[float] | None:
    return None if found is None else list(found)


def copy_of_head(state: CoreState) -> CoreState:
    """A copy with the head of each queue alone; how many wait and run is told as it is. Of the past, whose entries
    nobody changes, only the list is copied: it is long."""
    copy = copy_of(_head_of(state))
    copy.history = dict(state.history)
    return copy


def _head_of(state: CoreState) -> CoreState:
    models = {name: _head_of_model(model) for name, model in state.models.items()}
    kept: dict[str, Request] = {}
    for model in models.values():
        for queue in (*model.queues.values(), model.preloads, model.replacements):
            kept |= queue
        kept |= {i: state.requests[i] for i in model.running_ids if i in state.requests}
    return replace(state, models=models, requests=kept, history={})


def _head_of_model(model: ModelState) -> ModelState:
    slots = model.parallel + HEAD  # while everything passes through there is no end to those that run
    return replace(
        model,
        queues={cls: dict(islice(queue.items(), HEAD)) for cls, queue in model.queues.items()},
        preloads=dict(islice(model.preloads.items(), HEAD)),
        running_ids=dict(islice(model.running_ids.items(), slots)),
        unwanted=min(model.unwanted, slots),
    )


def _meet(answer: Why, after: CoreState, orders: list[m.Order]) -> None:
    """Note what became of the trial."""
    for order in orders:
        match order:
            case m.Forward() if order.id == TRIAL:
                answer["would"], answer["because"] = "be served", order.because
                return
            case m.Refuse() if order.id == TRIAL:
                answer["would"], answer["because"] = "be refused", order.because
                answer["status"], answer["message"] = order.status, order.message
                return
    answer["because"] = waits_for(after, after.models[answer["model"]], after.at)
    transition = after.transition
    if transition is not None and answer["model"] in transition.load:
        elapsed = after.at - transition.began
        answer["leave"], answer["load"] = list(transition.leave), list(transition.load)
        answer["expected"] = [round(max(0.0, end - elapsed), 1) for end in expected(after, transition)]


def _who(answer: Why, model: ModelState, state: CoreState) -> str:
    subject = f"{answer['alias']} is {model.name}" if answer["alias"] else model.name
    size = f"{gigabytes(model.size)}" if model.size else "of unknown size"
    verb = "," if answer["alias"] else " is"
    inside = f"in set {' and '.join(answer['sets'])}" if answer["sets"] else "in no set, so a set of its own"
    return f"{subject}{verb} {size}, {inside}; the phase is {state.phase}."


def _is_known(state: CoreState, name: str) -> bool:
    """Whether Ollama has such a model, or the configuration names it."""
    declared = {each.name for each in state.config.models}
    return name in declared or (state.listed is not None and installed(state, name))


def _unknown(answer: Why, state: CoreState, names: Sequence[str]) -> str:
    """Of a name that stands for nothing: what could have been meant."""
    if state.listed is None:
        return f"{short(answer['model'])} is not configured, and what Ollama has is not known yet."
    asked = short(answer["alias"] or answer["model"])
    if answer["alias"] and normal_name(answer["alias"]) != answer["model"]:
        return f"{asked} is {short(answer['model'])}, which is neither configured nor installed."
    known = list(dict.fromkeys(map(short, [*names, *(each for each in state.models if _is_known(state, each))])))
    near = get_close_matches(asked, known, NEAREST)
    some = ", ".join([*known[:MANY], "…"][: len(known)])
    told = f"the nearest known: {', '.join(near)}" if near else f"known are {some}" if some else "none is known"
    return f"No model, alias or request is known as {asked}; {told}. A request has an id such as r1a2b-7: {IDS}."


def _fate(answer: Why, before: CoreState, after: CoreState) -> str:
    match answer["would"]:
        case "be served":
            return f"A request would be served at once: {answer['because']}."
        case "be refused":
            return f"A request would be refused with {answer['status']}: {answer['message']} ({answer['because']})."
        case "wait":
            return _waiting(answer, before, after)


def _waiting(answer: Why, before: CoreState, after: CoreState) -> str:
    if answer["expected"] is None:
        return f"A request would wait for {answer['because']}."
    steps = [f"unload {short(name)}" for name in answer["leave"]] + [f"load {short(name)}" for name in answer["load"]]
    soon = spread(answer["expected"])
    transition = after.transition
    reason = transition.because if transition is not None else ""
    when = "A request would begin a change at once" if before.transition is None else "Its change is under way"
    return f"{when}: {', '.join(steps)}; it should be there in {soon} ({reason})."


def _more(answer: Why, model: ModelState, state: CoreState) -> list[str]:
    """What else bears on it."""
    more = []
    if answer["waiting"] or answer["running"]:
        more.append(
            f"{answer['running']} of its {answer['parallel']} slots are taken, {answer['waiting']} wait for it."
        )
    wrong = trouble(state, model, state.at)
    if wrong and answer["would"] != "be refused":
        more.append(f"Trouble: {wrong}.")
    if model.state == "absent" and model.left_because:
        more.append(f"It last left memory because: {model.left_because}.")
    if answer["would"] == "wait" and state.budget is not None:
        resident = " and ".join(f"{short(name)} ({state.models[name].state})" for name in state.present) or "nothing"
        promised = sizes.promised(state) / 1e9
        more.append(f"In memory: {resident}; {promised:.1f} of {gigabytes(state.budget)} are promised.")
    return more


def _said(model: ModelState, state: CoreState, now: float, wish: RefusedWish | None) -> list[str]:
    """What people and clients said that bears on it."""
    said = []
    if state.passthrough:
        said.append(f"PASSTHROUGH is on, by {state.passthrough}: Ollama loads and evicts as it likes.")
    if state.paused is not None:
        said.append(
            f"Paused by {state.paused.owner}{ends_in(state.paused.until, now)}; `ollama-scheduler resume` ends it."
        )
    if (pin := state.pins.get(model.name)) is not None:
        said.append(f"It is pinned by {pin.owner}{ends_in(pin.until, now)}.")
    if model.keep:
        said.append("It is declared to be kept beside whatever fits.")
    if model.name in state.asked:
        said.append(f"Its load was asked for by {state.asked[model.name]}.")
    if model.name in state.asked_out:
        said.append(f"Its unload was asked for by {state.asked_out[model.name]}.")
    if model.replacing:
        said.append("It is being deleted or replaced.")
    if wish is not None:
        who = wish.client or "a client"
        said.append(
            f"{who} wished to have it unloaded {max(0.0, now - wish.at):.0f} s ago; not followed: {wish.because}."
        )
    return said

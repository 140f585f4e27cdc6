"""The bound of promise 4 in numbers: within how long a change begins for a request of each class, term by term.

Reckoned with every set of the phase contended at once, for the line there is now and for one that has no end, by the
policy's own functions on a copy of what the core knows; so no second set of formulas can disagree with what it does.
"""

from collections.abc import Sequence

from typing_extensions import TypedDict

from policies.bound import floor, turn
from scheduler.core import turns
from scheduler.core.refusals import too_large
from scheduler.core.state import CoreState, Request
from scheduler.core.view import Sets, WorldView
from scheduler.outlook import expected, short
from scheduler.why import copy_of_head

UNBOUNDED = "the longest running request"
ENDLESS = 1_000_000  # requests more: with so many waiting the policy's floor is at its highest


class Turn(TypedDict):
    """One forced turn of a contended set, in seconds; its drain is a running request's, and not in `total`."""

    set: str  # empty for a model in no set
    models: list[str]
    change: float  # unloading the slowest of the others, and loading this one
    measured: bool  # whether all these loads were measured, or some only reckoned from their size
    turn: float  # what it keeps its place
    total: float


class Class(TypedDict):
    """The bound of one class, in seconds: `bound` = max(patience, floor) + committed + forced, and beside that
    `running` times the longest running request."""

    cls: str
    patience: float
    floor: float
    committed: float
    forced: float
    bound: float
    running: int  # how often the longest running request comes in: once, and once for each forced turn
    in_a_long_line: float  # the bound however many wait: floor and turns grow with the line, up to a limit
    with_longest_seen: float | None  # the bound with the longest request of the last 2,000; null where there is none


class Bounds(TypedDict):
    """The answer of `GET /bounds`. Times in seconds."""

    policy: str
    phase: str
    stated: bool  # whether the policy states a bound at all
    unbounded: list[str]  # the terms without a limit; with one of them the bound holds only as they turn out
    longest_running: float | None  # the longest that runs now; null where nothing runs
    longest_seen: float | None  # the longest of the last 2,000 requests
    give_up: float  # a request that waited so long is refused whatever the bound
    contended: list[Turn]
    classes: list[Class]
    sentences: list[str]  # the same for people


def bounds(state: CoreState, now: float) -> Bounds:
    """The bounds as things stand at `now` (monotonic seconds); changes nothing."""
    stated = state.config.policy == "default"
    answer = Bounds(
        policy=state.config.policy,
        phase=state.phase,
        stated=stated,
        unbounded=[UNBOUNDED, *_not_counted(state, now)] if stated else [],
        longest_running=_longest_running(state, now),
        longest_seen=max((past.service for past in state.history.values() if past.service is not None), default=None),
        give_up=state.config.give_up,
        contended=[],
        classes=[],
        sentences=[],
    )
    if stated:
        _reckon(answer, state, now)
    answer["sentences"] = _sentences(answer)
    return answer


def _reckon(answer: Bounds, state: CoreState, now: float) -> None:
    sets = Sets(state.config, state.phase)
    contended = _contended(state, sets)
    worst = WorldView(_worst(state, contended, now), sets)
    least, keeps = floor(worst), turn(worst)
    endless = WorldView(_worst(state, contended, now, ENDLESS), sets)
    highest, longer = floor(endless), turn(endless) - keeps
    changes = [_change(state, members, contended) for members in contended]
    names = {members: name for name, members in sets.allowed.items()}
    for members, change in zip(contended, changes, strict=True):
        measured = all(state.models[name].load_learned is not None for name in members)
        answer["contended"].append(
            Turn(
                set=names.get(members, ""),
                models=list(members),
                change=round(change, 3),
                measured=measured,
                turn=round(keeps, 3),
                total=round(change + keeps, 3),
            )
        )
    committed = max(changes, default=0.0)
    if state.transition is not None:
        committed = max(committed, expected(state, state.transition)[1] - (now - state.transition.began))
    totals = sorted(each["total"] for each in answer["contended"])
    forced, others = sum(totals[1:]), len(totals[1:])  # of the others: the quickest is one's own
    for cls, patience in state.config.patience:
        bound = max(patience, least) + committed + forced
        seen = answer["longest_seen"]
        answer["classes"].append(
            Class(
                cls=cls,
                patience=patience,
                floor=round(least, 3),
                committed=round(committed, 3),
                forced=round(forced, 3),
                bound=round(bound, 3),
                in_a_long_line=round(max(patience, highest) + committed + forced + others * longer, 3),
                running=1 + others,
                with_longest_seen=None if seen is None else round(bound + (1 + others) * seen, 3),
            )
        )


def _contended(state: CoreState, sets: Sets) -> Sequence[tuple[str, ...]]:
    """The sets of the phase, and those models in no set that somebody waits for or that serve somebody."""
    found = {tuple(name for name in members if name in state.models): None for members in sets.allowed.values()}
    busy = [*state.demanded, *(name for name in state.present if state.models[name].serving)]
    for name in busy:
        found.setdefault(next(iter(sets.of(name)), (name,)))
    return [members for members in found if members]


def _worst(state: CoreState, contended: Sequence[tuple[str, ...]], now: float, more: int = 0) -> CoreState:
    """A copy in which somebody waits for each of the sets, and so many more."""
    copy = copy_of_head(state)
    for number, members in enumerate(contended):
        model = copy.models[members[0]]
        if not model.waiting and not model.serving:
            copy.seq += 1
            turns.enqueue(copy, model, Request(f"bound{number}", copy.seq, model.name, "batch", "request", now))
        model.waiting += more
        model.anonymous += more
    return copy


def _change(state: CoreState, members: tuple[str, ...], contended: Sequence[tuple[str, ...]]) -> float:
    """Seconds to bring `members` in: whoever is slowest to unload leaves, and they are loaded one by one."""
    others = [sum(state.models[name].unload_seconds for name in other) for other in contended if other != members]
    return max(others, default=0.0) + sum(state.models[name].load_seconds for name in members)


def _longest_running(state: CoreState, now: float) -> float | None:
    started = [request.started for request in state.requests.values() if request.place != "waiting"]
    ages = [now - at for at in started if at is not None]
    return round(max(ages), 3) if ages else None


def _not_counted(state: CoreState, now: float) -> list[str]:
    """What holds now and puts changes off without counting towards the bound."""
    found = []
    if state.passthrough:
        found.append(f"passthrough by {state.passthrough}, in which nothing is scheduled")
    if state.paused is not None:
        until = state.paused.until
        rest = "until it is resumed" if until is None else f"for {max(0.0, until - now):.0f} s yet"
        found.append(f"the pause by {state.paused.owner}, {rest}")
    for pin in state.pins.values():
        rest = f"for {max(0.0, pin.until - now):.0f} s yet"
        found.append(f"the pin of {short(pin.model)} by {pin.owner}, {rest}, against what does not fit beside it")
    sets = Sets(state.config, state.phase)
    refused = [name for name in state.models if too_large(state, sets, name) is not None]
    if refused:
        found.append(
            f"requests for {' and '.join(map(short, refused))}, which are refused, for memory never holds that"
        )
    if state.ollama != "up":
        found.append("the time in which Ollama does not answer")
    if state.memory_is_short:
        found.append("the time in which memory is short")
    return found


def _sentences(answer: Bounds) -> list[str]:
    if not answer["stated"]:
        return [
            f"Policy {answer['policy']} states no bound: whoever came earlier is served first, however long it takes."
        ]
    said = [
        f"In phase {answer['phase']}, with all {len(answer['contended'])} of its sets wanted at once, the change for a "
        "request whose model is away begins within B = max(patience, floor) + committed changes + forced turns of the "
        "others + the longest running request, once and once for each forced turn."
    ]
    for each in answer["contended"]:
        name = each["set"] or "no set"
        how = "measured" if each["measured"] else "reckoned from sizes"
        models = " and ".join(map(short, each["models"]))
        said.append(
            f"A forced turn of {name} ({models}): change {each['change']:.0f} s ({how}) + turn {each['turn']:.0f} s."
        )
    said += [_class(each) for each in answer["classes"]]
    longest = ", ".join(f"{each['cls']} {each['in_a_long_line']:.0f} s" for each in answer["classes"])
    said.append(f"Floor and turns grow with the work that waits; however long the line, B is at most: {longest}.")
    seen, runs = answer["longest_seen"], answer["longest_running"]
    known = (
        f"the longest of the last requests took {seen:.0f} s" if seen is not None else "no request was seen to end yet"
    )
    running = f", one runs for {runs:.0f} s now" if runs is not None else ""
    said.append(
        f"Unbounded: the longest running request, which nobody ends; {known}{running}. Whoever has waited "
        f"{answer['give_up']:.0f} s is refused in any case."
    )
    said += [f"Not counted either: {each}." for each in answer["unbounded"][1:]]
    return said


def _class(each: Class) -> str:
    first = f"max({each['patience']:.0f}, {each['floor']:.0f})"
    times = "the" if each["running"] == 1 else f"{each['running']} x the"
    seen = each["with_longest_seen"]
    total = "" if seen is None else f" = {seen:.0f} s with the longest seen"
    return (
        f"{each['cls']}: {first} + {each['committed']:.0f} + {each['forced']:.0f} = {each['bound']:.0f} s + {times} "
        f"longest running request{total}."
    )

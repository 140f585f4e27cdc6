"""What one request waits for, since when and what comes next, or how it ended."""

from typing import Literal

from typing_extensions import TypedDict

from scheduler.core.state import CoreState, Request
from scheduler.measured import Measured
from scheduler.outlook import expected, short, spread, there, waits, waits_for
from scheduler.past import Fate
from scheduler.status_schema import Stage
from scheduler.waits import ahead_of, due_of, wait_of

ENDS = {
    "answered": "was answered",
    "failed": "failed",
    "abandoned": "was abandoned: its client hung up while it ran",
    "stalled": "was ended to heal a stalled runner",
    "cancelled": "was cancelled while it ran",
    "pressure": "was ended because memory was critical",
    "canned": "was a health check and got its canned success",
    "refused": "was refused",
    "left": "left: its client hung up while it waited",
    "wish": "was a wish, and followed",
    "wish refused": "was a wish, and not followed",
}
"""The outcomes of /status's counters, as sentences say them."""


class WhyRequest(TypedDict):
    """The answer of `GET /why?request=ID`. Times in seconds."""

    request: str
    model: str
    alias: str
    cls: str
    kind: str
    state: Literal["waiting", "running", "over"]
    because: str  # what it waits for, why it runs, or why it ended as it did
    age: float  # since it arrived; until it ended, where it is over
    waited: float  # until it was forwarded last, or ended
    ran: float | None  # in its slot; null where it never was in one
    ahead: int | None  # requests for its model that arrived earlier and wait too; null where it does not wait
    outcome: str  # as in the counters of /status; empty where it is not over
    status: int | None  # of its answer
    message: str  # what its client read instead of an answer
    expected: list[float] | None  # seconds until its model is there, at least and at most; null where none comes
    wait: list[float] | None  # seconds until it gets its slot: a tenth of what was measured is below, a tenth above
    sentences: list[str]  # the same for people


def why_request(
    state: CoreState, fate: Fate, now: float, stage: Stage = "prefill", measured: Measured | None = None
) -> WhyRequest:
    """What is known of the request whose `fate` this is, at `now`; `stage` is how far its forwarding is."""
    request = state.requests.get(fate.id)
    end = now if fate.ended is None else fate.ended
    forwarded = fate.forwarded if request is None or request.place != "waiting" else None
    answer = WhyRequest(
        request=fate.id,
        model=request.model if request is not None else fate.model,
        alias=fate.alias,
        cls=fate.cls,
        kind=fate.kind,
        state="over" if request is None else "waiting" if request.place == "waiting" else "running",
        because=fate.because,
        age=round(end - fate.arrived, 3),
        waited=round((end if forwarded is None else forwarded) - fate.arrived, 3),
        ran=None if forwarded is None else round(end - forwarded, 3),
        ahead=None,
        outcome=fate.outcome,
        status=fate.status,
        message=fate.message,
        expected=None,
        wait=None,
        sentences=[],
    )
    answer["sentences"] = [_who(answer)]
    if request is None:
        answer["sentences"].append(_over(answer))
    elif request.place == "waiting":
        if measured is not None and request.kind == "request":
            _reckon(answer, state, request, measured, now)
        answer["sentences"] += _waiting(answer, state, request, now)
    else:
        answer["sentences"].append(_running(answer, request, stage))
    return answer


def _reckon(answer: WhyRequest, state: CoreState, request: Request, measured: Measured, now: float) -> None:
    model = state.models[request.model]
    ahead = ahead_of(model, request.cls, request.seq)
    due = due_of(state, model, request.cls, request.arrived)
    found = wait_of(state, measured, model.name, ahead, due, now)
    answer["wait"] = None if found is None else list(found)


def _who(answer: WhyRequest) -> str:
    called = f", asked for as {answer['alias']}" if answer["alias"] not in ("", answer["model"]) else ""
    kind = {"request": "a request", "preload": "a wish to load", "probe": "a health check"}.get(answer["kind"], "")
    kind = kind or ("a wish to unload" if answer["kind"] == "unload" else "a deletion or replacement")
    return f"{answer['request']} is {kind} ({answer['cls']}) for {short(answer['model'])}{called}."


def _over(answer: WhyRequest) -> str:
    end = ENDS.get(answer["outcome"], answer["outcome"])
    if answer["outcome"] == "refused" and answer["ran"] is not None:  # ended by a person before its answer began
        end = ENDS["cancelled"]
    code = f" with {answer['status']}" if answer["status"] is not None else ""
    ran = "" if answer["ran"] is None else f", then ran {answer['ran']:.1f} s"
    message = f" Its client read: {answer['message']}." if answer["message"] else ""
    because = f" ({answer['because']})" if answer["because"] else ""
    return f"It {end}{code}{because}: it waited {answer['waited']:.1f} s{ran}.{message}"


def _running(answer: WhyRequest, request: Request, stage: Stage) -> str:
    doing = "its answer is coming" if stage == "generating" else "Ollama reads its prompt"
    if request.kind == "replace":
        doing = "Ollama is at it"
    left = "; its client hung up" if request.abandoned else ""
    if request.place == "recalled":
        doing = "it was told to end"
    return f"It waited {answer['waited']:.1f} s and runs for {answer['ran'] or 0.0:.1f} s: {doing}{left}."


def _waiting(answer: WhyRequest, state: CoreState, request: Request, now: float) -> list[str]:
    model = state.models[request.model]
    answer["because"] = waits_for(state, model, now)
    answer["ahead"] = ahead = sum(other.seq < request.seq for other in model.requests())
    said = [f"It has waited {answer['age']:.1f} s, for {answer['because']}; {ahead} that came before it wait too."]
    transition = state.transition
    if transition is not None and request.model in transition.load:
        elapsed = now - transition.began
        left = [round(max(0.0, end - elapsed), 1) for end in expected(state, transition)]
        answer["expected"] = there(left, answer["wait"])
        said.append(f"Its model should be there in {spread(there(left, answer['wait']))} ({transition.because}).")
    if answer["wait"] is not None:
        said.append(waits(answer["wait"]))
    due = due_of(state, model, request.cls, request.arrived) if request.kind == "request" else None
    if due is not None:  # patience, or the policy's floor where that is longer
        rest = due - now
        busy = any(other.running for other in state.models.values() if other is not model)
        first = "; what runs then is finished first, however long that takes" if busy else ""
        when = f"within {rest:.0f} s" if rest > 0 else "now"
        said.append(f"The scheduler must act for it {when}{first}.")
    end = request.arrived + state.config.give_up - now
    said.append(f"It would be given up in {max(0.0, end):.0f} s.")
    return said

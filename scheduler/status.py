"""Build the answer of `GET /status` from what the core, the ledger and the wire know; it asks and awaits nobody."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from scheduler import commanded, counted, status_schema as s
from scheduler.core import sizes
from scheduler.core.state import CoreState, ModelState, Request
from scheduler.core.view import Sets
from scheduler.ledger import Ledger
from scheduler.outlook import expected, fit_of, size_of, trouble, waits_for
from scheduler.past import RefusedWish
from scheduler.status_learned import disk, learned
from scheduler.status_verdict import Clock, headline, needs, verdict, warnings


class Progress(Protocol):
    """How far the forwarding of one request is."""

    @property
    def stage(self) -> str: ...  # held, prefill or generating
    @property
    def chunks(self) -> int: ...  # pieces of the answer so far


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the daemon knows and the core does not. `prefill` is, by model, (tokens read, tokens in all) of each prompt
    its engine is reading."""

    version: str
    address: str  # of Ollama
    started: float  # monotonic seconds
    warnings: Sequence[str] = ()
    prefill: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    journal_lost: int = 0
    journal_trouble: str = ""
    refused_wishes: Mapping[str, RefusedWish] = field(default_factory=dict)  # by model, oldest first
    configured: commanded.Configured | None = None  # None: since the start, from no file
    service: str = ""  # the label of launchd's job that we are
    folder: str = ""  # where the state is kept
    scheduled: commanded.Planned | None = None  # what the timetable changes next
    troubles: Sequence[str] = ()  # what makes things worse than they should be, though nobody has to do anything


def build(
    state: CoreState, now: float, wall: float, progress: Mapping[str, Progress], ledger: Ledger, around: Surroundings
) -> s.Status:
    """The whole answer. `now` is monotonic seconds, `wall` the same moment in seconds since 1970; `progress` is by
    request id."""
    iso = _clock(now, wall)
    waiting = sum(state.models[name].waiting + state.models[name].wishes for name in state.demanded)
    running = sum(state.models[name].running for name in state.present)
    needed = needs(state, now, iso, ledger, around.address)
    word = verdict(state, now, needed, waiting, running)
    refused = around.configured is not None and bool(around.configured.refused)
    if (refused or around.troubles or around.journal_trouble) and word in ("ok", "busy", "changing"):
        word = "degraded"
    return s.Status(
        verdict=word,
        headline=headline(state, now, needed, waiting, running),
        needs_you=needed,
        at=iso(now),
        version=around.version,
        started=iso(around.started),
        service=around.service,
        state_folder=around.folder,
        ollama=_ollama(state, iso, around.address),
        memory=_memory(state),
        phase=_phase(state),
        models=[_model(state, model, now, iso) for model in state.models.values() if _matters(state, model)],
        disk_factor=disk(state),
        transition=_transition(state, now, iso),
        pins=commanded.pins(state, now, iso),
        paused=commanded.paused(state, now, iso),
        quiet=state.quiet,
        scheduled=commanded.scheduled(around.scheduled, wall),
        passthrough=commanded.passthrough(state, ledger, iso),
        loads_asked=dict(state.asked),
        unloads_asked=dict(state.asked_out),
        policy=state.config.policy,
        because=state.verdict,
        waiting=waiting,
        running=running,
        requests=_requests(state, now, progress, around.prefill),
        decisions=[counted.decision(each, now, iso) for each in ledger.decisions()],
        counters=counted.counters(state, now, ledger),
        healed=state.healed,
        journal_lost=around.journal_lost,
        keep_alive_ignored=state.keep_alive_ignored,
        wishes_refused=state.wishes_refused,
        refused_wishes=commanded.refused_wishes(around.refused_wishes, iso),
        configuration=commanded.configuration(around.configured, around.started, iso),
        warnings=_warnings(state, around),
    )


def _clock(now: float, wall: float) -> Clock:
    def iso(at: float) -> str:
        moment = datetime.fromtimestamp(wall - (now - at), UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    return iso


def _ollama(state: CoreState, iso: Clock, address: str) -> s.Ollama:
    return s.Ollama(
        address=address,
        version=state.ollama_version or None,
        state=state.ollama,
        since=iso(state.ollama_since),
        error=state.ollama_error,
        stand_in=state.stand_in,
        reading=state.looking,
    )


def _memory(state: CoreState) -> s.Memory:
    promised = sizes.promised(state)
    return s.Memory(
        budget=state.budget,
        whole=state.whole or None,
        pressure=state.pressure,
        growing=None if state.growing is None else state.growing.budget,
        source=state.budget_source,
        device=sizes.device(state) or None,
        promised=promised,
        free=None if state.budget is None else state.budget - promised,
        orphans=state.orphans,
        unreachable=sum(state.unreachable.values()),
        models={name: state.models[name].held for name in state.present},
    )


def _phase(state: CoreState) -> s.Phase:
    sets = Sets(state.config, state.phase)
    every = [
        s.Set(
            name=name,
            models=list(members),
            allowed=name in sets.allowed,
            size=size_of(state, members),
            fit=fit_of(state, sets, members),
        )
        for name, members in sets.every.items()
    ]
    return s.Phase(name=state.phase, home=sets.phase.home or None, settle=sets.phase.settle, sets=every)


def _matters(state: CoreState, model: ModelState) -> bool:
    """Whether people expect to see it: a name that was only ever mistyped is none of them."""
    if model.installed or model.state != "absent" or model.name in state.demanded:
        return True
    return any(model.name == known.name for known in state.config.models) or any(
        model.name in members for _, members in state.config.sets
    )


def _model(state: CoreState, model: ModelState, now: float, iso: Clock) -> s.Model:
    ever_left = bool(model.left_because) and model.state == "absent"
    return s.Model(
        name=model.name,
        state=model.state,
        since=iso(model.since),
        because=model.load_because if model.state != "absent" else "",
        usable=model.usable,
        keep=model.keep,
        trouble=trouble(state, model, now),
        size=model.size,
        size_source=_size_source(model),
        predicted=model.predicted,
        context=model.context or None,
        expected_context=sizes.expected_context(state, model),
        running=model.running,
        parallel=model.parallel,
        waiting=model.waiting,
        preloads=model.wishes,
        last_used=iso(model.last_used) if model.last_used > 0 else None,
        left_at=iso(model.away_since) if ever_left else None,
        left_because=model.left_because,
        loads=model.loads,
        load_seconds=round(model.load_seconds, 3),
        load_seconds_learned=model.load_learned is not None,
        learned=learned(model),
        retry_in=round(model.not_before - now, 3) if model.not_before > now else None,
    )


def _size_source(model: ModelState) -> s.SizeSource:
    if not model.size:
        return "unknown"
    if model.size == model.measured:
        return "measured"
    return "declared" if model.size == model.declared else "listed"


def _transition(state: CoreState, now: float, iso: Clock) -> s.Transition | None:
    transition = state.transition
    if transition is None:
        return None
    return s.Transition(
        stage=transition.stage,
        cause=transition.cause,
        forced=transition.forced,
        leave=list(transition.left),
        load=list(transition.planned),
        remaining=[*transition.leave, *transition.load],
        began=iso(transition.began),
        elapsed=round(now - transition.began, 3),
        expected=[round(seconds, 1) for seconds in expected(state, transition)],
        because=transition.because,
    )


def _requests(
    state: CoreState,
    now: float,
    progress: Mapping[str, Progress],
    prefill: Mapping[str, Sequence[tuple[int, int]]],
) -> list[s.Request]:
    reasons = {name: waits_for(state, state.models[name], now) for name in state.demanded}
    alone = {name: slots[0] for name, slots in prefill.items() if len(slots) == 1 and _one_reads(state, name, progress)}
    return [_request(state, each, now, progress.get(each.id), reasons, alone) for each in state.requests.values()]


def _one_reads(state: CoreState, name: str, progress: Mapping[str, Progress]) -> bool:
    """Whether just one request of this model has its prompt read now: only then is it known whose progress it is."""
    model = state.models.get(name)
    running = model.running_ids if model else ()
    return sum(_stage(progress.get(each)) == "prefill" for each in running) == 1


def _stage(progress: Progress | None) -> s.Stage:
    return "generating" if progress is not None and progress.stage == "generating" else "prefill"


def _request(
    state: CoreState,
    request: Request,
    now: float,
    progress: Progress | None,
    reasons: Mapping[str, str],
    alone: Mapping[str, tuple[int, int]],
) -> s.Request:
    waits = request.place == "waiting"
    stage: s.Stage = _stage(progress)
    if waits:
        stage = "loading" if state.models[request.model].state == "loading" else "held"
    done, total = alone.get(request.model, (None, None)) if stage == "prefill" else (None, None)
    return s.Request(
        id=request.id,
        client=request.client,
        alias=request.alias,
        model=request.model,
        dialect=request.dialect,
        kind=request.kind if request.kind != "unload" else "preload",
        cls=request.cls,
        session=request.session,
        key=request.key,
        stage=stage,
        prompt_done=done,
        prompt_total=total,
        tokens=progress.chunks if progress is not None and not waits else 0,
        age=round(now - request.arrived, 3),
        running=None if waits or request.started is None else round(now - request.started, 3),
        waits_for=reasons.get(request.model, "") if waits else "",
        client_left=request.abandoned,
    )


def _warnings(state: CoreState, around: Surroundings) -> list[str]:
    journal = [f"the journal is not kept for now: {around.journal_trouble}"] if around.journal_trouble else []
    stand_in = ["this is the stand-in, no real Ollama"] if state.stand_in else []
    known = around.configured
    refused = (
        [f"the configuration is refused and the old one stays: {known.refused[0]}"] if known and known.refused else []
    )
    restart = list(known.restart) if known else []
    told = [*refused, *restart, *stand_in, *around.troubles, *journal, *around.warnings, *warnings(state)]
    return list(dict.fromkeys(told))

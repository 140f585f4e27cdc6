"""What facts about models and memory do to the core's memory: loads, unloads, /api/ps, the list, the budget."""

from scheduler.core import learned, naming, pressure, requests, rhythm, sizes, stall, transition
from scheduler.core.lifecycle import move
from scheduler.core.messages import (
    Loaded,
    LoadFailed,
    Look,
    MemorySeen,
    ModelsListed,
    Order,
    Record,
    Resident as Row,
    Residents,
    Unloaded,
    UnloadFailed,
)
from scheduler.core.state import CoreState, ModelState

PAUSES = (2.0, 10.0, 30.0, 60.0, 120.0, 300.0)  # seconds between tries of a load that fails
TRIES = 3  # failed loads in a row after which those who wait are told


def loaded(state: CoreState, fact: Loaded) -> list[Order]:
    """A load of ours is done."""
    model = state.models[fact.model]
    if model.state != "loading":
        return []
    move(state, model, "ready", fact.at)
    model.loads += 1
    model.failures = 0
    model.last_error = ""
    model.loaded_at = fact.at
    model.last_used = max(model.last_used, fact.at)
    learned.loaded(state, model, fact.took)
    if fact.context and fact.context != model.unaided:
        model.unaided, model.measured = fact.context, 0
    _measure(state, model, fact.size, fact.context)
    model.free_after = min(model.free_after, sizes.free(state))
    transition.come(state, fact.model)
    return []


def load_failed(state: CoreState, fact: LoadFailed) -> list[Order]:
    """A load of ours failed: pause, and after a few in a row tell those who wait."""
    model = state.models[fact.model]
    if model.state != "loading":
        return []
    move(state, model, "absent", fact.at)
    orders = transition.abort(state, f"loading {model.name} failed: {fact.error}")
    orders += requests.refuse_missing(state, model)
    if state.ollama != "down":
        orders += requests.look(state, f"loading {model.name} failed")
    model.failures += 1  # also where Ollama went away: it may have been this load that took it along
    model.last_error = fact.error
    model.not_before = fact.at + PAUSES[min(model.failures, len(PAUSES)) - 1]
    if model.failures >= TRIES and state.asked.pop(model.name, ""):
        orders.append(Record(model.name, "load given up", f"it failed {model.failures} times: {fact.error}"))
    if model.failures >= TRIES:
        orders += requests.refuse_waiting(state, model, 500, fact.error, f"loading failed {model.failures} times")
    return orders


def unloaded(state: CoreState, fact: Unloaded) -> list[Order]:
    """An unload of ours is seen done."""
    model = state.models[fact.model]
    if model.state != "leaving":
        return []
    move(state, model, "absent", fact.at)
    model.unload_learned = learned.mean(model.unload_learned, fact.took)
    sizes.refresh(state, model)
    transition.gone(state, fact.model)
    return requests.refuse_missing(state, model)


def unload_failed(state: CoreState, fact: UnloadFailed) -> list[Order]:
    """It is still there: it serves again, and nobody plans its leaving before a pause is over."""
    model = state.models[fact.model]
    if model.state != "leaving":
        return []
    move(state, model, "ready", fact.at)
    model.last_error = fact.error
    model.kept_failures += 1
    model.stays_until = fact.at + PAUSES[min(model.kept_failures, len(PAUSES)) - 1]
    orders = transition.abort(state, f"{model.name} did not leave: {fact.error}")
    return orders if state.ollama == "down" else orders + requests.look(state, f"{model.name} did not leave")


def residents(state: CoreState, fact: Residents) -> list[Order]:
    """Hold what is believed against what /api/ps says; what we changed after it was asked outweighs it."""
    orders: list[Order] = []
    stuck = {row.digest: row.size for row in fact.models if row.digest in state.unreachable}
    if stuck != state.unreachable:
        state.unreachable = stuck
        state.revision += 1
    rows = {naming.known_as(state, row.name): row for row in fact.models if row.digest not in stuck}
    if state.looking and fact.asked < state.look_since:
        orders.append(Look("what was read is older than the reason to read it again"))
    else:
        state.looking = False
    for name, row in rows.items():
        model = state.models.get(name) or _adopted_name(state, name)
        orders += _seen(state, model, row, fact.asked)
    for name in list(state.present):
        model = state.models[name]
        if name not in rows and model.state in ("ready", "draining") and model.since <= fact.asked:
            orders += _vanished(state, model, fact.at)
    return orders


def listed(state: CoreState, fact: ModelsListed) -> list[Order]:
    """Learn what is installed; those who wait for what is not there any more are told."""
    orders: list[Order] = []
    first, state.listed = state.listed is None, fact.models
    names = {row.name for row in fact.models}
    for row in fact.models:
        model = state.models.get(row.name) or _adopted_name(state, row.name)
        other = bool(model.digest and row.digest and model.digest != row.digest)
        made_anew = not first and not model.installed  # what was learned in an earlier life is kept at the first list
        if other or made_anew or (model.installed and model.modelfile_ctx != row.num_ctx):
            model.measured = model.unaided = 0
        if model.state in ("ready", "draining") and model.blob and row.blob and model.blob != row.blob:
            orders += _out_of_reach(state, model)
        model.installed, model.blob = True, row.blob
        model.listed_size, model.kv_token, model.trained = row.size, row.kv_token, row.trained
        model.modelfile_ctx, model.embedding, model.digest = row.num_ctx, row.embedding, row.digest
        sizes.refresh(state, model)
        _judge_context(state, model)
    orders += [
        order
        for row in fact.models
        if row.remote  # asked for before it was known that it needs no memory here; now it is passed straight through
        for order in requests.refuse_waiting(state, state.models[row.name], 503, "ask again", "it runs elsewhere")
    ]
    asked = fact.at if fact.asked is None else fact.asked
    for model in state.models.values():
        if model.replaced_at is not None and asked >= model.replaced_at:
            model.replaced_at = None
            state.revision += 1
        if model.name not in names:
            model.installed = False
            model.same_as = ""
            state.revision += 1
            orders += requests.refuse_missing(state, model)
    naming.join(state)  # of what is there now: a name that is gone stands for nothing
    naming.rebind(state)
    _forget_the_unheard_of(state)
    return orders


def _forget_the_unheard_of(state: CoreState) -> None:
    """Names that somebody asked for before the list was read, or that were let through, and that are no model's."""
    named = {model.name for model in state.config.models} | {n for _, members in state.config.sets for n in members}
    named |= {*state.pins, *state.asked, *state.asked_out, *state.present}
    unheard = set()
    for name, model in list(state.models.items()):
        used = model.waiting or model.preloads or model.running_ids or model.replacements or model.loads
        if not (name in named or model.listed_size or model.same_as or model.installed or used):
            del state.models[name]
            unheard.add(name)
    if unheard:
        rhythm.forgotten(state, unheard)


def memory_seen(state: CoreState, fact: MemorySeen) -> list[Order]:
    """The budget there is."""
    orders = pressure.seen(state, fact)
    state.budget_source = fact.source
    state.orphans = fact.orphans
    state.orphan_pids = fact.orphan_pids
    state.device = fact.device
    sizes.refresh_all(state)
    return orders


def _out_of_reach(state: CoreState, model: ModelState) -> list[Order]:
    """Its name leads to another blob now, so nothing unloads the old runner; Ollama keeps runners by blob, and its
    /api/ps shows this one under the old digest for as long as it lives."""
    state.unreachable[model.digest] = model.held
    move(state, model, "absent", state.at)
    model.left_because = "its name leads to another blob: the old runner stays until Ollama restarts"
    transition.gone(state, model.name)
    return [
        Record(model.name, "out of reach", f"{model.left_because}; it holds {state.unreachable[model.digest]} bytes")
    ]


def _seen(state: CoreState, model: ModelState, row: Row, asked: float) -> list[Order]:
    if model.state == "absent" and model.away_since <= asked:
        move(state, model, "ready", state.at)
        model.last_used = state.at
        model.loaded_at = state.at
        _measure(state, model, row.size, row.context)
        model.free_after = sizes.free(state)
        model.load_because = "adopted"
        return [Record(model.name, "adopted", "seen resident without an order of ours")]
    if model.state in ("ready", "draining") and model.since <= asked:
        other = model.context != row.context and bool(model.context)
        _measure(state, model, row.size, row.context)
        if other:
            return [Record(model.name, "reloaded", f"somebody loaded it with {row.context} tokens of context")]
        if row.dead:
            return stall.died(state, model)
    return []


def _vanished(state: CoreState, model: ModelState, at: float) -> list[Order]:
    """It left without an order of ours: Ollama restarted, its runner died, or somebody else unloaded it."""
    move(state, model, "absent", at)
    model.left_because = "vanished: /api/ps does not list it"
    transition.gone(state, model.name)
    vanished = Record(model.name, "vanished", "/api/ps does not list it")
    return [vanished, *requests.refuse_missing(state, model)]


def _measure(state: CoreState, model: ModelState, size: int, context: int) -> None:
    """Book what was measured; a larger measured size counts instead of the declared one, never a smaller."""
    model.context = context
    if not context or context == sizes.expected_context(state, model):  # with another context it has another size
        model.measured = max(model.measured, size)
    sizes.refresh(state, model)
    model.held = max(model.size, size)
    _judge_context(state, model)


def _judge_context(state: CoreState, model: ModelState) -> None:
    """Whether the runner may serve; from now on it counts as away if it may not."""
    wrong = model.state in ("ready", "draining") and sizes.is_wrong(state, model)
    if wrong and not model.wrong_context:
        model.away_since = state.at
    model.wrong_context = wrong


def _adopted_name(state: CoreState, name: str) -> ModelState:
    model = ModelState(name, parallel=state.config.num_parallel, since=-1.0, away_since=-1.0)
    state.models[name] = model
    return model

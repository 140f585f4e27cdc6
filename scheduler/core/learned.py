"""What is learned of each model from how its loads and answers went, and what the next ones would cost by that.

A load is *warm* where the model's file should still be in the page cache: it was in memory before, and what was loaded
since it left fits beside it into the device. The two are measured apart, so a wrong guess about the cache costs little:
the seconds of each are those of loads that were guessed the same.

Tokens are Ollama's own: its count of a prompt holds what the cache had, and its seconds only what was read anew (0.32,
llm/llama_server.go: cache_n + prompt_n, prompt_ms). So reading is timed where nothing was cached: in the first request
after a load.

A prompt that was read stays in the runner: in each slot the last one, and more in llama-server's own cache of prompts
in main memory, 8 GiB for each runner unless told otherwise. That is lost with the runner. Seconds, bytes and tokens.
"""

import math
from dataclasses import replace

from scheduler.core.messages import Ended
from scheduler.core.state import CoreState, ModelState, Request, Warm

NEW_SHARE = 0.3  # weight of the newest sample in a learned mean
FAR = 4.0  # times the mean: what lies beyond counts as so much, for the machine may have slept
FAR_SERVICE = 10.0  # the same for the seconds of an answer, which differ by nature
LOAD_BYTES_PER_SECOND = 1e9  # until a load was measured: a slow SSD
SURE = 5e9  # bytes: of so much loaded, what was believed counts as much as what was measured
STAY = 120.0  # seconds that a model stays, until it was seen
BYTES_PER_TOKEN = 4.0  # of a prompt whose tokens nobody told
FEW = 16  # tokens: fewer tell nothing of a rate
PROMPT_CACHE = 8 << 30  # llama-server's --cache-ram, which Ollama 0.32 leaves at its default
SESSIONS = 64  # warm prompts kept account of in each model
COMES_BACK = 600.0  # seconds in which the chance that a session asks again has fallen to 1/e
GONE = 1800.0  # seconds after which it is not reckoned with
WORTH_TELLING = 0.1  # share by which what would be lost must change before anything is decided anew


def mean(old: float | None, new: float, far: float = FAR) -> float:
    """A learned mean with one more sample, which counts for no more than `far` times the mean and no less than a
    `far`-th of it; the first sample is the mean."""
    if not old:
        return new
    return old + NEW_SHARE * (min(max(new, old / far), old * far) - old)


# --- loads -------------------------------------------------------------------------------------------------------


def loaded(state: CoreState, model: ModelState, took: float) -> None:
    """A load of ours took so long. Call it before its size is measured."""
    if is_warm(state, model):
        model.load_warm = mean(model.load_warm, took)
    else:
        if model.load_cold is None:
            model.load_believed = _believed(model)
        model.load_cold = mean(model.load_cold, took)
    model.load_learned = mean(model.load_learned, took)
    model.fresh = True
    model.warm.clear()  # of an earlier life, perhaps
    model.left_after = None
    state.loaded_bytes += model.size
    _reckon(state)


def is_warm(state: CoreState, model: ModelState) -> bool:
    """Whether its file should be in the page cache if it is loaded now. Of a model that is resident nobody knows what
    will be loaded before it comes back: it is taken to be cold."""
    if model.left_after is None:
        return False
    return model.size + state.loaded_bytes - model.left_after <= max(state.device, state.budget or 0)


def load_seconds(state: CoreState, model: ModelState, factor: float) -> float:
    """What the next load would take, `factor` being `disk_factor(state)`."""
    known = model.load_warm if is_warm(state, model) else None
    if known is None:
        known = model.load_cold  # from the cache it takes no longer
    if known is not None:
        return known
    if model.load_warm is not None:
        return max(model.load_warm, model.load_learned or 0.0, factor * _reckoned(model))
    return factor * _believed(model)


def _believed(model: ModelState) -> float:
    """What a load from disk would take by what was known before the first was measured; a warm one tells nothing."""
    return model.load_learned if model.load_learned is not None and model.load_warm is None else _reckoned(model)


def _reckoned(model: ModelState) -> float:
    return max(1, model.size) / LOAD_BYTES_PER_SECOND


def disk_factor(state: CoreState) -> float:
    """By what factor loads from disk are off from what was believed before the first of each: the disk is the same for
    all, so a model that was never loaded is taken to be off as much. Geometric mean by bytes, for a small model's load
    is mostly the start of its runner; SURE bytes that were not off stand for the belief; each within FAR either way."""
    weight, total = SURE, 0.0
    for model in state.models.values():
        if model.load_cold is not None:
            off = model.load_cold / (model.load_believed or _reckoned(model))
            total += model.size * math.log(min(max(off, 1 / FAR), FAR))
            weight += model.size
    return math.exp(total / weight)


def came(model: ModelState) -> None:
    """It was seen resident without a load of ours."""
    model.left_after = None


def stayed(model: ModelState, seconds: float) -> None:
    """It was there for `seconds`, and another one comes in its place."""
    model.stay_learned = model.stay_seconds = mean(model.stay_seconds, seconds)


def gone(state: CoreState, model: ModelState) -> None:
    """It has left memory: its file may be cached, nothing it had read is."""
    model.left_after = state.loaded_bytes
    model.warm.clear()
    model.reprompt = 0.0
    model.fresh = False
    _reckon(state)


def _reckon(state: CoreState) -> None:
    """Every file's chance to be in the page cache is another now."""
    factor = disk_factor(state)
    for model in state.models.values():
        model.load_seconds = load_seconds(state, model, factor)


# --- answers -----------------------------------------------------------------------------------------------------


def forwarded(model: ModelState, request: Request) -> None:
    """A request goes out: the first after a load finds nothing cached."""
    request.cold, model.fresh = model.fresh, False


def answered(state: CoreState, model: ModelState, request: Request, fact: Ended) -> None:
    """From one whole answer: seconds, tokens, how quickly it read and wrote; and that its prompt is warm now."""
    model.service_learned = mean(model.service_learned, fact.service, FAR_SERVICE)
    if fact.first_byte is not None and request.body_bytes:
        slowest = model.first_byte_per_byte or 0.0
        model.first_byte_per_byte = max(slowest, fact.first_byte / request.body_bytes)
    _read(model, request, fact)
    _wrote(model, fact)
    prompt = prompt_tokens(model, request, fact)
    if prompt and not model.embedding:
        _keep_warm(state, model, request, prompt + (fact.output_tokens or 0))


def _read(model: ModelState, request: Request, fact: Ended) -> None:
    """How many bytes make a token, and how long one takes to be read where none was cached."""
    if fact.prompt_tokens and fact.prompt_tokens >= FEW and request.body_bytes:
        model.token_bytes = mean(model.token_bytes, request.body_bytes / fact.prompt_tokens)
    seconds = fact.prompt_seconds
    if seconds is None and _is_stream(fact):
        seconds = fact.first_byte
    tokens = prompt_tokens(model, request, fact)
    if request.cold and seconds and tokens >= FEW:
        model.read_seconds = mean(model.read_seconds, seconds / tokens)


def _wrote(model: ModelState, fact: Ended) -> None:
    """How many tokens an answer has, and how long one takes to be written."""
    if not fact.output_tokens:
        return
    model.output_tokens = mean(model.output_tokens, float(fact.output_tokens), FAR_SERVICE)
    seconds = fact.output_seconds
    if seconds is None and _is_stream(fact):
        seconds = fact.service - (fact.first_byte or 0.0)
    if seconds and fact.output_tokens >= FEW:
        model.write_seconds = mean(model.write_seconds, seconds / fact.output_tokens)


def _is_stream(fact: Ended) -> bool:
    """Whether the first byte came clearly before the last: then it parts reading from writing."""
    return fact.first_byte is not None and fact.first_byte < 0.9 * fact.service


def prompt_tokens(model: ModelState, request: Request, fact: Ended | None = None) -> float:
    """Tokens of its prompt: told, or reckoned from its bytes; never more than the context holds."""
    if fact is not None and fact.prompt_tokens is not None:
        return float(fact.prompt_tokens)
    tokens = request.body_bytes / (model.token_bytes or BYTES_PER_TOKEN)
    return min(tokens, float(model.context)) if model.context else tokens


def service_seconds(model: ModelState, request: Request) -> float:
    """How long `request` should keep its slot: what it has to read and what is written on the mean, where both rates
    were learned; else the mean of all."""
    if model.read_seconds is None or model.write_seconds is None or model.output_tokens is None:
        return model.service_learned if model.service_learned is not None else model.service_seconds
    warm = model.warm.get(request.session) if request.session else None
    unread = max(0.0, prompt_tokens(model, request) - (warm.tokens if warm else 0.0))
    return unread * model.read_seconds + model.output_tokens * model.write_seconds


# --- warm prompts --------------------------------------------------------------------------------------------------


def _keep_warm(state: CoreState, model: ModelState, request: Request, tokens: float) -> None:
    """Its prompt and answer are in the runner's cache; the oldest that cannot be there any more are forgotten."""
    name = request.session or f"#{request.seq}"  # nobody knows whose: its own
    model.warm.pop(name, None)
    model.warm[name] = Warm(tokens, state.at)
    room = PROMPT_CACHE / model.kv_token if model.kv_token else 0.0
    for kept, each in enumerate(reversed(list(model.warm)), 1):
        beyond_slots = kept > max(1, model.parallel)
        if beyond_slots:
            room -= model.warm[each].tokens
        if kept > SESSIONS or (beyond_slots and room < 0):
            del model.warm[each]


def pass_time(state: CoreState) -> None:
    """What would be lost with each resident model, as sessions become less likely to come back. It is told in steps,
    each a revision: what is derived from it must not change in between."""
    for name in state.present:
        model = state.models[name]
        if not model.warm and not model.reprompt:
            continue
        lost = _lost(model, state.at)
        if abs(lost - model.reprompt) > max(1.0, WORTH_TELLING * model.reprompt):
            model.reprompt = lost
            state.revision += 1


def slept(state: CoreState, gap: float) -> None:
    """The machine slept for `gap` seconds, which its monotonic clock did not count: what was read is longer ago."""
    for model in state.models.values():
        model.warm = {name: replace(warm, at=warm.at - gap) for name, warm in model.warm.items()}


def _lost(model: ModelState, at: float) -> float:
    """Expected seconds of reading again what is warm, if it were unloaded now."""
    if model.read_seconds is None:
        return 0.0
    while model.warm and at - model.warm[oldest := next(iter(model.warm))].at > GONE:
        del model.warm[oldest]
    tokens = sum([warm.tokens * math.exp((warm.at - at) / COMES_BACK) for warm in model.warm.values()])
    return tokens * model.read_seconds

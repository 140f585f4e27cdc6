"""The memory arithmetic of one model: what we promise for it, what Ollama predicts of it, and what is booked in all.

Formulas: facts of Ollama 0.32/0.33 `llm/llama_server.go` (PredictServerVRAM: file size + f16 KV x context x parallel;
batch surcharge 768 MiB above 4,096 tokens of context, 2 GiB above 32,768) and `server/routes.go` (context tiers).
"""

from scheduler.core import learned
from scheduler.core.state import CoreState, ModelState

MIB = 1 << 20
GIB = 1 << 30


def refresh_all(state: CoreState) -> None:
    """Work out again what is reckoned with for every model."""
    factor = learned.disk_factor(state)
    for model in state.models.values():
        refresh(state, model, factor)


def refresh(state: CoreState, model: ModelState, factor: float | None = None) -> None:
    """Work out again what is reckoned with for `model`, after anything it depends on has changed; `factor` is
    `learned.disk_factor(state)`, where it is known already."""
    state.revision += 1
    context = expected_context(state, model)
    cache = model.kv_token * context * state.config.num_parallel
    file = max(model.listed_size, model.declared)
    model.predicted = file + cache + surcharge(context)
    model.size = max(model.declared, model.listed_size, model.measured)
    if not model.declared and not model.measured:
        model.size = model.listed_size + cache
    model.load_seconds = learned.load_seconds(state, model, learned.disk_factor(state) if factor is None else factor)
    model.unload_seconds = model.unload_learned if model.unload_learned is not None else 1.0
    model.service_seconds = model.service_learned if model.service_learned is not None else 10.0
    model.stay_seconds = model.stay_learned if model.stay_learned is not None else learned.STAY


def expected_context(state: CoreState, model: ModelState) -> int:
    """Tokens of context that Ollama gives the model unaided: what it once chose, its Modelfile's, or its tier's."""
    if model.unaided:
        return model.unaided  # seen, not reckoned
    if model.modelfile_ctx:
        return min(model.modelfile_ctx, model.trained) if model.trained else model.modelfile_ctx
    tier = context_tier(device(state))
    return min(tier, model.trained) if model.trained else tier


def is_wrong(state: CoreState, model: ModelState) -> bool:
    """Whether the resident runner has another context than Ollama would choose unaided, as far as that is known."""
    known = bool(model.modelfile_ctx or model.unaided)
    return known and bool(model.context) and model.context != expected_context(state, model)


def surcharge(context: int) -> int:
    """Bytes that Ollama's preflight adds for the batch it will choose."""
    if context > 32768:
        return 2 * GIB
    return 768 * MIB if context > 4096 else 0


def context_tier(device_bytes: int) -> int:
    """The context Ollama chooses by device memory where nobody says otherwise."""
    if device_bytes >= 47 * GIB:
        return 262144
    return 32768 if device_bytes >= 23 * GIB else 4096


def device(state: CoreState) -> int:
    """Bytes Ollama sees as GPU memory; the budget where it is not known."""
    return state.device or state.budget or 0


def free(state: CoreState) -> int:
    """Bytes of the device that nobody holds; orphans are not seen by Ollama."""
    return device(state) - sum(state.models[name].held for name in state.present) - sum(state.unreachable.values())


def promised(state: CoreState) -> int:
    """Bytes loading + resident + leaving, and what orphans and runners out of reach hold."""
    models = state.models
    return unowned(state) + sum([models[name].held for name in state.present])


def unowned(state: CoreState) -> int:
    """Bytes held by runners that no order reaches: without a parent, or with a name that got another blob."""
    return state.orphans + (sum(state.unreachable.values()) if state.unreachable else 0)

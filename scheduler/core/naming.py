"""Names of one blob: Ollama has one runner for them, so they are one model here, kept under one of them."""

from scheduler.core import sizes, turns
from scheduler.core.state import CoreState, ModelState, Request


def known_as(state: CoreState, name: str) -> str:
    """The name that `name` is kept under: its own, or that of another name of its blob."""
    model = state.models.get(name)
    return model.same_as or name if model is not None else name


def join(state: CoreState) -> None:
    """Names of one blob are one model: the one in use is kept, else the configured one, in the order of configuration,
    else the first; a name that is itself in use stays as it is for now."""
    first: dict[str, ModelState] = {}
    order = {model.name: n for n, model in enumerate(state.config.models)}
    names = [model for model in state.models.values() if model.installed and (model.blob or model.digest)]

    def rank(model: ModelState) -> tuple[bool, int]:
        return (model.state == "absent" and model.name not in state.demanded, order.get(model.name, len(order)))

    keep = {model.name for model in state.config.models if model.keep}
    for model in sorted(names, key=rank):
        model.same_as, model.keep = "", model.name in keep
        kept = first.setdefault(model.blob or model.digest, model)
        if kept is not model and model.state == "absent" and not model.running and model.name not in state.demanded:
            model.same_as, model.installed = kept.name, False
            kept.keep = kept.keep or model.keep


def rebind(state: CoreState) -> None:
    """Put those who wait for a model by another name of its blob where that name leads now."""
    for request in [r for r in state.requests.values() if r.named and r.place == "waiting"]:
        name = known_as(state, request.named)
        if name != request.model:
            turns.dequeue(state, state.models[request.model], request)
            request.model = name
            turns.enqueue(state, state.models[name], request)


def part(state: CoreState, model: ModelState) -> None:
    """`model` is another model from now on, so the names that shared its runner are models of their own until what is
    installed has been read."""
    for other in state.models.values():
        if other is model or other.same_as == model.name:
            other.installed = other.installed or bool(other.same_as)
            other.same_as = ""
    rebind(state)


def runners_name(state: CoreState, model: ModelState, request: Request) -> str:
    """The name of the runner, for one who asked by another name of its blob that would be loaded anew; else ""."""
    other = state.models.get(request.named)
    same = other is None or sizes.expected_context(state, other) == sizes.expected_context(state, model)
    return "" if same else model.name

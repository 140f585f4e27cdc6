"""What `/status` tells of what was learned of a model: its shape, and how it is made from the core's memory."""

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # pydantic reads typing's only from Python 3.12 on

from scheduler.core.learned import disk_factor
from scheduler.core.state import CoreState, ModelState


@with_config(ConfigDict(extra="forbid", use_attribute_docstrings=True))
class Learned(TypedDict):
    load_cold: float | None
    """Seconds of a load from disk; null until one was measured."""
    load_believed: float | None
    """Seconds that its first load from disk had been believed to take; null until one was measured. `disk_factor` is
    from this and `load_cold`."""
    load_warm: float | None
    """Seconds of a load whose file is still in the page cache; null until one was measured."""
    unload: float | None
    """Seconds of an unload; null until one was measured."""
    service: float | None
    """Seconds that a request keeps its slot; null until one was answered."""
    stay: float | None
    """Seconds that it stays in memory before it leaves for another; null until it did."""
    prompt_rate: float | None
    """Tokens of an uncached prompt read in a second; null until one was measured."""
    output_rate: float | None
    """Tokens of an answer written in a second; null until one was measured."""
    output_tokens: float | None
    """Tokens of an answer; null until one was told."""
    warm_prompts: int
    """Conversations that its runner has in its cache."""
    warm_tokens: int
    """Their tokens."""
    reprompt: float
    """Seconds of reading again that an unload now would be expected to cost: of what comes back before long."""


def learned(model: ModelState) -> Learned:
    """What is known of `model`; each mean of the last samples outweighs older ones."""
    return Learned(
        load_cold=_rounded(model.load_cold),
        load_believed=None if model.load_cold is None else _rounded(model.load_believed),
        load_warm=_rounded(model.load_warm),
        unload=_rounded(model.unload_learned),
        service=_rounded(model.service_learned),
        stay=_rounded(model.stay_learned),
        prompt_rate=_rate(model.read_seconds),
        output_rate=_rate(model.write_seconds),
        output_tokens=_rounded(model.output_tokens),
        warm_prompts=len(model.warm),
        warm_tokens=round(sum(prompt.tokens for prompt in model.warm.values())),
        reprompt=round(model.reprompt, 1),
    )


def disk(state: CoreState) -> float:
    """By what factor loads from disk are off from what was believed of them."""
    return round(disk_factor(state), 3)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _rate(seconds: float | None) -> float | None:
    """Tokens in a second from seconds for each."""
    return round(1.0 / seconds, 2) if seconds else None

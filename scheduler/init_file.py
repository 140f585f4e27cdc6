"""Write a first configuration as text from the models Ollama lists: those that fit, in the sets that fit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from scheduler.core import sizes
from scheduler.settings_read import documented
from scheduler.units import about_size

_ROUND = 10**7  # bytes: sizes are written to 0.01 GB, upwards, so that none is declared smaller than it is


@dataclass(frozen=True)
class Found:
    """One model as Ollama lists it."""

    name: str
    size: int
    """Bytes of its file; in memory it takes at least that."""
    num_ctx: int | None
    """Tokens, where its Modelfile says; else Ollama chooses."""
    trained: int | None
    """Tokens it was trained for, where the model says."""


def fitting_sets(models: Sequence[Found], budget: int, most: int) -> dict[str, tuple[Found, ...]]:
    """Sets that fit the budget, none inside another, with each model that fits in at least one; named for the largest.

    Greedy: from each model in turn, add the largest others that still fit, up to `most` (what Ollama keeps loaded).
    """
    by_size = sorted(
        (model for model in models if declared(model) <= budget), key=lambda model: (-model.size, model.name)
    )
    sets: list[frozenset[Found]] = []
    for seed in by_size:
        chosen = [seed]
        for other in by_size:
            if other is not seed and len(chosen) < most and let_in(chosen, other, budget):
                chosen.append(other)
        if not any(known >= frozenset(chosen) for known in sets):
            sets = [known for known in sets if not known <= frozenset(chosen)] + [frozenset(chosen)]
    named: dict[str, tuple[Found, ...]] = {}
    for each in sets:
        members = tuple(model for model in by_size if model in each)
        named[_free_name(members, named)] = members
    return named


def let_in(chosen: Sequence[Found], other: Found, budget: int) -> bool:
    """Whether all of these fit, and Ollama's own gate lets them in beside one another, loaded largest first: of each
    later one it must predict at most 80 % of what is free (its KV cache is not known here). `budget` in bytes."""
    if sum(map(declared, chosen)) + declared(other) > budget:
        return False
    held = 0
    for model in sorted([*chosen, other], key=lambda model: -model.size):
        predicted = declared(model) + sizes.surcharge(model.num_ctx or 0)
        if held and predicted * 100 > (budget - held) * 80:
            return False
        held += declared(model)
    return True


def _free_name(members: Sequence[Found], taken: Mapping[str, object]) -> str:
    """The largest member's name as a set may be called, with a number where that is taken."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", members[0].name.removesuffix(":latest")).strip("-")
    return next(free for n in count(1) if (free := name if n == 1 else f"{name}-{n}") not in taken)


def declared(model: Found) -> int:
    """The size that is written for a model, in bytes: its file's, rounded up."""
    return -(-model.size // _ROUND) * _ROUND


def configuration(
    models: Sequence[Found], sets: Mapping[str, Sequence[Found]], ollama: str, budget: str, budget_bytes: int
) -> str:
    """The text of a configuration file for models of which one fits at least. `budget` is as written in it,
    `budget_bytes` what it comes to here."""
    return "\n".join(
        [
            "# Written by `ollama-scheduler init` from what Ollama listed; it is yours to change.",
            "# What else can be set: docs/settings.md, or `ollama-scheduler config show`.",
            "",
            f"ollama = {_quoted(ollama)}",
            "",
            "[memory]",
            f"{f'budget = {_quoted(budget)}':<40}  # {about_size(budget_bytes)} where this was written",
            "",
            "[ollama_settings]                         # say here what you run Ollama with; we cannot see it",
            "num_parallel = 1                          # its OLLAMA_NUM_PARALLEL",
            "max_loaded_models = 3                     # its OLLAMA_MAX_LOADED_MODELS",
            "",
            *_models(models, budget_bytes),
            "[sets]                                    # what is loaded and kept together",
            *(f"{name if _bare(name) else _quoted(name)} = {_names(members)}" for name, members in sets.items()),
            "",
            "[phases.normal]                           # which sets may be loaded; add phases of your own beside it",
            f"sets = {json.dumps(list(sets), ensure_ascii=False)}",
            "",
            "[aliases]                                 # other names that clients ask for",
            *_aliases([model for model in models if declared(model) <= budget_bytes]),
            "",
        ]
    )


def _models(models: Sequence[Found], budget: int) -> Iterator[str]:
    for model in sorted(models, key=lambda model: (-model.size, model.name)):
        out = "" if declared(model) <= budget else "# "
        if out:
            yield "# Larger than the whole budget: raise the budget to use it."
        yield f"{out}[models.{_quoted(model.name)}]"
        size = f'size = "{declared(model) / 10**9:.2f}GB"'
        yield f"{out}{size:<40}  # of its file; with context it takes more, and the larger counts"
        yield f"{out}{_context(model)}"
        yield ""


def _context(model: Found) -> str:
    if model.num_ctx is not None:
        return f"{f'num_ctx = {model.num_ctx}':<40}  # from its Modelfile"
    known = f"trained for {model.trained} tokens; " if model.trained else ""
    return f"# num_ctx: {known}Ollama chooses, since the Modelfile does not say"


def _aliases(models: Sequence[Found]) -> Iterator[str]:
    """The documented aliases whose models are there and fit, else an example."""
    there = {model.name for model in models}
    known = {alias: target for alias, target in documented()["aliases"].items() if _target(target) in there}
    for alias, target in known.items():
        value = target if isinstance(target, str) else None
        table = "" if value is not None else ", ".join(f"{key} = {_quoted(each)}" for key, each in target.items())
        yield f"{_quoted(alias)} = {_quoted(value) if value is not None else f'{{ {table} }}'}"
    if models and not known:
        smallest = min(models, key=lambda model: model.size)
        yield f'# "gpt-4o-mini" = {{ model = {_quoted(smallest.name)}, class = "helper" }}'


def _target(alias: str | Mapping[str, str]) -> str:
    return alias if isinstance(alias, str) else alias["model"]


def _names(members: Sequence[Found]) -> str:
    return json.dumps([model.name for model in members], ensure_ascii=False)


def _bare(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_-]+", name) is not None


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)

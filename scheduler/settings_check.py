"""What no single setting shows: sets against the budget, names against each other, and us against our own upstream."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from scheduler.names import is_cloud, normal_name
from scheduler.settings import Settings
from scheduler.settings_keys import dotted, nearest_name
from scheduler.settings_problems import Problem, typed
from scheduler.settings_routes import alias_loops, routes
from scheduler.units import about_size, format_size

_HERE = {"localhost", "127.0.0.1", "::1"}
_ANY = {"", "0.0.0.0", "::"}


def check(settings: Settings, own: Collection[str] = ()) -> tuple[list[Problem], list[Problem]]:
    """(problems that forbid a start, warnings), from the settings alone: no network, no memory is looked at.

    `own` are this machine's addresses and names beside loopback, so that an upstream that is ourselves is known.
    """
    problems = [
        *_sets_of_unknown_models(settings),
        *_phases(settings),
        *_parallel(settings),
        *_aliases(settings),
        *_ourselves(settings, own),
        *_too_large(settings),
    ]
    return problems, [*_unknown_targets(settings), *_too_many(settings)]


def sets_too_large(settings: Settings, budget_bytes: int, sizes: Mapping[str, int] | None = None) -> dict[str, int]:
    """Bytes of each set that exceeds the budget, by the set's name; a model in no set under its own name.

    `sizes` are what Ollama reports or memory showed, by normal name: the larger counts, never a smaller one. A model
    without any size counts as nothing. Empty: everything fits.
    """
    needs = {name: need(settings, models, sizes) for name, models in all_sets(settings).items()}
    return {name: size for name, size in needs.items() if size > budget_bytes}


def all_sets(settings: Settings) -> dict[str, tuple[str, ...]]:
    """The sets by name, and each configured model that is in none, as a set of its own under its own name."""
    held = {model for models in settings.sets.values() for model in models}
    return {**settings.sets, **{model: (model,) for model in settings.models if model not in held}}


def need(settings: Settings, models: tuple[str, ...], sizes: Mapping[str, int] | None = None) -> int:
    """Bytes that these models take together, declared or in `sizes`, whichever is larger for each."""
    reported = sizes or {}
    declared = {name: model.size or 0 for name, model in settings.models.items()}
    return sum(max(declared.get(name, 0), reported.get(name, 0)) for name in models)


def _too_large(settings: Settings) -> Iterator[Problem]:
    budget = settings.memory.budget
    if budget != "auto":
        yield from beyond(settings, budget, f"memory.budget = {format_size(budget)}")


def beyond(settings: Settings, budget_bytes: int, told: str) -> Iterator[Problem]:
    """What to say of each set that exceeds the budget, which people know as `told`."""
    for name, size in sets_too_large(settings, budget_bytes).items():
        models = all_sets(settings)[name]
        parts = " + ".join(about_size(need(settings, (model,))) for model in models)
        where = dotted(("sets", name) if name in settings.sets else ("models", name))
        yield Problem(
            where,
            typed(list(models)),
            f"needs {about_size(size)}{f' ({parts})' if len(models) > 1 else ''}, more than {told}",
            f"raise the budget{', take a model out,' if len(models) > 1 else ''} or declare its true size",
        )


def _sets_of_unknown_models(settings: Settings) -> Iterator[Problem]:
    for name, models in settings.sets.items():
        if not models:
            yield Problem(dotted(("sets", name)), "[]", "holds no model", "name its models, or leave the set out")
        for model in models:
            if model not in settings.models:
                yield Problem(
                    dotted(("sets", name)),
                    typed(model),
                    "is not under [models]",
                    f"give it a [{dotted(('models', model))}] table; {nearest_name(model, list(settings.models))}",
                )


def named_phases(content: Mapping[str, Any]) -> Iterator[Problem]:
    """Phases that a file's content names and does not have, however wrong the rest of it may be."""
    known = [str(name) for name in _table(content.get("phases"))]
    entries = content.get("schedule")
    named: list[tuple[tuple[str | int, ...], object]] = [(("phase",), content.get("phase", Settings().phase))]
    for at, entry in enumerate(entries if isinstance(entries, list) else []):
        named.append((("schedule", at, "phase"), _table(entry).get("phase")))
    for path, name in named:
        if isinstance(name, str) and name not in known:
            yield Problem(dotted(path), typed(name), "is not under [phases]", nearest_name(name, known))


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _phases(settings: Settings) -> Iterator[Problem]:
    yield from named_phases(
        {
            "phase": settings.phase,
            "phases": settings.phases,
            "schedule": [{"phase": entry.phase} for entry in settings.schedule],
        }
    )
    for name, phase in settings.phases.items():
        for each in phase.sets:
            if each not in settings.sets:
                mend = nearest_name(each, list(settings.sets))
                yield Problem(dotted(("phases", name, "sets")), typed(each), "is not under [sets]", mend)
        if phase.home is not None and phase.home not in phase.sets:
            mend = nearest_name(phase.home, phase.sets)
            where = dotted(("phases", name, "home"))
            yield Problem(where, typed(phase.home), "is not one of this phase's sets", mend)


def _parallel(settings: Settings) -> Iterator[Problem]:
    most = settings.ollama_settings.num_parallel
    for name, model in settings.models.items():
        if model.parallel > most:
            yield Problem(
                dotted(("models", name, "parallel")),
                typed(model.parallel),
                f"is above ollama_settings.num_parallel = {most}",
                f"write {most} or less, or tell us that Ollama runs with a larger OLLAMA_NUM_PARALLEL",
            )


def _aliases(settings: Settings) -> Iterator[Problem]:
    for loop in alias_loops(settings):
        where = dotted(("aliases", loop[0]))
        yield Problem(where, "", f"leads back to itself: {' -> '.join(loop)}", "let one of them name a model")
    for name in settings.aliases:
        if normal_name(name) in settings.models:
            where = dotted(("aliases", name))
            yield Problem(where, "", "is given twice: it is also a model under [models]", "rename one of them")


def _unknown_targets(settings: Settings) -> Iterator[Problem]:
    table = routes(settings)
    for name, alias in settings.aliases.items():
        route = table[normal_name(name)]
        if not (route.paid or route.model in settings.models or is_cloud(route.model)):
            mend = f"it is left to Ollama to know it; {nearest_name(route.model, list(settings.models))}"
            yield Problem(dotted(("aliases", name)), typed(alias.model), "is not under [models]", mend)


def _too_many(settings: Settings) -> Iterator[Problem]:
    most = settings.ollama_settings.max_loaded_models
    for name, models in settings.sets.items():
        if len(models) > most:
            yield Problem(
                dotted(("sets", name)),
                typed(list(models)),
                f"can never be loaded together: Ollama evicts beyond ollama_settings.max_loaded_models = {most}",
                "run Ollama with a larger OLLAMA_MAX_LOADED_MODELS and say so here, or make the set smaller",
            )


def _ourselves(settings: Settings, own: Collection[str]) -> Iterator[Problem]:
    host, port = settings.listen_at
    upstream, upstream_port = settings.ollama_at
    if port and port == upstream_port and _same_host(host, upstream, own):
        yield Problem(
            "ollama",
            typed(settings.ollama),
            f"is ourselves: we listen on {settings.listen}",
            "name the address Ollama itself listens on, such as http://127.0.0.1:11434",
        )


def _same_host(ours: str, theirs: str, own: Collection[str]) -> bool:
    """Whether a connection to `theirs` could arrive at `ours` on this machine, port aside; no name is looked up."""
    if ours in _ANY:
        return theirs in _HERE | _ANY or theirs.startswith("127.") or theirs in own
    return ours == theirs or (ours in _HERE and theirs in _HERE | _ANY)

"""Turns the settings into the machine, and the core's configuration, that a simulation plays on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scheduler.composition import aliases, core_config
from scheduler.core.config import Config, ModelConfig, PhaseConfig
from scheduler.errors import Refused
from scheduler.memory import auto_budget
from scheduler.names import normal_name
from scheduler.settings import Settings
from scheduler.settings_keys import nearest_name
from scheduler.settings_problems import typed
from scheduler.simulator.host import Host, HostModel, documented
from scheduler.simulator.run import NEVER
from scheduler.simulator.workload import Job
from scheduler.units import UnitError, about_size, format_size, parse_budget

RATE = 1e9  # bytes loaded in a second where nothing else is said: what the core itself begins with
UNLOAD = 1.0  # seconds
MANY = 1_000_000  # requests that may wait: a simulation refuses nobody because a queue is long


class NoHost(ValueError):
    """Settings, phase or budget that no simulation can be played on; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What is simulated: the host, the core's configuration of it, and where its budget is from."""

    host: Host
    config: Config
    budget_from: str

    def under(self, policy: str) -> Config:
        """The core's configuration under another policy."""
        return replace(self.config, policy=policy)


def machine(settings: Settings, *, budget: str | None = None, phase: str | None = None, gates: bool = False) -> Machine:
    """The machine of these settings, with another `budget` (as typed) or `phase` where they are given. Raises
    NoHost."""
    bytes_, source = _budget(settings) if budget is None else asked_budget(budget)
    models = [_model(settings, name) for name in settings.models]
    return built(core_config(settings), models, bytes_, source, phase=phase, gates=gates)


def built(
    told: Config,
    models: Sequence[HostModel],
    budget: int,
    source: str,
    *,
    phase: str | None = None,
    gates: bool = False,
) -> Machine:
    """The machine of these models with what the core was `told`; `source` says where the budget is from. Raises
    NoHost."""
    named = phase or told.phase
    chosen = next((each for each in told.phases if each.name == named), None)
    if chosen is None:
        known = [each.name for each in told.phases]
        raise NoHost(f"phase {named!r} is not under [phases]; {nearest_name(named, known)}")
    sets = _sets(told, chosen, models)
    _check_fit(models, sets, budget, source)
    host = Host(tuple(models), budget, tuple(sets.values()), gates, sets.get(chosen.home, ()), chosen.settle)
    return Machine(host, _config(told, host, chosen), source)


def resolved(settings: Settings, host: Host, jobs: Sequence[Job], where: str) -> list[Job]:
    """The jobs with each model under the name `host` knows it by, aliases followed. Raises NoHost."""
    table = aliases(settings)
    known = {model.name for model in host.models}
    found = []
    for job in jobs:
        try:
            name = normal_name(table.resolve(job.model).model)
        except Refused as refused:
            raise NoHost(f"{where}: id {job.id!r}: model {job.model!r}: {refused}") from None
        if name not in known:
            raise NoHost(f"{where}: id {job.id!r}: model {job.model!r} is unknown; {nearest_name(name, sorted(known))}")
        found.append(job if name == job.model else replace(job, model=name))
    return found


def asked_budget(text: str) -> tuple[int, str]:
    """Bytes of `--budget`, and where they are from. Raises NoHost."""
    try:
        size = parse_budget(text)
    except UnitError as error:
        raise NoHost(f"--budget: {typed(error.value)} {error.problem}; {error.mend}") from None
    return auto_budget() if size is None else (size, "as asked")


def _budget(settings: Settings) -> tuple[int, str]:
    if settings.memory.budget != "auto":
        return settings.memory.budget, "memory.budget"
    return auto_budget()


def _model(settings: Settings, name: str) -> HostModel:
    """What [simulate.models] says, else what is documented, else what its size comes to."""
    configured, said = settings.models[name], settings.simulate.models.get(name)
    known = {model.name: model for model in documented().models}.get(name)
    size = configured.size or (known.size if known else 0)
    if not size:
        raise NoHost(f'model {name!r} has no size; give models."{name}".size in the configuration')
    if known is None:
        known = HostModel(name, size, size / RATE, UNLOAD, configured.parallel)
    return HostModel(
        name,
        size,
        known.load if said is None or said.load is None else said.load,
        known.unload if said is None or said.unload is None else said.unload,
        (known.parallel if said is None else said.parallel) or known.parallel,
    )


def _sets(told: Config, phase: PhaseConfig, models: Sequence[HostModel]) -> dict[str, tuple[str, ...]]:
    """The sets that the phase allows, by name; a model in no set is one of its own, under its own name."""
    grouped = {member for _, members in told.sets for member in members}
    allowed = {name: members for name, members in told.sets if name in phase.sets}
    return allowed | {model.name: (model.name,) for model in models if model.name not in grouped}


def _check_fit(models: Sequence[HostModel], sets: Mapping[str, tuple[str, ...]], budget: int, source: str) -> None:
    sizes = {model.name: model.size for model in models}
    for name, members in sets.items():
        size = sum(sizes[member] for member in members)
        if size > budget:
            text = f"set {name!r} needs {about_size(size)}, more than the budget of {about_size(budget)} ({source})"
            raise NoHost(f"{text}; give --budget {format_size(size)} or more, or another configuration")


def _config(told: Config, host: Host, phase: PhaseConfig) -> Config:
    """The core's configuration with the host's sizes and slots, and nobody refused for having waited long."""
    keep = {model.name: model.keep for model in told.models}
    return replace(
        told,
        models=tuple(
            ModelConfig(model.name, model.size, 0, model.parallel, keep.get(model.name, False)) for model in host.models
        ),
        phase=phase.name,
        give_up=NEVER,
        queue_limit=MANY,
        num_parallel=max((model.parallel for model in host.models), default=1),
        max_loaded=told.max_loaded if host.gates else MANY,
        stale_free=False,
        load_limit=NEVER,
    )

"""`simulate`: play a recorded workload through the daemon's own core under a virtual clock, beside what others do."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from scheduler import simulated_tables as tables
from scheduler.outlook import gigabytes
from scheduler.settings_problems import SettingsError
from scheduler.settings_read import read_settings
from scheduler.simulated_host import Machine, NoHost, machine, resolved
from scheduler.simulated_options import BudgetOption, ConfigOption, GatesOption, JsonOption, PhaseOption, PolicyOption
from scheduler.simulated_policies import checked_policies, run, usual
from scheduler.simulator.measures import Result
from scheduler.simulator.optimum import Bound, bound
from scheduler.simulator.workload import Job, WorkloadError, read
from scheduler.units import UnitError, parse_size

PAST, BAD = 1, 2
CODES = "Exit codes: 0 simulated, 1 somebody waited past the stated bound, 2 something given cannot be used."
UNUSABLE = (SettingsError, UnitError, NoHost, WorkloadError)


def simulate(
    trace: Annotated[
        list[Path], typer.Option("--trace", metavar="FILE", help="A workload, .jsonl or .jsonl.gz; may be given again.")
    ],
    config: ConfigOption = None,
    policy: PolicyOption = None,
    budget: BudgetOption = None,
    phase: PhaseOption = None,
    clairvoyant: Annotated[
        bool, typer.Option("--bound", help="Add the least J that one who knew the future could have had.")
    ] = False,
    gates: GatesOption = False,
    json_out: JsonOption = False,
) -> None:
    """Play workloads under a virtual clock: how long each class would wait, what would be loaded, and what that costs.

    J is the sum of weight x seconds waited (interactive 3, agent and helper 1, batch 0.5) and the seconds of loading.
    Where the policy states a bound, every wait is held to it; one past it is an error, exit code 1.
    """
    try:
        settings = read_settings(config).settings
        names = checked_policies(policy or usual(settings))
        demands = [(file, read(file)) for file in trace]
        stage = machine(settings, budget=_size(budget), phase=phase, gates=gates)
        workloads = [(file, resolved(settings, stage.host, jobs, str(file))) for file, jobs in demands]
    except UNUSABLE as error:
        typer.echo(json.dumps({"error": str(error)}) if json_out else str(error), err=not json_out)
        raise typer.Exit(BAD) from None
    told, past = [], False
    for file, jobs in workloads:
        results = [run(name, jobs, stage) for name in names]
        past = past or any(result.past_bound for result in results)
        least = bound(jobs, stage.host, results[0]) if clairvoyant else None
        told.append(_content(file, stage, results, least))
        if not json_out:
            _show(file, jobs, stage, results, least)
    if json_out:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    if past:
        raise typer.Exit(PAST)


def _size(text: str | None) -> int | None:
    return None if text is None else parse_size(text)


def _content(file: Path, stage: Machine, results: Sequence[Result], least: Bound | None) -> dict[str, Any]:
    content: dict[str, Any] = {"trace": str(file), "budget": stage.host.budget}
    content["policies"] = list(map(tables.content, results))
    return content if least is None else content | {"bound": asdict(least)}


def _show(file: Path, jobs: Sequence[Job], stage: Machine, results: Sequence[Result], least: Bound | None) -> None:
    out = tables.console()
    loads = ", ".join(
        f"{model.name} {gigabytes(model.size)} {model.load:g}/{model.unload:g} s x{model.parallel}"
        for model in stage.host.models
    )
    budget = f"{gigabytes(stage.host.budget)} ({stage.budget_from})"
    gates = "on" if stage.host.gates else "off"
    out.print(f"{len(jobs)} requests, {budget}, phase {stage.config.phase}, Ollama's gates {gates}", soft_wrap=True)
    out.print(f"load/unload x slots: {loads}", soft_wrap=True)
    out.print(tables.table(results, str(file)))
    for result in results:
        for text in tables.remarks(result):
            out.print(text, soft_wrap=True)
        for note in result.notes:
            out.print(f"{result.policy}: {note}")
    if least is not None:
        text = f"one who knew the future: J {least.j:.0f} with {least.loads} loads ({least.note})"
        shares = ", ".join(f"{result.policy} {result.j / least.j:.2f}" for result in results if least.j)
        out.print(f"{text}; times that: {shares}", soft_wrap=True)

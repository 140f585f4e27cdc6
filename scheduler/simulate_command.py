"""`simulate`: play a recorded workload through the daemon's own core under a virtual clock, beside what others do."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from scheduler import simulated_tables as tables
from scheduler.ask import end
from scheduler.outlook import gigabytes
from scheduler.settings_problems import SettingsError
from scheduler.settings_read import read_settings
from scheduler.simulated_host import Machine, NoHost, machine, resolved
from scheduler.simulated_options import BudgetOption, ConfigOption, GatesOption, JsonOption, PhaseOption, PolicyOption
from scheduler.simulated_policies import checked_policies, run, usual
from scheduler.simulator.measures import Result
from scheduler.simulator.optimum import Bound, bound
from scheduler.simulator.workload import Job, WorkloadError, read

PAST, BAD = 1, 2
CODES = (
    "Exit codes: 0 simulated, 1 somebody waited past the stated bound or was not served, 2 something given cannot be "
    "used."
)
MINDS = (
    "it minds memory, slots and the order in which requests of one model and weight came; it does not mind sets, phases"
    " and Ollama's gates (--gates or not), and loads what fits beside everything while others load"
)
UNUSABLE = (SettingsError, NoHost, WorkloadError)


def simulate(
    trace: Annotated[
        list[Path], typer.Option("--trace", metavar="FILE", help="A workload, .jsonl or .jsonl.gz; may be given again.")
    ],
    config: ConfigOption = None,
    policy: PolicyOption = None,
    budget: BudgetOption = None,
    phase: PhaseOption = None,
    clairvoyant: Annotated[
        bool,
        typer.Option("--bound", help="Add the least J of one who knew the future, and minded memory and slots alone."),
    ] = False,
    gates: GatesOption = False,
    json_out: JsonOption = False,
) -> None:
    """Play workloads under a virtual clock: how long each class would wait, what would be loaded, and what that costs.

    J is the sum of weight x seconds waited (interactive 3, agent and helper 1, batch 0.5) and the seconds of loading.
    Where the policy states a bound, every wait is held to it; one past it is an error, exit code 1. So is a request
    that is never served.
    """
    try:
        settings = read_settings(config).settings
        names = checked_policies(policy or usual(settings))
        demands = [(file, _jobs(file)) for file in trace]
        stage = machine(settings, budget=budget, phase=phase, gates=gates)
        workloads = [(file, resolved(settings, stage.host, jobs, str(file))) for file, jobs in demands]
    except UNUSABLE as error:
        raise end(str(error), BAD, json_out) from None
    told, past = [], False
    for file, jobs in workloads:
        results = [run(name, jobs, stage) for name in names]
        past = past or any(result.past_bound or result.unserved for result in results)
        least = bound(jobs, stage.host, results[0]) if clairvoyant else None
        told.append(_content(file, stage, results, least))
        if not json_out:
            _show(file, jobs, stage, results)
        if not json_out and least is not None:
            _show_least(jobs, results, least)
    if json_out:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    if past:
        raise typer.Exit(PAST)


def _jobs(file: Path) -> list[Job]:
    """The workload of a file. Raises WorkloadError, also where nobody asks for anything in it."""
    try:
        jobs = read(file)
    except zlib.error as error:
        raise WorkloadError(f"{file}: cannot be read: {error}") from None
    if not jobs:
        row = '{"id": 1, "model": "qwen-fast", "service": 2.5, "t": 0}'
        raise WorkloadError(f"{file}: no request is in it; write one JSON object a line, such as {row}")
    return jobs


def _content(file: Path, stage: Machine, results: Sequence[Result], least: Bound | None) -> dict[str, Any]:
    content: dict[str, Any] = {"trace": str(file), "budget": stage.host.budget}
    content["policies"] = list(map(tables.content, results))
    return content if least is None else content | {"bound": asdict(least) | {"minds": MINDS}}


def _show(file: Path, jobs: Sequence[Job], stage: Machine, results: Sequence[Result]) -> None:
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
            out.print(f"{result.policy}: {note}", soft_wrap=True)


def _show_least(jobs: Sequence[Job], results: Sequence[Result], least: Bound) -> None:
    """What one who knew the future could have had, what that minds, and whose J may be held beside it."""
    out = tables.console()
    alike = [result for result in results if least.j and not result.unserved]
    closed = any(job.t is None for job in jobs)
    if closed:  # who answers sooner is asked sooner: only the first had these arrivals
        alike = [result for result in alike if result is results[0]]
    loads = f"{least.loads} {'load' if least.loads == 1 else 'loads'}"
    text = f"one who knew the future: J {least.j:.0f} with {loads} ({least.note})"
    shares = ", ".join(f"{result.policy} {result.j / least.j:.2f}" for result in alike)
    out.print(f"{text}; times that: {shares}" if shares else text, soft_wrap=True)
    out.print(f"  {MINDS}", soft_wrap=True)
    if closed:
        first = results[0].policy
        text = f"  what comes after others is taken to come as it did under {first}, even if it answers sooner"
        others = f"; to compare another name it first: --policy {results[1].policy}" if results[1:] else ""
        out.print(f"{text}: only {first} is compared{others}", soft_wrap=True)

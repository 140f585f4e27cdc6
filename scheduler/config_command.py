"""`config show|check|schema`: look at a configuration without starting anything with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from scheduler.memory import auto_budget
from scheduler.settings import Settings
from scheduler.settings_check import all_sets, beyond, need
from scheduler.settings_docs import settings_schema
from scheduler.settings_keys import dotted
from scheduler.settings_problems import SettingsError
from scheduler.settings_read import Read, read_settings, replaced
from scheduler.units import about_size

BAD = 2
_CODES = "Exit codes: 0 the configuration is good, 2 it is not."

config_app = typer.Typer(
    name="config", help=f"Look at the configuration without starting anything. {_CODES}", no_args_is_help=True
)
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The file to read, instead of the one in the platform's folder."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for a script to read.")]


@dataclass(frozen=True)
class Fit:
    """One set beside the budget, as `check --json` prints it."""

    name: str
    models: tuple[str, ...]
    bytes: int
    fits: bool


@config_app.command(epilog=_CODES)
def show(config: ConfigOption = None, json_out: JsonOption = False) -> None:
    """Print the configuration in force as TOML, with where each value is from: default, file or environment."""
    try:
        read = read_settings(config)
    except SettingsError as error:
        raise _refused(error, json_out) from None
    if json_out:
        _print_json({"file": _file(read), "settings": _content(read.settings), "origin": dict(read.origin)})
        return
    typer.echo(f"# {read.file or 'no file: the documented configuration holds'}")
    for line in _toml(_content(read.settings), read.origin, ()):
        typer.echo(line)


@config_app.command(epilog=_CODES)
def check(config: ConfigOption = None, json_out: JsonOption = False) -> None:
    """Say everything that is wrong with the configuration, or "ok" with its sets and whether each fits."""
    try:
        read = read_settings(config)
    except SettingsError as error:
        raise _refused(error, json_out) from None
    budget, why = _budget(read.settings)
    here = f"the budget here, {about_size(budget)} ({why})"
    doubts = [*read.warnings, *beyond(read.settings, budget, here)]  # beyond a budget that is told is no doubt: refused
    gone = replaced(read.settings)
    fits = [
        Fit(name, models, size, size <= budget)
        for name, models in all_sets(read.settings).items()
        for size in (need(read.settings, models),)
    ]
    if json_out:
        warnings = [asdict(warning) for warning in doubts]
        answer = {
            "ok": True,
            "file": _file(read),
            "problems": [],
            "warnings": warnings,
            "sets": [asdict(fit) for fit in fits],
            "replaced": gone,
        }
        _print_json({**answer, "budget": {"bytes": budget, "from": why}})
        return
    none = fits and not any(each.fits for each in fits)
    verdict = "good, but NO SET FITS HERE" if none else "ok"
    typer.echo(f"{verdict}: {read.file or 'no file, the documented configuration holds'}")
    typer.echo(f"budget {about_size(budget)} ({why})")
    for each in fits:
        verdict = "fits" if each.fits else "TOO LARGE: its requests will be refused"
        typer.echo(f"  {each.name}: {about_size(each.bytes)} {verdict} ({', '.join(each.models)})")
    if gone:
        typer.echo(f"gone, since a table of yours replaces the documented one whole: {_told(gone)}")
    for warning in doubts:
        typer.echo(f"warning: {warning}")


@config_app.command(epilog="Exit code: 0.")
def schema() -> None:
    """Print the JSON schema of the configuration file, for an editor."""
    _print_json(settings_schema())


def _budget(settings: Settings) -> tuple[int, str]:
    """Bytes and where they are from: the file's, or what "auto" comes to on this machine."""
    if settings.memory.budget != "auto":
        return settings.memory.budget, "memory.budget"
    return auto_budget()


def _told(gone: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{table} {', '.join(names)}" for table, names in gone.items())


def _refused(error: SettingsError, json_out: bool) -> typer.Exit:
    """Tell what is wrong (JSON to stdout, lines to stderr), and the exit that goes with it."""
    if json_out:
        problems = [asdict(problem) for problem in error.problems]
        _print_json({"error": str(error), "ok": False, "file": error.source, "problems": problems})
    else:
        typer.echo(str(error), err=True)
    return typer.Exit(BAD)


def _print_json(content: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))


def _file(read: Read) -> str | None:
    return str(read.file) if read.file else None


def _content(settings: Settings) -> dict[str, Any]:
    """The settings as a file would hold them: sizes and durations as text, nothing where a key is left out."""
    content: dict[str, Any] = settings.model_dump(mode="json", by_alias=True, exclude_none=True)
    return content


def _toml(table: Mapping[str, Any], origin: Mapping[str, str], path: tuple[str, ...]) -> Iterator[str]:
    """The lines of a table: its own values first, each with its origin, then the tables in it.

    An empty table is written too: to say nothing of it would mean the documented one.
    """
    lists = {name: value for name, value in table.items() if _is_tables(value)}
    values = {name: value for name, value in table.items() if not isinstance(value, Mapping) and name not in lists}
    if path and (values or not table):
        yield f"\n[{dotted(path)}]"
    for name, value in values.items():
        text = f"{dotted((name,))} = {json.dumps(value, ensure_ascii=False)}"
        yield f"{text:<60}  # {origin[dotted((*path, name))]}"
    for name, value in lists.items():
        for each in value:
            yield f"\n[[{dotted((*path, name))}]]"
            yield from (f"{dotted((key,))} = {json.dumps(text, ensure_ascii=False)}" for key, text in each.items())
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _toml(value, origin, (*path, name))


def _is_tables(value: Any) -> bool:
    """Whether it is a list of tables, which TOML writes one by one."""
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)

"""`journal verify FILE…`: replay journal files, each alone, and say whether every order comes out the same."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic_core import to_jsonable_python

from scheduler.ask import ConfigOption, JsonOption, NoJournal, Silent, UrlOption, end, journals
from scheduler.core import messages as m
from scheduler.replay import BadFile, Difference, Verified, verify

DIFFERS, UNREADABLE = 1, 2
CODES = "Exit codes: 0 identical, 1 an order differs, 2 a file cannot be read."

journal_app = typer.Typer(name="journal", help="Look into the journal.", no_args_is_help=True)


@journal_app.callback()
def _journal() -> None:
    """Keep `verify` a command of its own name."""


@journal_app.command("verify", epilog=CODES)
def verify_files(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE...]", help="Journal files; the running daemon's if not given.")
    ] = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    json_out: JsonOption = False,
) -> None:
    """Replay each FILE alone and compare every order with what was written."""
    if files and url is not None:
        raise end("FILE and --url say two different things; give one", UNREADABLE, json_out)
    try:
        files = files or journals(url, config, json_out)
    except (Silent, NoJournal) as error:
        raise end(str(error), UNREADABLE, json_out) from None
    worst = 0
    told: list[dict[str, Any]] = []
    for file in files:
        code, row, lines = _one(file)
        worst = max(worst, code)
        told.append(row)
        if not json_out:
            for line in lines:
                typer.echo(line, err=code == UNREADABLE)
    if json_out:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    raise typer.Exit(worst)


def _one(file: Path) -> tuple[int, dict[str, Any], list[str]]:
    """Exit code, JSON and lines of one file."""
    try:
        found = verify(file)
    except BadFile as error:
        return UNREADABLE, {"file": str(file), "verdict": "unreadable", "error": str(error)}, [f"unreadable: {error}"]
    row = {"file": str(file), "version": found.version, "wall": found.wall, "facts": found.facts}
    row |= {"orders": found.orders, "torn": found.torn, "verdict": "identical"}
    if found.difference is None:
        return 0, row, [_identical(found)]
    difference = found.difference
    row |= {
        "verdict": "differs",
        "difference": to_jsonable_python(difference) | {"type": type(difference.fact).__name__},
    }
    return DIFFERS, row, _differs(found, difference)


def _identical(found: Verified) -> str:
    torn = "; its last line was never finished and is left out" if found.torn else ""
    return f"{found.file}: identical: {found.facts} facts, {found.orders} orders{torn}"


def _differs(found: Verified, difference: Difference) -> list[str]:
    lines = [f"{found.file}:{difference.line}: differs after {found.facts} facts, at {difference.fact}"]
    lines += [f"  written  {text}" for text in _orders(difference.written, "no orders: the core broke its law")]
    lines += [f"  replayed {text}" for text in _orders(difference.given, difference.broke)]
    return [*lines, f"  written by {found.version} from {found.wall} on"]


def _orders(orders: tuple[m.Order, ...] | None, none: str) -> list[str]:
    return [none] if orders is None else [str(order) for order in orders] or ["no orders"]

"""`why MODEL`: what a request for it would meet now, without making one."""

import json
from typing import Annotated

import typer

from scheduler.ask import DOWN, ConfigOption, JsonOption, Silent, UrlOption, ask, place

REFUSED = 1
CODES = "Exit codes: 0 it would be served or would wait, 1 it would be refused, 2 the daemon does not answer."


def why(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model or an alias, as a client would say it.")],
    url: UrlOption = None,
    config: ConfigOption = None,
    json_out: JsonOption = False,
) -> None:
    """Say what a request for MODEL would meet now: served, waiting for what, or refused, and why."""
    where = place(url, config)
    try:
        answer = ask(where, "/why", {"model": model}, knows={"would", "error"})
    except Silent as error:
        typer.echo(json.dumps({"would": None, "error": str(error)}) if json_out else str(error), err=not json_out)
        raise typer.Exit(DOWN) from None
    if json_out:
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        for sentence in answer.get("sentences") or [f"A request would be refused: {answer['error']}."]:
            typer.echo(sentence)
    raise typer.Exit(REFUSED if answer.get("would", "be refused") == "be refused" else 0)

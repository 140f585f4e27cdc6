"""`bounds`: within how long a change begins for a request of each class, term by term, as things stand."""

import json

import typer

from scheduler.ask import DOWN, ConfigOption, JsonOption, Silent, UrlOption, ask, end, place

CODES = "Exit codes: 0 told, 2 the daemon does not answer."


def bounds(url: UrlOption = None, config: ConfigOption = None, json_out: JsonOption = False) -> None:
    """Say within how long the change to a model that is away begins, for each class, and which term has no limit."""
    try:
        answer = ask(place(url, config, json_out), "/bounds", knows={"stated"})
    except Silent as error:
        raise end(str(error), DOWN, json_out) from None
    if json_out:
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        for sentence in answer["sentences"]:
            typer.echo(sentence)

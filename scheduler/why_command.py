"""`why MODEL` and `why REQUEST`: what a request for it would meet now, or what one that is here waits for."""

import json
import re
from typing import Annotated, Any

import typer

from scheduler.ask import DOWN, ConfigOption, JsonOption, Silent, UrlOption, ask, end, place

REFUSED = 1
CODES = (
    "Exit codes: 0 it would be served or would wait, or waits, runs or was answered, 1 it would be or was refused, or "
    "failed, 2 the daemon does not answer."
)
REQUEST = re.compile(r"r[0-9a-f]{4}-[0-9]+")  # how the daemon names a request
WELL = ("", "answered", "canned", "wish")


def why(
    about: Annotated[
        str, typer.Argument(metavar="MODEL|REQUEST", help="A model or an alias, or a request's id as /status shows it.")
    ],
    url: UrlOption = None,
    config: ConfigOption = None,
    json_out: JsonOption = False,
) -> None:
    """Say what a request for MODEL would meet now, or what REQUEST waits for or how it ended, and why."""
    if not about.strip():
        raise end("nothing is asked about: name a model, an alias or a request", REFUSED, json_out)
    where = place(url, config, json_out)
    try:
        answer = _answer(where, about)
    except Silent as error:
        raise end(str(error), DOWN, json_out) from None
    if json_out:
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        for sentence in answer.get("sentences") or [_unknown(about, answer["error"])]:
            typer.echo(sentence)
    raise typer.Exit(0 if _is_well(answer) else REFUSED)


def _answer(where: str, about: str) -> dict[str, Any]:
    """What is known of the request of that id; of the model of that name, where there is none but such a model."""
    if not REQUEST.fullmatch(about):
        return ask(where, "/why", {"model": about}, knows={"would", "error"})
    answer = ask(where, "/why", {"request": about}, knows={"request", "error"})
    if "error" not in answer:
        return answer
    model = ask(where, "/why", {"model": about}, knows={"would", "error"})
    return model if str(model.get("would", "be refused")) != "be refused" else answer


def _unknown(about: str, error: str) -> str:
    if REQUEST.fullmatch(about):
        return f"No such request is remembered: {error}."
    return f"A request would be refused: {error}."


def _is_well(answer: dict[str, Any]) -> bool:
    if "outcome" in answer:
        return answer["outcome"] in WELL
    return str(answer.get("would", "be refused")) != "be refused"

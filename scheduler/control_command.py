"""The commands that change what a running daemon does: each sends one command and says what was done and what is next.

`load` and `unload` wait until it has happened, unless told `--no-wait`; Ctrl-C ends the waiting, not the command.
"""

import getpass
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from scheduler.ask import DOWN, ConfigOption, JsonOption, NoToken, Silent, StateOption, UrlOption, ask, command, place

REFUSED = 1
CODES = (
    "Exit codes: 0 done, 1 it was refused or ended otherwise, 2 the daemon does not answer or its token cannot be read."
)
LOOK = 0.2  # seconds between two looks at what `load` and `unload` wait for

Others = Annotated[str, typer.Option("--others", metavar="wait|refuse", help="What becomes of those it keeps out.")]
For = typer.Option("--for", metavar="DURATION", help='How long: "2h", "90s".')
By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who asks, instead of your user name.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait until it has happened.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model or an alias.")]


class _Line:
    """One command line: where the daemon is, and how its answers are shown."""

    def __init__(
        self, url: str | None, config: Path | None, state: Path | None, json_out: bool, by: str | None = None
    ) -> None:
        self._where = place(url, config, json_out)
        self._state = state
        self._json = json_out
        self._by = by if by is not None else _user()

    def give(self, name: str, body: Mapping[str, Any], wait: Callable[["_Line", str], str] | None = None) -> None:
        """Give the command, show the answer, perhaps wait; ends with the exit code."""
        try:
            status, answer = command(self._where, name, {**body, "by": self._by}, self._state)
            if status == 200 and wait is not None:
                answer = self._wait(answer, wait)
        except (Silent, NoToken) as error:
            self._show({"error": str(error)})
            raise typer.Exit(DOWN) from None
        self._show(answer)
        raise typer.Exit(REFUSED if "error" in answer else 0)

    def status(self) -> dict[str, Any]:
        """What the daemon says of itself."""
        return ask(self._where, "/status", knows={"verdict"})

    def _wait(self, answer: dict[str, Any], wait: Callable[["_Line", str], str]) -> dict[str, Any]:
        if not self._json:
            for sentence in (answer["done"], *answer["next"]):
                typer.echo(sentence)
        wrong = wait(self, str(answer["model"]))
        if wrong:
            return {**answer, "error": wrong}
        return {**answer, "next": ["It is done."]} if self._json else {"done": "It is done.", "next": []}

    def _show(self, answer: Mapping[str, Any]) -> None:
        if self._json:
            typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        elif "error" in answer:
            typer.echo(answer["error"], err=True)
        else:
            for sentence in (answer["done"], *answer["next"]):
                typer.echo(sentence)


def phase(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A phase of the configuration.")],
    url: UrlOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    by: By = None,
    json_out: JsonOption = False,
) -> None:
    """Enter a phase: its sets are allowed from now on, and its home is loaded."""
    _Line(url, config, state, json_out, by).give("phase", {"phase": name})


def pin(
    model: Model,
    length: Annotated[str, For],
    others: Others = "wait",
    url: UrlOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    by: By = None,
    json_out: JsonOption = False,
) -> None:
    """Keep MODEL in memory, a day at most; it is loaded if it is away. Requests it keeps out wait or are refused."""
    _Line(url, config, state, json_out, by).give("pin", {"model": model, "for": length, "others": others})


def unpin(
    model: Model,
    url: UrlOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    by: By = None,
    json_out: JsonOption = False,
) -> None:
    """End the pin of MODEL."""
    _Line(url, config, state, json_out, by).give("unpin", {"model": model})


def load(
    model: Model,
    no_wait: NoWait = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    by: By = None,
    json_out: JsonOption = False,
) -> None:
    """Load MODEL now; what must leave for it drains first."""
    _Line(url, config, state, json_out, by).give("load", {"model": model}, None if no_wait else _loaded)


def unload(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="A model or an alias.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are in memory.")] = False,
    no_wait: NoWait = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    by: By = None,
    json_out: JsonOption = False,
) -> None:
    """Unload MODEL, or all of them, once they serve nobody; a request brings a model back."""
    body: dict[str, Any] = {"model": model} if model is not None else {}
    if everything:
        body["all"] = True
    _Line(url, config, state, json_out, by).give("unload", body, None if no_wait else _unloaded)


def pause(
    length: Annotated[str | None, For] = None,
    others: Others = "wait",
    url: UrlOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    by: By = None,
    json_out: JsonOption = False,
) -> None:
    """Give the memory back: unload everything as it drains, and serve nobody until `resume`, or for so long."""
    body = {"others": others} if length is None else {"for": length, "others": others}
    _Line(url, config, state, json_out, by).give("pause", body)


def resume(
    url: UrlOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    by: By = None,
    json_out: JsonOption = False,
) -> None:
    """End a pause."""
    _Line(url, config, state, json_out, by).give("resume", {})


def cancel(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="A request's id, as `status --json` shows it.")],
    url: UrlOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    by: By = None,
    json_out: JsonOption = False,
) -> None:
    """End a request, waiting or running: its client gets an error of its dialect."""
    _Line(url, config, state, json_out, by).give("cancel", {"request": request})


def passthrough(
    switch: Annotated[str, typer.Argument(metavar="on|off", help="Whether everything is forwarded unscheduled.")],
    url: UrlOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    by: By = None,
    json_out: JsonOption = False,
) -> None:
    """The escape hatch. on: forward everything unscheduled, as if we were not there. off: adopt what is in memory."""
    _switch(_Line(url, config, state, json_out, by), "passthrough", switch)


def quiet(
    switch: Annotated[str, typer.Argument(metavar="on|off", help="Whether nothing is loaded unasked.")],
    url: UrlOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    by: By = None,
    json_out: JsonOption = False,
) -> None:
    """on: load nothing unasked, neither home nor what may be wanted soon, until off or the end of quiet hours."""
    _switch(_Line(url, config, state, json_out, by), "quiet", switch)


def reload(
    url: UrlOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    by: By = None,
    json_out: JsonOption = False,
) -> None:
    """Have the daemon read its configuration again, as SIGHUP does; a bad one is refused and the old one stays."""
    _Line(url, config, state, json_out, by).give("reload", {})


def _switch(line: _Line, name: str, switch: str) -> None:
    if switch not in ("on", "off"):
        raise typer.BadParameter(f"{switch!r} is neither on nor off", param_hint="on|off")
    line.give(name, {"on": switch == "on"})


def _loaded(line: _Line, model: str) -> str:
    """Wait until the load of `model` has come to something; what went wrong, "" for nothing."""
    while True:
        status = line.status()
        found = _row(status, model)
        if found is not None and found["usable"]:
            return ""
        if found is not None and found["retry_in"] is not None:
            return f"{model}: {found['trouble']}; it is tried again in {found['retry_in']:.0f} s"
        if model not in status["loads_asked"]:
            trouble = found["trouble"] if found is not None else ""
            return f"{model} was not loaded: {trouble or status['headline']}"
        time.sleep(LOOK)


def _unloaded(line: _Line, model: str) -> str:
    """Wait until `model` ("": everything that is to go) has left; what went wrong, "" for nothing."""
    begun = ""
    while True:
        status = line.status()
        begun = begun or status["at"]
        going = status["unloads_asked"]
        if not (model in going if model else going):
            found = _row(status, model)
            stayed = found is not None and found["state"] != "absent" and found["since"] <= begun  # else it came back
            return f"{model} was not unloaded: {status['headline']}" if stayed else ""
        time.sleep(LOOK)


def _row(status: Mapping[str, Any], model: str) -> dict[str, Any] | None:
    """What /status says of this model."""
    return next((each for each in status["models"] if each["name"] == model), None)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name
        return ""

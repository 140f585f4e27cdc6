"""`run`, which is what `make run` does: serve in front of the configured Ollama if it answers, else the demo."""

import time
from pathlib import Path
from typing import Annotated

import httpx
import typer

from scheduler import demo_command, serve_command
from scheduler.reload import Source
from scheduler.settings_problems import SettingsError
from scheduler.settings_read import read_settings
from scheduler.units import UnitError, parse_duration

BAD = 2
KNOCK = 0.5  # seconds between two knocks


def run(
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The configuration to read.")] = None,
    state: Annotated[Path | None, typer.Option("--state", metavar="DIR", help="Where `serve` keeps its state.")] = None,
    wait: Annotated[
        str, typer.Option("--wait", metavar="DURATION", help="How long Ollama may take to answer.")
    ] = "15s",
) -> None:
    """Serve in front of Ollama if it answers in time, else show the stand-in (`demo --stay`)."""
    try:
        read = read_settings(config)
        seconds = parse_duration(wait)
    except (SettingsError, UnitError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(BAD) from None
    if refused := serve_command.refused_place(read.settings):
        typer.echo(refused, err=True)
        raise typer.Exit(BAD)
    try:
        answers = ollama_answers(read.settings.ollama, seconds)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    if answers:
        typer.echo(f"Ollama answers at {read.settings.ollama}: `serve` in front of it")
        serve_command.serve(config, state)
    typer.echo(f"No Ollama answered at {read.settings.ollama} within {seconds:g} s: `demo --stay`, with a STAND-IN.")
    typer.echo("Start Ollama and run this again to serve in front of it; `serve` waits for Ollama instead.")
    source = Source(lambda: read_settings(config), read.file)
    raise typer.Exit(demo_command.run(read.settings, demo_command.Wish(stay=True, state=state), source=source))


def ollama_answers(url: str, seconds: float) -> bool:
    """Whether an Ollama answers at `url` within `seconds`; knocks until then, and says so if it must wait."""
    end = time.monotonic() + seconds
    said = False
    with httpx.Client(base_url=url, trust_env=False, timeout=max(0.1, min(2.0, seconds))) as client:
        while True:
            try:
                answer = client.get("/api/version")
                if answer.status_code == 200 and "version" in answer.json():
                    return True
            except (httpx.HTTPError, ValueError):
                pass
            left = end - time.monotonic()
            if left <= 0:
                return False
            if not said:
                typer.echo(f"waiting up to {seconds:g} s for the Ollama at {url} …")
                said = True
            time.sleep(min(KNOCK, left))

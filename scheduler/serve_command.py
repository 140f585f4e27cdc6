"""`serve`: the daemon in front of the Ollama that the configuration names, until SIGTERM or Ctrl-C."""

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from scheduler.ask import PROGRAM, state_folder
from scheduler.core.lifecycle import IllegalMove
from scheduler.daemon import Daemon, Pace
from scheduler.reload import Source
from scheduler.settings import Settings
from scheduler.settings_problems import SettingsError
from scheduler.settings_read import read_settings

CODES = "Exit codes: 0 stopped when told to, 1 a bug ended it (the journal replays it), 2 bad configuration or address."
BUG, BAD = 1, 2
INTRODUCE_SECONDS = 15.0  # how long the introduction waits for Ollama to tell what it has
SOON = 1.0  # how long it does so without saying what it waits for
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"

ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The configuration to read.")]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="Where journal and learned values are kept, instead of the usual."),
]


def serve(config: ConfigOption = None, state: StateOption = None) -> None:
    """Serve in front of Ollama. Without Ollama it starts, says so, holds requests, and recovers by itself."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    source = Source(lambda: read_settings(config))
    try:
        read = source.read()
    except SettingsError as error:
        typer.echo(error, err=True)
        raise typer.Exit(BAD) from None
    warnings = tuple(str(problem) for problem in read.warnings)
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    source = replace(source, file=read.file)
    raise typer.Exit(run(read.settings, state or state_folder(), warnings=warnings, source=source))


def run(
    settings: Settings,
    folder: Path,
    *,
    pace: Pace | None = None,
    warnings: tuple[str, ...] = (),
    say: Callable[[str], None] = typer.echo,
    source: Source | None = None,
) -> int:
    """Run a daemon to its end in this process; the exit code."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every look at /api/ps
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(Daemon(settings, folder, version(PROGRAM), pace, warnings, source=source), say))
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # an interpreter that ends gives its handlers up, but not this


async def _serve(daemon: Daemon, say: Callable[[str], None]) -> int:
    settings, folder = daemon.settings, daemon.folder
    loop = asyncio.get_running_loop()
    _reload_on_hangup(daemon, loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop)
    try:
        await daemon.run(lambda: _introduce(daemon, say))
    except OSError as error:
        typer.echo(cannot(settings, folder, error), err=True)
        return BAD
    except IllegalMove as error:
        typer.echo(f"a bug ended the daemon: {error}; `ollama-scheduler journal verify` replays it", err=True)
        return BUG
    return 0


def cannot(settings: Settings, folder: Path | None, error: OSError) -> str:
    """The line for what keeps a daemon from starting: its folder, or where it is to listen; and what to do about it."""
    what = f"keep anything in {folder}" if error.filename else f"serve on {settings.listen}"
    advice = "; end who listens there, or set another `listen`" if error.errno == errno.EADDRINUSE else ""
    return f"cannot {what}: {error.strerror or error}{advice}"


def refused_place(settings: Settings) -> str:
    """Why nobody can listen where `settings` say, as `cannot` tells it; "" where one can. For those who have something
    slow to do before they listen: the place is free again."""
    host, port = settings.listen_at
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            socket.create_server(address, family=family).close()
    except OSError as error:
        return cannot(settings, None, error)
    return ""


def _reload_on_hangup(daemon: Daemon, loop: asyncio.AbstractEventLoop) -> None:
    """SIGHUP reads the configuration again. The handler is Python's, not the loop's: it outlives the loop, whose own
    would leave the last moments to the system's default, which is to end."""

    def reload(*_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(daemon.reload)

    signal.signal(signal.SIGHUP, reload)


def settle() -> None:
    """Begin to serve for long in this process: a collection of garbage stops everybody for as long as it looks."""
    gc.freeze()  # what lives as long as the daemon is not looked at again by each collection
    gc.set_threshold(20_000, 20, 20)  # a request makes few cycles: looking every 700 allocations costs each of them


async def _introduce(daemon: Daemon, say: Callable[[str], None]) -> None:
    """Say what was found, once Ollama has told; soon, that it is awaited; after a while, that it has not."""
    from scheduler import banner  # not needed before it listens

    if not await _acquainted(daemon, SOON):
        say(f"waiting for the Ollama at {daemon.settings.ollama}; requests are held meanwhile ...")
        await _acquainted(daemon, INTRODUCE_SECONDS - SOON)
    host = daemon.settings.listen.rpartition(":")[0]
    settle()
    for line in banner.lines(daemon.status(), f"{host}:{daemon.port}"):
        say(line)


async def _acquainted(daemon: Daemon, seconds: float) -> bool:
    """Whether Ollama tells what it has within `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await daemon.acquainted.wait()
    return daemon.acquainted.is_set()

"""`demo`: the daemon in front of a stand-in Ollama, with a short scene to watch, or (`--stay`) to play with."""

import asyncio
import contextlib
import logging
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer
import uvloop
from rich.console import Console, Group
from rich.live import Live

from scheduler import banner
from scheduler.core.lifecycle import IllegalMove
from scheduler.daemon import Daemon, Pace
from scheduler.reload import Source
from scheduler.scene import NAMES, Scene, Spoilt
from scheduler.serve_command import cannot, refused_place, settle
from scheduler.settings import Settings
from scheduler.settings_problems import SettingsError
from scheduler.settings_read import Read, read_settings
from scheduler.standin.process import NotReady, StandIn
from scheduler.standin.stage import BadStage, Stage, StagedModel, spelled_out
from scheduler.status_command import lines

CODES = "Exit codes: 0 played to its end or stopped by Ctrl-C, 1 it went otherwise than told, 2 it cannot start."
FAILED, BAD = 1, 2
QUICK = Pace(look=2.0, stop=1.0)  # Ctrl-C must not wait for a made-up answer
KNOWN_SECONDS = 15.0  # until the stand-in has told what it has
UNTOLD_SIZE = 5 * 10**9  # bytes of a model whose size the configuration does not say
LOAD_BYTES_PER_SECOND = 12e9  # of the stand-in: 35 GB in 3 s
LONG_ANSWER = 100  # words: long enough to be interrupted
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """How the demo is to run: `stay` until told to stop, so many times as fast as staged, state in `state`."""

    stay: bool = False
    speed: float = 1.0
    state: Path | None = None


def demo(
    stay: Annotated[bool, typer.Option("--stay", help="Play no scene; serve until Ctrl-C.")] = False,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Listen here; 0 takes any free port.")
    ] = None,
    speed: Annotated[
        float, typer.Option("--speed", min=0.1, max=1000, help="Let the stand-in load and speak so many times as fast.")
    ] = 1.0,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The configuration to read.")] = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="Keep journal and learned values here, instead of nowhere."),
    ] = None,
) -> None:
    """Watch the scheduler at work, in front of a stand-in Ollama: no model, no GPU and no Ollama needed."""

    def read() -> Read:
        found = read_settings(config)
        if port is None:
            return found
        listen = f"{found.settings.listen.rpartition(':')[0]}:{port}"
        return replace(found, settings=found.settings.model_copy(update={"listen": listen}))

    try:
        first = read()
    except SettingsError as error:
        typer.echo(error, err=True)
        raise typer.Exit(BAD) from None
    settings = first.settings
    if not stay and not all(name in settings.aliases for name in NAMES):
        typer.echo(f"the scene needs the aliases {', '.join(NAMES)}; --stay serves any configuration", err=True)
        raise typer.Exit(BAD)
    if refused := refused_place(settings):  # before the stand-in starts
        typer.echo(f"{refused}; `--port 0` takes any free one", err=True)
        raise typer.Exit(BAD)
    raise typer.Exit(run(settings, Wish(stay, speed, state), source=Source(read, first.file)))


def run(settings: Settings, wish: Wish, say: Say = typer.echo, source: Source | None = None) -> int:
    """Run the demo to its end in this process; the exit code. Its state goes to a folder of its own, then is gone.
    `source` is where its settings can be read again."""
    level = logging.INFO if wish.stay else logging.WARNING
    logging.basicConfig(level=level, format=LOG_FORMAT, stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each look at /api/ps hides what matters
    with contextlib.ExitStack() as closing:
        folder = wish.state
        if folder is None:
            folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="ollama-scheduler-demo-")))
        runner = closing.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        try:
            return runner.run(_Demo(settings, wish, folder, say, source).run())
        except (BadStage, NotReady) as error:
            typer.echo(f"the stand-in cannot start: {error}", err=True)
            return BAD


class _Demo:
    """A stand-in, a daemon in front of it, and what happens before them."""

    def __init__(self, settings: Settings, wish: Wish, folder: Path, say: Say, source: Source | None) -> None:
        self._settings = settings
        self._source = source
        self._wish = wish
        self._folder = folder
        self._say = say
        self._stopped = False
        self._daemon: Daemon | None = None
        self._code = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        stage = staged(self._settings).faster(self._wish.speed)
        async with StandIn.start(stage) as standin:
            settings = before(self._settings, stage, standin.url)
            source = before_too(self._source, stage, standin.url) if self._source else None
            self._daemon = daemon = Daemon(
                settings, self._folder, version("ollama-scheduler"), QUICK, stand_in=True, source=source
            )
            if self._stopped:
                return 0
            try:
                await daemon.run(self._beside)
            except OSError as error:
                typer.echo(cannot(settings, self._folder, error), err=True)
                return BAD
            except IllegalMove as error:
                typer.echo(f"a bug ended the daemon: {error}", err=True)
                return FAILED
        return self._code

    def _stop(self) -> None:
        self._stopped = True
        if self._daemon is not None:
            self._daemon.stop()

    async def _beside(self) -> None:
        """Introduce the daemon; then play, unless it is to stay."""
        daemon = self._daemon
        assert daemon is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KNOWN_SECONDS):
                await daemon.acquainted.wait()
        settle()
        listen = f"{daemon.settings.listen.rpartition(':')[0]}:{daemon.port}"
        aliases = tuple(daemon.settings.aliases)
        ask = "claude-3-haiku" if "claude-3-haiku" in aliases else None
        for line in banner.lines(daemon.status(), listen, ask):
            self._say(line)
        self._say("          the budget is what the stand-in is staged with; --config FILE stages your own models")
        if self._wish.stay:
            if self._wish.state is None:
                self._say(f"          commands (phase, pin, load, pause ...) find it with --state {self._folder}")
            self._say("Ctrl-C ends all of it.")
            return
        try:
            await self._play(f"http://{listen}")
        finally:
            daemon.stop()

    async def _play(self, url: str) -> None:
        console = Console(highlight=False)
        try:
            if console.is_terminal:
                await self._live(url, console)
            else:
                await Scene(url, self._say).play()
            self._say("")
            self._say("The end. `demo --stay` keeps it running for you to play with.")
        except* (Spoilt, aiohttp.ClientError, TimeoutError) as group:
            self._code = FAILED
            for error in group.exceptions:
                typer.echo(f"the scene went otherwise: {error}", err=True)

    async def _live(self, url: str, console: Console) -> None:
        """The scene scrolls; below it stands what `status` shows, anew with every look."""
        with Live(console=console, auto_refresh=False, transient=True) as live:

            def show(status: Mapping[str, Any]) -> None:
                live.update(Group("", *lines(status)), refresh=True)

            await Scene(url, lambda text: console.print(text, markup=False), show).play()


def staged(settings: Settings) -> Stage:
    """The machine that the stand-in plays: the documented one, with the models that the configuration names."""
    documented = {model.name: model for model in Stage.documented().models}
    models = []
    for name, model in settings.models.items():
        size = model.size or UNTOLD_SIZE
        known = documented.get(spelled_out(name))
        if known is None:
            known = StagedModel(spelled_out(name), size, load_seconds=size / LOAD_BYTES_PER_SECOND)
        models.append(replace(known, size=size, num_ctx=model.num_ctx, answer_tokens=LONG_ANSWER))
    ollama = settings.ollama_settings
    return replace(
        Stage.documented(),
        models=tuple(models or documented.values()),
        num_parallel=ollama.num_parallel,
        max_loaded_models=ollama.max_loaded_models,
    )


def before(settings: Settings, stage: Stage, url: str) -> Settings:
    """The same settings in front of the stand-in at `url`: its address, and its memory as budget and device."""
    memory = settings.memory.model_copy(update={"budget": stage.device})
    ollama = settings.ollama_settings.model_copy(update={"device": stage.device})
    return settings.model_copy(update={"ollama": url, "memory": memory, "ollama_settings": ollama})


def before_too(source: Source, stage: Stage, url: str) -> Source:
    """A source whose every reading is put in front of the stand-in."""

    def read() -> Read:
        found = source.read()
        return replace(found, settings=before(found.settings, stage, url))

    return Source(read, source.file)

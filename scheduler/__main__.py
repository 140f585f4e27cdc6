"""The command line: `ollama-scheduler`; each command lives in its own file and is only named here."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

COMMANDS = {
    "serve": ("serve_command", "serve"),
    "demo": ("demo_command", "demo"),
    "init": ("init_command", "init"),
    "config": ("config_command", "config_app"),
    "status": ("status_command", "status"),
    "why": ("why_command", "why"),
    "bounds": ("bounds_command", "bounds"),
    "phase": ("control_command", "phase"),
    "pin": ("control_command", "pin"),
    "unpin": ("control_command", "unpin"),
    "load": ("control_command", "load"),
    "unload": ("control_command", "unload"),
    "pause": ("control_command", "pause"),
    "resume": ("control_command", "resume"),
    "cancel": ("control_command", "cancel"),
    "passthrough": ("control_command", "passthrough"),
    "quiet": ("control_command", "quiet"),
    "reload": ("control_command", "reload"),
    "install": ("install_command", "install"),
    "uninstall": ("install_command", "uninstall"),
    "journal": ("journal_command", "journal_app"),
    "simulate": ("simulate_command", "simulate"),
    "whatif": ("whatif_command", "whatif"),
    "run": ("run_command", "run"),
}
HIDDEN = frozenset({"run"})
VERSION = "--version"
JSON = "--json"
MISUSED: Any = typer.BadParameter.__base__  # typer's error for a wrong command line, for which it has no public name


def command_line(arguments: Sequence[str]) -> typer.Typer:
    """The commands as a program. Only the one that `arguments` begin with is imported, where they begin with one: a
    daemon that starts under launchd does not wait for what the demo needs."""
    app = typer.Typer(
        name="ollama-scheduler",
        cls=_Commands,
        help="Owns which models sit in memory, in front of Ollama.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_program)
    first = arguments[0] if arguments else ""
    for name in (first,) if first in COMMANDS else () if first == VERSION else COMMANDS:
        file, attribute = COMMANDS[name]
        module = import_module(f"scheduler.{file}")
        command = getattr(module, attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command)
        else:
            app.command(name, hidden=name in HIDDEN, epilog=getattr(module, "CODES", None))(command)
    return app


class _Commands(TyperGroup):
    """The commands; a command line that cannot be understood is told as JSON where JSON was asked for."""

    _json = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        self._json = JSON in args
        with self._told():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with self._told():
            return super().invoke(ctx)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except MISUSED as error:
            if not self._json:
                raise
            from scheduler.ask import end  # which a daemon that starts does not need

            raise end(error.format_message(), error.exit_code, True) from None


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("ollama-scheduler"))
        raise typer.Exit


def _program(
    told: Annotated[
        bool, typer.Option(VERSION, callback=_say_version, is_eager=True, help="Print the version of this program.")
    ] = False,
) -> None:
    """Owns which models sit in memory, in front of Ollama."""


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["serve"]:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a daemon that starts has nothing to reload, and shall not end
    try:
        command_line(sys.argv[1:])()
    except KeyboardInterrupt:  # before a command could take care of it
        sys.exit(130)


if __name__ == "__main__":
    main()

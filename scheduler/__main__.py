"""The command line: `ollama-scheduler`; each command lives in its own file and is only named here."""

import typer

from scheduler import demo_command, init_command, run_command, serve_command, status_command, why_command
from scheduler.config_command import config_app
from scheduler.journal_command import journal_app

app = typer.Typer(
    name="ollama-scheduler",
    help="Owns which models sit in memory, in front of Ollama.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(epilog=serve_command.CODES)(serve_command.serve)
app.command(epilog=demo_command.CODES)(demo_command.demo)
app.command(epilog=init_command.CODES)(init_command.init)
app.add_typer(config_app)
app.command(epilog=status_command.CODES)(status_command.status)
app.command(epilog=why_command.CODES)(why_command.why)
app.add_typer(journal_app)
app.command(hidden=True)(run_command.run)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()

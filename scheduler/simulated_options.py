"""The options that `simulate` and `whatif` have in common."""

from pathlib import Path
from typing import Annotated

import typer

from policies import POLICIES
from scheduler.simulated_policies import OTHERS

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The configuration, instead of the one in the platform's folder."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for a script to read.")]
PolicyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        metavar="NAME",
        help=f"May be given again. Ours: {', '.join(POLICIES)}; what others do: {', '.join(OTHERS)}.",
    ),
]
GatesOption = Annotated[
    bool, typer.Option("--gates", help="Keep Ollama's own gates; its device is then as large as the budget.")
]
BudgetOption = Annotated[
    str | None, typer.Option("--budget", metavar="SIZE", help='Memory for the models, such as "48GB", or "auto".')
]
PhaseOption = Annotated[
    str | None, typer.Option("--phase", metavar="NAME", help="The phase, instead of the configured.")
]

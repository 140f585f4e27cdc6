"""Ask a running daemon one of its own routes, for the commands; it is found by `--url` or by the settings' `listen`."""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from scheduler.settings_problems import SettingsError
from scheduler.settings_read import read_settings

DOWN = 2
SECONDS = 5.0  # an answer is built from memory: a daemon that takes longer is as good as down

UrlOption = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="Where the daemon is, instead of the configured `listen`.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The configuration whose `listen` says where.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON, for a script to read.")]


class Silent(Exception):
    """No daemon of ours answers at `url`."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"no scheduler answers at {url}: {why}")
        self.url = url


def place(url: str | None, config: Path | None) -> str:
    """The daemon's address. Ends the command where the configuration cannot be read."""
    if url:
        return (url if "://" in url else f"http://{url}").rstrip("/")
    try:
        return f"http://{read_settings(config).settings.listen}"
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(DOWN) from None


def ask(url: str, route: str, query: Mapping[str, str] | None = None, *, knows: Set[str]) -> dict[str, Any]:
    """The JSON object that `route` answers; it has one of `knows`, or it is not ours. Raises Silent."""
    try:
        with httpx.Client(trust_env=False, timeout=SECONDS) as client:  # never by way of a proxy
            answer = client.get(url + route, params=query)
        content = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Silent(url, str(error) or type(error).__name__) from None
    except ValueError:
        raise Silent(url, "something else answers there") from None
    if not isinstance(content, dict) or not knows & content.keys():
        raise Silent(url, f"something else answers there ({answer.status_code})")
    return content

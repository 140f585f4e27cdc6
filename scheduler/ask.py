"""Ask or command a running daemon, for the commands; it is found by `--url` or by the settings' `listen`."""

import contextlib
import json
import os
import re
import stat
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Annotated, Any

import httpx
import platformdirs
import typer
from pydantic import TypeAdapter, ValidationError

from scheduler.control_gate import TOKEN
from scheduler.folder import LOCK
from scheduler.settings import Settings
from scheduler.settings_environment import config_path, overridden
from scheduler.settings_problems import SettingsError
from scheduler.settings_read import default_path, read_settings
from scheduler.settings_types import Listen

DOWN = 2
SECONDS = 5.0  # an answer is built from memory: a daemon that takes longer is as good as down
PROGRAM = "ollama-scheduler"
NEAR = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # where one who listens everywhere is found

UrlOption = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="Where the daemon is, instead of the configured `listen`.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The configuration whose `listen` says where.")
]
StateOption = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="The daemon's state folder, where its token is.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON, for a script to read.")]


class Silent(Exception):
    """No daemon of ours answers at `url`."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"no scheduler answers at {url}: {why}; `ollama-scheduler serve` starts one, --url names another"
        )
        self.url = url


class NoJournal(Exception):
    """No journal of the daemon that is meant can be read; the message says what would help."""


class NoToken(Exception):
    """The token that a command must bring cannot be read."""


def state_folder() -> Path:
    """Where a daemon keeps its journal, its key, its token and what it learned, unless told otherwise."""
    return platformdirs.user_state_path(PROGRAM, appauthor=False)


def place(url: str | None, config: Path | None, json_out: bool = False) -> str:
    """The daemon's address. A bad configuration must not keep anybody from a daemon that runs on an older one: of that
    only `listen` is taken. Ends the command where the file that `--config` names is not there, as `end` does."""
    if url:
        return (url if "://" in url else f"http://{url}").rstrip("/")
    try:
        listen = read_settings(config).settings.listen
    except SettingsError as error:
        if config is not None and not config.exists():
            raise end(str(error), DOWN, json_out) from None
        typer.echo(str(error), err=True)
        listen = _listen(config or config_path(os.environ) or default_path())
        typer.echo(f"the daemon is looked for at {listen} all the same", err=True)
    host, _, port = listen.rpartition(":")
    return f"http://{EVERYWHERE.get(host, host)}:{port}"


def end(message: str, code: int, json_out: bool) -> typer.Exit:
    """Say why a command ends, and the exit that goes with it: to people on stderr, to a script as JSON on stdout."""
    typer.echo(json.dumps({"error": message}, ensure_ascii=False) if json_out else message, err=not json_out)
    return typer.Exit(code)


def _listen(file: Path) -> str:
    """`listen` of a configuration that cannot be used: the environment's, else the file's, else the documented one."""
    variable = overridden(os.environ).get(("listen",), "")
    try:
        head = re.split(r"^\s*\[", file.read_text("utf-8", "replace"), maxsplit=1, flags=re.MULTILINE)[0]
    except OSError:
        head = ""
    found = re.search(r"""^\s*listen\s*=\s*(["'])(.*?)\1""", head, re.MULTILINE)
    for text in (os.environ.get(variable, ""), found[2] if found else ""):
        try:
            return TypeAdapter[str](Listen).validate_python(text)
        except ValidationError:
            continue
    return str(Settings.model_fields["listen"].default)


def ask(url: str, route: str, query: Mapping[str, str] | None = None, *, knows: Set[str]) -> dict[str, Any]:
    """The JSON object that `route` answers; it has one of `knows`, or it is not ours. Raises Silent."""
    return _answer(url, "GET", route, knows, params=query)[1]


def command(url: str, name: str, body: Mapping[str, Any], folder: Path | None) -> tuple[int, dict[str, Any]]:
    """Give a command: status and JSON of the answer. `folder` is the daemon's state folder; None: the one it names.

    Raises Silent, and NoToken where the token cannot be read or is another daemon's.
    """
    file = (folder or named_folder(url)) / TOKEN
    try:
        token = file.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        ask(url, "/status", knows={"verdict"})  # where nobody answers, that is what is wrong
        reason = error.strerror if isinstance(error, OSError) else "it is not one"
        raise NoToken(f"the daemon's token {file} cannot be read ({reason}); --state DIR names its folder") from None
    headers = {"Authorization": f"Bearer {token}"}
    status, answer = _answer(url, "POST", f"/control/{name}", {"done", "error"}, json=body, headers=headers)
    if status == 401:
        raise NoToken(f"{file} is another daemon's token; --state DIR names the folder of the one at {url}")
    return status, answer


def named_folder(url: str) -> Path:
    """The state folder that the daemon at `url` names, if the token there is a private file of ours and the daemon on
    this machine, else the usual one: whoever listens there is not to be sent what just any file holds."""
    named = str(ask(url, "/status", knows={"verdict"}).get("state_folder", ""))
    with contextlib.suppress(OSError):
        found = (Path(named) / TOKEN).lstat()
        private = stat.S_ISREG(found.st_mode) and not found.st_mode & 0o077 and found.st_uid == os.getuid()
        if named and private and (Path(named) / LOCK).is_file() and httpx.URL(url).host in NEAR:
            return Path(named)
    return state_folder()


def journals(url: str | None, config: Path | None, json_out: bool) -> list[Path]:
    """The journal files of the daemon that runs, at least one. Where none answers and `url` names none, those that an
    ended one left in the usual folder, which is told on stderr. Raises Silent and NoJournal."""
    where = place(url, config, json_out)
    named: str | None
    try:
        named = str(ask(where, "/status", knows={"verdict"}).get("state_folder", ""))
        folder = named_folder(where)
    except Silent:
        if url is not None:  # another daemon's journal is not what was asked about
            raise
        named, folder = None, state_folder()
    if named and folder != Path(named):
        raise NoJournal(
            f"the daemon at {where} keeps its state in {named}, which is no folder of yours here; name the files"
        )
    files = sorted((folder / "journal").glob("*.jsonl"))
    if not files:
        raise NoJournal(f"no journal is in {folder / 'journal'}; name its files")
    if named is None:
        typer.echo(f"no scheduler answers at {where}; read is what an ended one left in {folder / 'journal'}", err=True)
    return files


def _answer(url: str, method: str, route: str, knows: Set[str], **more: Any) -> tuple[int, dict[str, Any]]:
    try:
        with httpx.Client(trust_env=False, timeout=SECONDS) as client:  # never by way of a proxy
            answer = client.request(method, url + route, **more)
        content = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Silent(url, str(error) or type(error).__name__) from None
    except ValueError:
        raise Silent(url, "something else answers there") from None
    if not isinstance(content, dict) or not knows & content.keys():
        raise Silent(url, f"something else answers there ({answer.status_code})")
    return answer.status_code, content

"""`install`, `uninstall`: make the daemon an agent of launchd, or undo that; both may be run again at any time."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from scheduler import install_check, launchd_boot, launchd_list
from scheduler.ask import PROGRAM, state_folder
from scheduler.daemon import Pace
from scheduler.install_check import Refusal
from scheduler.launchd_boot import LaunchdError
from scheduler.launchd_check import faults, file_faults
from scheduler.launchd_list import LABEL
from scheduler.serve_command import ConfigOption, StateOption
from scheduler.settings_environment import config_path
from scheduler.settings_read import default_path

FAILED, REFUSED = 1, 2
CODES = "Exit codes: 0 done, 1 launchd or the daemon did not come along, 2 refused, and nothing was changed."
READY = 30.0  # seconds until a daemon that launchd has started must answer
PAUSE = 0.2  # seconds between two looks
TAIL = 15  # lines of its log that are shown when it does not
KEPT = ("journal", "learned.json", "learned.json.bad", "key", "lock", "token")
"""What a daemon keeps in its state folder; the configuration may lie beside it and is never removed."""

DryOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be installed, checked as far as it can be without changing anything."""

    file: Path
    content: dict[str, Any]
    state: Path
    listen: str
    warnings: tuple[str, ...]

    @property
    def log(self) -> Path:
        """The agent's log."""
        return Path(self.content["StandardErrorPath"])


def install(
    config: ConfigOption = None,
    state: StateOption = None,
    dry_run: DryOption = False,
    print_list: Annotated[bool, typer.Option("--print", help="Print the property list, and do nothing.")] = False,
) -> None:
    """Let launchd run the daemon (macOS): from now on and at each login. Again after an upgrade: it restarts."""
    try:
        if not (dry_run or print_list):
            _launchd_needed("install")
        plan = _plan(config, state)
        if print_list:
            typer.echo(launchd_list.text(plan.content), nl=False)
            return
        for line in plan.warnings:
            typer.echo(f"warning: {line}", err=True)
        if dry_run:
            _show(plan)
        else:
            _install(plan)
    except Refusal as refusal:
        _end(str(refusal), REFUSED)
    except (LaunchdError, OSError) as error:
        _end(str(error), FAILED)


def uninstall(
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove its journal, what it learned and its log too.")
    ] = False,
    dry_run: DryOption = False,
) -> None:
    """Take the daemon from launchd (macOS). Running answers finish, models stay in memory."""
    try:
        if not dry_run:
            _launchd_needed("uninstall")
        _uninstall(purge, dry_run)
    except Refusal as refusal:
        _end(str(refusal), REFUSED)
    except (LaunchdError, OSError) as error:
        _end(str(error), FAILED)


def _end(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)


def _launchd_needed(command: str) -> None:
    if not launchd_boot.available():
        raise Refusal(
            f"launchd is macOS's, and this is {sys.platform}: let your own service run `ollama-scheduler serve`"
            f" (`ollama-scheduler {command} --dry-run` shows what would be done on a Mac)"
        )
    if os.geteuid() == 0 and "SUDO_USER" in os.environ:
        raise Refusal(f"an agent belongs to its user: `ollama-scheduler {command}` without sudo")


def _plan(config: Path | None, state: Path | None) -> Plan:
    """Everything that can be checked before anything is changed. Raises Refusal."""
    python = Path(sys.executable)  # a link into another Python is kept: that is what makes it our environment
    file = (config or config_path(os.environ) or default_path()).expanduser().absolute()
    if not file.is_file():
        raise Refusal(f"there is no configuration at {file}: `ollama-scheduler init` writes one from what Ollama has")
    settings = install_check.settings_for_service(python, file)
    folder = (state or state_folder()).expanduser().absolute()
    logs = launchd_list.log_folder()
    content = launchd_list.filled(launchd_list.Places(python, file, folder, logs))
    wrong = [str(each) for each in faults(content, launchd_list.list_file(), drain=Pace().stop, made=(folder, logs))]
    if wrong := [*wrong, *install_check.guarded()]:
        raise Refusal("\n".join(["the agent would not work:", *(f"  {line}" for line in wrong)]))
    listen = settings["listen"]
    return Plan(launchd_list.list_file(), content, folder, listen, tuple(install_check.warnings(python, listen)))


def _show(plan: Plan) -> None:
    typer.echo(f"# {plan.file}")
    typer.echo(launchd_list.text(plan.content))
    typer.echo(shlex.join(["mkdir", "-p", *map(str, (plan.state, plan.log.parent, plan.file.parent))]))
    for command in launchd_boot.commands(LABEL, plan.file):
        typer.echo(command)
    typer.echo(f"curl {install_check.address(plan.listen)}/readyz  # until it says {version(PROGRAM)}")
    who = install_check.listener(plan.listen)
    if who not in ("", "scheduler"):
        raise install_check.taken(plan.listen, who)


def _install(plan: Plan) -> None:
    who = install_check.listener(plan.listen)
    if who and not (who == "scheduler" and launchd_boot.found(LABEL)):
        raise install_check.taken(plan.listen, who)
    for folder in (plan.state, plan.log.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    launchd_list.write(plan.file, plan.content)
    if wrong := file_faults(plan.file):
        raise LaunchdError("\n".join(f"launchd would not take the file: {each}" for each in wrong))
    typer.echo(f"wrote {plan.file}")
    launchd_boot.boot_out(LABEL, typer.echo)
    if who := install_check.listener(plan.listen):
        raise LaunchdError(str(install_check.taken(plan.listen, who)))
    before = plan.log.stat().st_size if plan.log.exists() else 0
    domain = launchd_boot.boot_in(LABEL, plan.file, typer.echo)
    _wait(plan, domain, before)


def _wait(plan: Plan, domain: str, before: int) -> None:
    """Until the daemon answers with our version; else raises LaunchdError with how it ended and what it wrote."""
    ours, end = version(PROGRAM), time.monotonic() + READY
    while time.monotonic() < end:
        said = install_check.readiness(plan.listen)
        if said.get("status") == "ready" and said.get("version") == ours:
            typer.echo(f"ollama-scheduler {ours} answers on {install_check.address(plan.listen)}; log: {plan.log}")
            return
        there = launchd_boot.look(domain, LABEL)
        if there is None or there.last_exit not in ("", "0"):
            break
        time.sleep(PAUSE)
    raise LaunchdError("\n".join(_what_happened(plan, domain, before)))


def _what_happened(plan: Plan, domain: str, before: int) -> list[str]:
    job, said = launchd_boot.look(domain, LABEL), install_check.readiness(plan.listen)
    ended = f"it ended with {job.last_exit}" if job and job.last_exit else f"it is {job.state if job else 'gone'}"
    answered = f", and {said.get('version', 'an older one')} answers" if said else ""
    lines = [f"the daemon was started but is not ready: {ended}{answered}"]
    if plan.log.exists():
        with plan.log.open("rb") as log:
            log.seek(before if before <= plan.log.stat().st_size else 0)
            new = log.read().decode("utf-8", "replace").splitlines()[-TAIL:]
        lines += [f"{plan.log} ends with:", *(f"  {line}" for line in new)]
    return [*lines, "launchd goes on trying: mend it and `ollama-scheduler install` again, or `uninstall`"]


def _uninstall(purge: bool, dry_run: bool) -> None:
    file = launchd_list.list_file()
    state, log = _installed_places(file)
    if dry_run:
        for command in launchd_boot.commands(LABEL, file)[:2]:
            typer.echo(command)
        typer.echo(shlex.join(["rm", str(file)]))
        for path in _purged(state, log) if purge else ():
            typer.echo(shlex.join(["rm", "-r", str(path)]))
        return
    there = launchd_boot.boot_out(LABEL, typer.echo)
    if file.is_symlink() or file.exists():
        file.unlink()
        typer.echo(f"removed {file}")
    elif not there:
        typer.echo("nothing was installed")
    if not purge:
        typer.echo(f"kept: state in {state}, log in {log}; `ollama-scheduler uninstall --purge` removes them")
        return
    for path in _purged(state, log):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        typer.echo(f"removed {path}")
    for folder in (state, log):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _installed_places(file: Path) -> tuple[Path, Path]:
    """State and log folder of what is installed, or the usual ones."""
    try:
        content = launchd_list.read(file)
    except (OSError, launchd_list.Unreadable):
        content = {}
    log = content.get("StandardErrorPath")
    state = launchd_list.argument(content, "--state") or state_folder()
    return state, Path(log).parent if isinstance(log, str) else launchd_list.log_folder()


def _purged(state: Path, log: Path) -> list[Path]:
    """What `--purge` removes: what a daemon made, by name, never a folder of somebody's choosing."""
    ours = [state / name for name in KEPT] + [log / "daemon.log"]
    return [path for path in ours if path.exists()]

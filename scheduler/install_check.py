"""What must be right before the agent is installed: the configuration as launchd reads it, the port, the folders."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from scheduler.launchd_check import private_place
from scheduler.settings_environment import PREFIX

SECONDS = 2.0  # for what listens on this machine to say what it is
READING = 30.0  # for the child that reads the configuration; a first start compiles
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # listens everywhere: asked by loopback
OLLAMA_PORT = 11434
APP = Path("/Applications/Ollama.app")


class Refusal(Exception):
    """Nothing was changed, for the reason that its text gives."""


def settings_for_service(python: Path, config: Path) -> dict[str, Any]:
    """The settings as the agent will have them: read by its interpreter, without the variables of this shell.

    Raises Refusal with everything that is wrong with them.
    """
    command = [str(python), "-m", "scheduler", "config", "show", "--json", "--config", str(config)]
    bare = {"HOME": str(Path.home()), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONUTF8": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=READING, cwd="/", env=bare)
        answer = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refusal(f"{python} does not run: {error}") from None
    except ValueError:
        raise Refusal(f"{python} -m scheduler does not run: {_last(done.stderr)}") from None
    if "problems" in answer:
        lines = [f"  {p['where']}: {p['value']} {p['problem']}; {p['mend']}" for p in answer["problems"]]
        raise Refusal("\n".join([f"{config} cannot be used:", *lines]).replace(":  ", ": "))
    settings: dict[str, Any] = answer["settings"]
    if urlsplit(f"//{settings['listen']}").port == 0:
        raise Refusal(f"{config}: listen: port 0 is another one at each start; name one, such as 127.0.0.1:11450")
    return settings


def _last(said: str) -> str:
    return (said.strip().splitlines() or ["it said nothing"])[-1]


def address(listen: str) -> str:
    """The URL by which a daemon that listens there is asked on this machine."""
    place = urlsplit(f"//{listen}")
    host = ANYWHERE.get(place.hostname or "", place.hostname or "")
    return f"http://{f'[{host}]' if ':' in host else host}:{place.port}"


def listener(listen: str) -> str:
    """Who listens there now: "" for nobody, "scheduler", "Ollama 0.32.0", or "another program"."""
    url = address(listen)
    place = urlsplit(url)
    try:
        socket.create_connection((place.hostname or "", place.port or 0), SECONDS).close()
    except OSError:
        return ""
    if _answer(f"{url}/readyz").get("status") in ("ready", "starting"):
        return "scheduler"
    version = _answer(f"{url}/api/version").get("version")
    return f"Ollama {version}" if version else "another program"


def readiness(listen: str) -> Mapping[str, Any]:
    """What the daemon that listens there says of itself at /readyz; empty while it says nothing."""
    return _answer(f"{address(listen)}/readyz")


def _answer(url: str) -> Mapping[str, Any]:
    try:
        with httpx.Client(trust_env=False, timeout=SECONDS) as client:
            content = client.get(url).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def taken(listen: str, who: str) -> Refusal:
    """The refusal for a port that `who` has."""
    if who == "scheduler":
        return Refusal(f"an ollama-scheduler that launchd did not start listens on {listen}: stop it (Ctrl-C) first")
    if who.startswith("Ollama"):
        return Refusal(
            f"{who} itself listens on {listen}: give `listen` another port in the configuration, such as"
            " 127.0.0.1:11450, or move Ollama (its OLLAMA_HOST, and `ollama` in the configuration)"
        )
    return Refusal(f"another program listens on {listen}: give `listen` another port in the configuration")


def guarded() -> Iterator[str]:
    """Where our own program lies in a folder that macOS keeps from agents."""
    package = Path(__file__).resolve().parent
    if folder := private_place(package):
        yield f"the program lies in {package}, and macOS keeps {folder} from agents: move it elsewhere, install again"


def warnings(python: Path, listen: str, environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """What will work now, but hardly as meant or for long."""
    for name in sorted(environment):
        if name.startswith(PREFIX) and name != f"{PREFIX}CONFIG":
            yield f"{name} is set in this shell, and the agent will not see it: write it into the configuration"
    if sys.prefix == sys.base_prefix:
        yield f"{python} is no environment of our own: what else is installed into it can break the agent"
    elif python.is_symlink() and "/Cellar/" in str(python.readlink()):
        yield f"{python} leads into Homebrew's Cellar and breaks at `brew upgrade`: make the environment from opt/"
    if urlsplit(f"//{listen}").port == OLLAMA_PORT and APP.exists():
        yield f"at login the Ollama app also wants {listen}, and the first one has it: another port is safer"

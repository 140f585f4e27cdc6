"""Restarts Ollama, by the service that runs it: found with each configuration, ordered by the core, at most so often.

On macOS that is launchd's job of Homebrew or of the app (`launchctl kickstart -k`), on Linux a systemd unit, anywhere a
command of the user's. An Ollama whose service is not known is never touched: then the core is not told that it may.
"""

import asyncio
import logging
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from scheduler.core import messages as m
from scheduler.core.state import CoreState
from scheduler.settings import StallSettings

log = logging.getLogger(__name__)

LABELS = ("homebrew.mxcl.ollama", "com.ollama.ollama")  # Homebrew's service; the app, whose child the server is
UNIT = "ollama.service"  # what Ollama's own installer makes
LAUNCHCTL = "/bin/launchctl"  # launchd gives no useful PATH
ASKING = 10.0  # seconds that a question about a service may take
RESTARTING = 120.0  # seconds that a restart may take
UNKNOWN = (
    "stall.action is restart-ollama, but no service that runs Ollama is known here, so nothing is restarted: "
    "set stall.service or stall.restart_command"
)


@dataclass(frozen=True, slots=True)
class Service:
    """What runs Ollama: its name for people, and the command that restarts it."""

    name: str
    command: tuple[str, ...]


async def find(command: Sequence[str], name: str, uid: int | None = None) -> Service | None:
    """The service of Ollama: `command` if given, else the one called `name` ("" for the usual names) that runs here."""
    if command:
        return Service(" ".join(command), tuple(command))
    for asking, service in _candidates(name, os.getuid() if uid is None else uid):
        if await _run(asking, ASKING) == "":
            return service
    return None


def _candidates(name: str, uid: int) -> Iterator[tuple[tuple[str, ...], Service]]:
    """What would answer that a service is there, and that service."""
    if platform.system() == "Darwin":
        for label in (name,) if name else LABELS:
            for domain in (f"gui/{uid}", f"user/{uid}"):  # without a session at the screen it is in the latter
                target = f"{domain}/{label}"
                yield (LAUNCHCTL, "print", target), Service(target, (LAUNCHCTL, "kickstart", "-k", target))
    elif systemctl := shutil.which("systemctl"):
        for scope in (("--user",), ()):
            unit = name or UNIT
            ask = (systemctl, *scope, "--quiet", "is-active", unit)
            again = (systemctl, *scope, "--no-ask-password", "restart", unit)
            yield ask, Service(" ".join(("systemctl", *scope, unit)), again)


async def _run(command: Sequence[str], seconds: float) -> str:
    """Run it; why it failed, "" if it did not."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        return f"{command[0]} cannot be run: {error.strerror or error}"
    except ValueError as error:  # a NUL in one of its words
        return f"{command[0]} cannot be run: {error}"
    try:
        async with asyncio.timeout(seconds):
            _, said = await process.communicate()
    except TimeoutError:
        return f"{command[0]} did not end within {seconds:.0f} s"
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == 0:
        return ""
    last = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return f"{command[0]} ended with {process.returncode}{f': {last:.200}' if last else ''}"


async def service_of(stall: StallSettings) -> Service | None:
    """The service that may be restarted; None where none is known, or none shall be. Says which, or that none is."""
    if stall.action == "report":
        return None
    service = await find(stall.restart_command, stall.service)
    if service is None:
        log.warning(UNKNOWN)
    else:
        log.info("if it hangs, Ollama is restarted service=%r", service.name)
    return service


class Restarts:
    """Carries out `RestartOllama`; each comes back as one `Restarted`."""

    def __init__(
        self,
        service: Service | None,
        stall: StallSettings,
        tasks: asyncio.TaskGroup,
        post: Callable[[m.Fact], None],
        now: Callable[[], float],
    ) -> None:
        self.renew(service, stall)
        self._tasks = tasks
        self._post = post
        self._now = now
        self._under_way: set[asyncio.Task[None]] = set()

    def renew(self, service: Service | None, stall: StallSettings) -> None:
        """What holds from now on; a restart that is under way is not changed."""
        self.service = service
        self._wanted = stall.action != "report"

    def troubles(self, state: CoreState) -> list[str]:
        """What stands against a restart, or is under way, for /status."""
        unknown = [UNKNOWN] if self._wanted and self.service is None else []
        wanted = [f"Ollama is to be restarted: {state.restart_wanted}"] if state.restart_wanted else []
        now = ["Ollama is being restarted"] if state.restarting else []
        failed = [f"Ollama could not be restarted: {state.restart_error}"] if state.restart_error else []
        return [*unknown, *wanted, *now, *failed]

    def take(self, order: m.RestartOllama) -> None:
        """Begin to restart it."""
        task = self._tasks.create_task(self._restart(order))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Wait for none under way any longer."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _restart(self, order: m.RestartOllama) -> None:
        if self.service is None:  # a replayed order, or one of a core that was told wrongly
            self._post(m.Restarted(self._now(), "no service of Ollama is known"))
            return
        log.warning("restarting Ollama service=%r because=%r", self.service.name, order.because)
        error = await _run(self.service.command, RESTARTING)
        if error:
            log.error("Ollama was not restarted: %s", error)
        self._post(m.Restarted(self._now(), error))

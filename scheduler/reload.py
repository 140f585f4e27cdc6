"""Read the configuration again and put it in force without a restart; a bad one is refused and the old one stays.

Nothing is unloaded by itself and nobody who waits loses a place: the core hears `Reloaded`, the other parts get new
plain values. What is fixed at the start (`FIXED`) is told to need a restart.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scheduler.settings import Settings
from scheduler.settings_problems import SettingsError, typed
from scheduler.settings_read import Read

log = logging.getLogger(__name__)

FIXED = ("listen", "ollama")
"""Settings that the running parts were built on; the state folder is fixed too, by the command that started us."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the configuration is from: `read` reads and checks it again (raises SettingsError), `file` for people."""

    read: Callable[[], Read]
    file: Path | None = None


@dataclass(slots=True)
class InForce:
    """Which configuration holds. `loaded` and `tried` are monotonic seconds: when it took effect, and when a file was
    last read."""

    file: Path | None
    loaded: float
    tried: float
    refused: list[str] = field(default_factory=list)  # what is wrong with the file read last; empty: it is in force
    restart: list[str] = field(default_factory=list)  # what it says that only a restart puts in force
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reload came to: `refused` says why nothing changed, `changed` names each setting that did; `unread` that
    it was not the configuration's fault."""

    refused: list[str]
    changed: list[str]
    restart: list[str]
    unread: bool = False


class Reload:
    """Puts a configuration in force: `prepare` does what takes time, and gives what then gives it to every part, in one
    breath."""

    def __init__(
        self,
        source: Source | None,
        settings: Settings,
        prepare: Callable[[Settings], Awaitable[Callable[[], None]]],
        now: Callable[[], float],
        warnings: tuple[str, ...] = (),
    ) -> None:
        self._source = source
        self._prepare = prepare
        self._now = now
        self._one = asyncio.Lock()
        self._stopped = False
        self.settings = settings  # in force
        self.state = InForce(source.file if source else None, now(), now(), warnings=warnings)

    def stop(self) -> None:
        """The daemon ends: nothing is read any more."""
        self._stopped = True

    async def again(self, by: str) -> Outcome:
        """Read the file again, one at a time. `by` is who asked, for the log."""
        async with self._one:
            return await self._again(by)

    async def _again(self, by: str) -> Outcome:
        if self._source is None:
            return Outcome(
                ["this daemon was given its configuration without a file to read again"], [], [], unread=True
            )
        try:
            read = await asyncio.to_thread(self._source.read)
        except SettingsError as error:
            return self._refuse(by, [str(problem) for problem in error.problems])
        except Exception as error:  # a file that no check foresaw must not pass for one that holds
            log.exception("the configuration could not be read")
            return self._refuse(by, [f"it cannot be read: {error!r}"])
        settings = read.settings.model_copy(update={name: getattr(self.settings, name) for name in FIXED})
        put = await self._prepare(settings)
        if self._stopped:
            return Outcome(["the daemon is stopping"], [], [], unread=True)
        try:
            put()
        except ValueError as error:  # no setting is known to pass every check and fail here
            log.exception("a configuration that was found good could not be put in force")
            return self._refuse(by, [str(error)])
        restart = [_moved(name, self.settings, read.settings) for name in FIXED if _differs(name, self, read)]
        changed = _changes(self.settings, settings)
        self.settings = settings
        now = self._now()
        self.state = InForce(read.file, now, now, [], restart, tuple(map(str, read.warnings)))
        log.info(
            "configuration file=%s in force, asked by %s: changed %s", read.file, by, ", ".join(changed) or "nothing"
        )
        for each in restart:
            log.warning("configuration: %s", each)
        return Outcome([], changed, restart)

    def _refuse(self, by: str, problems: list[str]) -> Outcome:
        self.state.tried = self._now()
        self.state.refused = problems
        log.warning("configuration asked by %s refused, the old one stays: %s", by, "; ".join(problems))
        return Outcome(problems, [], [])


def _differs(name: str, reload: Reload, read: Read) -> bool:
    return bool(getattr(reload.settings, name) != getattr(read.settings, name))


def _moved(name: str, ours: Settings, theirs: Settings) -> str:
    old, new = getattr(ours, name), getattr(theirs, name)
    return f"{name} = {typed(new)} needs a restart; {typed(old)} stays in force"


def _changes(old: Settings, new: Settings) -> list[str]:
    """The name of each setting, or table of names, that differs."""
    before, after = (_flat(each.model_dump(by_alias=True)) for each in (old, new))
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            flat[name] = value
    return flat

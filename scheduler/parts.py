"""What the running parts get from the settings: made the same way at the start and when the configuration changes."""

import ipaddress
import os
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import psutil

from scheduler import composition, restart
from scheduler.bodies import BodyStore
from scheduler.core import messages as m
from scheduler.core.config import Config
from scheduler.dialects import Rules
from scheduler.dispatcher import Dispatcher
from scheduler.journal import Journal
from scheduler.listener import Listener
from scheduler.origins import Border
from scheduler.restart import Restarts, Service
from scheduler.scheduled import Scheduled
from scheduler.settings import Settings
from scheduler.watch import Budget, Watch


def budget(settings: Settings) -> Budget:
    """Memory as configured."""
    memory, ollama = settings.memory, settings.ollama_settings
    return Budget(
        None if memory.budget == "auto" else memory.budget,
        None if ollama.device == "auto" else ollama.device,
        ollama.reap_orphans,
        memory.pressure == "heed" or (memory.pressure == "auto" and platform.system() == "Darwin"),
        {"warning": memory.under_warning, "critical": memory.under_critical},
    )


def border(settings: Settings) -> Border:
    """Ollama's rule for Host and Origin, as it has it where we listen. Raises ValueError for a bad origin."""
    host, _ = settings.listen_at
    return Border(
        ipaddress.ip_address(host).is_loopback if host[:1].isdigit() or ":" in host else host == "localhost",
        settings.ollama_settings.origins,
        socket.gethostname(),
        tuple(a.address for found in psutil.net_if_addrs().values() for a in found),
    )


def rules(settings: Settings, key: bytes) -> Rules:
    """What reading a request must know; `key` keys its digests."""
    return Rules(
        composition.aliases(settings),
        frozenset(settings.probes.texts),
        key,
        composition.classes(settings, key, os.environ),
        composition.telling(settings),
    )


def core_config(settings: Settings, restartable: bool) -> Config:
    """What the core decides by; an Ollama whose service is not known is never restarted."""
    config = composition.core_config(settings)
    return config if restartable else replace(config, restart_every=None)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that can change their settings while they run."""

    dispatcher: Dispatcher
    listener: Listener
    bodies: BodyStore
    journal: Journal
    watch: Watch
    key: bytes
    restarts: Restarts
    scheduled: Scheduled

    async def prepared(self, settings: Settings) -> Callable[[], None]:
        """Look for what those settings speak of; what then puts them in force."""
        return partial(self.put, settings, await restart.service_of(settings.stall))

    def put(self, settings: Settings, service: Service | None) -> None:
        """Give each part its new values, in one breath. Raises ValueError, with nothing changed, where one cannot be
        made."""
        config, new_budget = core_config(settings, service is not None), budget(settings)
        new_rules, new_border = rules(settings, self.key), border(settings)
        self.restarts.renew(service, settings.stall)
        self.scheduled.renew(composition.timetable(settings))
        self._tell_core(m.Reloaded(self.dispatcher.now(), config), new_budget)
        self.listener.rules = new_rules
        self.listener.guard(new_border)
        self.bodies.resize(settings.queue.body_memory, settings.queue.body_disk)
        self.journal.resize(settings.journal.keep)

    def _tell_core(self, reloaded: m.Reloaded, new_budget: Budget) -> None:
        """Sizes and budget may change together: the larger budget holds while the core hears of both, so that nobody
        who waits is refused in between."""
        grows = self.watch.reckoned(new_budget)[0] >= (self.dispatcher.state.budget or 0)
        if grows:
            self.watch.rebudget(new_budget)
        self.dispatcher.post(reloaded)
        if not grows:
            self.watch.rebudget(new_budget)

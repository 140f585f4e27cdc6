"""Builds every part, joins them, starts and stops them in order; the composition root of `serve`."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from scheduler import composition, parts, restart, saved
from scheduler.bodies import BodyStore
from scheduler.control_gate import drop_token, keep_token, new_token
from scheduler.core import messages as m
from scheduler.core.lifecycle import IllegalMove
from scheduler.core.machine import Machine
from scheduler.core.state import CoreState
from scheduler.dispatcher import Dispatcher, Witness
from scheduler.door import raise_file_limit
from scheduler.folder import StateFolder
from scheduler.forwarder import Forwarder
from scheduler.journal import Journal
from scheduler.ledger import Ledger
from scheduler.listener import Listener, Own
from scheduler.measured import Measured
from scheduler.own import Known, OwnCalls
from scheduler.pace import Pace as Pace
from scheduler.past import Past
from scheduler.reload import Reload, Source
from scheduler.residency import Residency
from scheduler.restart import Restarts
from scheduler.scheduled import Scheduled
from scheduler.settings import Settings
from scheduler.upstream import Upstream
from scheduler.watch import Watch
from scheduler.wire import WireConfig

log = logging.getLogger(__name__)

LEARNED = "learned.json"
LATER = ("scheduler.status", "scheduler.why", "scheduler.control", "scheduler.chores")
"""Rooms that nobody needs before the daemon listens: they are imported then, since those who knock at once need not
wait for them."""


class Daemon:
    """One scheduler in front of one Ollama. `folder` keeps its state: journal, learned values, key."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        version: str,
        pace: Pace | None = None,
        warnings: tuple[str, ...] = (),
        stand_in: bool = False,
        source: Source | None = None,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self._keeping = StateFolder(folder)
        self.version = version
        self.pace = pace or Pace()
        self.warnings = warnings
        self._source = source  # where the configuration can be read again
        self._stand_in = stand_in  # known before it says so itself, so that every answer is marked
        self.witnesses: list[Witness] = []  # told of each step beside the ledger and the journal
        self.acquainted = asyncio.Event()  # Ollama has told what it has, and what is resident
        self.ready = asyncio.Event()  # it listens
        self.port = 0
        self._started = time.monotonic()
        self._stop = asyncio.Event()
        self._wanted = asyncio.Event()  # the configuration is to be read again

    def stop(self) -> None:
        """End in order: no new work, running work finishes, models stay."""
        self._stop.set()

    @property
    def state(self) -> CoreState:
        """The core's memory; read only."""
        return self._dispatch.state

    def status(self) -> Mapping[str, Any]:
        """What /status says now."""
        return self._own.status()[1]

    def reload(self) -> None:
        """Read the configuration again soon (SIGHUP); before the daemon listens, and once it stops, that is nothing."""
        if self.ready.is_set() and not self._stop.is_set():
            self._wanted.set()

    async def run(self, acquainted: Callable[[], Awaitable[None]] | None = None) -> None:
        """Serve until `stop`; `acquainted` runs beside it from the moment it listens.

        Raises OSError if the address is taken, IllegalMove on a bug of the core.
        """
        try:
            with self._keeping:
                async with asyncio.TaskGroup() as tasks:
                    await self._live(tasks, acquainted)
        except* (OSError, IllegalMove) as group:
            raise _first(group) from group

    async def _live(self, tasks: asyncio.TaskGroup, acquainted: Callable[[], Awaitable[None]] | None) -> None:
        service = await restart.service_of(self.settings.stall)
        dispatcher = self._dispatcher(service is not None)
        async with contextlib.AsyncExitStack() as closing:
            self._leaving = closing
            closing.callback(self._journal.close)
            closing.callback(dispatcher.close)
            closing.callback(self._save, dispatcher)
            residency = Residency(
                self.settings.ollama, tasks, dispatcher.post, dispatcher.now, lambda: dispatcher.state
            )
            closing.push_async_callback(residency.close)
            dispatcher.attach(residency)
            restarts = Restarts(service, self.settings.stall, tasks, dispatcher.post, dispatcher.now)
            closing.push_async_callback(restarts.close)
            dispatcher.attach_service(restarts.take)
            listener, forwarder, watch = self._wire(dispatcher, residency, restarts)
            closing.push_async_callback(watch.close)
            closing.push_async_callback(listener.close)
            await closing.enter_async_context(forwarder)
            dispatcher.post(m.Started(dispatcher.now(), self.version))
            await listener.start()
            self.port = listener.port
            self.ready.set()
            for room in LATER:
                await asyncio.to_thread(import_module, room)
            from scheduler.chores import begun

            save = partial(self._save, dispatcher)
            chores = begun(self.pace, dispatcher, residency, watch, self._scheduled, self._keeping.look, save)
            closing.callback(chores.stop)
            await watch.memory()  # looks at every process of the machine: those who knock do not wait for that
            residency.start()
            log.info("listening port=%d ollama=%s", self.port, self.settings.ollama)
            beside = [tasks.create_task(self._reloads())]
            beside += [tasks.create_task(_quietly(acquainted()))] if acquainted else []
            await self._until_stopped(dispatcher)
            for task in beside:
                task.cancel()
            await self._wind_down(dispatcher, listener)

    async def _reloads(self) -> None:
        """Read the configuration again, each time that is wanted."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await _quietly(self._reload.again("SIGHUP"))

    async def _until_stopped(self, dispatcher: Dispatcher) -> None:
        """Wait for `stop`; raises what broke the core, if that comes first."""
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((stopped, dispatcher.failed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        if dispatcher.failed.done():
            dispatcher.failed.result()

    async def _wind_down(self, dispatcher: Dispatcher, listener: Listener) -> None:
        """No new work; those who wait are told, running work finishes within the limit; models stay."""
        self._reload.stop()
        await listener.stop_accepting()
        dispatcher.post(m.Stopping(dispatcher.now()))
        left = await listener.drain(self.pace.stop)
        log.info("stopped unfinished=%d", left)

    def _dispatcher(self, restartable: bool) -> Dispatcher:
        """The core with what earlier lives learned, and its witnesses."""
        machine = Machine.fresh(parts.core_config(self.settings, restartable), time.monotonic())
        machine = saved.apply(saved.load(self.folder / LEARNED), machine, time.time() - time.monotonic())
        machine.state.stand_in = self._stand_in
        dispatcher = Dispatcher(machine)
        self._ledger = Ledger()
        self._past, self._measured = Past(), Measured()
        self._journal = Journal(self.folder / "journal", self.settings.journal.keep, self.version)
        dispatcher.precede(self._journal.before)
        dispatcher.witness(self._journal.note)
        dispatcher.witness(self._ledger.note)
        dispatcher.witness(self._past.note)
        dispatcher.witness(self._measured.note)
        dispatcher.witness(self._acquaint)
        for witness in self.witnesses:
            dispatcher.witness(witness)
        self._dispatch = dispatcher
        return dispatcher

    def _wire(
        self, dispatcher: Dispatcher, residency: Residency, restarts: Restarts
    ) -> tuple[Listener, Forwarder, Watch]:
        settings = self.settings
        host, port = settings.listen_at
        raise_file_limit()
        forwarder = Forwarder(Upstream(settings.ollama), dispatcher)
        watch = Watch(
            parts.budget(settings),
            dispatcher.post,
            dispatcher.now,
            lambda: dispatcher.state,
            forwarder,
            residency.installed.blobs,
            lambda: residency.staged,
        )
        residency.before_up = watch.memory
        residency.is_dead = watch.is_dead
        watch.on_death = residency.look
        key = saved.key(self.folder / "key")
        token = new_token(self.folder)
        self._leaving.callback(drop_token, self.folder, token)
        self._keeping.upon_anew(lambda: saved.keep_key(self.folder / "key", key))
        self._keeping.upon_anew(lambda: keep_token(self.folder, token))
        bodies = BodyStore(settings.queue.body_memory, settings.queue.body_disk, self.folder)
        own: dict[str, Own] = {}
        listener = Listener(
            dispatcher,
            forwarder,
            bodies,
            parts.rules(settings, key),
            own,
            WireConfig(host, port),
            parts.border(settings),
            residency.installed.read_again,
            lambda asked: self._own.control(asked),
        )
        self._scheduled = Scheduled(composition.timetable(settings), dispatcher.post, dispatcher.now)
        changeable = parts.Parts(dispatcher, listener, bodies, self._journal, watch, key, restarts, self._scheduled)
        self._reload = Reload(self._source, settings, changeable.prepared, dispatcher.now, self.warnings)
        known = Known(
            self.version,
            self._started,
            token,
            dispatcher,
            self._ledger,
            self._past,
            self._measured,
            self._journal,
            watch,
            self._reload,
            self._scheduled,
            self.ready.is_set,
            lambda: [
                *self._keeping.troubles(),
                *watch.troubles(),
                *residency.troubles(),
                *restarts.troubles(dispatcher.state),
            ],
            self.folder,
        )
        self._own = OwnCalls(known, listener)
        own |= self._own.routes
        return listener, forwarder, watch

    def _acquaint(self, _fact: m.Fact, _orders: list[m.Order], machine: Machine) -> None:
        state = machine.state
        if state.ollama == "up" and not state.looking and state.listed is not None:
            self.acquainted.set()

    def _save(self, dispatcher: Dispatcher) -> None:
        try:
            saved.save(self.folder / LEARNED, dispatcher.state, time.time() - dispatcher.now())
        except OSError as error:
            log.warning("what was learned could not be saved: %s", error)


async def _quietly(work: Awaitable[object]) -> None:
    """Work beside the daemon whose failure must not end it."""
    try:
        await work
    except Exception:
        log.exception("beside the daemon")


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    """The first error inside a group of groups."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error

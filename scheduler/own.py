"""Our own routes: what may be read (`/status`, `/why`, `/healthz`, `/readyz`) and what a person may command."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scheduler.control_gate import Gate
from scheduler.core.naming import known_as
from scheduler.dispatcher import Dispatcher
from scheduler.errors import Failure
from scheduler.journal import Journal
from scheduler.ledger import Ledger
from scheduler.listener import Listener, Own
from scheduler.measured import Measured
from scheduler.names import is_cloud, normal_name
from scheduler.past import Past
from scheduler.reload import Reload
from scheduler.request import Answer, Asked
from scheduler.scheduled import Scheduled
from scheduler.watch import Watch

if TYPE_CHECKING:
    from scheduler.status_schema import Stage


@dataclass(frozen=True, slots=True)
class Known:
    """What the answers are made of. `ready` says whether the daemon listens, `started` is monotonic seconds, `token`
    is what a command must bring."""

    version: str
    started: float
    token: str
    dispatcher: Dispatcher
    ledger: Ledger
    past: Past
    measured: Measured
    journal: Journal
    watch: Watch
    reload: Reload
    scheduled: Scheduled
    ready: Callable[[], bool]
    troubles: Callable[[], Sequence[str]]
    folder: Path


class OwnCalls:
    """Answers for a daemon; rooms that only answers need are imported with the first one."""

    def __init__(self, known: Known, listener: Listener) -> None:
        self._known = known
        self._listener = listener

    @property
    def routes(self) -> dict[str, Own]:
        """What may be read, by path."""
        return {
            "/status": lambda _: self.status(),
            "/why": self._why,
            "/bounds": lambda _: self._bounds(),
            "/healthz": lambda _: (200, {"status": "ok"}),
            "/readyz": lambda _: self._readiness(),
        }

    def _readiness(self) -> Answer:
        """Whether clients are served, and by which version: `install` waits for its own."""
        ready = self._known.ready()
        return 200 if ready else 503, {"status": "ready" if ready else "starting", "version": self._known.version}

    def status(self) -> Answer:
        """What the daemon is doing."""
        from scheduler import status

        known = self._known
        progress = {i: exchange.progress for i, exchange in self._listener.exchanges.items()}
        reload = known.reload
        around = status.Surroundings(
            known.version,
            reload.settings.ollama,
            known.started,
            (*reload.state.warnings, *self._listener.door.warnings),
            {name: engine.prefill for name, engine in known.watch.engines.items()},
            known.journal.lost,
            known.journal.trouble,
            known.past.refused_wishes,
            reload.state,
            service(os.environ.get("XPC_SERVICE_NAME", "")),
            folder=str(known.folder.absolute()),
            troubles=known.troubles(),
            scheduled=known.scheduled.upcoming(),
        )
        dispatcher = known.dispatcher
        return 200, status.build(dispatcher.state, dispatcher.now(), time.time(), progress, known.ledger, around)

    def _bounds(self) -> Answer:
        """Within how long a change begins for a request of each class."""
        from scheduler.bounds import bounds

        dispatcher = self._known.dispatcher
        return 200, bounds(dispatcher.state, dispatcher.now())

    def _why(self, query: Mapping[str, str]) -> Answer:
        """What `request` waits for or how it ended, or what one for `model` would meet."""
        request, model = query.get("request", "").strip(), query.get("model", "").strip()
        if request:
            return self._why_request(request)
        if model:
            return self._why_model(model)
        return 400, {"error": "nothing is asked about: name a model (?model=NAME) or a request (?request=ID)"}

    def _why_request(self, asked: str) -> Answer:
        from scheduler.outlook import IDS
        from scheduler.why_request import why_request

        dispatcher = self._known.dispatcher
        fate = self._known.past.fate(asked)
        if fate is None:
            return 404, {"error": f"no request {asked!r} waits or runs, nor is it among the last that are over; {IDS}"}
        exchange = self._listener.exchanges.get(asked)
        generating = exchange is not None and exchange.progress.stage == "generating"
        stage: Stage = "generating" if generating else "prefill"
        return 200, why_request(dispatcher.state, fate, dispatcher.now(), stage, self._known.measured)

    def _why_model(self, asked: str) -> Answer:
        from scheduler.why import why

        dispatcher = self._known.dispatcher
        try:
            target = self._listener.rules.aliases.resolve(asked)
        except Failure as failure:
            return failure.status, {"error": failure.message}
        model = normal_name(target.model)
        if is_cloud(model) or any(row.remote and row.name == model for row in dispatcher.state.listed or ()):
            text = f"{asked} runs elsewhere: it is passed straight through, without a queue and without memory here."
            return 200, {"model": model, "would": "be passed through", "sentences": [text]}
        model = known_as(dispatcher.state, model)
        wish, measured = self._known.past.refused_wish(model), self._known.measured
        state, now = dispatcher.state, dispatcher.now()
        names = self._listener.rules.aliases.names
        return 200, why(state, model, now, alias=asked, cls=target.cls, wish=wish, measured=measured, names=names)

    async def control(self, asked: Asked) -> Answer:
        """Carry out a person's command."""
        from scheduler.control import Control

        known, settings = self._known, self._known.reload.settings
        host, _ = settings.listen_at
        denied = Gate(known.token, host, self._listener.port, settings.control.hosts).check(asked.method, asked.headers)
        if denied is not None:
            return denied.status, denied.answer
        control = Control(known.dispatcher, self._listener.rules.aliases, known.reload)
        return await control.follow(asked.command, await asked.body(), asked.peer)


def service(name: str) -> str:
    """The label of the job of launchd that this process is; a shell in an app's window has "0" or the app's name there
    (Apple's Terminal), and is none."""
    return "" if name == "0" or name.startswith("application.") else name

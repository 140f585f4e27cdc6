"""Follow a person's command: make a fact of it, ask the core whether it objects, post it, and say what happens next."""

import difflib
from typing import Any, Protocol

from typing_extensions import TypedDict

from scheduler import control_bodies as bodies, control_told as told
from scheduler.core import commands as c, messages as m
from scheduler.core.naming import known_as
from scheduler.core.state import CoreState
from scheduler.errors import Failure
from scheduler.names import is_cloud, normal_name
from scheduler.reload import Outcome
from scheduler.request import Answer
from scheduler.routes import Aliases


class Dispatcher(Protocol):
    """What a command needs of the dispatcher."""

    @property
    def state(self) -> CoreState: ...
    def now(self) -> float: ...
    def post(self, fact: m.Fact) -> None: ...
    def objection(self, fact: c.Command) -> str | None: ...


class Reload(Protocol):
    """What a command needs of the configuration."""

    async def again(self, by: str) -> Outcome: ...


class Followed(TypedDict):
    """The answer to a command that was followed."""

    command: str
    by: str
    model: str  # the full name of the model concerned; empty where it is about none
    done: str  # what was done, as a sentence
    next: list[str]  # what happens now, as sentences


class Control:
    """Follows commands whose sender was let in."""

    def __init__(self, dispatcher: Dispatcher, aliases: Aliases, reload: Reload) -> None:
        self._dispatcher = dispatcher
        self._aliases = aliases
        self._reload = reload

    async def follow(self, command: str, raw: bytes, peer: str) -> Answer:
        """Status and JSON: 200 done, 400 not understood, 404 no such command, 409 not now, 503 a paid route.

        `peer` owns what nobody said to own."""
        if command not in bodies.SHAPES:
            return 404, _unknown(command)
        try:
            body = bodies.read(command, raw)
        except bodies.Bad as error:
            return 400, {"error": str(error), **error.problems[0], "problems": error.problems}
        by = body.by or peer.rpartition(":")[0] or "somebody"
        if command == "reload":
            return await self._read_again(by)
        try:
            model = self._named(body)
        except Failure as failure:
            return failure.status, {"error": failure.message}
        if isinstance(body, bodies.UnloadBody) and bool(model) == body.all:
            right = {"field": "model", "value": body.model, "right": "either a model, or all: true"}
            return 400, {"error": "unload one model, or all of them: give either model or all", **right}
        return self._post(command, self._fact(command, body, model, by), model)

    def _named(self, body: bodies.Body) -> str:
        """The full name of the model that the body speaks of, "" for none. Raises Failure."""
        named = getattr(body, "model", None)
        if named is None:
            return ""
        model = self._aliases.resolve(named).model
        if is_cloud(model):
            raise Failure(409, f"{named} runs elsewhere: there is nothing to load, keep or unload here")
        return known_as(self._dispatcher.state, normal_name(model))

    def _fact(self, command: str, body: bodies.Body, model: str, by: str) -> c.Command:
        at = self._dispatcher.now()
        match body:
            case bodies.PhaseBody():
                return c.PhaseSet(at, body.phase, by)
            case bodies.PinBody():
                return c.Pinned(at, model, at + body.for_, by, body.others)
            case bodies.UnloadBody():
                return c.UnloadAsked(at, model, by)
            case bodies.ModelBody():
                return (c.Unpinned if command == "unpin" else c.LoadAsked)(at, model, by)
            case bodies.PauseBody():
                return c.Paused(at, by, None if body.for_ is None else at + body.for_, body.others)
            case bodies.RequestBody():
                return c.Cancelled(at, body.request, by)
            case bodies.SwitchBody():
                return (c.QuietSet if command == "quiet" else c.PassthroughSet)(at, body.on, by)
        return c.Resumed(at, by)

    def _post(self, command: str, fact: c.Command, model: str) -> Answer:
        """No await between the core's word and the fact, so that what it said still holds."""
        dispatcher = self._dispatcher
        objection = dispatcher.objection(fact)
        if objection is not None:
            return 409, {"error": told.refused(dispatcher.state, fact, objection)}
        before = told.before(dispatcher.state, fact)
        dispatcher.post(fact)
        state, now = dispatcher.state, dispatcher.now()
        done = told.done(fact, before)
        return 200, Followed(command=command, by=fact.by, model=model, done=done, next=told.then(state, fact, now))

    async def _read_again(self, by: str) -> Answer:
        outcome = await self._reload.again(by)
        if outcome.refused:
            error = "; ".join(outcome.refused)
            if not outcome.unread:
                error = f"the configuration is refused and the old one stays in force: {error}"
            return 409, {"error": error, "problems": outcome.refused}
        changed = ", ".join(outcome.changed)
        done = f"The configuration was read again; changed: {changed}." if changed else "Nothing in it has changed."
        state, now = self._dispatcher.state, self._dispatcher.now()
        then = [f"{each}." for each in outcome.restart] + told.settled(state, now)
        return 200, Followed(command="reload", by=by, model="", done=done, next=then)


def _unknown(command: str) -> dict[str, Any]:
    nearest = difflib.get_close_matches(command, bodies.SHAPES, n=1)
    hint = f"; the nearest is {nearest[0]}" if nearest else ""
    right = f"one of {', '.join(bodies.SHAPES)}"
    return {"error": f"there is no command {command!r}{hint}", "field": "command", "value": command, "right": right}

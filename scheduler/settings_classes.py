"""Settings of the classes of requests: how long each is patient, and the rules that say which class a request has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from scheduler.settings_machine import Section
from scheduler.settings_types import DurationOrNone, Endpoint, HeaderName, HeaderPattern, KeyName, Kind, Pattern, Wrong

ClassName = Annotated[Literal["interactive", "agent", "helper", "batch"], Kind("interactive, agent, helper or batch")]
ClassOrProbe = Annotated[
    Literal["interactive", "agent", "helper", "batch", "probe"], Kind("interactive, agent, helper, batch or probe")
]


class InteractiveClass(Section):
    """A person is waiting; also the class of whatever has none."""

    patience: DurationOrNone = 150.0
    """How long, in seconds, a request of this class waits before the scheduler must act for it."""


class AgentClass(Section):
    """A program works through many requests on a person's behalf."""

    patience: DurationOrNone = 300.0
    """How long, in seconds, a request of this class waits before the scheduler must act for it."""


class HelperClass(Section):
    """Small requests beside the real work: titles, summaries, completions."""

    patience: DurationOrNone = 60.0
    """How long, in seconds, a request of this class waits before the scheduler must act for it."""


class BatchClass(Section):
    """Nobody is waiting."""

    patience: DurationOrNone = 1800.0
    """How long, in seconds, a request of this class waits before the scheduler must act for it."""


class RuleSettings(Section):
    """A rule gives its class to each request that matches everything the rule says; the first rule that matches counts.
    Patterns have * and ?."""

    model_config = ConfigDict(serialize_by_alias=True)

    class_: ClassOrProbe = Field(alias="class")
    """The class it gives; "probe" makes a health check of the request."""

    alias: Pattern | None = None
    """A pattern for the model's name as the client says it; case does not matter, `:latest` may be left out."""

    model: Pattern | None = None
    """The same for the model that the name leads to."""

    endpoint: Endpoint | None = None
    """A pattern for the path, such as "/v1/embeddings" or "/api/*"."""

    header: HeaderPattern | None = None
    """A header that is there ("X-App"), or has a value that matches a pattern ("X-App: nightly*")."""

    key: KeyName | None = None
    """The API key: the hash that /status tells of it (made with the `key` in the state folder), or "env:NAME" for the
    daemon's environment variable NAME."""

    session: Pattern | None = None
    """Who asks: the hash that /status tells, or a pattern for what the client calls itself (`user`, `metadata`, its
    session's header)."""

    @model_validator(mode="after")
    def _says_something(self) -> RuleSettings:
        if not any((self.alias, self.model, self.endpoint, self.header, self.key, self.session)):
            mend = "give it one of alias, model, endpoint, header, key and session"
            raise Wrong("matches every request", mend)
        return self


class ClassesSettings(Section):
    """The classes of requests, first come first. A request has the class that its client says in `header`; else that of
    the first of `rules` that matches; else that of its alias; else interactive."""

    header: HeaderName = "X-Ollama-Scheduler-Class"
    """The header in which a client may say the class of its request; "" for none. A class that is none is ignored."""

    rules: Annotated[tuple[RuleSettings, ...], Kind("tables")] = ()
    """Rules that give a class, in order."""

    interactive: InteractiveClass = InteractiveClass()
    agent: AgentClass = AgentClass()
    helper: HelperClass = HelperClass()
    batch: BatchClass = BatchClass()

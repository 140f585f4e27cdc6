"""What a request asks for, once understood: the one record that travels from the dialects to Ollama."""

import json
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from scheduler.core.messages import Arrived, Kind

Dialect = Literal[
    "generate",
    "chat",
    "embed",
    "embeddings",
    "library",
    "openai-chat",
    "openai-completions",
    "openai-embeddings",
    "openai-responses",
    "openai-images",
    "openai-image-edits",
    "openai-transcription",
    "anthropic",
]
"""The shape of a route's bodies, answers and errors. The first five are Ollama's own; `library` is that of every call
which uses no model."""

NATIVE: frozenset[str] = frozenset({"generate", "chat", "embed", "embeddings", "library"})


STREAMS: frozenset[str] = frozenset(
    {"generate", "chat", "openai-chat", "openai-completions", "openai-responses", "anthropic"}
)
"""The dialects that stream to a client which asks for it."""


@dataclass(frozen=True, slots=True)
class Body:
    """Our own serialisation of a demand body, cut where `options.num_ctx` goes, so that it is kept only once.

    `before` + (`"num_ctx":N` and, if `more`, a comma) + `after` is the body; without a context `before` + `after`.
    The last `named` bytes are the model's name as JSON and what closes the body (0: it is not there to be changed).
    """

    before: bytes
    after: bytes
    more: bool = False  # other options follow
    takes_context: bool = True
    named: int = 0

    def at(self, context: int, model: str = "") -> bytes:
        """The bytes to send for a model loaded with `context` tokens (0 leaves num_ctx out), under the name `model`
        ("": as it was asked for)."""
        body = self.before + self.after
        if context and self.takes_context:
            body = b'%b"num_ctx":%d%b%b' % (self.before, context, b"," if self.more else b"", self.after)
        if model and self.named:
            body = b"%b%b}" % (body[: -self.named], json.dumps(model, ensure_ascii=False).encode())
        return body

    def __len__(self) -> int:
        return len(self.before) + len(self.after)


@dataclass(frozen=True, slots=True)
class Demand:
    """One understood request. `alias` is the model name as the client said it, `model` the full name for Ollama."""

    method: str
    path: str  # as it goes upstream, with its query
    dialect: Dialect
    alias: str
    model: str
    kind: Kind
    cls: str
    stream: bool
    body: Body
    digest: str = ""  # keyed digest of the conversation
    session: str = ""  # keyed hash of who asks; "": nothing tells
    key: str = ""  # keyed hash of the API key
    client: str = ""
    remote: bool = False  # `:cloud` and remote models: passed straight through
    keep_alive: bool = False  # it came with a keep_alive that is not followed
    usage: bool = False  # it asked for a stream's last chunk to tell the tokens
    objection: str = ""  # what Ollama says against it if it has the model
    mistyped: str = ""  # and then, with a 500, against a runner option that we do not send on

    def target(self, model: str = "") -> str:
        """Path and query to send it to, where a form's model is said in the query; `model`: under that name."""
        if not model or self.dialect != "openai-transcription":
            return self.path
        path, _, query = self.path.partition("?")
        _, more, others = query.partition("&")
        return f"{path}?model={quote(model)}{more}{others}"

    def arrived(self, at: float, request_id: str) -> Arrived:
        """What the core hears of it."""
        return Arrived(
            at,
            request_id,
            self.model,
            kind=self.kind,
            cls=self.cls,
            alias=self.alias,
            dialect=self.dialect,
            client=self.client,
            session=self.session,
            key=self.key,
            body_bytes=len(self.body),
            digest=self.digest,
            keep_alive=self.keep_alive,
        )

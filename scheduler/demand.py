"""What a request asks for, once understood: the one record that travels from the dialects to Ollama."""

from dataclasses import dataclass
from typing import Literal

from scheduler.core.messages import Kind

Dialect = Literal["generate", "chat", "embed", "embeddings", "openai-chat", "openai-embeddings", "anthropic"]
"""The shape of a route's bodies, answers and errors. The first four are Ollama's own."""

NATIVE: frozenset[str] = frozenset({"generate", "chat", "embed", "embeddings"})


@dataclass(frozen=True, slots=True)
class Body:
    """Our own serialisation of a demand body, cut where `options.num_ctx` goes, so that it is kept only once.

    `before` + (`"num_ctx":N` and, if `more`, a comma) + `after` is the body; without a context `before` + `after`.
    """

    before: bytes
    after: bytes
    more: bool = False  # other options follow

    def at(self, context: int) -> bytes:
        """The bytes to send for a model loaded with `context` tokens; 0 leaves num_ctx out."""
        if not context:
            return self.before + self.after
        return b'%b"num_ctx":%d%b%b' % (self.before, context, b"," if self.more else b"", self.after)

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
    session: str = ""  # keyed hash of who asks
    client: str = ""
    remote: bool = False  # `:cloud` and remote models: passed straight through

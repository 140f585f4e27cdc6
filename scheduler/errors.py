"""What can go wrong with a request and by whose fault: raise one, the listener makes its dialect's error of it."""

from typing import Literal

SHUTTING_DOWN = "the scheduler is shutting down"

Voice = Literal["middleware", "writer", "gin"]
"""Who in Ollama says it on a /v1 route: the middleware that reads the body, the writer that turns the native answer
into the dialect's (another content type, and a line break at the end), or gin itself (Ollama's native shape)."""


class Failure(Exception):
    """A request that ends in an error. Raise one of the three below, catch this one.

    `status` is the HTTP status, `message` what the client reads, `retry_after` seconds for `Retry-After` (None: none),
    `voice` how a /v1 route says it.
    """

    def __init__(
        self, status: int, message: str, retry_after: int | None = None, *, voice: Voice = "middleware"
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after
        self.voice = voice
        self.streamed = False  # where a stream was asked for, whose headers Ollama sets before it knows how it goes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.status}, {self.message!r}, retry_after={self.retry_after!r})"


class BadRequest(Failure):
    """The client's fault: what it sent cannot be understood, or names what does not exist."""


class Refused(Failure):
    """Our decision: the request is sound, and still we do not serve it (now)."""


class UpstreamFailed(Failure):
    """Ollama's fault: it did not answer, or broke off."""

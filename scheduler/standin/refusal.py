"""An answer that is an error, raised anywhere and written by the route's dialect."""

GIN_JSON = "application/json; charset=utf-8"


class Refusal(Exception):
    """The HTTP status and the text Ollama gives; `body` and `headers` once a dialect has written it.

    `streamed` is one that Ollama finds only once the answer had begun to stream: it comes in chunks.
    """

    def __init__(self, status: int, message: str, *, streamed: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.body: bytes | None = None
        self.content_type = GIN_JSON
        self.headers: dict[str, str] = {}
        self.streamed = streamed

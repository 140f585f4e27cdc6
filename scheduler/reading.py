"""What Ollama's answers say, in the core's words: a row of /api/ps, the details of /api/show, why it is away."""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import httpx
import ollama
from pydantic import BaseModel, Field

from scheduler.core import messages as m
from scheduler.core.state import CoreState
from scheduler.names import normal_name

T = TypeVar("T")
B = TypeVar("B", bound=BaseModel)


ABSURD = 1 << 42  # bytes that no runner holds on any machine: a larger size is not believed


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each reading may take and how often it is repeated, in seconds."""

    reading: float = 10.0  # one /api/ps, /api/tags, /api/show or /api/version
    poll: float = 0.05  # first pause between two looks at /api/ps; doubled up to `poll_longest`
    poll_longest: float = 1.0
    seen: float = 30.0  # until a load that Ollama called done is seen in /api/ps
    unload: float = 600.0  # until an unload is seen; others may still be using the model
    unload_again: float = 10.0  # the unload is repeated this often: a stranger's request can undo it
    unanswered: int = 3  # readings of /api/ps without an answer after which Ollama is called away
    relist: float = 0.2  # between two readings of /api/tags that unknown names ask for
    back: float = 1.0  # between two knocks at an Ollama that is away


class Unreadable(Exception):
    """Ollama, or what answers in its place, said something that it never says."""


Unclear = (TimeoutError, ollama.ResponseError, Unreadable)  # it was spoken to, and nothing is known by it
Away = (ConnectionError, httpx.RequestError)  # Ollama cannot be spoken to
# What comes of reading an answer that is none: JSON's and pydantic's errors are ValueErrors, its Infinity no int.
NONSENSE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


class Row(ollama.ListResponse.Model):
    """A row of /api/tags; the official client leaves out what a remote model stands for."""

    remote_model: str | None = None


class Tags(BaseModel):
    """/api/tags."""

    models: tuple[Row, ...]


class Show(ollama.ShowResponse):
    """/api/show; the official client insists on model_info, which Ollama leaves out where it has none."""

    modelinfo: Mapping[str, Any] | None = Field(None, alias="model_info")
    remote_model: str | None = None


async def tags(http: httpx.AsyncClient) -> Tags:
    """/api/tags with what the official client leaves out of it."""
    return _told(Tags, await http.get("/api/tags"))


async def show(http: httpx.AsyncClient, model: str) -> tuple[m.Listed, str]:
    """What /api/show tells of a model, and the file that its runner is started with."""
    told = _told(Show, await http.post("/api/show", json={"model": model}))
    files = weights(told.modelfile or "")
    return replace(shown(told), blob="+".join(files)), files[0] if files else ""


def _told(kind: type[B], answer: httpx.Response) -> B:
    if not answer.is_success:
        raise ollama.ResponseError(answer.text, answer.status_code)
    return kind.model_validate_json(answer.content)


async def readable(answer: Awaitable[T]) -> T:
    """What is made of an answer. Raises Unreadable where it is none of Ollama's."""
    try:
        return await answer
    except (*NONSENSE, httpx.DecodingError, httpx.TooManyRedirects) as error:
        raise Unreadable(f"its answer is not Ollama's: {error!r:.200}") from error


async def within(seconds: float, answer: Awaitable[T]) -> T:
    """What is made of an answer that comes within so many seconds. Raises TimeoutError, Unreadable, or what is Away."""
    async with asyncio.timeout(seconds):
        return await readable(answer)


def why(error: Exception) -> str:
    """Why Ollama is away."""
    refused = isinstance(error, ConnectionRefusedError | httpx.ConnectError)
    return "connection refused" if refused else str(error) or type(error).__name__


def resident(row: ollama.ProcessResponse.Model) -> m.Resident:
    name, size, vram = normal_name(row.model or row.name or ""), int(row.size or 0), int(row.size_vram or 0)
    if not (name and 0 <= size < ABSURD and 0 <= vram < ABSURD):
        raise ValueError(f"{name or 'a model without a name'} of {size} bytes")
    return m.Resident(name, size, row.context_length or 0, vram, row.digest or "")


def is_of(state: CoreState, row: m.Resident, model: str) -> bool:
    """Whether the row is `model`'s: /api/ps shows a runner under the name by which it was loaded first, also one whose
    name leads to another blob by now."""
    if row.digest in state.unreachable:
        return False
    known, other = state.models.get(model), state.models.get(row.name)
    same = known is not None and row.digest == known.digest
    return row.name == model or (bool(row.digest) and same) or (other is not None and other.same_as == model)


def weights(modelfile: str) -> tuple[str, ...]:
    """The files that a runner is started with: that of the first FROM line, then the adapters; none where it names a
    model."""
    lines = [line.strip().partition(" ") for line in modelfile.splitlines()]
    first = [name.strip() for word, _, name in lines if word == "FROM" and "/" in name][:1]
    return (*first, *(name.strip() for word, _, name in lines if word == "ADAPTER")) if first else ()


def shown(show: Show) -> m.Listed:
    """What /api/show tells: f16 KV bytes of one token as Ollama predicts them (llm/llama_server.go), trained context,
    the Modelfile's num_ctx."""
    info = dict(show.modelinfo or {})
    arch = str(info.get("general.architecture", ""))

    def number(key: str) -> int:
        value = info.get(f"{arch}.{key}") or 0
        if isinstance(value, list):
            value = min((v for v in value if v), default=0)
        return int(value)

    heads, kv_heads = number("attention.head_count"), number("attention.head_count_kv")
    width = number("embedding_length") // heads if heads else 0
    kv_token = 2 * number("block_count") * max(1, kv_heads) * width * 2
    num_ctx = 0
    for line in (show.parameters or "").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "num_ctx" and words[1].isdecimal():
            num_ctx = int(words[1])
    capabilities = set(show.capabilities or ())
    embedding = "embedding" in capabilities and "completion" not in capabilities
    return m.Listed("", 0, kv_token, number("context_length"), num_ctx, "", embedding, bool(show.remote_model))


def reason(error: Exception) -> str:
    """Why nothing came of asking, in Ollama's own words where it gave some."""
    if isinstance(error, ollama.ResponseError):
        return str(error.error or error)  # an empty body, or one of another shape, is no word of Ollama's
    return str(error) or "ollama did not answer in time"

"""Describe here the machine that the stand-in plays: its memory, its models, their sizes and speeds."""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from scheduler.standin.names import shortest

EMBEDDING_LENGTH, HEADS, KV_HEADS = 64, 4, 2
"""The shape of every staged model, that of the smallest models a real engine loads: its KV memory is negligible."""
SMALLEST_CONTEXT = 4
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class BadStage(ValueError):
    """A stage file that says something the stand-in cannot play."""


@dataclass(frozen=True, slots=True)
class StagedModel:
    """One installed model; sizes in bytes, times in seconds."""

    name: str
    size: int
    """What `/api/tags` shows and Ollama's own prediction starts from."""
    held: int | None = None
    """What it really takes when resident, shown by `/api/ps`; the same as `size` unless told."""
    load_seconds: float = 1.0
    unload_seconds: float = 0.2
    tokens_per_second: float = 60.0
    prefill_tokens_per_second: float = 2000.0
    answer_tokens: int = 24
    num_ctx: int | None = None
    """The Modelfile's `PARAMETER num_ctx`; without it the stage's `context_length` holds."""
    trained_ctx: int = 131072
    layers: int = 2
    blob: str = ""
    """Models that name the same blob share one runner, as Ollama's aliases do."""
    manifest: str = ""
    """What its manifest holds beside the weights, if a copy or a creation at run time made it so."""
    embedding: bool = False
    tools: bool = True
    """Whether its template knows tools."""
    remote: bool = False
    """A stub of a model that runs on another host: never resident here."""

    @property
    def key(self) -> str:
        """Ollama's identity of a runner: the digest of the weights."""
        return hashlib.sha256((self.blob or spelled_out(self.name)).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """The manifest's digest, hexadecimal without a prefix."""
        return hashlib.sha256(b"manifest " + (self.manifest or spelled_out(self.name)).encode()).hexdigest()

    @property
    def resident_size(self) -> int:
        """Bytes it takes in memory."""
        return self.size if self.held is None else self.held

    def predicted(self, num_ctx: int, parallel: int) -> int:
        """Ollama's own estimate in bytes: the file and an f16 KV cache (`PredictServerVRAM` of llm/llama_server.go).

        The surcharge for a large batch is left out: Ollama shrinks an automatic batch until it fits.
        """
        return self.size + 2 * self.layers * KV_HEADS * (EMBEDDING_LENGTH // HEADS) * num_ctx * parallel * 2


@dataclass(frozen=True, slots=True)
class Stage:
    """The machine: what Ollama sees as GPU memory (bytes), how Ollama was started, and what is installed."""

    models: tuple[StagedModel, ...]
    device: int = 38_338 * 2**20
    num_parallel: int = 1
    max_loaded_models: int = 3
    max_queue: int = 512
    keep_alive_seconds: float = 300.0
    load_timeout_seconds: float = 300.0
    """A load that says nothing for so long is given up (OLLAMA_LOAD_TIMEOUT)."""
    context_length: int = 32768
    version: str = "0.32.0"

    def __post_init__(self) -> None:
        names = [spelled_out(model.name) for model in self.models]
        if doubled := {name for name in names if names.count(name) > 1}:
            raise BadStage(f"installed twice: {', '.join(sorted(doubled))}")
        for model in self.models:
            if model.size <= 0 or model.tokens_per_second <= 0 or model.prefill_tokens_per_second <= 0:
                raise BadStage(f"{model.name}: size and speeds must be above zero")
        if min(self.device, self.num_parallel, self.max_loaded_models) <= 0:
            raise BadStage("device, num_parallel and max_loaded_models must be above zero")

    @classmethod
    def documented(cls, *, tiny: bool = False) -> "Stage":
        """The three documented models on a 48 GB M2; `tiny` adds a small embedding model beside them."""
        gb = 10**9
        models = [
            StagedModel("qwen-quality-128k:latest", 35 * gb, load_seconds=3.0, tokens_per_second=30, num_ctx=131072),
            StagedModel("qwen2.5-coder:32b-instruct", 20 * gb, load_seconds=2.0, tokens_per_second=40, num_ctx=32768),
            StagedModel("qwen-fast:latest", 5 * gb, load_seconds=1.0, tokens_per_second=120, num_ctx=32768),
        ]
        if tiny:
            models.append(
                StagedModel("all-minilm:latest", 46 * 10**6, load_seconds=0.2, trained_ctx=512, embedding=True)
            )
        return cls(models=tuple(models))

    @classmethod
    def read(cls, source: str) -> "Stage":
        """Read a stage from a `.toml` or `.json` file, or from JSON text that begins with a brace.

        Raises `BadStage`, naming the file and the reason.
        """
        try:
            if source.lstrip().startswith("{"):
                return cls.from_mapping(json.loads(source))
            text = Path(source).read_text(encoding="utf-8")
            return cls.from_mapping(tomllib.loads(text) if source.endswith(".toml") else json.loads(text))
        except (OSError, ValueError) as error:
            raise BadStage(f"stage {source[:80]}: {error}") from error

    @classmethod
    def from_mapping(cls, told: Mapping[str, Any]) -> "Stage":
        """Build a stage from plain values; `models` is a table of name to size, or to a table of its fields."""
        _known(told, cls, "stage")
        models = []
        for name, about in dict(told.get("models", {})).items():
            table = dict(about) if isinstance(about, Mapping) else {"size": about}
            _known(table, StagedModel, name)
            if "size" not in table:
                raise BadStage(f"{name}: size is missing")
            sizes = {word: size_in_bytes(table[word]) for word in ("size", "held") if table.get(word) is not None}
            models.append(StagedModel(**{**table, **sizes, "name": name}))
        rest = {word: value for word, value in told.items() if word != "models"}
        if "device" in rest:
            rest["device"] = size_in_bytes(rest["device"])
        return cls(models=tuple(models), **rest)

    def as_json(self) -> str:
        """The same stage as text that `read` takes."""
        told = asdict(self)
        told["models"] = {model.pop("name"): model for model in told["models"]}
        return json.dumps(told)

    def find(self, name: str) -> StagedModel | None:
        """The installed model of that name: case does not matter, and no tag means `:latest`."""
        wanted = spelled_out(name)
        return next((model for model in self.models if spelled_out(model.name) == wanted), None)

    def context_of(self, model: StagedModel, asked: int | None = None) -> int:
        """The context in tokens that Ollama takes: the request's, else the Modelfile's, else its own default."""
        told = asked or model.num_ctx or self.context_length
        return max(SMALLEST_CONTEXT, min(told, model.trained_ctx))

    def faster(self, times: float) -> "Stage":
        """The same machine with loads, unloads, prefill and tokens that many times as fast."""
        return replace(self, models=tuple(_faster(model, times) for model in self.models))


def spelled_out(name: str) -> str:
    """The full form by which names are compared: lower case, always with a tag, without the default registry."""
    return shortest(name).lower()


def size_in_bytes(told: object) -> int:
    """Bytes from a whole number or from text such as `35GB` (10^9) or `32GiB` (2^30); raises `BadStage`."""
    if isinstance(told, int) and not isinstance(told, bool):
        return told
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", told) if isinstance(told, str) else None
    if match is None or match[2].upper() not in _UNITS:
        raise BadStage(f"not a size: {told!r}")
    return round(float(match[1]) * _UNITS[match[2].upper()])


def _faster(model: StagedModel, times: float) -> StagedModel:
    return replace(
        model,
        load_seconds=model.load_seconds / times,
        unload_seconds=model.unload_seconds / times,
        tokens_per_second=model.tokens_per_second * times,
        prefill_tokens_per_second=model.prefill_tokens_per_second * times,
    )


def _known(told: Mapping[str, Any], shape: type[Stage] | type[StagedModel], where: str) -> None:
    allowed = {field.name for field in fields(shape)}
    if unknown := set(told) - allowed:
        raise BadStage(f"{where}: unknown key {', '.join(sorted(unknown))}; known are {', '.join(sorted(allowed))}")

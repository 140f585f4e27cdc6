"""Staged models in Ollama's own store: created once by a real Ollama and cached, laid out per test as sparse files.

Ollama's preflight reads the size of the blob on disk and `/api/tags` the size in the manifest, so both are staged
after `/api/create`; nothing may be created *from* such a blob (quantize would copy it in full): use `/api/copy`.
"""

import asyncio
import hashlib
import io
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.realollama.build import VERSION, cache, cache_lock
from tests.realollama.folder import MIB, Blob, Folder
from tests.realollama.models import CHAT_TEMPLATE, TOOLS_TEMPLATE, sentence, write_model
from tests.realollama.server import Server

FORMAT = 2  # raise it when models.py or this file writes something else for the same wish
MODEL_LAYER = "application/vnd.ollama.image.model"


@dataclass(frozen=True)
class StagedModel:
    """One model of the stage.

    size_bytes is the weights' size (blob, manifest and device); kv_bytes is added on the device once loaded.
    num_ctx goes into the Modelfile (None: Ollama decides). tokens_per_second None: as fast as the engine.
    The answer is `script`, or `words` different words that carry the model's name; `endless` repeats it until the
    request's own limit. tools: the template declares tools, which gives the capability.
    """

    name: str
    size_bytes: int
    load_seconds: float = 1.0
    num_ctx: int | None = 32_768
    kv_bytes: int = 0
    tokens_per_second: float | None = None
    words: int = 60
    script: tuple[str, ...] | None = None
    endless: bool = False
    tools: bool = False
    embedding: bool = False

    @property
    def answer(self) -> tuple[str, ...]:
        """The words that the model says, in order."""
        return self.script or sentence(self.name, self.words)

    def key(self) -> str:
        """What the cached model depends on: everything but the staged size, times and speed."""
        wish = [FORMAT, VERSION, *self.recipe()]
        return hashlib.sha256(json.dumps(wish).encode()).hexdigest()[:20]

    def recipe(self) -> list[Any]:
        """What the GGUF and its entry in the store are made of, as JSON."""
        return [self.name, self.num_ctx, self.answer, self.endless, self.tools, self.embedding]

    def write(self, file: Path) -> None:
        """Write the GGUF."""
        write_model(file, self.name, self.answer, endless=self.endless, embedding=self.embedding)

    def creation(self) -> dict[str, Any]:
        """What `/api/create` is told beside name and file."""
        wish: dict[str, Any] = {}
        if not self.embedding:
            wish["template"] = TOOLS_TEMPLATE if self.tools else CHAT_TEMPLATE
            wish["parameters"] = {"stop": ["<|im_start|>", "<|im_end|>"]}
        if self.num_ctx is not None:
            wish.setdefault("parameters", {})["num_ctx"] = self.num_ctx
        return wish

    def manifest_path(self, models: Path) -> Path:
        """Where Ollama keeps the manifest of `name:tag` or `owner/name:tag`."""
        name, _, tag = self.name.partition(":")
        owner, slash, short = name.rpartition("/")
        return models / "manifests" / "registry.ollama.ai" / (owner if slash else "library") / short / (tag or "latest")


def lay_out(binary: Path, wanted: list[StagedModel], models: Path) -> dict[str, Blob]:
    """Put the models into the store folder `models`; returns what the shim must know, by blob file name.

    Waits for other processes that fill the cache: call it in a thread.
    """
    with cache_lock():
        missing = [model for model in wanted if not (_shelf(model) / "manifest").exists()]
        if missing:
            asyncio.run(_create(binary, missing))
    return dict(_stage(model, models) for model in wanted)


def _shelf(model: StagedModel) -> Path:
    return cache() / "models" / model.key()


def _stage(model: StagedModel, models: Path) -> tuple[str, Blob]:
    """Copy one model from its shelf, its blob stretched to the staged size without taking the room."""
    blobs = models / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    manifest = json.loads((_shelf(model) / "manifest").read_text())
    staged: tuple[str, Blob] | None = None
    for layer in [manifest["config"], *manifest["layers"]]:
        file = layer["digest"].replace(":", "-")
        shutil.copyfile(_shelf(model) / file, blobs / file)
        if layer["mediaType"] == MODEL_LAYER:
            blob = Blob(
                model.name,
                mib=model.size_bytes / MIB,
                kv_mib=model.kv_bytes / MIB,
                load_seconds=model.load_seconds,
                tokens_per_second=model.tokens_per_second,
                real_bytes=layer["size"],
            )
            with (blobs / file).open("r+b") as sparse:
                sparse.truncate(max(model.size_bytes, layer["size"]))
            layer["size"] = model.size_bytes
            staged = (file, blob)
    if staged is None:
        raise RuntimeError(f"the cached {model.name} has no model layer; delete {_shelf(model)}")
    path = model.manifest_path(models)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest))
    return staged


async def _create(binary: Path, missing: list[StagedModel]) -> None:
    """Let a real Ollama create the models, then keep each one's manifest and blobs on its shelf."""
    with tempfile.TemporaryDirectory(prefix="ollama-models-") as scratch:
        home = Path(scratch)
        folder = Folder(home / "stage")
        folder.prepare(device_mib=1024, blobs={})
        server = Server(binary, home, folder, env={})
        try:
            await server.start()
            async with aiohttp.ClientSession(server.url) as session:
                for model in missing:
                    await _create_one(session, model, home / "model.gguf")
            for model in missing:
                _shelve(model, server.models)
        finally:
            await server.end()


async def _create_one(session: aiohttp.ClientSession, model: StagedModel, file: Path) -> None:
    await asyncio.to_thread(model.write, file)
    content = await asyncio.to_thread(file.read_bytes)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    async with session.post(f"/api/blobs/{digest}", data=io.BytesIO(content)) as answer:
        answer.raise_for_status()
    wish = {"model": model.name, "files": {"m.gguf": digest}, "stream": False, **model.creation()}
    async with session.post("/api/create", json=wish) as answer:
        if answer.status != 200:
            raise RuntimeError(f"/api/create of {asdict(model)}: {answer.status} {await answer.text()}")


def _shelve(model: StagedModel, models: Path) -> None:
    shelf = _shelf(model)
    shelf.mkdir(parents=True, exist_ok=True)
    text = model.manifest_path(models).read_text()
    manifest = json.loads(text)
    for layer in [manifest["config"], *manifest["layers"]]:
        file = layer["digest"].replace(":", "-")
        shutil.copyfile(models / "blobs" / file, shelf / file)
    fresh = shelf / ".manifest"
    fresh.write_text(text)
    fresh.replace(shelf / "manifest")  # last: a shelf with a manifest is complete

"""Two equal worlds: a real Ollama alone, and a real Ollama behind our daemon; every shape is asked of both.

Two, so that each is in the state that the same requests made: what one side creates, deletes or loads is then there,
gone or loaded on the other side too, and neither is disturbed behind the daemon's back.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scheduler.core.messages import Record
from tests.live import Live
from tests.realollama.models import CHAT_TEMPLATE
from tests.realollama.stage import RealOllama, StagedModel
from tests.transparency.compare import Difference, differences
from tests.transparency.registry import registry
from tests.transparency.shape import Shape
from tests.transparency.wire import Heard, ask

CONTEXT = 4_096
QUIET = {
    "OLLAMA_MAX_LOADED_MODELS": "12",
    "OLLAMA_NUM_PARALLEL": "2",
    "OLLAMA_KEEP_ALIVE": "-1",
    # what would call the maker's own server is refused at once, on this machine
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}


@dataclass(frozen=True)
class Templated(StagedModel):
    """A model with a template of its own: what it declares is what Ollama takes for the model's capabilities."""

    template: str = CHAT_TEMPLATE

    def recipe(self) -> list[Any]:
        """The template makes another model of it."""
        return [*super().recipe(), self.template]

    def creation(self) -> dict[str, Any]:
        """With the template."""
        return {**super().creation(), "template": self.template}


THOUGHT = ("<think>", "twelve", "times", "</think>", "one", "hundred")
CALL = ('<tool_call>{"name":"add","arguments":{"a":1,"b":2}}</tool_call>',)
THINKING = CHAT_TEMPLATE.replace(
    "\n{{ .Content }}", "\n{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}"
)
INSERTING = "{{ if .Suffix }}<pre>{{ .Prompt }}<suf>{{ .Suffix }}<mid>{{ else }}" + CHAT_TEMPLATE + "{{ end }}"


def _model(name: str, **more: Any) -> Templated:
    return Templated(f"{name}:latest", 50_000_000, **{"load_seconds": 0.05, "num_ctx": CONTEXT, "words": 12, **more})


RESIDENT = (
    _model("talks"),
    _model("embeds", embedding=True),
    _model("thinks", script=THOUGHT, template=THINKING),
    _model("calls", script=CALL, tools=True, template=StagedModel("", 0, tools=True).creation()["template"]),
)
AWAY = (
    _model("inserts", template=INSERTING),
    _model("away"),
    _model("slow", words=30, tokens_per_second=40.0),
    _model("probed"),
    _model("doomed"),
    _model("dies"),
    _model("barred"),
    replace(_model("huge"), size_bytes=60_000_000_000),
)
"""Loaded by whoever asks for them first; in no set, but for one that the phase does not hold."""


class Worlds:
    """Both sides. `theirs` is the bare Ollama, `behind` the one behind the daemon `live`."""

    def __init__(self, theirs: RealOllama, behind: RealOllama, live: Live, registry: str) -> None:
        self.theirs, self.behind, self.live = theirs, behind, live
        self._registry = registry
        self._masks = (_mask(theirs, theirs.port), _mask(behind, live.daemon.port))

    async def asked(self, shape: Shape) -> tuple[Heard, Heard]:
        """The shape asked of both, in the state that its first requests made."""
        for step in shape.first:
            await self._both(step)
        if not shape.fault:
            return await self._both(shape)
        model, _, fault = shape.fault.partition(" ")
        kind, _, value = fault.partition("=")
        stages = (self.theirs, self.behind)
        for stage in stages:
            stage.fault(f"{model}:latest", **{kind: int(value) if value else True})
        try:
            return await self._both(shape)
        finally:
            for stage in stages:
                stage.clear_faults()

    async def _both(self, shape: Shape) -> tuple[Heard, Heard]:
        parts = shape.sent(self._registry)
        sides = [
            ask(port, parts, shape.answers, shape.bodiless, "half-closed" in shape.send)
            for port in (self.theirs.port, self.live.daemon.port)
        ]
        theirs, ours = await asyncio.gather(*sides)
        return theirs, ours

    def lately(self, steps: int = 40) -> str:
        """What the daemon decided in its last steps, for who reads that an answer differs."""
        orders = [order for _, ordered in self.live.steps[-steps:] for order in ordered]
        return "\n".join(["the daemon, lately:", *(str(order) for order in orders if isinstance(order, Record))])

    async def differences(self, shape: Shape) -> list[Difference]:
        """What tells our answer to a shape from Ollama's."""
        theirs, ours = await self.asked(shape)
        return differences(theirs, ours, self._masks)


def _mask(stage: RealOllama, port: int) -> dict[str, str]:
    return {str(stage.models): "STORE", str(stage.models.parent): "HOME", f"127.0.0.1:{port}": "HERE"}


@contextlib.asynccontextmanager
async def two_worlds(folder: Path, **settings: Any) -> AsyncIterator[Worlds]:
    """Start both, with every model of RESIDENT loaded on both sides by the same request."""
    models = [*RESIDENT, *AWAY]
    async with contextlib.AsyncExitStack() as stack:
        await asyncio.to_thread(lambda: (folder / "ours").mkdir(parents=True))
        starting = [
            stack.enter_async_context(RealOllama.start(folder / side, models, env=QUIET))
            for side in ("theirs", "behind")
        ]
        theirs, behind = await asyncio.gather(*starting)
        content: dict[str, Any] = {
            "ollama_settings": {"num_parallel": 2, "max_loaded_models": 12},
            "models": {model.name: {"num_ctx": CONTEXT, "parallel": 2} for model in models},
            "sets": {"resident": [model.name for model in RESIDENT], "barred": ["barred:latest"]},
            "phases": {"normal": {"sets": ["resident"]}},
            "aliases": {"gpt-4": "talks:latest"},
        }
        live = await stack.enter_async_context(Live.start(behind.url, folder / "ours", **{**content, **settings}))
        await live.acquainted()
        worlds = Worlds(theirs, behind, live, await stack.enter_async_context(registry()))
        loaded = await asyncio.gather(*(worlds.asked(_preload(model)) for model in RESIDENT))
        answers = [answer.status for sides in loaded for side in sides for answer in side.answers]
        assert answers == ["HTTP/1.1 200 OK"] * 2 * len(RESIDENT), f"{answers}\n{worlds.lately()}"
        yield worlds


def _preload(model: StagedModel) -> Shape:
    route = "/api/embed" if model.embedding else "/api/generate"
    return Shape("load", ask=f"POST {route}", body=f'{{"model":"{model.name}"}}')

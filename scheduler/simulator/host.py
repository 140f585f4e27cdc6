"""The simulated machine: its models, its memory, and how long loading takes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

GB = 1_000_000_000
QUALITY = "qwen-quality-128k:latest"
CODER = "qwen2.5-coder:32b-instruct"
FAST = "qwen-fast:latest"


@dataclass(frozen=True, slots=True)
class HostModel:
    """A model: `size` bytes in memory, `load` and `unload` seconds, `parallel` slots."""

    name: str
    size: int
    load: float
    unload: float
    parallel: int = 1


@dataclass(frozen=True, slots=True)
class Host:
    """Models, `budget` bytes, the residency sets, and whether Ollama's own gates are in force (then its device is as
    large as the budget)."""

    models: tuple[HostModel, ...]
    budget: int
    sets: tuple[tuple[str, ...], ...]
    gates: bool = False
    home: tuple[str, ...] = ()
    settle: float = 60.0

    def model(self, name: str) -> HostModel:
        """The model called `name`. Raises KeyError."""
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(name)

    def with_models(self, models: Sequence[HostModel]) -> "Host":
        """The same machine with other models."""
        return replace(self, models=tuple(models))


def documented(budget: int = 48 * GB, gates: bool = False) -> Host:
    """The Mac this project is for, with the load and unload seconds and slots that its workloads assume."""
    models = (
        HostModel(QUALITY, 35 * GB, 18.0, 2.0, 2),
        HostModel(CODER, 20 * GB, 12.0, 1.5, 4),
        HostModel(FAST, 5 * GB, 4.0, 0.5, 4),
    )
    return Host(models, budget, ((QUALITY,), (CODER, FAST)), gates)


def pairs_host() -> Host:
    """A small Mac: 38 GB, one slot each, slow loads, unloads at once (the workload `pairs`)."""
    models = (
        HostModel(QUALITY, 35 * GB, 51.0, 0.0, 1),
        HostModel(CODER, 20 * GB, 36.0, 0.0, 1),
        HostModel(FAST, 5 * GB, 21.0, 0.0, 1),
    )
    return Host(models, 38 * GB, ((QUALITY,), (CODER, FAST)))

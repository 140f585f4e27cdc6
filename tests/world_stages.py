"""The stages on which the virtual machine is played: the documented one, and others drawn from a seed."""

import random
from dataclasses import replace
from typing import Any

from scheduler.core import messages as m, sizes
from scheduler.core.config import Config, ModelConfig, PhaseConfig
from tests.world_parts import Installed, Stage

GB = 10**9
MIB = 1 << 20
CLASSES = ("interactive", "agent", "helper", "batch")
QUALITY, CODER, FAST, SMALL = (
    "qwen-quality-128k:latest",
    "qwen2.5-coder:32b-instruct",
    "qwen-fast:latest",
    "small:latest",
)
IMPATIENT = (("interactive", 20.0), ("agent", 40.0), ("helper", 10.0), ("batch", 400.0))

DOCUMENTED = Config(
    models=(ModelConfig(QUALITY, 35 * GB), ModelConfig(CODER, 20 * GB), ModelConfig(FAST, 5 * GB)),
    sets=(("quality", (QUALITY,)), ("coding", (CODER, FAST))),
    phases=(
        PhaseConfig("normal", ("quality", "coding")),
        PhaseConfig("orchestra", ("coding", "quality"), "coding", 30.0),
        PhaseConfig("evening", ("quality",)),
    ),
)
"""The machine of the design: one 35 GB model, or a 20 GB coder beside a 5 GB helper; a small model in no set."""


def documented(policy: str, chance: random.Random) -> Stage:
    """The documented machine."""
    sized = {QUALITY: 34 * GB, CODER: 19 * GB, FAST: 5 * GB - 1, SMALL: 100_000_000}
    models = {name: _installed(name, size, 0, 0, size, 38_338 * MIB, 1) for name, size in sized.items()}
    config = replace(DOCUMENTED, policy=policy, **_limits(chance))
    return Stage(config, models, 38 * GB, 38_338 * MIB)


def drawn(policy: str, chance: random.Random) -> Stage:
    """Some other machine."""
    budget = chance.choice((24, 30, 38, 40)) * GB
    device = int(budget * chance.choice((1.0, 1.06, 1.3)))
    num_parallel = chance.choice((1, 1, 2))
    names = [f"m{n}:latest" for n in range(chance.randint(3, 5))]
    models, declared = {}, []
    for name in names:
        size = chance.choice((1, 2, 5, 8, 12, 18, 22)) * GB
        cache, modelfile = chance.choice((0, 0, 40_000)), chance.choice((0, 0, 8192))
        claims = chance.random() < 0.5
        models[name] = _installed(name, size, cache, modelfile, None, device, num_parallel)
        if claims or chance.random() < 0.3:
            keep = size < 6 * GB and chance.random() < 0.2
            declared.append(ModelConfig(name, size if claims else 0, 0, chance.randint(1, num_parallel), keep))
            models[name].real = max(models[name].real, size) if not claims else size
        if chance.random() < 0.05:
            models[name].real = models[name].real * 21 // 20  # larger than anybody says
        if chance.random() < 0.05:
            models[name].context = 4096  # not what it asks for
    sets = tuple((f"set{n}", tuple(chance.sample(names, chance.randint(1, 3)))) for n in range(chance.randint(0, 3)))
    every = tuple(name for name, _ in sets)
    home = chance.choice(every) if every else ""
    phases = (
        PhaseConfig("normal", every),
        PhaseConfig("orchestra", every, home, chance.choice((5.0, 30.0))),
        PhaseConfig("evening", every[:1]),
    )
    config = Config(
        tuple(declared), sets, phases, policy=policy, num_parallel=num_parallel, max_loaded=chance.choice((3, 3, 2)),
        **_limits(chance),
    )  # fmt: skip
    return Stage(config, models, budget, device)


def _limits(chance: random.Random) -> dict[str, Any]:
    if chance.random() < 0.6:
        return {}
    return {
        "give_up": chance.choice((300.0, 3600.0)),
        "ollama_wait": chance.choice((10.0, 60.0)),
        "queue_limit": chance.choice((8, 1000)),
        "stall_silence": chance.choice((60.0, 1800.0)),
        "stall_after_cut": chance.choice((10.0, 60.0)),
    }


def _installed(
    name: str, size: int, cache: int, modelfile: int, real: int | None, device: int, num_parallel: int
) -> Installed:
    context = modelfile or min(131072, sizes.context_tier(device))
    listed = m.Listed(name, size, cache, 131072, modelfile, f"digest of {name}")
    return Installed(listed, size + cache * context * num_parallel if real is None else real, context)


def stage_of(policy: str, seed: int) -> Stage:
    """The stage that belongs to a seed."""
    chance = random.Random(seed)
    stage = (documented if chance.random() < 0.5 else drawn)(policy, chance)
    stage.askable = chance.random() < 0.7
    stage.troubled = chance.random() < 0.65
    stage.starving = chance.random() < 0.15
    if stage.config.phases[1].home and chance.random() < 0.3:
        stage.config = replace(stage.config, phase=stage.config.phases[1].name)
    stage.config = replace(stage.config, stale_free=chance.random() < 0.25)
    if chance.random() < 0.4:
        stage.config = replace(stage.config, patience=IMPATIENT)
    apart = random.Random(f"idle {seed}")  # of its own, so that the rest of the stage stays as it is
    if apart.random() < 0.15:
        stage.config = replace(stage.config, idle_limit=apart.choice((30.0, 120.0, 600.0)))
    stage.quiet = apart.random() < 0.1
    resident: list[tuple[str, int]] = []
    held = 0
    for name in chance.sample(sorted(stage.models), chance.randint(0, 2)):
        model = stage.models[name]
        context = 2048 if chance.random() < 0.15 else model.context
        if held + model.real <= stage.budget:
            resident.append((name, context))
            held += model.real
    stage.resident = tuple(resident)
    return stage

"""What the core is told once: plain values in plain units, made by the composition root from the settings."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One declared model. `size` bytes declared (0: not declared), `num_ctx` tokens declared (0: not declared),
    `parallel` requests at once, `keep`: it stays beside whatever fits."""

    name: str
    size: int = 0
    num_ctx: int = 0
    parallel: int = 1
    keep: bool = False


@dataclass(frozen=True, slots=True)
class PhaseConfig:
    """One phase: the sets allowed, the one that is home ("" for none), and settle in seconds."""

    name: str
    sets: tuple[str, ...]
    home: str = ""
    settle: float = 0.0


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the core decides by."""

    models: tuple[ModelConfig, ...] = ()
    sets: tuple[tuple[str, tuple[str, ...]], ...] = ()
    phases: tuple[PhaseConfig, ...] = (PhaseConfig("normal", ()),)
    phase: str = "normal"
    policy: str = "default"
    patience: tuple[tuple[str, float], ...] = (
        ("interactive", 150.0),
        ("agent", 300.0),
        ("helper", 60.0),
        ("batch", 1800.0),
    )
    give_up: float = 3600.0
    ollama_wait: float = 60.0
    queue_limit: int = 1000
    num_parallel: int = 1
    max_loaded: int = 3
    stale_free: bool = False  # Ollama believes what was free when some resident was loaded: so everywhere but on Metal
    load_limit: float | None = None  # seconds; None: the larger of 10 min and 5 x learned
    idle_limit: float | None = None  # seconds without use after which a model is unloaded; None: never
    idle_limits: tuple[tuple[str, float | None], ...] = ()  # the same for single models
    grow_after: float = 60.0  # seconds that a grown budget must stay before it is trusted
    end_at_critical: bool = False  # whether requests of agents and batches may be ended where memory is critical
    stall_silence: float = 1800.0
    stall_after_cut: float = 60.0
    restart_every: float | None = None  # seconds between two restarts of Ollama, at least; None: it is never restarted
    restart_drain: float = 120.0  # seconds that running answers get before a restart

    def idle_limit_of(self, model: str) -> float | None:
        """Seconds without use after which `model` is unloaded; None for never."""
        return dict(self.idle_limits).get(model, self.idle_limit)

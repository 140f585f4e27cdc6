"""Turns the settings into the plain values that each part below gets; configuration stops here."""

import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING

from scheduler.classes import Classes, Rule
from scheduler.core.config import Config, ModelConfig, PhaseConfig
from scheduler.identity import Telling, key_hash
from scheduler.routes import Aliases
from scheduler.settings import PAID_ALIASES, Settings
from scheduler.settings_classes import RuleSettings

if TYPE_CHECKING:
    from scheduler.timetable import Timetable


def core_config(settings: Settings) -> Config:
    """What the core decides by."""
    classes = settings.classes
    ollama = settings.ollama_settings
    phases = tuple(
        PhaseConfig(name, tuple(phase.sets), phase.home or "", phase.settle) for name, phase in settings.phases.items()
    )
    return Config(
        models=tuple(
            ModelConfig(name, model.size or 0, model.num_ctx or 0, model.parallel, model.keep)
            for name, model in settings.models.items()
        ),
        sets=tuple((name, tuple(members)) for name, members in settings.sets.items()),
        phases=phases or (PhaseConfig(settings.phase, tuple(settings.sets)),),
        phase=settings.phase,
        policy=settings.policy,
        patience=(
            ("interactive", classes.interactive.patience),
            ("agent", classes.agent.patience),
            ("helper", classes.helper.patience),
            ("batch", classes.batch.patience),
        ),
        give_up=settings.queue.give_up,
        ollama_wait=settings.queue.ollama_wait,
        queue_limit=settings.queue.limit,
        num_parallel=ollama.num_parallel,
        max_loaded=ollama.max_loaded_models,
        stale_free=platform.system() != "Darwin",
        load_limit=None if settings.load.limit == "auto" else settings.load.limit,
        idle_limit=_limit(settings.memory.unload_after_idle),
        idle_limits=tuple(
            (name, _limit(model.unload_after_idle))
            for name, model in settings.models.items()
            if model.unload_after_idle is not None
        ),
        grow_after=settings.memory.grow_after,
        end_at_critical=settings.memory.end_at_critical,
        stall_silence=settings.stall.silence,
        stall_after_cut=settings.stall.after_cut,
        restart_every=settings.stall.restart_every if settings.stall.action == "restart-ollama" else None,
        restart_drain=settings.stall.restart_drain,
    )


def _limit(seconds: float | str) -> float | None:
    """Seconds, or None for "never"."""
    return None if isinstance(seconds, str) else seconds


def timetable(settings: Settings) -> "Timetable | None":
    """What is scheduled; None for nothing, so that what reads cron lines is not even imported."""
    if not settings.schedule and not settings.quiet:
        return None
    from scheduler.timetable import Phase, Quiet, Rule, Timetable

    phases = [Phase(Rule(s.cron, s.timezone), s.phase, f"schedule: {s.cron}") for s in settings.schedule]
    quiets = [
        Quiet(Rule(q.from_, q.timezone), Rule(q.to, q.timezone), f"quiet hours: {q.from_} to {q.to}")
        for q in settings.quiet
    ]
    return Timetable(phases, quiets)


def aliases(settings: Settings) -> Aliases:
    """The routing table."""
    table = {alias: (target.model, target.class_) for alias, target in settings.aliases.items()}
    return Aliases(table, PAID_ALIASES)


def classes(settings: Settings, secret: bytes, environ: Mapping[str, str]) -> Classes:
    """Which class a request is of. `secret` keys the hashes of API keys, `environ` holds those named by variables."""
    given = settings.classes
    return Classes(given.header, tuple(_rule(each, secret, environ) for each in given.rules))


def _rule(rule: RuleSettings, secret: bytes, environ: Mapping[str, str]) -> Rule:
    """A key that the environment does not hold is nobody's: its rule matches nothing."""
    key = rule.key or ""
    if key.startswith("env:"):
        key = key_hash(environ.get(key.removeprefix("env:"), ""), secret) or key
    return Rule(
        rule.class_, rule.alias or "", rule.model or "", rule.endpoint or "", rule.header or "", key, rule.session or ""
    )


def telling(settings: Settings) -> Telling:
    """What may tell clients apart."""
    given = settings.sessions
    return Telling(given.header, given.by_key, given.by_peer)

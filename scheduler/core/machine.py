"""The machine: record one fact, then settle: ask the policy until it has nothing more to do; the answer is orders.

A caller has three duties: post every fact once, in the order of `at`; carry out every order and report what came of it
(each Load, Unload and Forward is answered by exactly one fact); post `Ticked` at the time of the last `WakeAt`.
"""

from typing import assert_never

from policies import POLICIES
from policies.verdict import Change, Serve
from scheduler.core import (
    deadlines,
    history,
    idle,
    learned,
    messages as m,
    operator,
    pins,
    pressure,
    refusals,
    requests,
    residency,
    restarts,
    rhythm,
    sizes,
    stall,
    transition,
    wishes,
)
from scheduler.core.commands import Command
from scheduler.core.config import Config
from scheduler.core.lifecycle import IllegalMove
from scheduler.core.state import CoreState, ModelState, relink
from scheduler.core.view import Sets, WorldView

SETTLED_BY_THEN = 10_000  # rounds of settling after which a policy is going round in circles: a bug


class Machine:
    """All scheduling state and the law over it; no clock, no I/O."""

    def __init__(self, state: CoreState) -> None:
        """Go on from `state` (made by `fresh`, or read back from a journal)."""
        self.state = state
        relink(state)
        self._use(state.config)

    @classmethod
    def fresh(cls, config: Config, at: float) -> "Machine":
        """A machine that knows its configuration and nothing of the world."""
        state = CoreState(config, at=at, phase=config.phase, ollama_since=at, quiet_since=at, began=at)
        machine = cls(state)
        machine._declare(config)
        return machine

    def step(self, fact: m.Fact) -> list[m.Order]:
        """Record `fact` and settle. Raises IllegalMove on a bug of the policy or the caller."""
        self.state.at = max(self.state.at, fact.at)
        probe = isinstance(fact, m.Arrived) and fact.kind == "probe"
        orders = self._settle() if probe else []  # what time alone made due comes first: a probe begins nothing (P5)
        orders += self._record(fact)
        orders += self._settle()
        return orders

    def _record(self, fact: m.Fact) -> list[m.Order]:  # noqa: C901 - one arm per fact, each a call
        state = self.state
        match fact:
            case m.Arrived():
                return self._arrived(fact)
            case m.Left():
                return requests.left(state, fact)
            case m.Returned():
                return requests.returned(state, fact) + self._refuse_vain()
            case m.Ended():
                return requests.ended(state, fact)
            case m.Loaded():
                return residency.loaded(state, fact) + self._refuse_impossible()
            case m.LoadFailed():
                return residency.load_failed(state, fact) + self._refuse_impossible()
            case m.Unloaded():
                return residency.unloaded(state, fact) + self._refuse_impossible()
            case m.UnloadFailed():
                return residency.unload_failed(state, fact)
            case m.Residents():
                return residency.residents(state, fact) + self._refuse_impossible()
            case m.ModelsListed():
                return residency.listed(state, fact) + self._refuse_impossible()
            case m.EngineSeen():
                return [] if state.passthrough else stall.engine_seen(state, fact)
            case m.OllamaUp():
                return self._ollama_up(fact)
            case m.OllamaDown():
                return self._ollama_down(fact)
            case m.Restarted():
                return restarts.done(state, fact)
            case m.MemorySeen():
                return residency.memory_seen(state, fact) + self._refuse_impossible()
            case (
                m.PhaseSet()
                | m.Pinned()
                | m.Unpinned()
                | m.LoadAsked()
                | m.UnloadAsked()
                | m.Paused()
                | m.Resumed()
                | m.Cancelled()
                | m.PassthroughSet()
                | m.QuietSet()
            ):
                return self._obey(fact)
            case m.Reloaded():
                return self._reload(fact.config)
            case m.ClockGap():
                history.slept(self.state, fact.gap)
                learned.slept(self.state, fact.gap)
                rhythm.slept(self.state, fact.gap)
                return requests.look(state, f"the machine slept for {fact.gap:.0f} s")
            case m.Started():
                return [m.Record("", "started", f"version {fact.version}, phase {state.phase}")]
            case m.Stopping():
                return self._stop()
            case m.Ticked():
                return []
            case _:
                assert_never(fact)

    def objection(self, fact: Command) -> str | None:
        """Why `fact` would change nothing now, in a sentence for the person who gives the command; None if it may."""
        return operator.objection(self.state, self._world, fact)

    def _settle(self) -> list[m.Order]:
        """Expire, advance, repair and ask the policy, until nobody has anything more to do."""
        learned.pass_time(self.state)
        rhythm.pass_time(self.state)
        orders = deadlines.expire(self.state) + restarts.order(self.state)
        for _ in range(SETTLED_BY_THEN):
            steps = wishes.grant(self.state, self._world) + operator.forward_replacements(self.state, self._world)
            steps += transition.advance(self.state, self._world)
            wake = None
            if self._world.healthy and not self.state.stopping:
                steps += stall.repair(self.state) + pressure.relieve(self.state, self._world)
                steps += operator.advance(self.state, self._world)
                if self.state.paused is None:
                    steps, wake = self._ask(steps)
                    steps = steps or idle.unload(self.state, self._world)
                else:
                    self.state.verdict = refusals.paused(self.state, self.state.paused)
            if not steps:
                return orders + self._wake(wake)
            orders += steps
        raise IllegalMove("the policy does not settle")

    def _ask(self, steps: list[m.Order]) -> tuple[list[m.Order], float | None]:
        verdict = self._decide(self._world, self.state.memo)
        self.state.memo = verdict.memo
        self.state.verdict = verdict.because
        for action in verdict.actions:
            match action:
                case Serve():
                    steps.append(self._serve(action))
                case Change():
                    steps += self._change(action)
                case _:
                    assert_never(action)
        return steps, verdict.wake_at

    def _serve(self, action: Serve) -> m.Order:
        request = self.state.requests.get(action.request)
        if request is None or request.place != "waiting" or request.kind != "request":
            raise IllegalMove(f"{action.request} does not wait to be served")
        model = self.state.models[request.model]
        if not model.usable or model.running >= model.parallel:
            raise IllegalMove(f"{model.name} cannot take {request.id}")
        return requests.serve(self.state, request, action.because)

    def _change(self, change: Change) -> list[m.Order]:
        """Begin the change; one that asks for nothing is a bug, since nothing would come of it."""
        if not change.leave and not change.load:
            raise IllegalMove("a change that changes nothing")
        if set(change.leave) & set(self._sets.home) and change.cause != "home":
            self.state.home_due = True
        begun = transition.begin(self.state, change)
        first = m.Record((change.load or change.leave)[0], "transition begun", change.because)
        return [first, *begun]

    def _arrived(self, fact: m.Arrived) -> list[m.Order]:
        if not self.state.passthrough and (refused := pins.refuse_kept_out(self.state, self._world, fact)):
            return refused
        orders = requests.arrived(self.state, self._sets, fact)
        if fact.kind == "unload" and not orders:
            answer, change = wishes.unload(self.state, self._world, fact)
            return answer if change is None else answer + self._change(change)
        return orders

    def _ollama_up(self, fact: m.OllamaUp) -> list[m.Order]:
        state = self.state
        if state.ollama != "up":
            state.ollama, state.ollama_since = "up", fact.at
        state.ollama_version, state.stand_in, state.ollama_error = fact.version, fact.stand_in, ""
        state.hung = False
        state.looking = False
        return requests.look(state, "Ollama answers")

    def _ollama_down(self, fact: m.OllamaDown) -> list[m.Order]:
        state = self.state
        state.looking = True
        state.ollama_error, state.hung = fact.error, fact.hung
        if state.ollama == "down":
            return []
        state.ollama, state.ollama_since = "down", fact.at
        return transition.abort(state, "Ollama is away")

    def _obey(self, fact: Command) -> list[m.Order]:
        """What a person said; where something is against it, nothing changes."""
        against = self.objection(fact)
        if against is not None:
            return [m.Record(getattr(fact, "model", ""), "not done", against)]
        if isinstance(fact, m.PhaseSet):
            return self._enter(fact)
        return operator.record(self.state, self._world, fact) + self._refuse_impossible()

    def _enter(self, fact: m.PhaseSet) -> list[m.Order]:
        self.state.phase = fact.phase
        self.state.home_due = True
        self._use(self.state.config)
        return [m.Record("", f"phase {fact.phase}", f"entered by {fact.by}"), *self._exclude()]

    def _reload(self, config: Config) -> list[m.Order]:
        self.state.config = config
        if self.state.phase not in {phase.name for phase in config.phases}:
            self.state.phase = config.phase
        self._use(config)
        self._declare(config)
        return self._exclude()

    def _exclude(self) -> list[m.Order]:
        """Other sets are allowed now: tell those who wait in vain, and plan anew what would bring an excluded model."""
        orders = self._refuse_vain()
        under_way = self.state.transition
        if under_way is not None and not all(self._sets.of(name) for name in under_way.load):
            orders += transition.abort(self.state, "the phase excludes what it would load")
        return orders

    def _refuse_vain(self) -> list[m.Order]:
        return self._refuse_excluded() + self._refuse_impossible()

    def _refuse_excluded(self) -> list[m.Order]:
        orders: list[m.Order] = []
        for name in list(self.state.demanded):
            reason = refusals.excluded(self.state, self._sets, name)
            if reason is not None:
                model = self.state.models[name]
                orders += requests.refuse_waiting(self.state, model, 503, reason, "the phase excludes it")
        return orders

    def _refuse_impossible(self) -> list[m.Order]:
        """Tell those whom memory, or what is pinned in it, keeps waiting in vain."""
        orders = pins.tell_kept_out(self.state, self._world)
        for name in list(self.state.demanded):
            reason = refusals.too_large(self.state, self._sets, name)
            if reason is not None:
                model = self.state.models[name]
                orders += requests.refuse_waiting(self.state, model, 500, reason, "it can never fit")
        return orders

    def _stop(self) -> list[m.Order]:
        self.state.stopping = True
        orders = transition.abort(self.state, "the daemon is stopping")
        return orders + requests.refuse_all(self.state, 503, "shutting down", "the daemon is stopping")

    def _wake(self, policy: float | None) -> list[m.Order]:
        times = [when for when in (policy, deadlines.next_due(self.state)) if when is not None]
        when = min(times, default=None)
        if when == self.state.wake_at and (when is None or when > self.state.at):
            return []
        self.state.wake_at = when
        return [] if when is None else [m.WakeAt(when)]

    def _use(self, config: Config) -> None:
        self._decide = POLICIES[config.policy]
        self._sets = Sets(config, self.state.phase)
        self._world = WorldView(self.state, self._sets)

    def _declare(self, config: Config) -> None:
        """Make a place for every declared model and every member of a set."""
        state = self.state
        declared = {model.name: model for model in config.models}
        names = [*declared, *(name for _, members in config.sets for name in members)]
        for name in names:
            state.models.setdefault(name, ModelState(name, since=state.at, away_since=state.at))
        for model in state.models.values():
            known = declared.get(model.name)
            model.declared = known.size if known else 0
            model.parallel = known.parallel if known else config.num_parallel
            model.keep = bool(known and known.keep)
            sizes.refresh(state, model)

    def __repr__(self) -> str:
        state = self.state
        waiting = sum(state.models[name].waiting for name in state.demanded)
        present = ", ".join(f"{n} {state.models[n].state} x{state.models[n].running}" for n in state.present)
        free = ((state.budget or 0) - sizes.promised(state)) / 1e9
        return f"<Machine {waiting} waiting | {present or 'nothing resident'} | {free:.1f} GB free>"

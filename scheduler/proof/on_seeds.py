"""Rows on workloads made from seeds that nobody tuned on: J against the proposal, the price of pairs, public traces."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from scheduler.proof.frame import Finding, Form, Row, Task, at_most
from scheduler.proof.played import OURS, Figures, kept, play
from scheduler.proof.statistics import Mean, mean, ratio, ratio_of_means
from scheduler.simulator.generate import host_for, make
from scheduler.simulator.generate_public import DECODE, PREFILL

PROPOSAL, SETS, OLLAMA = "proposal", "sets", "fifo"
EXACT = 1e-9
BUDGETS = (38, 48)
JUDGED = ("bursts-14-agents", "orchestra", "starvation", "few-agents", "poisson-0.2", "poisson-0.6", "poisson-0.9")
SHORT_JUDGED = ("orchestra", "few-agents", "poisson-0.2")
DAILY, DAILY_LIMIT = "office", 0.8
PAIRS_LIMIT = 0.75
DAY = "servegen-day"
PUBLIC = ("azure-60", "azure-25", "azure-15", DAY)
SHORT_PUBLIC = ("azure-60",)


def play_made(name: str, seed: int, budget: int, policy: str) -> Figures:
    """The workload of that name and seed under `policy`, on the machine it is meant for."""
    return play(policy, make(name, seed), host_for(name, budget))


# --- against the proposal ---------------------------------------------------------------------------------------------


def _cases(form: Form) -> list[tuple[str, int]]:
    names = SHORT_JUDGED if form.short else JUDGED
    return [(name, budget) for name in names for budget in BUDGETS]


def _against(cases: Sequence[tuple[str, int]], form: Form, policies: Sequence[str]) -> list[Task]:
    return [
        Task(play_made, (name, seed, budget, policy))
        for name, budget in cases
        for policy in policies
        for seed in form.seeds
    ]


def _grouped(
    cases: Sequence[tuple[str, int]], form: Form, policies: Sequence[str], values: Sequence[Any]
) -> dict[tuple[str, int], dict[str, list[Figures]]]:
    """The values of `_against`, by case and policy."""
    count = len(form.seeds)
    found: dict[tuple[str, int], dict[str, list[Figures]]] = {}
    rest = list(values)
    for case in cases:
        found[case] = {policy: [rest.pop(0) for _ in range(count)] for policy in policies}
    return found


_BESIDE = (OURS, PROPOSAL, SETS, OLLAMA)


def _seeds_tasks(form: Form) -> list[Task]:
    return _against(_cases(form), form, _BESIDE)


def _seeds(form: Form, values: Sequence[Any]) -> list[Finding]:
    findings = []
    ours: list[Figures] = []
    for (name, budget), played in _grouped(_cases(form), form, _BESIDE, values).items():
        ours += played[OURS]
        findings.append(_compared(f"{name} {budget} GB", played, 1.0))
    return [*findings, kept(ours)]


def _compared(subject: str, played: dict[str, list[Figures]], limit: float) -> Finding:
    """J against the proposal's, with J, loads and longest waits of everybody beside it, ours first."""
    paired = ratio([each.j for each in played[OURS]], [each.j for each in played[PROPOSAL]])
    parts = [
        (f"J {'/'.join(f'{mean([f.j for f in each]).value:.0f}' for each in played.values())}"),
        (f"loads {'/'.join(f'{mean([f.loads for f in each]).value:.1f}' for each in played.values())}"),
        (f"longest {'/'.join(f'{max(f.longest for f in each):.0f}' for each in played.values())} s"),
    ]
    return at_most(subject, paired.value, limit + EXACT, f"{paired}  {'  '.join(parts)}")


def _some_tasks(cases: tuple[tuple[str, int], ...], form: Form) -> list[Task]:
    return _against(cases, form, _BESIDE)


def _some(cases: tuple[tuple[str, int], ...], limit: float, form: Form, values: Sequence[Any]) -> list[Finding]:
    grouped = _grouped(cases, form, _BESIDE, values)
    findings = [_compared(f"{name} {budget} GB", played, limit) for (name, budget), played in grouped.items()]
    return [*findings, kept([each for played in grouped.values() for each in played[OURS]])]


# --- public traces ----------------------------------------------------------------------------------------------------

_PUBLIC_BESIDE = (OURS, SETS, OLLAMA)


def _public_names(form: Form) -> list[tuple[str, int]]:
    """At 48 GB too where somebody asks for the small model that then stays beside the large one."""
    names = SHORT_PUBLIC if form.short else PUBLIC
    return [(name, budget) for name in names for budget in (BUDGETS if name == DAY else BUDGETS[:1])]


def _public_seeds(name: str, form: Form) -> tuple[int, ...]:
    """The Azure hour is one: a seed chooses which of its requests are left. Days are drawn, of 16,000 requests each."""
    return form.seeds[:4] if name == DAY else form.seeds


def _public_tasks(form: Form) -> list[Task]:
    return [
        Task(play_made, (name, seed, budget, policy))
        for name, budget in _public_names(form)
        for policy in _PUBLIC_BESIDE
        for seed in _public_seeds(name, form)
    ]


def _public(form: Form, values: Sequence[Any]) -> list[Finding]:
    rest = list(values)
    findings = [Finding("prefill, decode", f"{_rates(PREFILL)} and {_rates(DECODE)} tokens a second")]
    ours: list[Figures] = []
    for name, budget in _public_names(form):
        count = len(_public_seeds(name, form))
        played = {policy: [rest.pop(0) for _ in range(count)] for policy in _PUBLIC_BESIDE}
        ours += played[OURS]
        for what in ("mean", "p99"):
            shown = {policy: [getattr(each, what) for each in each_of] for policy, each_of in played.items()}
            better = min((SETS, OLLAMA), key=lambda policy: mean(shown[policy]).value)
            paired = _paired(shown[OURS], shown[better])
            text = " / ".join(f"{mean(each).value:.1f}" for each in shown.values())
            findings.append(
                at_most(f"{name} {budget} GB, {what}", paired.value, 1 + EXACT, f"{paired} of {better}'s  {text} s")
            )
    return [*findings, kept(ours)]


def _paired(ours: Sequence[float], theirs: Sequence[float]) -> Mean:
    return ratio_of_means(ours, theirs) if any(theirs) else ratio(ours, theirs)


def _rates(rates: dict[str, float]) -> str:
    return "/".join(f"{rate:g}" for rate in rates.values())


_PAIRS = (("pairs", 38),)
_OFFICE = ((DAILY, 38),)

SEEDS = Row(
    "seeds",
    "J against the proposal on seeds nobody tuned on (ours/proposal/sets/Ollama's fifo), mean of the paired ratios",
    _seeds_tasks,
    _seeds,
)
PAIRS = Row(
    "pairs",
    "pairs: J against the proposal, learned, not configured (ours/proposal/sets/Ollama's fifo)",
    partial(_some_tasks, _PAIRS),
    partial(_some, _PAIRS, PAIRS_LIMIT),
)
OFFICE = Row(
    "daily",
    "a daily rhythm (two weeks in an office): J against the proposal (ours/proposal/sets/Ollama's fifo)",
    partial(_some_tasks, _OFFICE),
    partial(_some, _OFFICE, DAILY_LIMIT),
)
PUBLIC_ROW = Row(
    "public",
    "Azure 2023 thinned and a day at ServeGen's rates: mean and p99 against the better of sets and fifo",
    _public_tasks,
    _public,
)

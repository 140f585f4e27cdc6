"""Rows on the workloads given as files: that this simulator is the same world, and J against the proposal."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from scheduler.proof.frame import Finding, Form, Row, Task, at_least
from scheduler.proof.played import OURS, Figures, kept
from scheduler.proof.statistics import ratio
from scheduler.proof.traces import BASELINES, PROPOSED, family, orientation, play_entry

CLOSE = 0.05  # share by which J and loads may differ where it is the same world
SAME = 110  # of the 127 entries
SHORT_EVERY = 6  # one entry in so many is played in the short form
BETTER = 0.97  # of the proposal's J, on at least this many families:
BETTER_ON = 3
LEARNED = {"alternate-20s": 0.97, "alternate-40s": 0.8}
"""Families whose pattern can be learned, and what J may be then."""
EXACT = 1e-9


def _entries(form: Form) -> list[str]:
    entries = sorted(orientation())
    return entries[::SHORT_EVERY] if form.short else entries


# --- the same world ---------------------------------------------------------------------------------------------------


def _world_tasks(form: Form) -> list[Task]:
    return [Task(play_entry, (entry, name)) for name in BASELINES for entry in _entries(form)]


def _world(form: Form, values: Sequence[Any]) -> list[Finding]:
    entries = _entries(form)
    needed = SAME if not form.short else len(entries) * SAME // 127
    findings = []
    for number, (name, known_as) in enumerate(BASELINES.items()):
        played = values[number * len(entries) : (number + 1) * len(entries)]
        off = [
            (entry, figures.j, theirs["J"], figures.loads, theirs["loads"])
            for entry, figures in zip(entries, played, strict=True)
            for theirs in (orientation()[entry][known_as],)
            if not (_close(figures.j, theirs["J"]) and _close(figures.loads, theirs["loads"]))
        ]
        same = len(entries) - len(off)
        findings.append(at_least(name, same, needed, f"{same} of {len(entries)} within 5 %"))
        findings += [
            Finding(f"  {entry}", f"J {ours:.0f} for {theirs:.0f}, {loads} loads for {their_loads}")
            for entry, ours, theirs, loads, their_loads in off
        ]
    return findings


def _close(ours: float, theirs: float) -> bool:
    return abs(ours - theirs) <= CLOSE * abs(theirs) + EXACT


# --- against the proposal ---------------------------------------------------------------------------------------------


def _family_entries(form: Form) -> list[str]:
    entries = sorted(orientation())
    return [entry for entry in entries if entry.partition("|")[0].endswith((".0", ".1"))] if form.short else entries


def _family_tasks(form: Form) -> list[Task]:
    return [Task(play_entry, (entry, OURS)) for entry in _family_entries(form)]


def _families(form: Form, values: Sequence[Any]) -> list[Finding]:
    by_family: dict[str, list[tuple[Figures, dict[str, Any]]]] = {}
    for entry, ours in zip(_family_entries(form), values, strict=True):
        by_family.setdefault(family(entry), []).append((ours, orientation()[entry][PROPOSED]))
    findings, better, ratios = [], set(), []
    for name, pairs in by_family.items():
        paired = ratio([ours.j for ours, _ in pairs], [theirs["J"] for _, theirs in pairs])
        ratios.append(paired.value)
        if paired.value < BETTER:
            better.add(name.split()[0])
        limit = LEARNED.get(name.split()[0], 1.0)
        findings.append(Finding(name, _beside(str(paired), pairs), f"<= {limit:g}", _holds(paired.value, limit, pairs)))
    findings.append(at_least(f"families below {BETTER}", len(better), BETTER_ON, f"{len(better)}"))
    findings.append(Finding("mean of all", f"{fmean(ratios):.3f}"))
    return [*findings, kept(values)]


def _holds(value: float, limit: float, pairs: Sequence[tuple[Figures, dict[str, Any]]]) -> bool:
    return value <= limit + EXACT and not any(ours.unserved for ours, _ in pairs)


def _beside(shown: str, pairs: Sequence[tuple[Figures, dict[str, Any]]]) -> str:
    """A ratio of J with what it is made of, ours first."""
    j, their_j = fmean(ours.j for ours, _ in pairs), fmean(theirs["J"] for _, theirs in pairs)
    loads, their_loads = fmean(ours.loads for ours, _ in pairs), fmean(theirs["loads"] for _, theirs in pairs)
    longest, their_longest = max(ours.longest for ours, _ in pairs), max(theirs["max"] for _, theirs in pairs)
    unserved = sum(ours.unserved for ours, _ in pairs)
    lost = f"  {unserved} UNSERVED" if unserved else ""
    return (
        f"{shown:<23} J {j:8.0f} :{their_j:8.0f}  loads {loads:6.1f} :{their_loads:6.1f}"
        f"  longest {longest:5.0f} :{their_longest:5.0f} s{lost}"
    )


WORLD = Row(
    "world",
    "the same world: lru, sets and fifo give the J and the loads of orientation.json",
    _world_tasks,
    _world,
)
FAMILIES = Row(
    "families",
    "J against the proposal (ours : the proposal's), mean of the paired ratios of each workload, 38 and 48 GB",
    _family_tasks,
    _families,
)

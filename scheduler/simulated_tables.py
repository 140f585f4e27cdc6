"""What came of simulations, as tables for people and as JSON for scripts: per policy and class, waits, loads and J."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from policies.world import CLASSES
from scheduler.simulator.measures import Result

WIDE = 120  # columns where nobody looks at a screen: no figure is cut
ALL = "all"
HEADINGS = ("policy", "class", "requests", "mean", "p50", "p95", "p99", "max", "loads", "load s", "GB", "makespan", "J")
FIRST = 3  # of the waits past the bound that are told in full; --json tells all


def console() -> Console:
    """Where tables are printed."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=WIDE)


def table(results: Sequence[Result], title: str) -> Table:
    """One block a policy: all its requests, then each class; waits in seconds from arrival to a slot."""
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(HEADINGS):
        shown.add_column(heading, justify="left" if number < 2 else "right", no_wrap=True)
    for result in results:
        for cls, part in parts(result):
            shown.add_row(*_cells(result, cls, part), style="" if cls == ALL else "dim")
    return shown


def parts(result: Result) -> Iterator[tuple[str, Result]]:
    """The result of all requests, and of each class where there is more than one."""
    yield ALL, result
    classes = [cls for cls in CLASSES if any(each.job.cls == cls for each in result.served)]
    if len(classes) > 1:
        for cls in classes:
            yield cls, result.of_class(cls)


def _cells(result: Result, cls: str, part: Result) -> list[str]:
    waits = [part.mean, part.p(0.5), part.p(0.95), part.p(0.99), part.max]
    cells = [result.policy if cls == ALL else "", cls, str(len(part.waits)), *(f"{wait:.1f}" for wait in waits)]
    if cls != ALL:
        return cells
    cells += [str(result.loads), f"{result.load_seconds:.0f}", f"{result.loaded_bytes / 1e9:.0f}"]
    return [*cells, f"{result.makespan:.0f}", f"{result.j:.0f}"]


def remarks(result: Result) -> Iterator[str]:
    """What a table of it leaves out: who was not served, and who waited past the bound that the policy states."""
    if result.unserved:
        asked = result.unserved + len(result.served)
        count = f"{result.unserved} of {asked} requests were refused or never served"
        yield f"{result.policy}: NOT SERVED: {count}; waits, loads and J leave them out, so they compare with nothing"
    if result.past_bound is not None:
        told = [f"waits past its stated bound: {len(result.past_bound)}", *result.past_bound[:FIRST]]
        yield f"{result.policy}: {'; '.join(told)}"


def content(result: Result) -> dict[str, Any]:
    """One policy's figures with full precision: seconds, bytes."""
    return {
        "policy": result.policy,
        **_waits(result),
        "unserved": result.unserved,
        "loads": result.loads,
        "load_seconds": result.load_seconds,
        "loaded_bytes": result.loaded_bytes,
        "makespan": result.makespan,
        "j": result.j,
        "classes": {cls: _waits(part) for cls, part in parts(result) if cls != ALL},
        "past_bound": result.past_bound,
        "notes": result.notes,
    }


def _waits(part: Result) -> dict[str, Any]:
    quantiles = {"p50": part.p(0.5), "p95": part.p(0.95), "p99": part.p(0.99)}
    return {"requests": len(part.waits), "mean": part.mean, **quantiles, "max": part.max}

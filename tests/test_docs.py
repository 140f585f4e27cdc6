"""The pages in docs/ say what the code does: the diagram, the rooms, every number and every list they repeat."""

import re
from datetime import date

import pytest

from policies import bound, hold
from policies.world import CLASSES
from scheduler.core import deadlines, residency, stall
from scheduler.core.lifecycle import MOVES
from scheduler.dialects import RUNNER_OPTIONS
from scheduler.memory import GIB, recommended
from scheduler.paths import OWN, route
from scheduler.settings_read import settings_of
from scheduler.status_verdict import ORPHANS_PATIENCE
from tests.started import ROOT


def _page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def _lifecycle() -> str:
    """The diagram of docs/design.md."""
    moves = (f"    {before} --> {after}: {why.replace(':', ',')}" for (before, after), why in MOVES.items())
    return "\n".join(("```mermaid", "stateDiagram-v2", "    [*] --> absent", *moves, "```"))


def test_lifecycle_diagram_is_the_table() -> None:
    """The diagram of a model's stay is made from the table of legal moves, with its words."""
    assert _lifecycle() in _page("design.md"), f"docs/design.md should hold\n{_lifecycle()}"


def test_every_room_is_named() -> None:
    """Each module stands in the table of rooms, and each name in the table is a module."""
    _, _, rest = _page("design.md").partition("## The rooms")
    table = rest.partition("\n## ")[0]
    named = {name.removesuffix("/") for name in re.findall(r"`([\w.]+/?)`", table)}
    modules = {
        path.stem
        for folder in ("scheduler", "scheduler/core", "policies")
        for path in (ROOT / folder).glob("*.py")
        if path.stem != "__init__"
    }
    others = {"core", "policies", "scheduler", "standin", "bench", "proof", "default.toml", "pyproject.toml"}
    simulator = ROOT / "scheduler" / "simulator"
    others |= {simulator.stem, *(path.stem for path in simulator.glob("*.py"))}  # named where they are worth it
    assert modules - named == set(), "not in the table"
    assert named - modules - others == set(), "in the table only"


def test_policy_page_repeats_the_policy() -> None:
    """Weights, patience, floor and turn of docs/policies.md are those of the code."""
    page = _page("policies.md")
    settings = settings_of({})
    for name in CLASSES:
        patience = getattr(settings.classes, name).patience
        assert f"| {name} | {hold.WEIGHT[name]:g} | {patience:g} s |" in page
    assert f"**floor = {bound.FLOOR:g} S**" in page
    assert f"**turn = max({bound.SHORTEST_TURN:g} s, floor ÷ 2n)**" in page
    assert f"at most {100 / bound.FLOOR:g} % of the time" in page
    assert re.search(rf"it is {bound.BACKLOG:g} . the seconds of work", page)
    assert f"counts {bound.KNOWN:g}, since" in page
    assert f"at most {bound.CEILING:g} S" in page
    assert f"times {bound.AHEAD:g}." in page
    assert f"(a wish to load weighs {hold.WISH_WEIGHT:g}" in page


def test_policy_page_reckons_right() -> None:
    """The worked example follows from the formulas beside it."""
    page = _page("policies.md")
    for quality, coder, fast, total, floor, turn in ((35, 20, 5, 83, 207.5, 51.9), (9, 6, 2, 40, 100, 25)):
        cycle = (quality + 1 + 10) + (coder + 1 + fast + 1 + 10)
        assert cycle == total
        assert bound.FLOOR * cycle == floor
        assert round(max(bound.SHORTEST_TURN, bound.FLOOR * cycle / 4), 1) == turn
        assert re.search(rf"S = .*{total} s,\s+floor = {floor:g} s,\s+turn = {turn:g} s", page)


def test_operations_page_repeats_the_numbers() -> None:
    """Pauses, tries and limits of docs/operations.md are those of the code."""
    page = _page("operations.md")
    pauses = [f"{pause:g}" for pause in residency.PAUSES]
    assert f"{', '.join(pauses[:-1])}, then every {pauses[-1]} s" in page
    assert f"after {residency.TRIES} failures in a row" in page
    assert f"engine is idle for {stall.IDLE_SECONDS:g} s is a wedge" in page
    assert (
        f"the larger of {deadlines.LONGEST_LOAD / 60:g} min and {deadlines.SLOWEST:g} \N{MULTIPLICATION SIGN} learned"
        in page
    )
    assert f"after {ORPHANS_PATIENCE:g} s needs you" in page
    settings = settings_of({})
    assert f"`queue.ollama_wait` ({settings.queue.ollama_wait:g} s)" in page
    assert f"`queue.give_up` ({settings.queue.give_up / 60:g} min)" in page
    assert f"`stall.silence` ({settings.stall.silence / 60:g} min)" in page
    assert f"`stall.after_cut` ({settings.stall.after_cut:g} s)" in page


def test_failures_have_their_rows() -> None:
    """Each failure that must be survived says what is held, what is answered, what /status says, how it recovers."""
    rows = [line.strip("|").split("|") for line in _page("operations.md").splitlines() if line.startswith("| **")]
    assert len(rows) >= 12
    assert all(len(row) == 5 and all(cell.strip() for cell in row) for row in rows)


def test_differences_name_our_routes_and_what_we_drop() -> None:
    """docs/differences.md names each of our routes, the options we drop, and every path that it says is not served."""
    page = _page("differences.md")
    for path in OWN:
        assert f"`GET {path}" in page
    for option in ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread"):
        assert option in RUNNER_OPTIONS
        assert f"`{option}`" in page
    _, _, unserved = page.partition("## Not served")
    paths = re.findall(r"`(/[\w/]+)`", unserved.partition("\n## ")[0])
    assert paths
    for path in paths:
        assert route("POST", path).kind == "unserved", path


SHARES = {"2/3": {0.74: (16, 24), 0.78: (32,)}, "3/4": {0.78: (36, 48), 0.81: (64, 96), 0.84: (128, 192)}}


@pytest.mark.parametrize(
    ("ram", "old", "new"),
    [(ram, old, new) for old, shares in SHARES.items() for new, rams in shares.items() for ram in rams],
)
def test_metal_table(ram: int, old: str, new: float) -> None:
    """What Metal recommends by the table of docs/design.md is what `device = "auto"` reckons with."""
    over, under = map(int, old.split("/"))
    total = ram * GIB
    assert abs(recommended(total, 15) - total * over / under) <= 1
    assert abs(recommended(total, 26) - total * new) <= 1
    row = next(line for line in _page("design.md").splitlines() if re.match(rf"\| (\d+, )?{ram}\b", line))
    assert row.endswith(f"| {old} | {new:g} |")


def test_decisions_are_dated_and_complete() -> None:
    """Each decision has a date, and says what was rejected; the newest comes first."""
    page = _page("decisions.md")
    parts = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    dates = [date.fromisoformat(part[:10]) for part in parts]
    assert len(parts) >= 10
    assert dates == sorted(dates, reverse=True)
    for part in parts:
        assert "**Rejected**" in part, part.splitlines()[0]

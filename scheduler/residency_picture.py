"""Draws when each model was in memory and how many waited, one panel a course of events, as SVG, PNG or PDF."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from scheduler.outlook import short
from scheduler.simulator.measures import Result
from scheduler.whatif import Course

COLOURS = {"loading": "#f0a030", "resident": "#3a7ca5", "leaving": "#9aa5ad"}
WAITING = "#c0392b"
WIDTH, LANE, FRAME = 12.0, 0.32, 1.1  # inches: of the picture, of one model's lane, around each panel
KINDS = (".svg", ".png", ".pdf")
TICKS = 9  # times along the bottom, about


class NoPicture(Exception):
    """No picture can be drawn; the message says what would help."""


def check(file: Path) -> None:
    """Raise NoPicture where `file` is of no kind that can be drawn, or what draws is not installed."""
    if file.suffix.lower() not in KINDS:
        raise NoPicture(f"--picture {file}: draws {', '.join(KINDS)}; let the name end in one of them")
    try:
        import matplotlib  # noqa: F401 - an extra
    except ImportError:
        raise NoPicture("drawing needs matplotlib: pip install 'ollama-scheduler[picture]'") from None


def draw(file: Path, courses: Sequence[Course], begin: float, seconds: float) -> None:
    """Write the picture of `courses`, `seconds` long, that began at `begin` (since 1970). Raises NoPicture."""
    check(file)
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = [course for course in courses if course.stays is not None]
    models = sorted({stay.model for course in shown for stay in course.stays or ()})
    height = len(shown) * (FRAME + LANE * (len(models) + 1))
    with matplotlib.rc_context({"svg.hashsalt": "residency", "svg.fonttype": "none"}):
        figure = Figure(figsize=(WIDTH, max(height, 2.0)), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        most = max((max(waiting(course.result)[1]) for course in shown), default=0)
        for panel, course in zip(panels, shown, strict=True):
            _panel(panel, course, models, seconds, most)
        _clock(panels[-1], begin, seconds)
        patches = [Patch(color=colour, label=state) for state, colour in COLOURS.items()]
        figure.legend(handles=[*patches, Patch(color=WAITING, label="waiting")], loc="outside upper right", ncols=4)
        metadata: dict[str, Any] = {"Date": None} if file.suffix.lower() == ".svg" else {}
        try:
            figure.savefig(file, metadata=metadata, dpi=120)
        except OSError as error:
            raise NoPicture(f"--picture {file}: {error.strerror or error}") from None


def _panel(panel: Any, course: Course, models: Sequence[str], seconds: float, most: int) -> None:
    """One course; `most` waiting requests fill their lane."""
    for lane, model in enumerate(models, 1):
        for state, colour in COLOURS.items():
            spans = [
                (stay.begin, stay.end - stay.begin)
                for stay in course.stays or ()
                if stay.model == model and stay.state == state
            ]
            panel.broken_barh(spans, (lane - 0.35, 0.7), facecolors=colour)
    times, counts = waiting(course.result)
    heights = [0.8 * each / (most or 1) - 0.35 for each in [*counts, 0]]
    panel.fill_between([*times, seconds], heights, -0.35, step="post", color=WAITING, linewidth=0)
    panel.set_yticks(range(len(models) + 1), [f"waiting, up to {max(counts)}", *map(short, models)])
    panel.set_xlim(0, seconds)
    panel.set_ylim(-0.5, len(models) + 0.5)
    result = course.result
    panel.set_title(
        f"{result.policy}: {result.loads} loads, mean wait {result.mean:.1f} s, longest {result.max:.0f} s, "
        f"J {result.j:.0f}",
        loc="left",
        fontsize="medium",
    )


def waiting(result: Result) -> tuple[list[float], list[int]]:
    """How many requests waited, from when on: times and counts."""
    steps: dict[float, int] = {0.0: 0}
    for each in result.served:
        if each.wait > 0 and each.job.cls != "probe":
            steps[each.arrived] = steps.get(each.arrived, 0) + 1
            steps[each.started] = steps.get(each.started, 0) - 1
    times = sorted(steps)
    counts, now = [], 0
    for time in times:
        now += steps[time]
        counts.append(now)
    return times, counts


def _clock(panel: Any, begin: float, seconds: float) -> None:
    """Local times of day along the bottom."""
    every = seconds / TICKS
    marks = [number * every for number in range(TICKS + 1)]
    form = "%H:%M:%S" if seconds < 1800 else "%H:%M" if seconds < 90_000 else "%d %b %H:%M"
    panel.set_xticks(marks, [datetime.fromtimestamp(begin + mark).astimezone().strftime(form) for mark in marks])

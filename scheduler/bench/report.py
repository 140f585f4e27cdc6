"""The table that `make bench` prints: one row a figure, targets beside what was measured, nothing asserted."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, every cell as it is printed. `note` goes below the table."""

    figure: str
    direct: str = NOTHING
    through: str = NOTHING
    added: str = NOTHING
    target: str = ""
    note: str = ""


HEADINGS = Row("figure", "direct", "through", "added", "target")


def table(rows: Sequence[Row]) -> str:
    """Plain columns, then the notes, each by the number of its row."""
    cells = [list(astuple(row)[:-1]) for row in (HEADINGS, *rows)]
    for number, line in enumerate(cells):
        line.insert(0, str(number) if number else "")
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    notes = [f"{number:>{widths[0]}}  {row.note}" for number, row in enumerate(rows, 1) if row.note]
    return "\n".join([*lines, "", *notes] if notes else lines)


def milliseconds(seconds: float, sign: str = "") -> str:
    """`0.41 ms`; with `sign="+"` always with its sign."""
    return f"{seconds * 1e3:{sign}.2f} ms"


def megabytes(size: float, sign: str = "") -> str:
    """`12.3 MB` of 10^6 bytes."""
    return f"{size / 1e6:{sign}.1f} MB"

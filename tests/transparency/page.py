"""Read the table of docs/differences.md: what differs by design, and what shows that it does."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "differences.md"
ROW = re.compile(r"^\| `(?P<name>[a-z0-9-]+)` \|(?P<cells>.*)\|$", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """One difference. shown: `shapes`, or tests and scenarios as written in the page's last column."""

    name: str
    cells: tuple[str, ...]

    @property
    def shown(self) -> list[str]:
        """What shows it."""
        return [place.strip("`") for place in re.findall(r"`[^`]+`|shapes", self.cells[-1])]


def rows() -> list[Row]:
    """The rows of the page's table."""
    found = ROW.finditer(PAGE.read_text())
    return [Row(row["name"], tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", row["cells"]))) for row in found]


def missing(shown: str) -> str:
    """What a place (`tests/file.py::test` or `tests/scenarios/file.txt`) lacks; "" if it is there."""
    file, _, test = shown.partition("::")
    path = ROOT / file
    if not path.is_file():
        return f"no file {file}"
    if test and not re.search(rf"^(async )?def {re.escape(test)}\(", path.read_text(), re.MULTILINE):
        return f"no test {test} in {file}"
    return ""

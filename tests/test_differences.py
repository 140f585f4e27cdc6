"""docs/differences.md is whole: every difference that a shape shows is a row, and every row says what shows it."""

from tests.transparency.page import missing, rows
from tests.transparency.shape import NOT_YET, shapes

SHAPES = shapes()


def test_there_are_enough_shapes() -> None:
    """At least 120 shapes are to be equal, and what is not yet equal is one of them."""
    assert sum(not shape.differs and shape.name not in NOT_YET for shape in SHAPES) >= 120
    assert set(NOT_YET) <= {shape.name for shape in SHAPES}


def test_every_difference_is_listed_and_every_listed_one_is_shown() -> None:
    """docs/differences.md has a row for each difference that a shape shows, and each row says what shows it."""
    listed = {row.name: row for row in rows()}
    shown = {shape.differs for shape in SHAPES if shape.differs}
    assert shown <= set(listed), "a shape differs by a row that the page does not have"
    for name, row in listed.items():
        assert row.shown, f"{name}: nothing shows it"
        assert ("shapes" in row.shown) == (name in shown), f"{name}: shapes"
        gaps = [missing(place) for place in row.shown if place != "shapes"]
        assert not any(gaps), f"{name}: {gaps}"
        assert all(row.cells), f"{name}: an empty cell"

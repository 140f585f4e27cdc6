"""Every story in tests/scenarios plays as it is written; `pytest --rewrite` accepts what happens now."""

from pathlib import Path

import pytest

from tests.scenario import play

FOLDER = Path(__file__).parent / "scenarios"
STORIES = sorted(FOLDER.glob("*.txt"))
WORDS = 12  # a reason has this many at least


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_story(story: Path, request: pytest.FixtureRequest) -> None:
    """The facts of the story give the orders that are written below them."""
    written = story.read_text()
    played = play(written)
    if request.config.getoption("--rewrite"):
        story.write_text(played)
    else:
        assert played == written


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_story_says_why(story: Path) -> None:
    """A story begins with a paragraph that says why it must go so: that is its oracle."""
    reason = story.read_text().partition("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in reason)
    assert sum(len(line.split()) for line in reason) >= WORDS


def test_stories_are_there() -> None:
    """The stories are found where they are expected."""
    assert len(STORIES) >= 30


@pytest.mark.parametrize("text", ["# why\n\nfly high\n", "# why\n\nbudget 1GB\n\nfly\n----\n-\n", "budget 1GB\n"])
def test_no_story(text: str) -> None:
    """A word that the language does not have, or a text without reason and block, is an error."""
    with pytest.raises(ValueError, match=r"begins|story"):
        play(text)

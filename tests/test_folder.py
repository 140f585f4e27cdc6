"""The state folder belongs to one daemon, and is made anew where somebody deletes it under us."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.folder import TOLD, StateFolder

now = 100.0


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[StateFolder]:
    """A state folder that is had."""
    with StateFolder(tmp_path / "a" / "state", lambda: now) as folder:
        yield folder


def test_two_daemons_do_not_share_it(kept: StateFolder) -> None:
    """The second is told who has it; the first goes on."""
    with pytest.raises(OSError, match="another daemon keeps its state"), StateFolder(kept.path):
        pass
    kept.look()
    assert kept.troubles() == []


def test_it_is_made_anew_with_what_it_must_hold(kept: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleted under the daemon it comes back, locked, its secrets kept again; /status tells for a while."""
    kept.upon_anew(lambda: (kept.path / "key").write_text("secret"))
    kept.look()
    assert not (kept.path / "key").exists()
    shutil.rmtree(kept.path.parent)
    kept.look()
    assert (kept.path / "key").read_text() == "secret"
    assert kept.path.stat().st_mode & 0o777 == 0o700
    assert "deleted under the daemon and made anew" in kept.troubles()[0]
    with pytest.raises(OSError, match="another daemon"), StateFolder(kept.path):
        pass
    monkeypatch.setattr("tests.test_folder.now", now + TOLD + 1)
    assert kept.troubles() == []


def test_where_it_cannot_be_made_anew_that_is_told_and_tried_again(kept: StateFolder) -> None:
    """A file in its place: told as long as it lasts."""
    shutil.rmtree(kept.path)
    kept.path.write_text("in the way")
    kept.look()
    assert "cannot be made anew" in kept.troubles()[0]
    kept.path.unlink()
    kept.look()
    assert "made anew" in kept.troubles()[0]
    assert (kept.path / "lock").exists()


def test_another_daemon_that_took_the_new_one_keeps_it(kept: StateFolder) -> None:
    """Deleted, and another daemon was quicker: that is told, and nothing of ours is put there."""
    shutil.rmtree(kept.path)
    with StateFolder(kept.path):
        kept.look()
        assert "another daemon" in kept.troubles()[0]
    kept.look()
    assert "made anew" in kept.troubles()[0]

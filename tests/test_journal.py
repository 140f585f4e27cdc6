"""The journal keeps every step exactly, in files that replay alone, within its size, whatever the disk does."""

import dataclasses
import json
import logging
import resource
import shutil
import stat
import time
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from typer.testing import CliRunner

from scheduler.core import messages as m, state as core_state
from scheduler.core.lifecycle import IllegalMove
from scheduler.core.machine import Machine
from scheduler.journal import Journal
from scheduler.journal_command import journal_app
from scheduler.journal_lines import FACTS, ORDERS, Step, Unreadable, copy_of, read_snapshot, read_step, step_line
from scheduler.replay import BadFile, verify
from tests.played import CONFIG, FAST, Play

PATIENCE = 10.0  # seconds a real thread gets to do its work


def until(true: Callable[[], bool]) -> None:
    """Wait for `true`, at most PATIENCE seconds."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)


def strategy(hint: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Values of the types that facts and orders are made of."""
    if hint is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return st.builds(hint, **{field.name: strategy(hints[field.name]) for field in dataclasses.fields(hint)})
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(strategy(args[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(strategy, args))
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*map(strategy, args))
    return st.from_type(hint)


class Kept:
    """A play with a journal that writes it down."""

    def __init__(self, folder: Path, keep: int = 10**9, seed: int = 1) -> None:
        self.play = Play(seed)
        self.clock = 0.0
        self.journal = Journal(folder, keep, "0.1.0", flush=0.01, retry=10.0, now=lambda: self.clock)
        self.play.before = lambda fact: self.journal.before(fact, self.play.machine.state)
        self.play.witnesses.append(self.journal.note)


def files(folder: Path) -> list[Path]:
    """The journal's files, oldest first."""
    return sorted(folder.glob("*.jsonl"))


def weight(folder: Path) -> int:
    """Bytes of the journal's files; one may go while it is looked at."""
    total = 0
    for path in files(folder):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


@given(strategy(m.Fact), st.lists(strategy(m.Order), max_size=3))
@settings(max_examples=300, deadline=None)
def test_exact(fact: m.Fact, orders: list[m.Order]) -> None:
    """Whatever a fact and its orders hold comes back from its line unchanged, floats to the last bit."""
    line = step_line(fact, orders)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert read_step(line) == Step(fact, orders)


def test_every_message_has_its_line() -> None:
    """The journal knows every fact and order of the vocabulary by its own name."""
    assert set(FACTS.values()) == set(typing.get_args(m.Fact))
    assert set(ORDERS.values()) == set(typing.get_args(m.Order))


def test_a_state_comes_back_whole() -> None:
    """A core in the middle of its work, read back from bytes, equals the one that was written."""
    play = Play(4)
    play.begin()
    play.demand(80, 300.0)
    play.run(until=play.at + 100.0)
    assert play.machine.state.requests
    assert copy_of(play.machine.state) == play.machine.state


def test_each_file_replays_alone(tmp_path: Path) -> None:
    """A long play fills several files, and each of them, by itself, gives identical orders."""
    kept = Kept(tmp_path, keep=1_600_000, seed=2)
    kept.play.begin()
    kept.play.demand(900, 6000.0)
    kept.play.run()
    kept.journal.close()
    written = files(tmp_path)
    found = [verify(path) for path in written]
    assert len(found) >= 3
    assert [each.difference for each in found] == [None] * len(found)
    assert all(each.facts > 50 for each in found[:-1])
    assert kept.journal.lost == 0


def test_a_machine_reborn_goes_on_as_the_old_one() -> None:
    """A machine made of a copied state gives, from then on, the orders the original gives."""
    play = Play(5)
    play.begin()
    play.demand(300, 2000.0)
    play.run(until=play.at + 700.0)
    twin = Machine(copy_of(play.machine.state))
    pairs = []
    play.witnesses.append(lambda fact, orders: pairs.append((orders, twin.step(fact))))
    play.run()
    assert len(pairs) > 100
    assert all(first == second for first, second in pairs)


def test_the_folder_stays_within_its_size(tmp_path: Path) -> None:
    """The oldest files go before the folder outgrows `keep`, and what is left still replays."""
    keep = 1_000_000
    kept = Kept(tmp_path, keep=keep, seed=3)
    kept.play.begin()
    first: set[str] = set()
    largest = 0
    for _ in range(12):
        kept.play.demand(200, 1000.0)
        kept.play.run()
        until(lambda: bool(files(tmp_path)))
        first = first or {path.name for path in files(tmp_path)}
        largest = max(largest, weight(tmp_path))
    kept.journal.close()
    assert largest <= keep
    assert first.isdisjoint(path.name for path in files(tmp_path))
    assert all(verify(path).difference is None for path in files(tmp_path))


def test_names_and_modes(tmp_path: Path) -> None:
    """Files are named by UTC time and a counter, and only their owner may read them."""
    folder = tmp_path / "state" / "journal"
    journal = Journal(folder, 10**6, "0.1.0", flush=0.01, wall=lambda: 1_700_000_000.0)
    play = Play()
    journal.before(m.Ticked(play.at), play.machine.state)
    journal.note(m.Ticked(play.at), [])
    journal.close()
    assert [path.name for path in files(folder)] == ["20231114T221320Z-0001.jsonl"]
    assert stat.S_IMODE(files(folder)[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    snapshot = read_snapshot(files(folder)[0].read_bytes().splitlines()[0])
    assert (snapshot.version, snapshot.wall) == ("0.1.0", "2023-11-14T22:13:20+00:00")
    assert snapshot.state.config == CONFIG


def test_a_name_that_is_taken_is_not_overwritten(tmp_path: Path) -> None:
    """Two daemons, or two starts in one second, never write into one file."""
    for _ in range(2):
        journal = Journal(tmp_path, 10**6, "0.1.0", wall=lambda: 1_700_000_000.0)
        journal.before(m.Ticked(1.0), Play().machine.state)
        journal.note(m.Ticked(1.0), [])
        journal.close()
    assert len(files(tmp_path)) == 2


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: the write that would fails half way, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_deleted_under_it_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Steps that would go into a deleted file are lost and counted; the folder and a new file are made, and replay."""
    folder = tmp_path / "journal"
    kept = Kept(folder, seed=6)
    play = kept.play
    play.begin()
    play.demand(100, 300.0)
    until(lambda: bool(files(folder)))
    shutil.rmtree(folder)
    play.run(until=play.at + 150.0)
    until(lambda: bool(kept.journal.trouble))
    assert "its file was deleted" in caplog.text
    play.demand(100, 300.0)
    play.run()
    kept.clock += 11.0
    play.demand(100, 300.0)
    play.run()
    kept.journal.close()
    assert kept.journal.lost > 0
    assert kept.journal.trouble == ""
    found = [verify(path) for path in files(folder)]
    assert len(found) == 1
    assert found[0].difference is None


def test_a_full_disk_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the disk is full steps are lost and counted, said once; then a new file begins, and every file replays."""
    kept = Kept(tmp_path, seed=6)
    play = kept.play
    play.begin()
    play.demand(100, 300.0)
    with full_disk(12_000):
        play.run(until=play.at + 150.0)
        until(lambda: bool(kept.journal.trouble))
    play.demand(100, 300.0)
    play.run()
    lost = kept.journal.lost
    assert lost > 0
    assert "not kept" in caplog.text
    assert len(caplog.records) == 1
    kept.clock += 11.0
    play.demand(100, 300.0)
    play.run()
    kept.journal.close()
    assert kept.journal.lost == lost
    assert kept.journal.trouble == ""
    assert f"kept again, after {lost} steps" in caplog.text
    found = [verify(path) for path in files(tmp_path)]
    assert len(found) == 2
    assert all(each.difference is None and not each.torn for each in found)


def test_no_folder_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where no folder can be made the daemon goes on without a journal, and says so once."""
    (tmp_path / "journal").write_text("a file, no folder")
    kept = Kept(tmp_path / "journal")
    kept.play.begin()
    kept.play.demand(50, 100.0)
    kept.play.run()
    kept.journal.close()
    assert kept.journal.lost > 50
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_text_no_file_can_hold_stops_nothing(tmp_path: Path) -> None:
    """A lone surrogate, which is no UTF-8, loses steps only while the core remembers it; then a new file begins."""
    kept = Kept(tmp_path)
    kept.play.begin()
    kept.play.post(m.OllamaDown(kept.play.at, "bad \ud800"))
    kept.clock += 11.0
    kept.play.post(m.OllamaUp(kept.play.at, "0.32.1"))
    kept.clock += 11.0
    kept.play.demand(20, 10.0)
    kept.play.run()
    kept.journal.close()
    assert kept.journal.lost == 2
    found = [verify(path) for path in files(tmp_path)]
    assert len(found) == 2
    assert all(each.difference is None for each in found)


def test_the_step_that_broke_the_law_is_the_last_line(tmp_path: Path) -> None:
    """A core that raised leaves the fact it raised on in the journal, and verify shows where it broke."""
    play = Play()
    journal = Journal(tmp_path, 10**6, "0.1.0", flush=0.01)
    impossible = m.Arrived(play.at, "r1", FAST)
    journal.before(m.Ticked(play.at), play.machine.state)
    journal.note(m.Ticked(play.at), play.machine.step(m.Ticked(play.at)))
    journal.before(impossible, play.machine.state)
    journal.close()
    found = verify(files(tmp_path)[0])
    assert found.difference is not None
    assert (found.difference.line, found.difference.fact, found.difference.written) == (3, impossible, None)


def written(tmp_path: Path) -> Path:
    """A good journal file."""
    kept = Kept(tmp_path)
    kept.play.begin()
    kept.play.demand(30, 60.0)
    kept.play.run()
    kept.journal.close()
    return files(tmp_path)[0]


def forged(path: Path) -> int:
    """Change the reason of one order; answers its line."""
    lines = path.read_text().splitlines(keepends=True)
    number = next(n for n, line in enumerate(lines) if '"type":"Load",' in line)
    lines[number] = lines[number].replace('"type":"Load","model":"', '"type":"Load","model":"other-')
    path.write_text("".join(lines))
    return number + 1


def test_a_changed_order_is_found(tmp_path: Path) -> None:
    """The first step whose orders are not the written ones is named, with both."""
    path = written(tmp_path)
    line = forged(path)
    found = verify(path)
    assert found.difference is not None
    assert found.difference.line == line
    assert found.difference.written is not None
    assert any(isinstance(order, m.Load) and order.model.startswith("other-") for order in found.difference.written)


def test_a_killed_writer_leaves_a_file_that_replays(tmp_path: Path) -> None:
    """A last line that was never finished is left out, and told."""
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-7])
    found = verify(path)
    assert found.torn
    assert found.difference is None


SNAPSHOT = '{"snapshot":{"format":1,"version":"0","wall":"","monotonic":0.0,"state":{"config":{}}}}\n'


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", ":1: the file is empty"),
        ("nonsense\n", ":1: not JSON"),
        ("[]\n", ":1: not an object"),
        ('{"fact":{},"orders":[]}\n', ":1: no snapshot"),
        ('{"snapshot":{"format":99}}\n', ":1: format 99"),
        ('{"snapshot":{"format":1}}\n', ":1: Snapshot.version: Field required"),
        (SNAPSHOT + '{"fact":{"type":"Slept"},"orders":[]}\n', ":2: unknown fact 'Slept'"),
        (SNAPSHOT + '{"fact":{"type":"Ticked","at":1.0}}\n', ":2: no fact with its orders"),
        (SNAPSHOT + '{"fact":{"type":"Ticked","at":"1"},"orders":[]}\n', ":2: Ticked.at"),
        (SNAPSHOT + '{"fact":{"type":"Ticked","at":null},"orders":[]}\n', ":2: Ticked.at"),
        (SNAPSHOT + '{"fact":{"type":"Ticked","at":1.0,"by":"x"},"orders":[]}\n', ":2: Ticked has no by"),
        (SNAPSHOT + '{"fact":{"type":"Ticked","at":1.0},"orders":{}}\n', ":2: orders are a list"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: str, complaint: str) -> None:
    """A bad line is told with file, line and what is wrong with it."""
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(BadFile) as error:
        verify(path)
    assert complaint in str(error.value)
    assert str(error.value).startswith(str(path))


def test_exit_codes(tmp_path: Path) -> None:
    """`journal verify` ends with 0 for identical, 1 for a difference, 2 for a file it cannot read; the worst counts."""
    good, changed = written(tmp_path / "good"), written(tmp_path / "changed")
    line = forged(changed)
    missing = tmp_path / "missing.jsonl"
    run = CliRunner().invoke
    fine = run(journal_app, ["verify", str(good)])
    assert (fine.exit_code, fine.stdout.split(": ")[1]) == (0, "identical")
    differs = run(journal_app, ["verify", str(good), str(changed)])
    assert differs.exit_code == 1
    assert f"{changed}:{line}: differs" in differs.stdout
    assert "other-" in differs.stdout
    unreadable = run(journal_app, ["verify", str(missing), str(changed)])
    assert unreadable.exit_code == 2
    assert str(missing) in unreadable.stderr


def test_json_for_scripts(tmp_path: Path) -> None:
    """`--json` gives one row a file, with its verdict and, where there is one, the difference."""
    good, changed = written(tmp_path / "good"), written(tmp_path / "changed")
    line = forged(changed)
    result = CliRunner().invoke(journal_app, ["verify", "--json", str(good), str(changed), str(tmp_path / "none")])
    rows = json.loads(result.stdout)
    assert [row["verdict"] for row in rows] == ["identical", "differs", "unreadable"]
    assert rows[1]["difference"]["line"] == line
    assert result.exit_code == 2


WORDS_ABOUT_REQUESTS = {"id", "model", "kind", "cls", "alias", "dialect", "client", "session", "digest", "key"}


def test_a_prompt_never_occurs() -> None:
    """No fact, order or state has a place for a client's words: every text field of a request is known and is none."""
    texts = {f.name for f in dataclasses.fields(m.Arrived) if f.type is str or f.name in ("kind",)}
    assert texts == WORDS_ABOUT_REQUESTS
    states = {f.name for f in dataclasses.fields(core_state.Request) if f.type in (str, m.Kind)}
    assert states == WORDS_ABOUT_REQUESTS - {"digest"} | {"named", "cancelled"}  # a name, and who ended it
    ended = {f.name for f in dataclasses.fields(m.Ended) if f.type is str}
    assert ended == {"id", "error"}


def test_reading_names_what_it_expects() -> None:
    """A line that is no step says so rather than raising something else."""
    with pytest.raises(Unreadable):
        read_step(b'{"fact": 5, "orders": []}')
    assert issubclass(IllegalMove, Exception)

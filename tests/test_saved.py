"""What outlives a restart comes back as it was; what is bad is kept aside and never stops a start."""

import stat
from pathlib import Path

import pytest

from scheduler.core import messages as m
from scheduler.core.machine import Machine
from scheduler.core.state import Warm
from scheduler.saved import Learned, Saved, apply, key, load, save
from tests.played import CODER, CONFIG, FAST, QUALITY, SIZES, Play

AHEAD = 1.7e9  # seconds that the wall clock is ahead of the monotonic one


def learned_machine() -> Machine:
    """A core that has learned something of every model."""
    play = Play(9)
    play.begin()
    play.demand(400, 2500.0)
    play.run()
    play.post(m.PhaseSet(play.at, "orchestra", "a test"))
    return play.machine


def test_learned_values_survive(tmp_path: Path) -> None:
    """Phase, durations, measured size and unaided context of each model are those of the daemon before."""
    old = learned_machine()
    save(tmp_path / "learned.json", old.state, AHEAD)
    new = apply(load(tmp_path / "learned.json"), Machine.fresh(CONFIG, 5.0), AHEAD)
    assert new.state.phase == "orchestra"
    for name in SIZES:
        was, now = old.state.models[name], new.state.models[name]
        assert was.load_learned is not None
        assert (now.load_cold, now.load_warm, now.load_learned) == (was.load_cold, was.load_warm, was.load_learned)
        assert now.load_seconds == (was.load_cold or was.load_learned)
        assert (now.unload_seconds, now.service_seconds) == (was.unload_seconds, was.service_seconds)
        assert (now.measured, now.unaided, now.digest) == (was.measured, was.unaided, was.digest)
        assert now.first_byte_per_byte == was.first_byte_per_byte
        assert (now.state, now.held, now.loads) == ("absent", 0, 0)


def test_a_model_outside_the_configuration_is_remembered_too(tmp_path: Path) -> None:
    """What was learned of a model that only Ollama lists is there again before Ollama lists it."""
    save(tmp_path / "learned.json", learned_machine().state, AHEAD)
    assert "small:latest" not in {model.name for model in CONFIG.models}
    new = apply(load(tmp_path / "learned.json"), Machine.fresh(CONFIG, 5.0), AHEAD)
    assert new.state.models["small:latest"].load_learned is not None


def test_the_phase_is_in_force_at_once(tmp_path: Path) -> None:
    """A machine that went on in a phase refuses what that phase excludes."""
    old = learned_machine()
    old.step(m.PhaseSet(old.state.at, "evening", "a test"))
    save(tmp_path / "learned.json", old.state, AHEAD)
    new = apply(load(tmp_path / "learned.json"), Machine.fresh(CONFIG, 5.0), AHEAD)
    refusals = new.step(m.Arrived(6.0, "r1", CODER))
    assert isinstance(refusals[0], m.Refuse)
    assert "phase 'evening'" in refusals[0].message


def test_past_arrivals_survive(tmp_path: Path) -> None:
    """They come back in order, as long ago by the wall clock as they are, before whatever the new life sees."""
    old = learned_machine()
    old.step(m.Arrived(old.state.at, "under way", FAST))  # it will not outlive us
    over = [past for past in old.state.history.values() if past.ended_at is not None]
    assert len(over) > 200
    save(tmp_path / "learned.json", old.state, AHEAD)
    newest = max(past.ended_at or 0.0 for past in over)
    new = apply(load(tmp_path / "learned.json"), Machine.fresh(CONFIG, 5.0), AHEAD + newest + 3600.0 - 5.0)
    back = list(new.state.history.values())
    assert [(past.model, past.cls, past.session, past.service) for past in back] == [
        (past.model, past.cls, past.session, past.service) for past in over
    ]
    assert max(past.ended_at or 0.0 for past in back) == pytest.approx(5.0 - 3600.0)
    assert [past.at - back[0].at for past in back] == pytest.approx([past.at - over[0].at for past in over], abs=1e-3)
    groups = new.state.groups
    for past in back:
        assert any(group.at <= past.at <= group.at + 3.0 and past.model in group.weights for group in groups)
    assert groups[0].at == back[0].at
    new.step(m.Arrived(6.0, "r1", FAST))
    assert [past.at for past in new.state.history.values()][-1] == 6.0


def test_a_warm_prompt_outlives_us_in_its_runner(tmp_path: Path) -> None:
    """The rates come back, and with the model still resident what its eviction would cost; a load begins anew."""
    old = learned_machine()
    fast = old.state.models[FAST]
    old.step(m.Residents(old.state.at, old.state.at, (m.Resident(FAST, SIZES[FAST], 32768),)))
    fast.warm = {"ann": Warm(100_000.0, old.state.at)}
    fast.read_seconds, fast.write_seconds, fast.output_tokens, fast.token_bytes = 0.005, 0.07, 100.0, 4.0
    save(tmp_path / "learned.json", old.state, AHEAD)
    new = apply(load(tmp_path / "learned.json"), Machine.fresh(CONFIG, 5.0), AHEAD + old.state.at - 5.0 + 60.0)
    new.step(m.MemorySeen(5.0, 38 * 10**9, "set"))
    now = new.state.models[FAST]
    assert now.warm == {"ann": Warm(100_000.0, pytest.approx(-55.0))}
    assert (now.read_seconds, now.write_seconds, now.output_tokens, now.token_bytes) == (0.005, 0.07, 100.0, 4.0)
    assert now.reprompt == 0.0
    new.step(m.OllamaUp(5.0, "0.32.0"))
    new.step(m.Residents(5.0, 5.0, (m.Resident(FAST, SIZES[FAST], 32768),)))
    assert now.reprompt == pytest.approx(500.0 * 0.905, rel=0.01)


def test_a_wall_clock_set_back_puts_nothing_into_the_future(tmp_path: Path) -> None:
    """Arrivals that the wall clock says are yet to come are the newest there are."""
    save(tmp_path / "learned.json", learned_machine().state, AHEAD)
    new = apply(load(tmp_path / "learned.json"), Machine.fresh(CONFIG, 5.0), AHEAD - 1e6)
    assert max(past.ended_at or 0.0 for past in new.state.history.values()) == pytest.approx(5.0)


def test_a_file_of_the_format_before_is_read(tmp_path: Path) -> None:
    """What an older daemon saved has no arrivals, and everything else."""
    (tmp_path / "learned.json").write_text('{"format": 1, "phase": "evening", "models": {"a": {"load_learned": 3.0}}}')
    assert load(tmp_path / "learned.json") == Saved(1, "evening", {"a": Learned(load_learned=3.0)})


def test_a_phase_that_is_gone_is_ignored(tmp_path: Path) -> None:
    """A phase that the configuration no longer has gives way to the configured one."""
    new = apply(Saved(phase="carnival"), Machine.fresh(CONFIG, 5.0), AHEAD)
    assert new.state.phase == CONFIG.phase


def test_another_blob_is_measured_anew(tmp_path: Path) -> None:
    """A size measured of a blob that was replaced while we were away does not count for the new one."""
    saved = Saved(models={FAST: Learned(digest="old", measured=9 * 10**9, unaided=4096, load_learned=3.0)})
    machine = apply(saved, Machine.fresh(CONFIG, 5.0), AHEAD)
    machine.step(m.MemorySeen(6.0, 38 * 10**9, "set"))
    assert machine.state.models[FAST].size == 9 * 10**9
    machine.step(m.ModelsListed(7.0, (m.Listed(FAST, 5 * 10**9, digest="new"),)))
    assert machine.state.models[FAST].size == 5 * 10**9


def test_uninstalled_models_are_forgotten(tmp_path: Path) -> None:
    """What Ollama no longer has is not carried on for ever."""
    machine = learned_machine()
    machine.step(m.ModelsListed(machine.state.at, (m.Listed(QUALITY, SIZES[QUALITY]),)))
    save(tmp_path / "learned.json", machine.state, AHEAD)
    assert set(load(tmp_path / "learned.json").models) == {QUALITY}


def test_the_file_is_private_and_whole(tmp_path: Path) -> None:
    """The file is its owner's alone, made with its folder, and nothing half written stays beside it."""
    path = tmp_path / "state" / "learned.json"
    for _ in range(2):
        save(path, learned_machine().state, AHEAD)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["learned.json"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk fails on the way, the file that was there stays and the attempt leaves nothing behind."""
    path = tmp_path / "learned.json"
    save(path, learned_machine().state, AHEAD)
    before = path.read_bytes()

    def fail(_: Path, __: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        save(path, Machine.fresh(CONFIG, 1.0).state, AHEAD)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["learned.json"]


def test_no_file_is_no_trouble(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first start has nothing to remember and says nothing about it."""
    assert load(tmp_path / "learned.json") == Saved()
    assert not caplog.records


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b'{"format": 3}',
        b'{"format": 2, "history": [[1.0, "a", "agent", "", null, 2.0]]}',
        b'{"phase": 5}',
        b'{"models": {"a": {"measured": -1}}}',
        b'{"models": {"a": {"load_learned": "fast"}}}',
        b'{"models": {"a": {"load_learned": -2.0}}}',
        b'{"models": {"a": {"load_learned": NaN}}}',
        b"\xff\xfe",
    ],
)
def test_a_bad_file_is_ignored_and_kept_aside(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A file that cannot be understood is told, set aside for whoever wants to look, and the start goes on."""
    path = tmp_path / "learned.json"
    path.write_bytes(content)
    assert load(path) == Saved()
    assert not path.exists()
    assert (tmp_path / "learned.json.bad").read_bytes() == content
    assert "kept as learned.json.bad" in caplog.text


def test_a_file_that_cannot_be_opened_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever stands in the file's place, the start goes on with a warning."""
    (tmp_path / "learned.json").mkdir()
    assert load(tmp_path / "learned.json") == Saved()
    assert "cannot be read" in caplog.text


def test_the_key_lasts(tmp_path: Path) -> None:
    """The key of the digests is made once, secret, and the same at every start; a mutilated one is made anew."""
    path = tmp_path / "state" / "key"
    first = key(path)
    assert len(first) == 32
    assert key(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(first[:5])
    second = key(path)
    assert second != first
    assert key(path) == second


def test_a_key_that_cannot_be_kept_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where there is no place for the key, the daemon still gets one."""
    (tmp_path / "state").write_text("a file")
    assert len(key(tmp_path / "state" / "key")) == 32
    assert "cannot be kept" in caplog.text

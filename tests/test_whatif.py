"""`whatif` reads what was asked out of journals, plays it again, and says whether another way would be better."""

import json
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scheduler import recorded, whatif
from scheduler.__main__ import command_line
from scheduler.core import messages as m
from scheduler.journal_lines import FORMAT, Snapshot, copy_of, snapshot_line, step_line
from scheduler.recorded_jobs import THINK, as_it_was, jobs_of, measured
from scheduler.simulator.host import CODER, FAST, GB, QUALITY, Host, documented
from scheduler.simulator.measures import Result, Served
from scheduler.simulator.run import Belief, Run
from scheduler.simulator.workload import Job, read
from scheduler.whatif_command import NoTime, _recorded
from tests.live import Live
from tests.realollama.stage import RealOllama, StagedModel
from tests.test_status_command import daemon

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
SECRET = "d0ac7a1e"  # how a journal would know a session
DEMAND = (
    Job("p0", CODER, 10.0, "agent", SECRET, 5.0),
    Job("p1", CODER, 4.0, "agent", SECRET, after=("p0",), think=2.0),
    Job("q0", QUALITY, 20.0, "interactive", "someone", 20.0),
    Job("q1", QUALITY, 15.0, "interactive", "someone", after=("q0",), think=40.0),
    Job("f0", FAST, 1.0, "helper", "", 60.0),
    Job("h0", CODER, 0.2, "probe", "", 61.0),
    Job("p2", CODER, 6.0, "agent", SECRET, 200.0 + THINK),
)


def journal(
    folder: Path,
    jobs: Sequence[Job],
    host: Host,
    *,
    cut: float | None = None,
    gap: float = 0.0,
    wall: datetime = NINE,
    events: Sequence[m.Fact] = (),
) -> tuple[list[Path], Result]:
    """The journal of a daemon that lived through `jobs`, and what came of them. A new file begins at `cut` seconds;
    the machine sleeps `gap` seconds then. `events` befall it meanwhile."""
    folder.mkdir(exist_ok=True)
    files: list[list[bytes]] = []
    cuts = [0.0] if cut is None else [0.0, cut]

    def begin(at: float) -> None:
        moment = wall + timedelta(seconds=at + (gap if len(files) else 0.0))
        files.append([snapshot_line(Snapshot(FORMAT, "test", moment.isoformat(), at, copy_of(run.machine.state)))])

    def witness(fact: m.Fact, orders: Sequence[m.Order], _: object) -> None:
        files[-1].append(step_line(fact, list(orders)))
        if len(files) < len(cuts) and fact.at >= cuts[len(files)]:
            begin(fact.at)

    run = Run(jobs, host, "default", Belief(), witness, None)
    begin(0.0)
    run.begin(events)
    run.go()
    paths = [folder / f"{number}.jsonl" for number in range(len(files))]
    for path, lines in zip(paths, files, strict=True):
        path.write_bytes(b"".join(lines))
    return paths, run.result


def told(*arguments: object, code: int = 0) -> str:
    """What the command prints; it must end with this code."""
    words = ["whatif", *map(str, arguments)]
    result = CliRunner().invoke(command_line(words), words)
    assert result.exit_code == code, result.output
    return result.output


def named(files: Sequence[Path]) -> list[object]:
    """The files as arguments."""
    return [word for file in files for word in ("--journal", file)]


def everything(files: Sequence[Path]) -> recorded.Recorded:
    """All that the files hold."""
    return recorded.read(files, float("-inf"), float("inf"))


@pytest.mark.parametrize("cut", [None, 35.0, 100.0])
def test_what_was_is_told_to_the_second(tmp_path: Path, cut: float | None) -> None:
    """Waits, loads and seconds of loading are those that happened, in one file or in two that share a change."""
    files, happened = journal(tmp_path, DEMAND, documented(38 * GB), cut=cut)
    found = everything(list(reversed(files)))
    was = as_it_was(found)
    assert was.waits == pytest.approx(happened.waits)
    assert was.j == pytest.approx(happened.j)
    assert (was.loads, was.load_seconds, was.loaded_bytes) == (
        happened.loads,
        happened.load_seconds,
        happened.loaded_bytes,
    )
    assert sorted(each.cls for each in found.served) == sorted(job.cls for job in DEMAND)


def test_a_session_that_went_on_follows_itself_again(tmp_path: Path) -> None:
    """A next request within five minutes comes as long after the last one's end; a later one in its own time."""
    files, _ = journal(tmp_path, DEMAND, documented(38 * GB))
    jobs = jobs_of(everything(files))
    by_service = {round(job.service, 3): job for job in jobs if job.cls != "probe"}
    agent, person, late = by_service[4.0], by_service[15.0], by_service[6.0]
    assert agent.after == (by_service[10.0].id,)
    assert agent.think == pytest.approx(2.0)
    assert person.after == (by_service[20.0].id,)
    assert person.think == pytest.approx(40.0)
    assert late.after == ()
    assert late.t == pytest.approx(200.0 + THINK - 5.0)  # it begins with the first request


def test_a_session_follows_what_it_waited_for() -> None:
    """A title that is made beside the work, however long it takes, does not hold up the work when it is played again;
    a second answer that was waited for does, and a title alone is followed."""

    def asked(name: str, cls: str, arrived: float, ended: float, session: str = "one") -> recorded.Asked:
        return recorded.Asked(name, FAST, cls, session, arrived, arrived, ended, ended - arrived)

    found = recorded.Recorded(0.0, 200.0)
    found.served = [
        asked("a", "agent", 0.0, 10.0),
        asked("title", "helper", 0.5, 12.0),
        asked("b", "agent", 13.0, 20.0),  # after a: the title ended later
        asked("long", "helper", 13.5, 60.0),
        asked("c", "agent", 22.0, 50.0),
        asked("next", "helper", 51.0, 61.0),
        asked("d", "agent", 62.0, 70.0),  # after c
        asked("e", "agent", 62.0, 75.0),
        asked("f", "agent", 76.0, 80.0),  # after both d and e
        asked("only", "helper", 5.0, 6.0, "two"),
        asked("then", "agent", 8.0, 9.0, "two"),
    ]
    jobs = jobs_of(found)
    order = {job.id: each.id for job, each in zip(jobs, sorted(found.served, key=lambda e: e.arrived), strict=True)}
    follows = {order[job.id]: [order[each] for each in job.after] for job in jobs}
    thinks = {order[job.id]: job.think for job in jobs}
    assert (follows["b"], thinks["b"]) == (["a"], 3.0)
    assert (follows["d"], thinks["d"]) == (["c"], 12.0)
    assert (follows["f"], thinks["f"]) == (["e"], 1.0)
    assert follows["next"] == ["c"]
    assert follows["then"] == ["only"]


def test_nothing_that_names_anybody_is_written(tmp_path: Path) -> None:
    """The saved demand can be simulated, and holds counted ids and sessions only."""
    files, _ = journal(tmp_path, DEMAND, documented(38 * GB))
    saved = tmp_path / "demand.jsonl"
    told(*named(files), "--save-trace", saved)
    text = saved.read_text()
    assert SECRET not in text
    assert "someone" not in text
    assert {job.session for job in read(saved)} == {"", "s1", "s2"}
    assert {job.id for job in read(saved)} == {str(number) for number in range(1, len(DEMAND) + 1)}


def test_the_same_policy_and_budget_give_the_same(tmp_path: Path) -> None:
    """Played again as it was, nothing differs; with room for all, nobody is sent away, and it says so."""
    files, happened = journal(tmp_path, DEMAND, documented(38 * GB))
    content = json.loads(told(*named(files), "--budget", "64GB", "--json"))
    same, roomy = content["simulated_as_it_was"], content["would_have_been"][0]
    assert content["requests"] == len(DEMAND)
    assert content["careful"] == ""
    assert same["loads"] == happened.loads
    assert same["j"] == pytest.approx(happened.j)
    assert roomy["policy"] == "default, 64.0 GB"
    assert roomy["loads"] < same["loads"]
    assert f"better: J {roomy['j']:.0f} instead of {same['j']:.0f}" in roomy["verdict"]


def test_every_wait_that_is_played_is_held_to_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was, simulated again, and what would have been keep the bound where the policy states one; where a policy
    waits longer than it says, that is an error, told with who waited, how long and the bound's terms."""
    jobs = read(Path(__file__).parent / "data" / "workloads" / "starvation.0.jsonl.gz")
    files, _ = journal(tmp_path, jobs, documented(38 * GB))
    content = json.loads(told(*named(files), "--policy", "fifo", "--json"))
    courses = [content["as_it_was"], content["simulated_as_it_was"], *content["would_have_been"]]
    assert [each["past_bound"] for each in courses] == [None, [], None]
    assert "the same, simulated: waits past its stated bound: 0" in told(*named(files))
    monkeypatch.setattr("policies.default.floor", lambda world: 1e5)
    text = told(*named(files), code=1)
    assert "the same, simulated: waits past its stated bound: 1; " in text
    assert "(interactive) has waited" in text
    assert "longest running request" in text
    broken = json.loads(told(*named(files), "--json", code=1))
    assert broken["simulated_as_it_was"]["past_bound"][0] in text


def test_policies_of_others_and_phases_can_be_asked_for(tmp_path: Path) -> None:
    """Each policy gets a row; an unknown one, or a phase that was not there, is told."""
    files, _ = journal(tmp_path, DEMAND, documented(38 * GB))
    text = told(*named(files), "--policy", "fifo", "--policy", "ollama")
    for row in ("as it was", "the same, simulated", "fifo, 38.0 GB", "ollama, 38.0 GB"):
        assert row in text
    assert 'the nearest known is "fifo"' in told(*named(files), "--policy", "fifi", code=2)
    assert "phase 'orchestra' is not under [phases]" in told(*named(files), "--phase", "orchestra", code=2)
    assert "more than the budget of 20.0 GB" in told(*named(files), "--budget", "20GB", code=2)


def test_the_load_seconds_are_the_measured_ones(tmp_path: Path) -> None:
    """Models are as they were measured, not as they are documented."""
    host = documented(38 * GB)
    slow = host.with_models([type(x)(x.name, x.size, 3 * x.load, x.unload, x.parallel) for x in host.models])
    files, _ = journal(tmp_path, DEMAND, slow)
    models = measured(everything(files))
    assert models[QUALITY].load == pytest.approx(54.0)
    assert models[CODER].parallel == 4
    assert models[FAST].size == 5 * GB


def test_a_day_is_cut_out_and_a_time_without_requests_told(tmp_path: Path) -> None:
    """Only what arrived on the day counts, with what was resident then; where nothing did, it says when there was."""
    late = datetime.combine(NINE.astimezone().date(), datetime.min.time()).astimezone() + timedelta(days=1)
    files, happened = journal(tmp_path, DEMAND, documented(38 * GB), wall=late - timedelta(seconds=50))
    content = json.loads(told(*named(files), "--day", NINE.astimezone().date() + timedelta(days=1), "--json"))
    assert content["requests"] == sum(each.arrived >= 50 for each in happened.served)
    assert content["from"].startswith(str(late.date()))
    text = told(*named(files), "--day", "2026-11-01", code=2)
    assert "nobody asked for anything from 2026-11-01 00:00 until 2026-11-02 00:00;" in text
    assert "the journal begins at 2026-11-2" in text
    assert "is no day" in told(*named(files), "--day", "yesterdaay", code=2)
    assert "is no time" in told(*named(files), "--since", "soon", code=2)
    assert "give one" in told(*named(files), "--since", "6h", "--day", "today", code=2)
    assert json.loads(told(*named(files), "--since", "2026-11-01T08:00", "--json"))["requests"] == len(DEMAND)


def test_the_usual_day_is_named_where_nobody_asked(tmp_path: Path) -> None:
    """On the first day there is no yesterday: it says which day was looked at, and how to look at today."""
    (tmp_path / "journal").mkdir()
    files, _ = journal(tmp_path / "journal", DEMAND, documented(38 * GB), wall=datetime.now(UTC))
    with pytest.raises(NoTime, match=r"yesterday, .*--since today"):
        _recorded(files, False, None, None)
    assert "add --policy, --budget or --phase" in told(*named(files))
    assert "add --policy, --budget or --phase" not in told(*named(files), "--policy", "fifo")


def test_what_is_left_out_of_a_persons_word_is_told(tmp_path: Path) -> None:
    """A load that a person asked for is not played again, a phase that was entered is, and both are said."""
    files, _ = journal(tmp_path, DEMAND, documented(38 * GB))
    files[0].write_bytes(files[0].read_bytes() + step_line(m.LoadAsked(100.0, FAST, "ada"), []))
    text = " ".join(told(*named(files)).split())
    assert "left out: 1 commands of a person" in text
    assert "phases are entered when they were then" in text


def test_who_was_not_served_is_counted_and_left_out(tmp_path: Path) -> None:
    """Who hung up waiting, who was refused, and whom an end of the daemon cut off are told, not played."""
    files, _ = journal(tmp_path, DEMAND, documented(38 * GB), cut=30.0)
    lines = files[0].read_bytes().splitlines(keepends=True)
    at = 25.0
    lines += [
        step_line(m.Arrived(at, "x1", QUALITY), []),
        step_line(m.Left(at, "x1"), []),
        step_line(m.Arrived(at, "x2", QUALITY), [m.Refuse("x2", 503, "no", "busy")]),
        step_line(m.Arrived(at, "x3", QUALITY), []),  # the next file's snapshot does not know it
    ]
    files[0].write_bytes(b"".join(lines))
    found = everything(files)
    assert (found.hung_up, found.refused, found.cut_off) == (1, 1, 1)
    assert len(found.served) == len(DEMAND)
    text = told(*named(files))
    assert "1 were refused, 1 hung up before they were served, 1 were cut off" in " ".join(text.split())


def test_a_sleep_moves_the_clock(tmp_path: Path) -> None:
    """What comes after a sleep is told at its own time of day."""
    heard_before = Job("h1", FAST, 0.2, "probe", "", 310.0)
    files, _ = journal(tmp_path, (*DEMAND, heard_before), documented(38 * GB), cut=300.0, gap=3600.0)
    whole = everything(files)
    assert max(each.arrived for each in whole.served) == pytest.approx(
        (NINE + timedelta(seconds=200.0 + THINK + 3600.0)).timestamp()
    )


def test_the_picture_shows_each_course(tmp_path: Path) -> None:
    """An SVG with the models and a panel for each course, the same each time; other kinds are refused by name."""
    files, _ = journal(tmp_path, DEMAND, documented(38 * GB))
    drawn = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for file in drawn:
        told(*named(files), "--budget", "64GB", "--picture", file)
    text = drawn[0].read_text()
    for word in ("qwen-fast", "as it was", "default, 64.0 GB", "waiting, up to"):
        assert word in text
    assert SECRET not in text
    assert text == drawn[1].read_text()
    told(*named(files), "--picture", tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert "let the name end in one of them" in told(*named(files), "--picture", "x.gif", code=2)


def test_without_what_draws_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """matplotlib is an extra: where it is missing, only a picture fails, and says how to get it."""
    files, _ = journal(tmp_path, DEMAND, documented(38 * GB))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "ollama-scheduler[picture]" in told(*named(files), "--picture", tmp_path / "a.svg", code=2)
    told(*named(files))


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "no snapshot"), (b"{}\n", "no snapshot"), (None, "No such file")],
)
def test_a_file_that_is_no_journal_is_told(tmp_path: Path, content: bytes | None, says: str) -> None:
    """The file and what is wrong with it; exit code 2."""
    file = tmp_path / "x.jsonl"
    if content is not None:
        file.write_bytes(content)
    text = told("--journal", file, code=2)
    assert says in text or "not JSON" in text
    assert str(file) in text


def test_a_bad_line_is_told_by_its_number(tmp_path: Path) -> None:
    """A line that is no step of a journal is named by file and line; one that was never finished is left out."""
    files, _ = journal(tmp_path, DEMAND, documented(38 * GB))
    whole = files[0].read_bytes()
    files[0].write_bytes(whole + b'{"fact":{"type":"Arri')
    assert len(everything(files).served) == len(DEMAND)
    files[0].write_bytes(whole + b'{"fact":{"type":"Arrived","at":"x"},"orders":[]}\n')
    number = whole.count(b"\n") + 1
    assert f"{files[0]}:{number}: Arrived" in told(*named(files), code=2).replace("\n", "")


async def test_the_journal_of_a_daemon_that_ran(real_ollama: Any, watchers: None, tmp_path: Path) -> None:
    """Requests to a real Ollama through a running daemon: waits and loads of its journal are those that its facts and
    orders show, and simulated again the loads are the same."""
    staged = (
        StagedModel(QUALITY, 35_000_000_000, load_seconds=0.5, num_ctx=131_072),
        StagedModel(CODER, 20_000_000_000, load_seconds=0.3, num_ctx=32_768),
        StagedModel(FAST, 5_000_000_000, load_seconds=0.2, num_ctx=8_192),
    )
    ollama: RealOllama = await real_ollama(models=staged)
    settings: dict[str, Any] = {"ollama_settings": {"device": "38338MiB"}}
    async with Live.start(ollama.url, tmp_path / "state", **settings) as live:
        for alias in ("gpt-4", "claude-3-haiku", "claude-3-haiku", "claude-3-5-sonnet"):
            assert (await live.chat(alias, options={"num_predict": 4}))[0] == 200
            await live.until(lambda: live.state.transition is None)
        took = [fact.took for fact, _ in live.steps if isinstance(fact, m.Loaded)]
        started = {order.id: fact.at for fact, orders in live.steps for order in orders if isinstance(order, m.Forward)}
        waits = sorted(started[fact.id] - fact.at for fact, _ in live.steps if isinstance(fact, m.Arrived))
    files = sorted((tmp_path / "state" / "journal").glob("*.jsonl"))
    was = as_it_was(everything(files))
    assert was.waits == pytest.approx(waits, abs=1e-3)
    assert was.loads == len(took) == 3
    assert was.load_seconds == pytest.approx(sum(took))
    content = json.loads(told(*named(files), "--json"))
    assert content["simulated_as_it_was"]["loads"] == 3
    assert content["careful"] == ""


@pytest.mark.parametrize("command", ["whatif --since 2026-11-01", "journal verify"])
def test_another_daemons_journal_is_never_read_unsaid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Of a daemon that does not answer the journal is read where it was not named, and that is told; where `--url`
    names one, or one names a folder that is not here, nothing else is read; and no file is read beside `--url`."""
    (tmp_path / "usual").mkdir()
    (file,), _ = journal(tmp_path / "usual" / "journal", DEMAND, documented(38 * GB))
    monkeypatch.setattr("scheduler.ask.state_folder", lambda: tmp_path / "usual")
    monkeypatch.setenv("OLLAMA_SCHEDULER_LISTEN", "127.0.0.1:9")

    def told_by(*more: str) -> Any:
        return CliRunner().invoke(command_line([]), [*command.split(), *more])

    usual = told_by()
    assert usual.exit_code < 2, usual.output
    assert "no scheduler answers at http://127.0.0.1:9" in usual.stderr
    assert str(file.parent) in usual.stderr
    named = told_by("--url", "http://127.0.0.1:9")
    assert (named.exit_code, named.stdout) == (2, "")
    with daemon({"/status": lambda _: {"verdict": "ok", "state_folder": "/elsewhere"}}) as url:
        other = told_by("--url", url)
    assert (other.exit_code, other.stdout) == (2, "")
    assert "keeps its state in /elsewhere, which is no folder of yours here" in other.stderr
    both = told_by("--url", url, *([] if "verify" in command else ["--journal"]), str(file))
    assert (both.exit_code, "--url say two different things" in both.stderr) == (2, True)


def test_loads_that_a_person_ordered_are_told(tmp_path: Path) -> None:
    """They count in how it was, and that is told; a simulation that lacks them is not off for that."""
    asked = (m.LoadAsked(700.0, QUALITY, "ada"), m.Pinned(800.0, CODER, 800.0 + 60.0, "ada"))
    later = Job("z", CODER, 1.0, "agent", "", 1500.0)
    files, happened = journal(tmp_path, (*DEMAND, later), documented(38 * GB), events=asked)
    found = everything(files)
    assert [(load.model, load.asked) for load in found.loads if load.at > NINE.timestamp() + 650.0][:2] == [
        (QUALITY, True),
        (CODER, True),
    ]
    content = json.loads(told(*named(files), "--json"))
    left_out = content["left_out"]
    assert (left_out["commands"], left_out["ordered_loads"], left_out["ordered_load_seconds"]) == (2, 2, 30.0)
    assert content["as_it_was"]["loads"] == happened.loads
    assert content["simulated_as_it_was"]["loads"] == happened.loads - 2
    assert content["careful"] == ""
    assert "though the 2 loads (30 s) that they ordered count in how it was" in told(*named(files))


def test_what_is_within_chance_is_not_called_better() -> None:
    """A difference that is no larger than that of the simulation of what was from what was is worth no name: J
    decides. A larger one is named as ever."""

    def course(policy: str, j: float, loads: int = 10, wait: float = 2.0) -> Result:
        served = [Served(Job(str(n), FAST, 1.0, "probe" if n else "agent"), 0.0, wait, 9.0) for n in range(2)]
        return Result(policy, served, loads=loads, load_seconds=j - wait)

    was, simulated = course("as it was", 1000.0), course("the same, simulated", 900.0, 12, 3.0)
    found = recorded.Recorded(0.0, 1.0)
    off = whatif.margin(found, was, simulated)
    assert (off.j, off.mean, off.loads) == (100.0, 1.0, 2)
    chance = "no difference worth naming, since the simulation of what was is off by as much: J"
    for other in (course("x", 810.0, 2, 9.0), course("x", 990.0, 2, 9.0)):
        assert f"x: {chance}" in whatif.verdict(simulated, other, off)
    assert "x: better: J 500" in whatif.verdict(simulated, course("x", 500.0, 12, 3.0), off), "with equal waits, too"
    assert "x: better: J 700" in whatif.verdict(simulated, course("x", 700.0, 9), off)
    assert "x: worse: J 1010" in whatif.verdict(simulated, course("x", 1010.0, 15), off)
    assert "x: much the same: J" in whatif.verdict(simulated, course("x", 899.0, 15), off)
    found.loads = [recorded.LoadSeen(0.0, FAST, 150.0, 1, asked=True)]
    assert whatif.margin(found, was, simulated).j == 0.0
    lost = course("x", 1.0)
    lost.unserved = 3
    assert "x: worse: 3 requests would not have been served" in whatif.verdict(simulated, lost, off)
    simulated.unserved = 5
    assert "x: better: J 1" in whatif.verdict(simulated, lost, off), "more were not served as it was"


def test_what_a_saved_workload_lacks_is_told(tmp_path: Path) -> None:
    """The seconds that loads took, slots, budget and phase are printed as `simulate` takes them, and then its loads
    take what was measured."""
    host = documented(38 * GB)
    slow = host.with_models([type(x)(x.name, x.size, 3 * x.load, x.unload, x.parallel) for x in host.models])
    files, _ = journal(tmp_path, DEMAND, slow)
    saved, config = tmp_path / "my demand.jsonl", tmp_path / "c.toml"
    text = told(*named(files), "--save-trace", saved)
    command, _, advice = text.partition(f"{saved} holds the demand alone")[2].partition(", if the configuration says:")
    config.write_text("\n".join(line.strip() for line in advice.splitlines()))
    words = shlex.split(next(line for line in command.splitlines() if "simulate" in line))[1:]
    played = CliRunner().invoke(command_line(words), [*words, "--config", str(config), "--policy", "default", "--json"])
    (ours,) = json.loads(played.stdout)[0]["policies"]
    content = json.loads(told(*named(files), "--save-trace", saved, "--json"))
    assert ours["load_seconds"] > 100.0
    assert ours["load_seconds"] == pytest.approx(content["simulated_as_it_was"]["load_seconds"])
    assert content["simulate"]["models"][QUALITY] == {"load": 54.0, "unload": 2.0, "parallel": 2}


def test_a_place_where_nothing_can_be_saved_is_told(tmp_path: Path) -> None:
    """The option, the path and why; exit code 2."""
    files, _ = journal(tmp_path, DEMAND, documented(38 * GB))
    file = tmp_path / "none" / "demand.jsonl"
    text = told(*named(files), "--save-trace", file, code=2)
    assert text.startswith(f"--save-trace {file}: cannot be written: No such file or directory; ")


def test_what_was_loaded_before_anybody_asked_does_not_count(tmp_path: Path) -> None:
    """It is there when the first request comes, in the simulation as well, so it costs neither; what it took is
    measured all the same."""
    asked = (m.LoadAsked(1.0, CODER, "ada"),)
    files, happened = journal(tmp_path, [Job("a", CODER, 3.0, "agent", "", 60.0)], documented(38 * GB), events=asked)
    content = json.loads(told(*named(files), "--json"))
    assert happened.loads > 0
    assert content["as_it_was"]["loads"] == content["simulated_as_it_was"]["loads"] == 0
    assert content["left_out"]["ordered_loads"] == 0
    assert content["as_it_was"]["j"] == content["simulated_as_it_was"]["j"] == 0.0
    assert measured(everything(files))[CODER].load == pytest.approx(12.0)

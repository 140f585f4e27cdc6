"""`simulate` plays a workload through the daemon's own core and says what is wrong with what it is given."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scheduler.__main__ import command_line
from scheduler.settings_environment import variable_of
from scheduler.settings_keys import known_keys
from scheduler.simulated_policies import OTHERS

CODER, QUALITY = "qwen2.5-coder:32b-instruct", "qwen-quality-128k:latest"
TRACE = (
    {"id": 1, "model": CODER, "service": 10.0, "class": "agent", "session": "a", "t": 0.0},
    {"id": 2, "model": QUALITY, "service": 5.0, "class": "chat", "session": "b", "t": 100.0},
    {"id": 3, "model": QUALITY, "service": 5.0, "class": "chat", "session": "b", "after": 2, "think": 3.0},
    {"id": 4, "model": CODER, "service": 0.3, "class": "health", "t": 130.0},
)


@pytest.fixture(name="bare", autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration but the documented one."""
    for name in ("XDG_CONFIG_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    for key in known_keys():
        monkeypatch.delenv(variable_of(key), raising=False)


def written(folder: Path, *rows: Any, name: str = "trace.jsonl") -> Path:
    """A workload of these rows; a text is a row as it stands."""
    text = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    file = folder / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return file


def run(*arguments: object, code: int = 0) -> str:
    """What the command prints; it must end with this code."""
    words = ["simulate", *map(str, arguments)]
    result = CliRunner().invoke(command_line(words), words)
    assert result.exit_code == code, result.output
    return result.output


def figures(*arguments: object) -> list[dict[str, Any]]:
    """What it prints as JSON."""
    content: list[dict[str, Any]] = json.loads(run(*arguments, "--json"))
    return content


def test_waits_and_loads_are_those_of_the_documented_models(tmp_path: Path) -> None:
    """One coder request and two of a person: 12 and 18 s of loading, nothing for the probe, and J adds it up."""
    (told,) = figures("--trace", written(tmp_path, *TRACE), "--budget", "38GB", "--policy", "default")
    (ours,) = told["policies"]
    assert told["budget"] == 38_000_000_000
    assert ours["requests"] == 3  # a probe is no request
    assert ours["unserved"] == 0
    by_class = ours["classes"]
    assert by_class["agent"]["max"] == pytest.approx(12.0)
    assert by_class["interactive"]["requests"] == 2
    assert by_class["interactive"]["max"] == pytest.approx(1.5 + 18.0)  # coder leaves, quality is loaded
    assert ours["loads"] == len({CODER, QUALITY}) + 1  # the fast one comes along with the coder
    waited = 12.0 + 3 * by_class["interactive"]["mean"] * 2
    assert ours["j"] == pytest.approx(waited + ours["load_seconds"])


def test_every_policy_can_be_named(tmp_path: Path) -> None:
    """Ours and others' by their names, each once, in the order given; compressed files are read too."""
    names = ["fifo", "default", *OTHERS]
    asked = [word for name in [*names, "fifo"] for word in ("--policy", name)]
    (told,) = figures("--trace", written(tmp_path, *TRACE, name="t.jsonl.gz"), "--budget", "38GB", *asked)
    assert [each["policy"] for each in told["policies"]] == names
    assert all(each["requests"] == 3 for each in told["policies"])


def test_the_configuration_counts(tmp_path: Path) -> None:
    """Seconds and slots of [simulate.models], sizes of [models], aliases, and the policy of the file are followed."""
    config = tmp_path / "c.toml"
    config.write_text(
        """
        policy = "fifo"
        [memory]
        budget = "12GB"
        [models.a]
        size = "8GB"
        [models.b]
        size = "10GB"
        [aliases]
        "gpt-4" = "a"
        [simulate.models.a]
        load = "7s"
        unload = 0
        """
    )
    rows = [
        {"id": "x", "model": "gpt-4", "service": 1.0, "t": 0.0},
        {"id": "y", "model": "B:latest", "service": 1.0, "class": "batch", "t": 50.0},
    ]
    (told,) = figures("--trace", written(tmp_path, *rows), "--config", config)
    ours = told["policies"][0]
    assert ours["policy"] == "fifo"
    assert ours["load_seconds"] == pytest.approx(7.0 + 10.0)  # b: 10 GB at 1 GB/s
    assert ours["classes"]["interactive"]["max"] == pytest.approx(7.0)
    assert ours["classes"]["batch"]["max"] == pytest.approx(10.0)  # a is gone at once


def test_people_get_a_table(tmp_path: Path) -> None:
    """What nobody reads by a script has a block a policy, its classes below it, and nothing cut off."""
    text = run("--trace", written(tmp_path, *TRACE), "--budget", "38GB")
    assert "4 requests, 38.0 GB (as asked), phase normal, Ollama's gates off" in text
    rows = [line.split() for line in text.splitlines()]
    assert [row[0] for row in rows if row[1:2] == ["all"]] == ["default", "ollama", "llama-swap"]
    assert sum(row[:1] == ["interactive"] for row in rows) == 3
    assert "ollama: Ollama's 80 % rule for a load beside others holds for it all the same" in text


def test_it_is_said_whether_the_gates_are_on(tmp_path: Path) -> None:
    """On for all of them: nothing needs to be said of Ollama's own rule."""
    text = run("--trace", written(tmp_path, *TRACE), "--budget", "38GB", "--gates")
    assert "Ollama's gates on" in text
    assert "80 %" not in text


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('{"id": 1,', "line 2: not JSON"),
        ({"id": 1, "model": CODER, "service": -1, "t": 0}, "line 2: service is -1"),
        ({"id": 1, "model": CODER, "service": 1, "class": "vip", "t": 0}, "line 2: class is 'vip'"),
        ({"id": 1, "model": CODER, "service": 1}, "line 2: one of t (seconds) and after"),
        ({"id": 9, "model": CODER, "service": 1, "after": 8}, "comes after '8', which is not there"),
        ({"id": 9, "model": "qwen-fats", "service": 1, "t": 0}, "id '9': model 'qwen-fats' is unknown; the nearest"),
        ({"id": 9, "model": "claude-opus-4", "service": 1, "t": 0}, "paid route not configured"),
    ],
)
def test_a_wrong_workload_is_told_by_file_line_and_value(tmp_path: Path, row: Any, says: str) -> None:
    """Whatever is wrong in a trace, the message says where and what; exit code 2."""
    first = {"id": 0, "model": CODER, "service": 1, "t": 0}
    file = written(tmp_path, first, row)
    text = run("--trace", file, "--budget", "48GB", code=2)
    assert says in text
    assert str(file) in text
    assert says in json.loads(run("--trace", file, "--budget", "48GB", "--json", code=2))["error"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--budget", "48XB"), "unknown unit"),
        (("--budget", "30GB"), "set 'quality' needs 35.0 GB, more than the budget of 30.0 GB (as asked)"),
        (("--budget", "48GB", "--policy", "olama"), 'the nearest known is "ollama"'),
        (("--budget", "48GB", "--phase", "orchestre"), 'the nearest known is "orchestra"'),
    ],
)
def test_wrong_options_are_told(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    """A budget, policy or phase that cannot be used is named, with what would be right."""
    assert says in run("--trace", written(tmp_path, *TRACE), *words, code=2)


def test_a_phase_that_is_asked_for_is_the_one_played(tmp_path: Path) -> None:
    """In the orchestra the coding set is home and comes back unasked; in the normal phase it does not."""
    file = written(tmp_path, *TRACE[:2], {"id": 9, "model": CODER, "service": 1.0, "class": "helper", "t": 400.0})
    normal, home = (
        figures("--trace", file, "--budget", "38GB", "--policy", "default", "--phase", phase)[0]["policies"][0]
        for phase in ("normal", "orchestra")
    )
    assert home["classes"]["helper"]["max"] == 0.0
    assert normal["classes"]["helper"]["max"] > 0.0


def test_the_bound_is_what_one_who_knew_could_have_had(tmp_path: Path) -> None:
    """Two requests at times of their own: both models loaded before they are wanted, so that only loading costs."""
    rows = [{**TRACE[0], "t": 50.0}, {**TRACE[1], "t": 200.0}]
    file = written(tmp_path, *rows)
    (told,) = figures("--trace", file, "--budget", "38GB", "--policy", "default", "--bound")
    assert told["bound"]["exact"]
    assert told["bound"]["j"] == pytest.approx(12.0 + 18.0)
    assert told["bound"]["j"] < told["policies"][0]["j"]
    text = run("--trace", file, "--budget", "38GB", "--policy", "default", "--bound")
    assert "one who knew the future: J 30 with 2 loads (exact)" in text


def test_a_missing_workload_is_told_before_the_budget(tmp_path: Path) -> None:
    """Whoever mistypes the file hears of that, not of a budget; and what there is to choose from is listed once."""
    missing = tmp_path / "none.jsonl"
    assert "none.jsonl" in run("--trace", missing, "--budget", "30GB", code=2)
    assert run("--trace", missing, "--policy", "bogus", code=2).count("known are") == 1


def test_every_wait_is_held_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the default states is looked at in every simulation; where it waits longer than it says, that is an error,
    told with who waited, how long and the bound's terms. Who states no bound is not held to one."""
    trace = Path(__file__).parent / "data" / "workloads" / "starvation.0.jsonl.gz"
    words = ("--trace", trace, "--budget", "38GB", "--policy", "default")
    assert "default: waits past its stated bound: 0" in run(*words)
    ((ours, ollama),) = [told["policies"] for told in figures(*words, "--policy", "ollama")]
    assert (ours["past_bound"], ollama["past_bound"]) == ([], None)
    monkeypatch.setattr("policies.default.floor", lambda world: 1e5)
    text = run(*words, code=1)
    assert "waits past its stated bound: 1; " in text
    assert "(interactive) has waited" in text
    assert "the larger of patience 150.0 and floor" in text
    (broken,) = json.loads(run(*words, "--json", code=1))
    assert broken["policies"][0]["past_bound"][0] in text


@pytest.mark.parametrize(("size", "mend"), [("48", '"48GB"'), ("48.5", '"48.5GB"'), ("0", '"48GB"'), ("48G", '"48GB"')])
def test_a_budget_without_its_unit_is_refused(tmp_path: Path, size: str, mend: str) -> None:
    """A number alone would be bytes, in which no model fits: option, value and what would be right are named."""
    text = run("--trace", written(tmp_path, *TRACE), "--budget", size, code=2)
    assert text.startswith(f'--budget: "{size}" ')
    assert mend in text
    assert '"auto"' in text


def test_a_budget_as_this_machine_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` is what it is in a configuration, whatever the configuration says."""
    monkeypatch.setattr("scheduler.simulated_host.auto_budget", lambda: (38 * 10**9, "auto: a test"))
    config = tmp_path / "c.toml"
    config.write_text('[memory]\nbudget = "48GB"\n')
    words = ("--trace", written(tmp_path, *TRACE), "--config", config)
    assert "4 requests, 38.0 GB (auto: a test), phase" in run(*words, "--budget", "auto")
    assert "4 requests, 48.0 GB (memory.budget), phase" in run(*words)


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.jsonl.gz"])
def test_a_workload_in_which_nobody_asks_is_told(tmp_path: Path, name: str) -> None:
    """An empty file is no table of zeros: it is named, with a line that would be right, which is."""
    file = written(tmp_path, "", name=name)
    text = run("--trace", file, "--budget", "48GB", code=2)
    assert text.startswith(f"{file}: no request is in it; ")
    assert "--budget" not in run("--trace", file, "--budget", "1GB", code=2)
    _, _, example = text.partition("such as ")
    run("--trace", written(tmp_path, example.strip()), "--budget", "48GB")


@pytest.fixture(name="coding_only")
def _coding_only(tmp_path: Path) -> Path:
    """A configuration with a phase that leaves quality out."""
    config = tmp_path / "coding.toml"
    config.write_text('[phases.normal]\nsets = ["quality", "coding"]\n[phases.code]\nsets = ["coding"]\n')
    return config


def test_who_is_never_served_is_told(tmp_path: Path, coding_only: Path) -> None:
    """Requests that the phase refuses are counted, with their model and the words they got; exit code 1, and nothing
    is compared with what they did not cost. What others do knows no phases, which is told as well."""
    words = ("--trace", written(tmp_path, *TRACE), "--budget", "48GB", "--config", coding_only, "--phase", "code")
    text = run(*words, "--policy", "default", "--policy", "ollama", "--bound", code=1)
    assert "default: NOT SERVED: 2 of 4 requests were refused or never served" in text
    assert f"default: not served, 2 for {QUALITY}: model '{QUALITY}' is not served in phase 'code'" in text
    assert "ollama: it knows no phases, so it serves what phase code leaves out, too" in text
    assert "times that" not in text
    (told,) = json.loads(run(*words, "--policy", "default", "--policy", "ollama", "--json", code=1))
    ours, ollama = told["policies"]
    assert (ours["unserved"], ollama["unserved"]) == (2, 0)
    assert run(*words, "--policy", "ollama")


def test_what_the_optimum_minds_is_told(tmp_path: Path) -> None:
    """Exact is said of what it minds: no gates, no sets; where arrivals depend on answers only the policy is held
    beside it whose arrivals they were."""
    file = written(tmp_path, *TRACE)
    words = ("--trace", file, "--budget", "38GB", "--gates", "--bound")
    text = run(*words, "--policy", "lru", "--policy", "default")
    assert "does not mind sets, phases and Ollama's gates (--gates or not)" in text
    (shares,) = [line.partition("times that: ")[2] for line in text.splitlines() if "times that: " in line]
    assert shares.split()[0::2] == ["lru"]
    assert "taken to come as it did under lru, even if it answers sooner: only lru is compared" in text
    assert "--policy default" in text
    open_only = run("--trace", written(tmp_path, *TRACE[:2]), *words[2:], "--policy", "lru", "--policy", "default")
    assert "default" in open_only.partition("times that: ")[2]
    assert "taken to come" not in open_only
    assert "Ollama's gates" in json.loads(run(*words, "--json"))[0]["bound"]["minds"]


def test_a_broken_archive_is_told(tmp_path: Path) -> None:
    """Bytes that begin as an archive does, and then are none."""
    file = tmp_path / "broken.jsonl.gz"
    file.write_bytes(gzip.compress(b"{}")[:10] + b"abcdefgh12345678")
    assert f"{file}: cannot be read: " in run("--trace", file, code=2)


def test_a_folder_is_no_workload(tmp_path: Path) -> None:
    """What cannot be read is told with the reason in words."""
    assert run("--trace", tmp_path, code=2) == f"{tmp_path}: cannot be read: Is a directory\n"

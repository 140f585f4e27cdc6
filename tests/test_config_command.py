"""`config show|check|schema` answer people in lines and scripts in JSON, with the exit codes their help names."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from scheduler.config_command import config_app
from scheduler.settings_docs import settings_page, settings_schema
from scheduler.settings_environment import variable_of
from scheduler.settings_keys import known_keys
from scheduler.settings_read import documented, read_settings

ROOT = Path(__file__).parents[1]
GOOD = """
[memory]
budget = "38GB"
[models."Big Model:latest"]
size = "35GB"
[models.small]
size = "5GiB"
[sets]
one = ["Big Model"]
[aliases]
"gpt-4" = { model = "small", class = "agent" }
other = "nobody"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good configuration, and an environment without any other."""
    for name in ("XDG_CONFIG_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    for key in known_keys():
        monkeypatch.delenv(variable_of(key), raising=False)
    monkeypatch.delenv("OLLAMA_SCHEDULER_CONFIG", raising=False)
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    return path


def run(*arguments: object, code: int = 0) -> str:
    """What the command prints; it must end with this code."""
    result = CliRunner().invoke(config_app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_show_is_toml_that_means_the_same(file: Path, tmp_path: Path) -> None:
    """What `show` prints can be used as the file it was read from: it gives the same settings."""
    text = run("show", "--config", file)
    assert tomllib.loads(text)["models"]["big model:latest"]["size"] == "35GB"
    copy = tmp_path / "copy.toml"
    copy.write_text(text)
    assert read_settings(copy).settings == read_settings(file).settings


def test_show_tells_where_each_value_is_from(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default, file and environment are told apart at each line."""
    monkeypatch.setenv("OLLAMA_SCHEDULER_QUEUE__LIMIT", "7")
    lines = run("show", "--config", file).splitlines()
    ends = {line.partition(" = ")[0]: line.rpartition("# ")[2] for line in lines if " = " in line}
    assert ends["budget"] == "file"
    assert any(line.startswith("limit = 7 ") and line.endswith("# OLLAMA_SCHEDULER_QUEUE__LIMIT") for line in lines)
    assert ends["policy"] == "default"


def test_show_keeps_an_empty_table(file: Path, tmp_path: Path) -> None:
    """A table emptied on purpose stays empty when the output is used as a file."""
    file.write_text("models = {}\nsets = {}\nphases = {}\naliases = {}\n")
    copy = tmp_path / "copy.toml"
    copy.write_text(run("show", "--config", file))
    assert read_settings(copy).settings.models == {}
    assert read_settings(copy).settings == read_settings(file).settings


def test_show_without_a_file(file: Path) -> None:
    """Without a file the documented table is shown, and said to be that."""
    text = run("show")
    assert text.startswith("# no file")
    assert tomllib.loads(text)["sets"] == documented()["sets"]


def test_show_as_json(file: Path) -> None:
    """A script gets the file, the nested settings and the origins by dotted key."""
    answer = json.loads(run("show", "--config", file, "--json"))
    assert answer["file"] == str(file)
    assert answer["settings"]["memory"]["budget"] == "38GB"
    assert answer["origin"]["memory.budget"] == "file"
    assert answer["origin"]["aliases.gpt-4.class"] == "file"


def test_check_says_what_fits(file: Path) -> None:
    """A good file is ok, each set with its size, own sets too, and what is doubtful is a warning."""
    lines = run("check", "--config", file).splitlines()
    assert lines[0] == f"ok: {file}"
    assert lines[1] == "budget 38.0 GB (memory.budget)"
    assert "  one: 35.0 GB fits (big model:latest)" in lines
    assert "  small:latest: 5.4 GB fits (small:latest)" in lines
    assert lines[-1].startswith("warning: aliases.other:")


def test_check_as_json(file: Path) -> None:
    """A script gets the sets with bytes and a verdict, and the warnings in parts."""
    answer = json.loads(run("check", "--config", file, "--json"))
    assert answer["ok"] is True
    assert answer["budget"] == {"bytes": 38 * 10**9, "from": "memory.budget"}
    assert answer["sets"][0] == {"name": "one", "models": ["big model:latest"], "bytes": 35 * 10**9, "fits": True}
    assert answer["warnings"][0]["where"] == "aliases.other"


def test_check_with_a_budget_known_only_here(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With budget auto a set that does not fit this machine is told, and is no error."""
    monkeypatch.setattr("scheduler.config_command.auto_budget", lambda: (10**10, "auto: a test's"))
    file.write_text(GOOD.replace('"38GB"', '"auto"'))
    text = run("check", "--config", file)
    assert "budget 10.0 GB (auto: a test's)" in text
    assert text.startswith(f"ok: {file}")
    assert "  one: 35.0 GB TOO LARGE" in text
    told = "35.0 GB, more than the budget here, 10.0 GB (auto: a test's); raise the budget or declare its true size"
    assert f'warning: sets.one: ["big model:latest"] needs {told}' in text
    (warning,) = (
        w for w in json.loads(run("check", "--config", file, "--json"))["warnings"] if w["where"] == "sets.one"
    )
    assert "10.0 GB" in warning["problem"]


def test_check_where_no_set_fits(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration of which nothing can be served on this machine is not called ok."""
    monkeypatch.setattr("scheduler.config_command.auto_budget", lambda: (10**9, "auto: a test's"))
    file.write_text(GOOD.replace('"38GB"', '"auto"'))
    assert run("check", "--config", file).startswith("good, but NO SET FITS HERE: ")


def test_check_tells_which_documented_names_are_gone(file: Path) -> None:
    """Whoever wrote a table to add to ours learns that it replaced ours; whoever wrote none hears nothing."""
    assert "models qwen-quality-128k:latest, qwen2.5-coder:32b-instruct, qwen-fast:latest; " in run(
        "check", "--config", file
    )
    gone = json.loads(run("check", "--config", file, "--json"))["replaced"]
    assert gone["sets"] == ["quality", "coding"]
    assert gone["aliases"] == ["claude-sonnet-4-5", "claude-3-5-sonnet", "claude-3-haiku"]
    file.write_text('[aliases]\nmine = "qwen-fast"\n')
    assert set(json.loads(run("check", "--config", file, "--json"))["replaced"]) == {"aliases"}
    file.write_text('policy = "fifo"\n')
    assert json.loads(run("check", "--config", file, "--json"))["replaced"] == {}
    assert "gone" not in run("check", "--config", file)


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_bad_file_ends_with_two(file: Path, command: str) -> None:
    """Problems are lines for a person or parts for a script, exit code 2, and never a traceback."""
    file.write_text('policy = "none"\n[memory]\nbudgte = 1\n')
    lines = run(command, "--config", file, code=2).splitlines()
    assert lines[0] == f"{file} cannot be used:"
    assert len(lines) == 3
    answer = json.loads(run(command, "--config", file, "--json", code=2))
    assert answer["ok"] is False
    assert answer["error"].splitlines() == lines
    assert {problem["where"] for problem in answer["problems"]} == {"policy", "memory.budgte"}
    for text in ("a = " + "[" * 9999, "a = " + "9" * 9999):
        file.write_text(text)
        assert run(command, "--config", file, code=2).splitlines()[0] == f"{file} cannot be used:"


def test_schema_knows_good_from_bad(file: Path) -> None:
    """The printed schema takes the documented file and a good one, and refuses a misspelt key and a wrong kind."""
    schema: dict[str, Any] = json.loads(run("schema"))
    assert schema == settings_schema()
    for good in (documented(), tomllib.loads(GOOD)):
        jsonschema.validate(good, schema)
    for bad in ({"memory": {"budgte": 1}}, {"queue": {"limit": "many"}}, {"aliases": {"a": {"class": "agent"}}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


def test_help_names_the_exit_codes(file: Path) -> None:
    """The exit codes are documented where a person looks for them."""
    for command in ("show", "check"):
        assert "0 the configuration is good, 2 it is not" in " ".join(run(command, "--help").split())


def test_the_page_is_made_from_the_settings() -> None:
    """docs/settings.md is what `python -m scheduler.settings_docs` writes, and it names every key and variable."""
    page = settings_page()
    assert (ROOT / "docs" / "settings.md").read_text("utf-8") == page
    for key in known_keys():
        assert key.sentence in page
        assert not key.in_environment or f"`{variable_of(key)}`" in page

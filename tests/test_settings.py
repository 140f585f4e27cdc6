"""The configuration is read as documented, and whatever is wrong with it is said by name before anything starts."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from scheduler.settings import Settings
from scheduler.settings_check import all_sets, check, sets_too_large
from scheduler.settings_environment import EXEMPT, variable_of
from scheduler.settings_keys import known_keys, nearest_key
from scheduler.settings_problems import SettingsError
from scheduler.settings_read import (
    Read,
    complete,
    default_path,
    documented,
    documented_text,
    parse,
    read_settings,
    settings_of,
)
from scheduler.settings_routes import Route, routes

BAD = sorted((Path(__file__).parent / "badconfig").glob("*.toml"))
JARGON = ("pydantic", "Traceback", "validation error", "type=", "input_value", "tomllib", "Field required")


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the configuration or the environment of whoever runs it."""
    for name in ("XDG_CONFIG_HOME", "HOME", "APPDATA", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    for key in known_keys():
        monkeypatch.delenv(variable_of(key), raising=False)
    monkeypatch.delenv("OLLAMA_SCHEDULER_CONFIG", raising=False)


def written(folder: Path, text: str) -> Path:
    """A configuration file with this text."""
    path = folder / "some.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path | None = None) -> str:
    """What a person sees when this configuration is refused."""
    with pytest.raises(SettingsError) as told:
        read_settings(path)
    return str(told.value)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_configurations(path: Path) -> None:
    """Each bad file is refused with the words at its top, under its own name, and without a library's jargon."""
    expected = path.read_text("utf-8").splitlines()[0].removeprefix("# expect: ")
    told = refusal(path)
    assert expected in told
    assert str(path) in told
    assert not [word for word in JARGON if word in told]


def test_there_are_bad_configurations() -> None:
    """The walk over bad files has found them: at least the fifteen that were asked for."""
    assert len(BAD) >= 15


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    """Three mistakes are three lines, so that nobody mends them one start at a time."""
    path = written(tmp_path, 'policy = "x"\n[queue]\nlimit = 0\n[memory]\nbudgt = 1\n')
    told = refusal(path)
    assert len(told.splitlines()) == 4
    assert "queue.limit: 0 is too small; write 1 or more" in told


def test_without_a_file_the_documented_table_holds() -> None:
    """No file: the routing table of default.toml, budget auto, and every origin is the default."""
    read = read_settings()
    assert read.file is None
    assert read.warnings == ()
    assert set(read.origin.values()) == {"default"}
    assert read.settings.memory.budget == "auto"
    assert read.settings.sets["coding"] == ("qwen2.5-coder:32b-instruct", "qwen-fast:latest")
    assert read.settings.phases["orchestra"].home == "coding"
    assert read.settings.phases["normal"].settle == 30.0
    assert [read.settings.models[name].size for name in read.settings.models] == [35 * 10**9, 20 * 10**9, 5 * 10**9]


def test_default_toml_is_every_default() -> None:
    """default.toml names every key there is, and its scalars are the defaults of the models."""
    bare = Settings().model_dump()
    ours = Settings.model_validate(documented()).model_dump()
    for table in ("models", "sets", "phases", "aliases"):
        assert ours.pop(table)
        bare.pop(table)
    assert ours == bare
    named = {key.path for key in known_keys()}
    optional = {("phases", "NAME", "home"), ("phases", "NAME", "settle"), ("models", "NAME", "parallel")}
    optional.add(("models", "NAME", "unload_after_idle"))  # it is as memory.unload_after_idle says
    optional |= {("simulate", "models", "NAME", key) for key in ("load", "unload", "parallel")}
    optional |= {key.path for key in known_keys() if key.many}
    text = documented()
    for path in named - optional:
        assert _holds(text, path), path


def _holds(table: Any, path: tuple[str, ...]) -> bool:
    if not path:
        return True
    if path[0] == "NAME":
        return any(_holds(each, path[1:]) for each in table.values())
    return isinstance(table, dict) and path[0] in table and _holds(table[path[0]], path[1:])


def test_classes_default_one_by_one() -> None:
    """The documented patience of each class, in seconds."""
    classes = settings_of({"classes": {"agent": {}, "batch": {"patience": "1h"}}}).classes
    assert classes.interactive.patience == 150.0
    assert classes.agent.patience == 300.0
    assert classes.helper.patience == 60.0
    assert classes.batch.patience == 3600.0
    assert Settings().classes.batch.patience == 1800.0


def test_units_are_plain_inside() -> None:
    """Sizes are bytes and durations seconds once read, whatever was typed."""
    settings = settings_of(
        {"memory": {"budget": "48GiB"}, "load": {"limit": "20m"}, "ollama_settings": {"device": 10**9}}
    )
    assert settings.memory.budget == 48 * 2**30
    assert settings.load.limit == 1200.0
    assert settings.ollama_settings.device == 10**9
    assert settings.queue.body_memory == 64 * 10**6


def test_settings_cannot_be_changed() -> None:
    """Read once means that nobody changes them afterwards, tables of names included."""
    settings = Settings.model_validate(documented())
    with pytest.raises(ValueError, match="frozen"):
        settings.policy = "fifo"  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.models["new:latest"] = settings.models["qwen-fast:latest"]  # type: ignore[index]


def test_a_file_over_the_defaults(tmp_path: Path) -> None:
    """A file's scalar counts, its neighbours keep their defaults, and `origin` tells which is which."""
    read = read_settings(written(tmp_path, '[memory]\nbudget = "48GB"\n[queue]\nlimit = 5\n'))
    assert read.settings.memory.budget == 48 * 10**9
    assert read.settings.queue.limit == 5
    assert read.settings.queue.give_up == 3600.0
    assert read.settings.aliases["gpt-4"].class_ == "agent"
    assert read.origin["queue.limit"] == "file"
    assert read.origin["queue.give_up"] == "default"
    assert read.origin['models."qwen-fast:latest".size'] == "default"


def test_own_models_start_an_own_table(tmp_path: Path) -> None:
    """With [models] in the file nothing of the documented table is left, and `normal` allows every set."""
    read = read_settings(written(tmp_path, '[models.Mine]\nsize = "1GB"\n[sets]\nonly = ["mine"]\n'))
    assert list(read.settings.models) == ["mine:latest"]
    assert read.settings.aliases == {}
    assert read.settings.phases["normal"].sets == ("only",)
    assert read.origin['models."mine:latest".size'] == "file"
    assert read.origin['models."mine:latest".parallel'] == "default"
    assert read.origin["phases.normal.sets"] == "default"


def test_own_aliases_leave_the_rest(tmp_path: Path) -> None:
    """[aliases] alone replaces only the aliases; models, sets and phases stay as documented."""
    settings = read_settings(written(tmp_path, '[aliases]\nfast = "qwen-fast"\n')).settings
    assert list(settings.aliases) == ["fast"]
    assert list(settings.sets) == ["quality", "coding"]
    assert list(settings.phases) == ["normal", "orchestra"]


def test_the_default_file_is_found(tmp_path: Path) -> None:
    """A file in the platform's folder is read without being named."""
    assert default_path().is_relative_to(tmp_path)
    default_path().parent.mkdir(parents=True)
    default_path().write_text('policy = "fifo"\n')
    read = read_settings()
    assert read.file == default_path()
    assert read.settings.policy == "fifo"


def test_a_named_file_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config, or OLLAMA_SCHEDULER_CONFIG, with no file behind it is refused by name, not passed over."""
    missing = tmp_path / "missing.toml"
    assert f"{missing} cannot be used:" in refusal(missing)
    monkeypatch.setenv("OLLAMA_SCHEDULER_CONFIG", str(missing))
    assert "the file: is not there" in refusal()


def test_the_config_variable_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OLLAMA_SCHEDULER_CONFIG is the same as --config, which wins over it."""
    monkeypatch.setenv("OLLAMA_SCHEDULER_CONFIG", str(written(tmp_path, 'policy = "fifo"\n')))
    assert read_settings().settings.policy == "fifo"
    other = tmp_path / "other.toml"
    other.write_text("")
    assert read_settings(other).settings.policy == "default"


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    """Bytes that are not UTF-8, and a folder, are refused in words."""
    path = tmp_path / "latin.toml"
    path.write_bytes(b'policy = "fifo"\n# caf\xe9\n')
    assert "line 2: is not UTF-8 text" in refusal(path)
    assert "the file: cannot be read" in refusal(tmp_path)


def test_toml_that_ends_too_early(tmp_path: Path) -> None:
    """A string that never ends is told with the last line, where it was noticed."""
    assert 'line 2, column 17: a = """never end is not TOML' in refusal(written(tmp_path, 'b = 1\na = """never end'))


@pytest.mark.parametrize(
    ("variable", "value", "path", "expected"),
    [
        ("OLLAMA_SCHEDULER_MEMORY__BUDGET", "48GB", "memory.budget", 48 * 10**9),
        ("OLLAMA_SCHEDULER_MEMORY__BUDGET", "auto", "memory.budget", "auto"),
        ("OLLAMA_SCHEDULER_OLLAMA", "http://127.0.0.1:1", "ollama", "http://127.0.0.1:1"),
        ("OLLAMA_SCHEDULER_OLLAMA_SETTINGS__NUM_PARALLEL", "4", "ollama_settings.num_parallel", 4),
        ("OLLAMA_SCHEDULER_OLLAMA_SETTINGS__REAP_ORPHANS", "true", "ollama_settings.reap_orphans", True),
        ("OLLAMA_SCHEDULER_CLASSES__BATCH__PATIENCE", "2m", "classes.batch.patience", 120.0),
        ("OLLAMA_SCHEDULER_LOAD__LIMIT", "45", "load.limit", 45.0),
        ("ollama_scheduler_phase", "orchestra", "phase", "orchestra"),
    ],
)
def test_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, path: str, expected: object
) -> None:
    """A variable counts over the file, and `origin` names it."""
    file = written(tmp_path, '[memory]\nbudget = "60GB"\n[classes.batch]\npatience = "9m"\n[queue]\nlimit = 5\n')
    monkeypatch.setenv(variable, value)
    read = read_settings(file)
    assert _value(read, path) == expected
    assert read.origin[path] == variable
    assert read.settings.queue.limit == 5


def _value(read: Read, path: str) -> object:
    at: Any = read.settings
    for part in path.split("."):
        at = getattr(at, part)
    return at


def test_every_scalar_has_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key without quotes on its way can be set by environment: its documented default is accepted there."""
    flat = Settings().model_dump(mode="json", by_alias=True)
    for key in known_keys():
        if key.in_environment:
            value: Any = flat
            for part in key.path:
                value = value[part]
            monkeypatch.setenv(variable_of(key), str(value))
    read = read_settings()
    changed = {path for path, origin in read.origin.items() if origin.startswith("OLLAMA_SCHEDULER_")}
    assert changed == {".".join(key.path) for key in known_keys() if key.in_environment}
    assert read.settings == _as(type(read.settings), documented())


def _as(kind: type[BaseModel], content: dict[str, Any]) -> BaseModel:
    return kind.model_validate(content)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("OLLAMA_SCHEDULER_MEMROY__BUDGET", "no such setting; the nearest known is OLLAMA_SCHEDULER_MEMORY__BUDGET"),
        ("OLLAMA_SCHEDULER_MEMORY_BUDGET", "no such setting; the nearest known is OLLAMA_SCHEDULER_MEMORY__BUDGET"),
        ("OLLAMA_SCHEDULER_MEMORY", "no such setting; the nearest known is"),
        ("OLLAMA_SCHEDULER_", "no such setting; the nearest known is"),
        ("OLLAMA_SCHEDULER_MODELS__QWEN__SIZE", "its names are keys in quotes; set [models] in the configuration file"),
        ("OLLAMA_SCHEDULER_SETS__QUALITY", "its names are keys in quotes; set [sets] in the configuration file"),
        ("OLLAMA_SCHEDULER_PHASES", "its names are keys in quotes; set [phases] in the configuration file"),
        ("OLLAMA_SCHEDULER_ALIASES__GPT", "its names are keys in quotes; set [aliases] in the configuration file"),
        ("OLLAMA_SCHEDULER_PROBES__TEXTS", "it is a list; set probes.texts in the configuration file"),
    ],
)
def test_variables_that_set_nothing(monkeypatch: pytest.MonkeyPatch, variable: str, expected: str) -> None:
    """A variable with our prefix that sets nothing is refused by its name, with the nearest that would."""
    monkeypatch.setenv(variable, "1GB")
    told = refusal()
    assert f"{variable}: " in told
    assert expected in told


def test_a_bad_value_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that cannot stand is told under the variable's name, where the person typed it."""
    monkeypatch.setenv("OLLAMA_SCHEDULER_QUEUE__GIVE_UP", "soon")
    assert 'OLLAMA_SCHEDULER_QUEUE__GIVE_UP: "soon" is not a duration' in refusal()


def test_the_environment_meets_the_cross_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An explicit budget from the environment is checked against the sets like one from the file."""
    monkeypatch.setenv("OLLAMA_SCHEDULER_MEMORY__BUDGET", "30GB")
    assert "sets.quality" in refusal()


def test_exempt_variables_are_let_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Variables with our prefix that are no settings do not stop a start, and OLLAMA_HOST is never looked at."""
    for name in EXEMPT:
        monkeypatch.setenv(name, str(written(tmp_path, "")))
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:11450")
    assert read_settings().settings.ollama == "http://127.0.0.1:11434"


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        (("lisen",), "listen"),
        (("queue", "giveup"), "queue.give_up"),
        (("patience",), "classes.interactive.patience"),
        (("num_parallel",), "ollama_settings.num_parallel"),
        (("models", "x:y", "num_ctxt"), 'models."x:y".num_ctx'),
        (("aliases", "gpt", "klass"), "aliases.gpt.class"),
    ],
)
def test_the_nearest_key(typed: tuple[str, ...], nearest: str) -> None:
    """A misspelt neighbour wins, then the same word in its right table; something is always named."""
    assert nearest_key(typed) == nearest


def test_routes_follow_chains() -> None:
    """Aliases may lead to aliases; the first class on the way counts, and case and `:latest` do not matter."""
    settings = settings_of(
        {
            "models": {"m": {"size": "1GB"}},
            "aliases": {
                "Outer": "inner",
                "inner": {"model": "core", "class": "batch"},
                "core": {"model": "M", "class": "agent"},
                "costly": "claude-opus-4",
            },
        }
    )
    table = routes(settings)
    assert table["outer:latest"] == Route("m:latest", "batch")
    assert table["core:latest"] == Route("m:latest", "agent")
    assert table["costly:latest"] == Route("claude-opus-4:latest", None, paid=True)
    assert table["claude-opus-4:latest"].paid


def test_a_paid_name_may_be_given_a_model() -> None:
    """An alias of the user's for a paid name is theirs: nothing about it is paid any more."""
    settings = settings_of({"aliases": {"claude-opus-4": "qwen-quality-128k"}})
    assert routes(settings)["claude-opus-4:latest"] == Route("qwen-quality-128k:latest", None)


def test_an_unknown_target_is_a_warning(tmp_path: Path) -> None:
    """An alias to a model we have no table for may still be right: Ollama decides, and we say so."""
    (warning,) = read_settings(written(tmp_path, '[aliases]\na = "llama3"\nb = "gpt-oss:cloud"\n')).warnings
    assert str(warning).startswith('aliases.a: "llama3:latest" is not under [models]')


def test_a_set_beyond_ollamas_limit_is_a_warning() -> None:
    """More models than Ollama keeps loaded can never be held together; that is told before it is noticed."""
    models = {name: {"size": "1GB"} for name in "abcd"}
    settings = settings_of({"models": models, "sets": {"all": list(models)}})
    _, warnings = check(settings)
    assert "max_loaded_models = 3" in str(warnings[0])


def test_sets_too_large_for_a_budget_found_later() -> None:
    """With budget auto the sizes meet the budget at run time, and the larger of declared and reported counts."""
    settings = settings_of({})
    assert sets_too_large(settings, 38 * 10**9) == {}
    assert sets_too_large(settings, 30 * 10**9) == {"quality": 35 * 10**9}
    reported = {"qwen-fast:latest": 20 * 10**9, "qwen2.5-coder:32b-instruct": 1}
    assert sets_too_large(settings, 38 * 10**9, reported) == {"coding": 40 * 10**9}
    alone = settings_of({"models": {"a": {"size": "2GB"}, "b": {}}})
    assert all_sets(alone) == {"a:latest": ("a:latest",), "b:latest": ("b:latest",)}
    assert sets_too_large(alone, 10**9) == {"a:latest": 2 * 10**9}


@pytest.mark.parametrize(
    ("listen", "ollama", "ourselves"),
    [
        ("127.0.0.1:11434", "http://127.0.0.1:11434", True),
        ("127.0.0.1:80", "http://localhost", True),
        ("[::1]:11434", "http://localhost:11434", True),
        ("127.0.0.1:11434", "http://0.0.0.0:11434", True),
        ("0.0.0.0:11434", "http://127.0.0.1:11434", True),
        ("0.0.0.0:11434", "http://[::1]:11434", True),
        ("0.0.0.0:11434", "http://MAC.local:11434", True),
        ("0.0.0.0:11434", "http://192.0.2.7:11434", False),
        ("127.0.0.1:11434", "http://192.0.2.7:11434", False),
        ("127.0.0.2:11434", "http://127.0.0.1:11434", False),
        ("127.0.0.1:11450", "http://127.0.0.1:11434", False),
        ("127.0.0.1:0", "http://127.0.0.1:11434", False),
    ],
)
def test_an_upstream_that_is_ourselves(listen: str, ollama: str, ourselves: bool) -> None:
    """Same port and an address that leads here is refused, however it is spelt; another machine is not."""
    problems, _ = check(Settings.model_validate(complete({"listen": listen, "ollama": ollama})), {"mac.local"})
    assert [problem.where for problem in problems] == (["ollama"] if ourselves else [])


def test_addresses_come_apart() -> None:
    """Host and port as a socket wants them, IPv6 without its brackets."""
    settings = Settings(listen="[::1]:8", ollama="https://example.com/")
    assert settings.listen_at == ("::1", 8)
    assert settings.ollama_at == ("example.com", 443)
    assert settings.ollama == "https://example.com"


def test_every_setting_has_its_sentence() -> None:
    """Every key says what it is and of which kind, for docs/settings.md and the schema."""
    assert not [key.path for key in known_keys() if not key.sentence or not key.kind]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * 5000 + "]" * 5000, "the file: has lists or tables too deep within each other"),
        ("[queue]\nlimit = " + "9" * 5000, "the file: has a number of thousands of digits"),
        ("[queue]\nlimit = 0x" + "f" * 5000, "queue.limit: is too large a number; write at most 9223372036854775807"),
        ("x" + ".x" * 3000 + " = [-9223372036854775809]", "is too large a number"),
        ('[memory]\nbudget = "' + "9" * 400 + 'GB"', "is more than any memory has"),
    ],
)
def test_what_python_cannot_read_is_told_too(tmp_path: Path, text: str, said: str) -> None:
    """Too deep, too long or too large is a configuration that cannot be used, not a failure of ours."""
    assert said in refusal(written(tmp_path, text))


def test_parse_gives_plain_tables(tmp_path: Path) -> None:
    """A good file comes back as TOML has it."""
    text = "[a]\nb = 1\n"
    assert parse(written(tmp_path, text)) == tomllib.loads(text)


def test_the_examples_of_what_is_scheduled_can_be_used() -> None:
    """With the empty lists of default.toml taken out, as it says, and the comment signs of its examples."""
    text = documented_text().replace("schedule = []", "#").replace("quiet = []", "#")
    text = re.sub(r"^# (\[\[schedule|\[\[quiet|cron|phase|from|to)", r"\1", text, flags=re.MULTILINE)
    settings = settings_of(tomllib.loads(text))
    assert [(each.cron, each.phase) for each in settings.schedule] == [("0 9 * * mon-fri", "orchestra")]
    assert [(each.from_, each.to) for each in settings.quiet] == [("22:00", "07:00")]


def test_an_unknown_phase_is_told_beside_what_else_is_wrong(tmp_path: Path) -> None:
    """Everything wrong at once: a name of no phase is told though other keys are wrong, in whatever way."""
    file = tmp_path / "config.toml"
    file.write_text('phase = "nowhere"\nlisten = 7\n[[schedule]]\ncron = "never"\nphase = "orchestr"\n')
    with pytest.raises(SettingsError) as caught:
        read_settings(file)
    assert [problem.where for problem in caught.value.problems] == [
        "listen",
        "schedule[0].cron",
        "phase",
        "schedule[0].phase",
    ]
    for odd in ('schedule = "x"\nphases = 3\n', 'schedule = [1]\n[phases]\n"" = 3\n', "phase = 3\n"):
        file.write_text(odd)
        with pytest.raises(SettingsError):
            read_settings(file)

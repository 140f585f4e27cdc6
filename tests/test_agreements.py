"""Rules that a machine checks: style, types, import directions, length of modules, and what no file may hold."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from policies.world import CLASSES
from scheduler.core import lifecycle
from scheduler.settings_classes import ClassesSettings

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
LONGEST = 310  # lines of one module; beyond it a module has more than one reason to change
LONGER = {"scheduler/core/messages.py": 450}  # one page of vocabulary (law 1): declarations, no behaviour
PURE = {"collections.abc", "dataclasses", "itertools", "math", "typing"}


def _run(*command: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program = BIN / command[0]
    return subprocess.run(
        [str(program), *command[1:]], cwd=folder, capture_output=True, text=True, check=False, timeout=240
    )


def _sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def _committed() -> list[Path]:
    """Every file that git knows or would take; where this is no checkout, everything but what is made here."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0 and listed.stdout:
        return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file() and not any(part[0] == "." or part.endswith("-info") for part in path.relative_to(ROOT).parts)
    ]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("ruff", "format", "--check", "."), id="format"),
        pytest.param(("ruff", "check", "."), id="ruff"),
        pytest.param(("mypy",), id="types"),
        pytest.param(("lint-imports",), id="imports"),
    ],
)
def test_checker_is_satisfied(command: tuple[str, ...]) -> None:
    """Format, style, types and import directions hold for the whole project."""
    done = _run(*command)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"


def test_import_contracts_notice_what_they_forbid(tmp_path: Path) -> None:
    """A clock in the core, the scheduler in a policy, the stand-in in the daemon, an upward import: each is found."""
    for folder in ("scheduler", "policies"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, line in (
        ("scheduler/core/turns.py", "import time"),
        ("policies/fit.py", "import scheduler.names"),
        ("scheduler/daemon.py", "import scheduler.standin.stage"),
        ("scheduler/ledger.py", "import scheduler.listener"),
        ("scheduler/stranger.py", '"""A module without a layer."""'),
    ):
        path = tmp_path / file
        before = path.read_text("utf-8") if path.exists() else ""
        path.write_text(f"{before}\n{line}\n", "utf-8")
    done = _run("lint-imports", "--no-cache", folder=tmp_path)
    assert done.returncode != 0
    told = " ".join((done.stdout + done.stderr).split())
    for broken in ("one way", "know nothing of the scheduler", "are pure", "never imports the stand-in"):
        assert re.search(f"{broken}[^.]*? BROKEN", told), f"{broken}: {done.stdout}"
    assert "stranger" in told


def test_policies_and_core_import_only_data_types() -> None:
    """Opinion and law import nothing but dataclasses, collections.abc, typing and each other, opinion never law."""
    for path in _sources("policies", "scheduler/core"):
        own = {"policies"} if "policies" in path.relative_to(ROOT).parts else {"policies", "scheduler.core"}
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: a relative import"
                names = [node.module or ""]
            for name in names:
                assert name in PURE or any(name == o or name.startswith(f"{o}.") for o in own), f"{path}: {name}"


def test_no_module_is_longer_than_a_room() -> None:
    """No module of the program is over 310 lines, the vocabulary aside, and each begins by saying what it is for."""
    found = []
    for path in _sources("scheduler", "policies"):
        name, text = path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
        lines = len(text.splitlines())
        if lines > LONGER.get(name, LONGEST):
            found.append(f"{name}: {lines} lines")
        if text.strip() and not ast.get_docstring(ast.parse(text)):
            found.append(f"{name} does not say what it is for")
    assert not found, "\n".join(found)


def test_no_name_says_nothing() -> None:
    """No module, class or function is called manager, handler, helper, utils, common or base."""
    empty = re.compile(
        r"(^|_)(managers?|handlers?|helpers?|utils?|common|base|impl)($|_)|[a-z](Manager|Handler|Helper)$"
    )
    for path in _sources("scheduler", "policies"):
        names = [path.stem]
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.append(node.name)
        for name in names:
            assert not empty.search(name), f"{path.relative_to(ROOT)}: {name}"


# Written in pieces, so that this file does not hold what it forbids.
FORBIDDEN = {
    "a path of somebody's home": re.compile(r"/(?:Users|home)/(?!you\b|me\b|USER\b|\$)[a-z][\w.-]*/", re.IGNORECASE),
    "a path of root's home": re.compile(r"(?<![\w.])/" + r"root/"),
    "a path of the workshop": re.compile(
        r"(?<![\w.])/" + r"work/(?:main|shared|\.library)|/tmp/" + r"team\b|\.\./" + "shared"
    ),
    "a private address": re.compile(
        r"(?<![\d.])(?:10\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}(?![\d.])"
    ),
    "a package registry": re.compile(
        r"(?:index-url|registry)\s*[=:]\s*\S*://|files\." + r"pythonhosted\.org", re.IGNORECASE
    ),
    "a private key": re.compile("BEGIN [A-Z ]*PRIVATE " + "KEY"),
}
MEANT = {  # addresses that tests need as examples of what Ollama lets in or turns away
    "a private address": re.compile(r"tests/|scheduler/(?:standin/border|origins)\.py"),
}


def test_no_committed_file_tells_where_it_was_made() -> None:
    """No file holds a home path, a private address, a registry host or a key."""
    found = []
    for path in _committed():
        name = path.relative_to(ROOT).as_posix()
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        for what, pattern in FORBIDDEN.items():
            if what in MEANT and MEANT[what].match(name):
                continue
            if match := pattern.search(text):
                found.append(f"{name}:{text[: match.start()].count(chr(10)) + 1}: {what}: {match.group()}")
    assert not found, "\n".join(found)


def test_forbidden_words_are_found() -> None:
    """What the rule above looks for is found where it is."""
    for text, what in (
        ("/Users/" + "jane/models/x", "a path of somebody's home"),
        ("192.168." + "1.7", "a private address"),
        ("index-url" + " = https://mirror", "a package registry"),
        ("cd /" + "work/main", "a path of the workshop"),
    ):
        assert FORBIDDEN[what].search(text), text
    assert not FORBIDDEN["a path of somebody's home"].search("~/.local/state, $HOME/models")
    assert not FORBIDDEN["a private address"].search("0.10.20.30, 127.0.0.1")


def test_every_test_says_what_it_shows() -> None:
    """Each test has a docstring."""
    for path in (ROOT / "tests").glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_classes_are_the_same_everywhere() -> None:
    """The classes of the settings are those the core knows, in the same order."""
    beside = ("header", "rules")  # which say of what class a request is
    assert tuple(name for name in ClassesSettings.model_fields if name not in beside) == tuple(CLASSES)


def test_lifecycle_leads_back_to_absent() -> None:
    """From every state of the table a model can come back to absent, and only from absent does it begin."""
    ways: dict[str, set[str]] = {}
    for before, after in lifecycle.MOVES:
        ways.setdefault(before, set()).add(after)
    for state in ways:
        reached, edge = {state}, {state}
        while edge:
            edge = {after for each in edge for after in ways.get(each, set())} - reached
            reached |= edge
        assert "absent" in reached, state
    assert ways["absent"] == {"loading", "ready"}

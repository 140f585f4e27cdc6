"""Adding a policy is one file and one line: the worked example of docs/policies.md is added, simulated and held to the
promises."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from policies import POLICIES, Policy
from tests.promises import PROMISES, proved
from tests.promises.bound import Bound
from tests.world_script import some_script

ROOT = Path(__file__).parents[1]
SECTION = (ROOT / "docs" / "policies.md").read_text("utf-8").split("## Adding a policy\n")[1].split("\n## ")[0]
NAME = "longest"


def block(language: str) -> str:
    """The one code block of that language in the section."""
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    assert len(found) == 1
    return found[0]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `policies/` as the section makes it."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "policies", folder / "policies", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "policies" / f"{NAME}.py").write_text(block("python"))
    page = folder / "policies" / "__init__.py"
    lines = block("diff").splitlines()
    before, added, after = (line[1:] for line in lines)
    assert [line[0] for line in lines] == [" ", "+", " "]
    assert page.read_text().count(f"{before}\n{after}\n") == 1, "the line has no place any more"
    page.write_text(page.read_text().replace(f"{before}\n{after}\n", f"{before}\n{added}\n{after}\n"))
    return folder


def run(copy: Path, *arguments: str) -> str:
    """A command of ours with that copy in place of the policies."""
    environment = {**os.environ, "PYTHONPATH": f"{copy}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "scheduler", *arguments], cwd=copy, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_the_example_is_simulated_as_the_page_says(copy: Path) -> None:
    """The command of the page plays it beside the default; who waits for the shorter queue waits longer."""
    command = shlex.split(block("console").removeprefix("$ ollama-scheduler "))
    trace = ROOT / command[command.index("--trace") + 1]
    command[command.index("--trace") + 1] = str(trace)
    config = copy / "config.toml"
    config.write_text(f'policy = "{NAME}"\n')
    told: list[dict[str, Any]] = json.loads(run(copy, *command, "--config", str(config), "--json"))
    longest = {row["policy"]: row["classes"]["interactive"]["max"] for row in told[0]["policies"]}
    assert longest[NAME] > 2 * longest["default"]


def test_the_configuration_knows_it(copy: Path) -> None:
    """`policy = "longest"` is taken, and still refused where the line is missing."""
    config = copy / "config.toml"
    config.write_text(f'policy = "{NAME}"\n')
    assert f'policy = "{NAME}"' in run(copy, "config", "show", "--config", str(config))
    assert NAME not in POLICIES


@pytest.fixture
def decide(copy: Path) -> Policy:
    """The example's function, in this process."""
    spec = importlib.util.spec_from_file_location(f"policies.{NAME}", copy / "policies" / f"{NAME}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Policy = module.decide
    return found


def test_the_example_keeps_the_promises(decide: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty random worlds and every promise but the bound, which it does not state."""
    monkeypatch.setitem(POLICIES, NAME, decide)  # type: ignore[arg-type]
    changes = 0
    for seed in range(60):
        world = proved(NAME, some_script(seed), seed, [promise() for promise in PROMISES if promise is not Bound])
        changes += sum(
            "the longest queue" in getattr(order, "because", "") for _, given in world.steps for order in given
        )
    assert changes > 60, "it hardly ever decided"


def test_the_example_is_clean(copy: Path) -> None:
    """Our own rules of style hold for what we show."""
    file = copy / "policies" / f"{NAME}.py"
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "--config", str(ROOT / "pyproject.toml"), str(file)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout

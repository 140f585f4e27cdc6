"""README and operations keep their word: every command in them is run, tables and links are held to the program."""

import asyncio
import itertools
import os
import re
import shutil
import subprocess
from asyncio.subprocess import PIPE, STDOUT
from dataclasses import dataclass
from pathlib import Path

import pytest

from scheduler import (
    control_command,
    demo_command,
    init_command,
    install_command,
    journal_command,
    serve_command,
    simulate_command,
    status_command,
    whatif_command,
    why_command,
)
from scheduler.control_bodies import SHAPES
from scheduler.paths import DEMANDS, route
from scheduler.settings import PAID_ALIASES
from scheduler.settings_read import documented, settings_of
from scheduler.status_schema import Verdict
from tests.started import ROOT, Started, surroundings

README = (ROOT / "README.md").read_text("utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
SHOWN = "text"  # the language of a block that shows what the block before it prints
BLOCK_SECONDS = 60.0

# Programs a stranger has and this machine may not: each sends what the real one sends, and prints what it got.
PLAYED = {
    "claude": r"""#!/bin/sh
exec curl -sS --fail-with-body "$ANTHROPIC_BASE_URL/v1/messages?beta=true" \
  -H "Authorization: Bearer $ANTHROPIC_AUTH_TOKEN" -d @- <<END
{"model": "$ANTHROPIC_MODEL", "max_tokens": 32, "messages": [{"role": "user", "content": "$2"}]}
END
""",
    "ollama": r"""#!/bin/sh
curl -sS --fail -I "http://$OLLAMA_HOST/" > /dev/null
curl -sS --fail-with-body "http://$OLLAMA_HOST/api/show" -d '{"model": "", "name": "'"$2"'"}' > /dev/null
exec curl -sS --fail-with-body "http://$OLLAMA_HOST/api/generate" -d '{"model": "'"$2"'", "prompt": "'"$3"'"}'
""",
}


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language, its text, the line it begins at, and what it is shown to print."""

    language: str
    text: str
    line: int
    shown: str = ""


def _blocks(page: str) -> list[Block]:
    found: list[Block] = []
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        line = page[: match.start()].count("\n") + 1
        if match[1] == SHOWN and found and found[-1].language == "sh" and not found[-1].shown:
            before = found.pop()
            found.append(Block(before.language, before.text, before.line, match[2]))
        else:
            found.append(Block(match[1], match[2], line))
    return found


def _shown(line: str) -> str:
    """A shown line as a pattern: `…` stands for anything."""
    return ".*".join(re.escape(part) for part in line.strip().split("…"))


async def _run(text: str, environment: dict[str, str]) -> tuple[int, str]:
    """Run a block in a shell as a reader would, from the checkout's root."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", text), stdout=PIPE, stderr=STDOUT, cwd=ROOT, env=environment
    )
    async with asyncio.timeout(BLOCK_SECONDS):
        said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def _at_rest(environment: dict[str, str]) -> None:
    """Wait until no change of models is under way."""
    async with asyncio.timeout(BLOCK_SECONDS):
        while not (await _run("python -m scheduler status --line || true", environment))[1].startswith("ok"):
            pass


def _played(folder: Path) -> None:
    folder.mkdir()
    for name, text in PLAYED.items():
        (folder / name).write_text(text, "utf-8")
        (folder / name).chmod(0o755)


async def test_every_command_of_the_readme_works(tmp_path: Path) -> None:
    """Each shell block of README and docs/operations.md runs as written, but for the ports, in front of the stand-in,
    and prints what is shown."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not there")
    _played(tmp_path / "bin")
    state = tmp_path / ".local/state/ollama-scheduler"
    blocks = [block for block in _blocks(README) if block.language == "sh" and "make " not in block.text]
    blocks = [block for block in blocks if "ollama-scheduler install" not in block.text]  # tests/test_launchd.py
    assert len(blocks) >= 5
    further = [block for block in _blocks(OPERATIONS) if block.language == "sh"]
    assert len(further) >= 2
    pages = [*(("README.md", block) for block in blocks), *(("docs/operations.md", block) for block in further)]
    arguments = ("demo", "--stay", "--port", "0", "--speed", "10", "--state", str(state))
    async with Started.run(*arguments, home=tmp_path) as demo:
        ollama = (await demo.hears(r"stand-in .* at http://127\.0\.0\.1:(\d+)"))[1]
        port = (await demo.hears(r"listens on http://127\.0\.0\.1:(\d+)"))[1]
        await demo.hears("Ctrl-C ends all of it")
        environment = surroundings(tmp_path, {"OLLAMA_SCHEDULER_LISTEN": f"127.0.0.1:{port}"})
        environment["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{environment['PATH']}"
        for page, block in pages:
            text = block.text.replace(":11450", f":{port}").replace(":11434", f":{ollama}")
            text = text.replace(".venv/bin/", "").replace("demo --port 0", "demo --port 0 --speed 8")
            code, said = await _run(text.replace("curl ", "curl --fail-with-body "), environment)
            assert code == 0, f"{page}:{block.line}: exit code {code}\n{said}\n{demo.said}"
            for line in filter(None, block.shown.splitlines()):
                assert re.search(_shown(line), said), f"{page}:{block.line}: {line!r} is not in\n{said}"
        demo.interrupt()
        assert await demo.ends() == 0, demo.said


async def test_the_first_request_after_make_run(tmp_path: Path) -> None:
    """What `make run` starts where no Ollama answers prints what README shows under its first request."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not there")
    blocks = _blocks(README[README.index("## First request") :])[:2]
    nowhere = {"OLLAMA_SCHEDULER_LISTEN": "127.0.0.1:0", "OLLAMA_SCHEDULER_OLLAMA": "http://127.0.0.1:9"}
    async with Started.run("run", "--wait", "0.1s", home=tmp_path, **nowhere) as run:
        port = (await run.hears(r"listens on http://127\.0\.0\.1:(\d+)"))[1]
        await run.hears("Ctrl-C ends all of it")
        environment = surroundings(tmp_path, {"OLLAMA_SCHEDULER_LISTEN": f"127.0.0.1:{port}"})
        for block in blocks:
            code, said = await _run(block.text.replace(":11450", f":{port}"), environment)
            assert code == 0, f"{block.text}: {said}"
            for line in filter(None, block.shown.splitlines()):
                assert re.search(_shown(line), said), f"{line!r} is not in\n{said}"
            if block is blocks[0]:  # the coder follows: its load is what a reader's second command comes after
                await run.hears("order=Load model=qwen2.5-coder")
                await _at_rest(environment)
        run.interrupt()
        assert await run.ends() == 0, run.said


def test_shown_lines_can_fail() -> None:
    """A shown line matches only what is like it."""
    assert re.search(_shown("hour  1 changes, …"), "hour  1 changes, 3 s lost")
    assert not re.search(_shown("hour  1 changes, …"), "hour  2 changes, 3 s lost")


def test_every_make_command_is_a_target() -> None:
    """Each `make` in README and CONTRIBUTING is a target, `make run` starts the program, `make test` runs pytest."""
    pages = README + (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    targets = set(re.findall(r"`make ([a-z]+)`|^make ([a-z]+)", pages, re.MULTILINE))
    names = {first or second for first, second in targets}
    assert {"run", "test", "bench"} <= names
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "ARGS")}
    for name in names:
        done = subprocess.run(["make", "-n", name], cwd=ROOT, env=alone, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        if name == "run":
            assert re.search(r"ollama-scheduler run\s*$", done.stdout, re.MULTILINE), done.stdout
        if name == "test":
            assert re.search(r"python -m pytest", done.stdout), done.stdout


def test_every_link_leads_somewhere() -> None:
    """Each relative link of README, CONTRIBUTING and docs is a file that is there."""
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def _table(heading: str, page: str = README) -> list[list[str]]:
    """The rows of the page's table whose first header cell is `heading`, without backticks."""
    _, found, rest = page.partition(f"\n| {heading} |")
    assert found, heading
    rows = itertools.takewhile(lambda line: line.startswith("|"), rest.splitlines()[2:])
    return [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows]


def test_routing_table_is_the_documented_one() -> None:
    """The README's aliases, models, classes and patience are those of the documented configuration."""
    settings = settings_of({})
    told = {row[0]: row[1:] for row in _table("clients say")}
    assert set(told) == {*documented()["aliases"], *PAID_ALIASES}
    for alias, target in settings.aliases.items():
        model, name, patience = told[alias]
        assert (model, name) == (target.model, target.class_ or "interactive")
        assert float(patience.removesuffix(" s")) == getattr(settings.classes, name).patience


def test_litellm_snippet_names_what_there_is() -> None:
    """The deployments for LiteLLM name models of the documented configuration and our documented address."""
    snippet = next(block.text for block in _blocks(README) if block.language == "yaml")
    settings = settings_of({})
    pairs = re.findall(r"model_name: (\S+)\n.*model: \"ollama_chat/([^\"]+)\", api_base: \"([^\"]+)\"", snippet)
    assert len(pairs) == 3
    for name, model, base in pairs:
        assert settings.aliases[name].model == model
        assert base == f"http://{settings.listen}"


def test_exit_codes_are_those_of_the_commands() -> None:
    """The README's exit codes are what each command says of itself."""
    told = {row[0].partition(":")[0].split(",")[0].split()[0]: row[1] for row in _table("command")}
    for name, codes in (
        ("serve", serve_command.CODES),
        ("demo", demo_command.CODES),
        ("init", init_command.CODES),
        ("status", status_command.CODES),
        ("why", why_command.CODES),
        ("phase", control_command.CODES),
        ("journal", journal_command.CODES),
        ("install", install_command.CODES),
        ("simulate", simulate_command.CODES),
        ("whatif", whatif_command.CODES),
    ):
        assert re.findall(r"\b(\d) ", told[name]) == re.findall(r"\b(\d) ", codes), name


def test_the_commands_have_a_row_each() -> None:
    """README and operations name every command that changes something, and none that is not there."""
    assert set(SHAPES) == {name for row in _table("command") if row[0].startswith("phase") for name in _words(row[0])}
    told = {word for row in _table("command", OPERATIONS) for word in _words(row[0].partition(" ")[0])}
    assert told == {*SHAPES, "why", "bounds"}


def _words(cell: str) -> list[str]:
    return re.findall(r"[a-z]+", cell.partition(":")[0])


def test_verdicts_are_all_explained() -> None:
    """Every verdict of /status has its row."""
    assert [row[0] for row in _table("`/status` verdict")] == list(Verdict.__args__)


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens"])
def test_what_is_said_to_be_unserved_is(path: str) -> None:
    """Each route the README calls unserved is, as it is on Ollama."""
    assert path in README
    assert route("POST", path).kind == "unserved"
    assert path not in DEMANDS


def test_nine_promises() -> None:
    """Each promise has its row, in order."""
    assert re.findall(r"^\| (P\d) \|", README, re.MULTILINE) == [f"P{number}" for number in range(1, 10)]

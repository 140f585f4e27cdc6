"""Ollama's own integration tests pass through us where they pass directly, at a device that cannot hold their models.

What they cannot see (an answer held back until it is whole, a lost last line, another Content-Type) tests/transparency
sees. Which of them do not count, and why: uncounted.toml.
"""

import asyncio
import re
import time
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.integration.catalogue import FRESH, QUANTIZED, THINKER, catalogue, full
from tests.integration.run import CONTEXT, Outcome, lay_data, run
from tests.integration.source import compiled, module_folder
from tests.realollama.build import Reason
from tests.realollama.fixtures import refuse
from tests.realollama.stage import RealOllama, StagedModel
from tests.started import Started

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(5400)]

SECONDS = {False: 600, True: 2400}  # for one run, quick or of everything; a quiet machine needs a tenth
LEAST = 100
BUDGET = 38_000_000_000
RUNNERS = 16
CONFIGURATION = """
listen = "127.0.0.1:0"
ollama = "{url}"
memory.budget = "38GB"
ollama_settings = {{device = "40.2GB", max_loaded_models = {runners}}}
models = {{}}
sets = {{}}
phases.normal.sets = []
aliases = {{}}
"""
TALKERS = "mistral|falcon3|phi3|duckdb-nsql|shieldgemma|openthinker|starcoder2|zephyr"
QUICK = "|".join(
    (
        "TestAPI(Generate|Chat|List|Show)",
        "Test(BlueSky|Unicode|ExtendedUnicodeOutput|NumPredict|ConcurrentChat|LongInputContext|ContextExhaustion)",
        "Test.*History$",
        "TestThinking",
        "TestCreate",
        "TestAllMiniLM",
        "TestEmbed(CosineDistanceCorrelation|LargeInput)",
        "TestEmbed(Truncation|StatusCode)/^all-minilm$",
        "TestModelsEmbed",
        "TestQuantization",
        "TestAPIToolCalling$",
        "TestAPIToolCallingStress/^qwen3$",
        "TestModelsChat/^(mistral:latest|gemma4|phi3:latest|gpt-oss:20b)$",
        f"TestLibraryModelsChat/^({TALKERS})$",
    )
)
EVERYTHING = "."


@dataclass(frozen=True)
class Runs:
    """The same tests, directly and through us; what the second run left behind."""

    direct: Outcome
    through: Outcome
    stage: RealOllama
    models: list[StagedModel]
    status: dict[str, Any]


def uncounted(kind: str) -> list[str]:
    """The patterns of uncounted.toml under `skipped`, `directly` or `ours`."""
    told = tomllib.loads(Path(__file__).with_name("uncounted.toml").read_text())
    return [pattern for entry in told[kind] for pattern in entry["tests"]]


def listed(kind: str, names: set[str]) -> set[str]:
    """Those of the names that uncounted.toml lists."""
    return {name for name in names if any(re.fullmatch(pattern, name) for pattern in uncounted(kind))}


class Suite:
    """Ollama's own tests and the models they want, ready to be run at any address."""

    def __init__(self, home: Path, module: Path, program: Path, binary: Path) -> None:
        self.home, self.module, self.program, self.binary = home, module, program, binary
        self._folders: Iterator[Path] = (home / f"run{number}" for number in range(1, 100))

    def models(self, pattern: str) -> list[StagedModel]:
        """Every model, or those whose tests the quick run has."""
        every = catalogue(self.module)
        if pattern == EVERYTHING:
            return every
        named = {full(name) for name in re.findall(r"[\w.:-]+", pattern)} | {*FRESH, THINKER, QUANTIZED, "qwen3:0.6b"}
        return [model for model in every if model.embedding or model.tools or model.name in named]

    @asynccontextmanager
    async def stage(self, pattern: str) -> AsyncIterator[RealOllama]:
        """A real Ollama with the models; a pull fails at once instead of asking a registry."""
        environment = {
            "OLLAMA_CONTEXT_LENGTH": str(CONTEXT),
            "OLLAMA_MAX_LOADED_MODELS": str(RUNNERS),
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1",
        }
        async with RealOllama.start(next(self._folders), self.models(pattern), env=environment) as stage:
            yield stage

    async def run(self, url: str, pattern: str) -> Outcome:
        """Run the tests at `url`."""
        folder = next(self._folders)
        lay_data(self.module, folder)
        return await run(
            self.program,
            url,
            folder,
            SECONDS[pattern == EVERYTHING],
            f"-test.run={pattern}",
            OLLAMA_BIN=str(self.binary),
        )


@pytest.fixture(scope="module")
def suite(real_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """The compiled tests and their models."""
    module = module_folder()
    if isinstance(module, Reason):
        refuse(module)
    program = compiled(module)
    if isinstance(program, Reason):
        refuse(program)
    return Suite(tmp_path_factory.mktemp("own"), module, program, real_binary)


async def both(suite: Suite, pattern: str) -> Runs:
    """Run the tests at a fresh Ollama, then at the daemon before another fresh one."""
    async with suite.stage(pattern) as stage:
        direct = await suite.run(stage.url, pattern)
    models = suite.models(pattern)
    async with suite.stage(pattern) as stage:
        home = suite.home / "ours"
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text(CONFIGURATION.format(url=stage.url, runners=RUNNERS))
        where = ("--config", str(home / "config.toml"), "--state", str(home / "state"))
        async with Started.run("serve", *where, home=home) as daemon:
            port = (await daemon.hears(r"listening port=(\d+)"))[1]
            url = f"http://127.0.0.1:{port}"
            await acquainted(url, len(models))
            through = await suite.run(url, pattern)
            status = await told(url)
            daemon.interrupt()
            assert await daemon.ends() == 0
        journals = sorted(str(file) for file in (home / "state" / "journal").glob("*.jsonl"))
        async with Started.run("journal", "verify", *journals, home=home) as verify:
            assert await verify.ends() == 0, verify.said
        return Runs(direct, through, stage, models, status)


async def told(url: str) -> dict[str, Any]:
    """/status of the daemon."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/status") as answer:
        status: dict[str, Any] = await answer.json()
        return status


async def acquainted(url: str, models: int) -> None:
    """Wait until the daemon knows every model: it reads each one's details before it serves."""
    deadline = time.monotonic() + 120
    while len((await told(url))["models"]) < models:
        assert time.monotonic() < deadline, await told(url)
        await asyncio.sleep(0.1)


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[pytest.param(QUICK, id="quick"), pytest.param(EVERYTHING, id="everything", marks=pytest.mark.long)],
)
async def runs(suite: Suite, request: pytest.FixtureRequest) -> Runs:
    """Both runs of the chosen tests."""
    return await both(suite, request.param)


async def test_the_same_tests_pass_directly_and_through_us(runs: Runs) -> None:
    """At least 100 pass directly, and through us the same, but for the listed differences."""
    ours = listed("ours", runs.direct.passed)
    lost = runs.direct.passed - ours - runs.through.passed
    assert not lost, "\n\n".join(f"{name}:\n{runs.through.words_of(name)}" for name in sorted(lost)[:5])
    assert runs.through.passed - runs.direct.passed == set()
    assert len(runs.through.passed & runs.direct.passed) >= LEAST


async def test_what_does_not_count_is_listed_with_its_reason(runs: Runs) -> None:
    """Every skip, and every failure on either side, is in uncounted.toml; and what is there does not pass after all."""
    assert runs.direct.skipped == runs.through.skipped == listed("skipped", set(runs.direct.verdicts))
    assert runs.direct.failed == listed("directly", set(runs.direct.verdicts)), runs.direct.words_of(
        min(runs.direct.failed, default="")
    )
    assert runs.through.failed - runs.direct.failed == listed("ours", runs.direct.passed)


async def test_memory_held_while_ollamas_tests_ran_through_us(runs: Runs) -> None:
    """Their models do not fit together, and yet Ollama never had to evict, reload or overcommit."""
    assert runs.stage.overcommits() == []
    assert runs.stage.evictions() == []
    assert runs.stage.reloads() == []
    assert sum(model.size_bytes for model in runs.models) > 2 * BUDGET
    assert runs.status["verdict"] in ("ok", "busy", "changing")

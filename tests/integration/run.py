"""One run of Ollama's own integration tests at an address: which passed, failed and were skipped, and why."""

import asyncio
import re
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.realollama.models import write_model

CONTEXT = 65_536  # a byte is a token here, and the tests' longest prompt has some 30,000
MARK = "\x16"  # `-test.v=test2json` puts it before every line of the test framework
VERDICT = re.compile(rf"{MARK}\s*--- (PASS|FAIL|SKIP): (\S+) \(([\d.]+)s\)")
UNPROXIED = "127.0.0.1"


@dataclass(frozen=True)
class Outcome:
    """What a run said: verdict and seconds of every test that has no tests inside, and all it printed."""

    verdicts: dict[str, str]
    seconds: dict[str, float] = field(repr=False)
    said: str = field(repr=False)

    @property
    def passed(self) -> set[str]:
        return self._with("PASS")

    @property
    def failed(self) -> set[str]:
        return self._with("FAIL")

    @property
    def skipped(self) -> set[str]:
        return self._with("SKIP")

    def _with(self, verdict: str) -> set[str]:
        return {name for name, each in self.verdicts.items() if each == verdict}

    def words_of(self, name: str) -> str:
        """The last lines that were printed before the verdict of a test and right after it."""
        at = next((found.start() for found in VERDICT.finditer(self.said) if found[2] == name), 0)
        return self.said[max(0, at - 1500) : at + 500]


def outcome(said: str) -> Outcome:
    """Read the output of `-test.v=test2json`. A test with tests inside is its children, counted once each."""
    found = [(each[2], each[1], float(each[3])) for each in VERDICT.finditer(said)]
    outer = Counter(name.rpartition("/")[0] for name, _, _ in found)
    leaves = [each for each in found if not outer[each[0]]]
    return Outcome({name: verdict for name, verdict, _ in leaves}, {name: took for name, _, took in leaves}, said)


async def run(program: Path, url: str, folder: Path, seconds: float, *arguments: str, **environment: str) -> Outcome:
    """Run the compiled tests in `folder` against `url`; TimeoutError after `seconds`.

    The tests find their data under `testdata/` of the folder. Their own limit is longer: they begin nothing new in
    the last two minutes of it.
    """
    log = folder / "said.txt"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(program, "-test.v=test2json", f"-test.timeout={int(seconds) + 180}s", *arguments),
            cwd=folder,
            env={
                "HOME": str(folder),
                "PATH": "/usr/bin:/bin",
                "OLLAMA_HOST": url,
                "OLLAMA_TEST_EXISTING": "1",
                "OLLAMA_CONTEXT_LENGTH": str(CONTEXT),
                "NO_PROXY": UNPROXIED,
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            await asyncio.wait_for(process.wait(), seconds)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return outcome(log.read_text(errors="replace"))


def lay_data(module: Path, folder: Path) -> None:
    """Give the tests their `testdata/`, with a model file to import where they would keep a downloaded one."""
    data = folder / "testdata"
    data.mkdir(parents=True)
    (data / "embed.json").symlink_to(module / "integration" / "testdata" / "embed.json")
    imported = data / "models" / "Llama-3.2-1B-GGUF"
    imported.mkdir(parents=True)
    write_model(imported / "stage.gguf", "imported", ("It", "will", "be", "sunny", "with", "some", "clouds."))

"""Ollama's own integration tests: where their source lies in Go's module cache, and the test program built from it.

By hand: `python -m tests.integration.source`, which prints the program's path, or the reason why not and exits 1.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.realollama.build import BUILD_SECONDS, VERSION, Reason, cache, cache_lock

MODULE = f"github.com/ollama/ollama@v{VERSION}"
TAGS = "integration models library"


def module_folder() -> Path | Reason:
    """The module's folder in Go's cache, downloaded by `go` where it is not there yet, or the reason why not."""
    go = shutil.which("go")
    if go is None:
        return Reason("Ollama's integration tests are built with `go`, which is not on PATH")
    with cache_lock():
        done = subprocess.run(
            [go, "mod", "download", "-json", MODULE], cwd=cache(), capture_output=True, text=True, timeout=BUILD_SECONDS
        )
    if done.returncode:
        return Reason(f"`go mod download {MODULE}` failed: {done.stdout.strip() or done.stderr.strip()}")
    return Path(json.loads(done.stdout)["Dir"])


def compiled(module: Path) -> Path | Reason:
    """The compiled tests, built on first use (seconds, where the module's packages are in Go's build cache)."""
    program = cache() / f"v{VERSION}" / "integration.test"
    with cache_lock():
        if not program.exists():
            fresh = program.with_name("fresh-integration.test")
            done = subprocess.run(
                [shutil.which("go") or "go", "test", "-c", "-o", fresh, "-tags", TAGS, "./integration/"],
                cwd=module,
                env={**os.environ, "CGO_ENABLED": "1"},
                capture_output=True,
                text=True,
                timeout=BUILD_SECONDS,
            )
            if done.returncode:
                return Reason(f"`go test -c` of {MODULE} failed: " + " | ".join(done.stderr.splitlines()[-3:]))
            fresh.replace(program)
    return program


def names(module: Path, variable: str) -> list[str]:
    """The texts of a Go list of the tests, by its variable's name; lines that are commented out are not in it."""
    source = (module / "integration" / "utils_test.go").read_text()
    found = re.search(rf"\b{variable}\s*=\s*\[\]string{{(.*?)^\s*}}", source, re.DOTALL | re.MULTILINE)
    if found is None:
        raise LookupError(f"no list {variable} in utils_test.go of {MODULE}")
    return re.findall(r'"([^"]+)"', re.sub(r"//.*", "", found[1]))


def vectors(module: Path) -> dict[str, tuple[float, ...]]:
    """The embedding of "why is the sky blue?" that the tests expect, by model; `grass` is all-minilm's other one."""
    folder = module / "integration"
    known = {name: tuple(each) for name, each in json.loads((folder / "testdata" / "embed.json").read_text()).items()}
    text = (folder / "embed_test.go").read_text()
    rows = re.findall(r"^\s*(-?\d+\.\d+(?:, ?-?\d+(?:\.\d+)?(?:e-?\d+)?)+),?$", text, re.MULTILINE)
    grass = rows[-1]
    return {**known, "grass": tuple(float(each) for each in grass.split(","))}


if __name__ == "__main__":
    folder = module_folder()
    result = folder if isinstance(folder, Reason) else compiled(folder)
    sys.stdout.write(f"{result}\n")
    sys.exit(isinstance(result, Reason))

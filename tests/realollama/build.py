"""Get an `ollama` binary for the stage, built with `go install` or taken from PATH.

By hand: `python -m tests.realollama.build`, which prints the path, or the reason why not and exits 1.

The binary lies in the cache as `…/bin/ollama` with our launchers in `…/lib/ollama/`, where Ollama looks for its
`llama-server` and `llama-quantize` (llm/llama_binary.go of v0.32.0).
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VERSION = "0.32.0"
BUILD_SECONDS = 1200
CACHE_KEY = "OLLAMA_SCHEDULER_TEST_CACHE"

LAUNCHERS = {
    # argv[0] stays llama-server, so that process lists show a runner as they do on a Mac
    "llama-server": """#!/bin/bash
export PYTHONHOME="$OLLAMA_STAGE_PYTHONHOME" PYTHONPATH="$OLLAMA_STAGE_PYTHONPATH" PYTHONDONTWRITEBYTECODE=1
exec -a "$0" "$OLLAMA_STAGE_PYTHON" "$OLLAMA_STAGE_SHIM" "$@"
""",
    # `/api/create` runs `llama-quantize [flags] IN OUT TYPE`, with COPY as type where none is asked for
    "llama-quantize": """#!/bin/bash
cp -- "${@: -3:1}" "${@: -2:1}" || exit
[ "${@: -1}" = COPY ] && exit
export PYTHONHOME="$OLLAMA_STAGE_PYTHONHOME" PYTHONPATH="$OLLAMA_STAGE_PYTHONPATH" PYTHONDONTWRITEBYTECODE=1
exec "$OLLAMA_STAGE_PYTHON" "${OLLAMA_STAGE_SHIM%/*}/quantize.py" "${@: -2}"
""",
}


class Reason(str):
    """Why there is no real Ollama here: one sentence for the skip message."""


def cache() -> Path:
    """The folder kept between runs: `$OLLAMA_SCHEDULER_TEST_CACHE`, else `.cache/` of the checkout."""
    root = Path(__file__).parents[2] / ".cache"
    return Path(os.environ.get(CACHE_KEY) or root) / "real-ollama"


@contextlib.contextmanager
def cache_lock() -> Iterator[None]:
    """One process at a time fills the cache; the others wait and find it full."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ollama_binary() -> Path | Reason:
    """The staged layout's `bin/ollama`, built or copied on first use (a minute or two), or the reason why not."""
    if sys.platform != "linux":
        return Reason("the stage needs Linux: elsewhere Ollama looks at the machine's own free memory")
    if shutil.which("bash") is None:
        return Reason("the stage's launchers need bash")
    with cache_lock():
        home = cache() / f"v{VERSION}"
        binary = home / "bin" / "ollama"
        if not binary.exists():
            trouble = _provide(binary)
            if trouble is not None:
                return trouble
        _write_launchers(home / "lib" / "ollama")
        return binary


def _provide(binary: Path) -> Reason | None:
    binary.parent.mkdir(parents=True, exist_ok=True)
    if go := shutil.which("go"):
        return _build(go, binary)
    if found := shutil.which("ollama"):
        return _adopt(Path(found), binary)
    return Reason("neither `go` (1.26 or newer) nor an `ollama` binary is on PATH")


def _build(go: str, binary: Path) -> Reason | None:
    flags = f"-X=github.com/ollama/ollama/version.Version={VERSION}"
    fresh = binary.with_name("fresh")
    try:
        done = subprocess.run(
            [go, "install", "-ldflags", flags, f"github.com/ollama/ollama@v{VERSION}"],
            env={**os.environ, "GOBIN": str(fresh), "CGO_ENABLED": "1"},
            cwd=binary.parent,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Reason(f"`go install` of Ollama v{VERSION} took more than {BUILD_SECONDS} s")
    if done.returncode:
        said = " | ".join(done.stderr.strip().splitlines()[-3:])
        return Reason(f"`go install` of Ollama v{VERSION} failed: {said}")
    (fresh / "ollama").replace(binary)
    return None


def _adopt(found: Path, binary: Path) -> Reason | None:
    """Copy an installed Ollama into the layout: it finds its helpers beside its own real path only."""
    told = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60).stdout
    version = re.search(r"(\d+)\.(\d+)\.\d+", told)
    if version is None or (int(version[1]), int(version[2])) < (0, 32):
        return Reason(f"the ollama on PATH says {told.strip()!r}; the stage needs 0.32 or newer, or go")
    fresh = binary.with_name("fresh-ollama")
    shutil.copy2(found.resolve(), fresh)
    fresh.replace(binary)
    return None


def _write_launchers(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in LAUNCHERS.items():
        launcher = folder / name
        if not launcher.exists() or launcher.read_text() != text:
            fresh = folder / f".{name}.{os.getpid()}"
            fresh.write_text(text)
            fresh.chmod(0o755)
            fresh.replace(launcher)


if __name__ == "__main__":
    result = ollama_binary()
    sys.stdout.write(f"{result}\n")
    sys.exit(isinstance(result, Reason))

"""Read scenarios: a text file holds several, each begun by a line `== its title`, one step to a line.

A line `on narrow` names the stage it plays on (`sides.STAGES`; `plain` unless told). A step is a request

    POST /api/generate [Header: value] {"model": "small"}

which is waited for and recorded, the same with a name in front (`a: POST …`), which runs on behind the next steps, or
one of the words in `WORDS`. Everything after the path and the headers is the body as it stands, packed where the header
`Content-Encoding` says so; `$sha256(text)` in a line becomes that text's digest, `$words(7)` seven words. A line that
begins with `#` is a comment, an indented line goes on with the one before.
"""

import gzip
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

SCENARIOS = Path(__file__).parent
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
WORDS = {
    "answers": "wait for these named requests, and record each one's answer and in which order they ended",
    "hang up": "close the connection of a named request that has no whole answer yet",
    "lines": "wait until so many lines of a named request's stream have come: `lines a 2`",
    "until loading": "wait until the model's load has begun",
    "until gone": "wait until /api/ps does not show the model any more",
    "until busy": "wait until so many requests are with the model's runner: `until busy small 2`",
    "until idle": "wait until none is with any runner",
    "hold": "answers of the model wait before their first token, until `release`",
    "hold loads": "loads of the model do not end, until `release`",
    "release": "end every hold and every fault",
    "fault": "something goes wrong with the model: `fault small crash 3`, see `sides.FAULTS`",
    "restart": "end this Ollama in order and start it again",
    "ps": "record what is resident",
    "happened": "record loads, evictions, reloads, and what reached the runners since the scenario began",
}
_REQUEST = re.compile(rf"(?:(\w+): )?({'|'.join(METHODS)}) (\S+)((?: \[[\w-]+: [^\]]*\])*)(?: (.*))?", re.DOTALL)
_HEADER = re.compile(r" \[([\w-]+): ([^\]]*)\]")
_WORDS = re.compile(r"\$words\((\d+)\)")
_PACKED = {"gzip": gzip.compress, "zstd": zstandard.compress}
_DIGEST = re.compile(r"\$sha256\(([^)]*)\)")


class BadScenario(ValueError):
    """A line that is no step."""


@dataclass(frozen=True)
class Request:
    """One request; `name` is empty for one that is waited for."""

    line: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    name: str = ""


@dataclass(frozen=True)
class Deed:
    """One step that is no request: a word of `WORDS` and what stands behind it."""

    line: str
    word: str
    about: tuple[str, ...]


Step = Request | Deed


@dataclass
class Scenario:
    """One of them; `slow` ones are for the long runs."""

    title: str
    file: str
    stage: str = "plain"
    slow: bool = False
    steps: list[Step] = field(default_factory=list)


def scenarios() -> list[Scenario]:
    """All of them, by file and place."""
    return [each for path in sorted(SCENARIOS.glob("*.txt")) for each in read(path.read_text("utf-8"), path.stem)]


def read(text: str, file: str) -> list[Scenario]:
    """The scenarios of one text; raises `BadScenario`."""
    found: list[Scenario] = []
    for line in _whole_lines(text):
        if line.startswith("== "):
            found.append(Scenario(line[3:].strip(), file))
        elif not found:
            raise BadScenario(f"{file}: before the first title: {line}")
        elif line == "slow":
            found[-1].slow = True
        elif line.startswith("on "):
            found[-1].stage = line[3:].strip()
        else:
            found[-1].steps.append(step(line))
    return found


def step(line: str) -> Step:
    """One line read; raises `BadScenario`."""
    if match := _REQUEST.fullmatch(_WORDS.sub(_words, _DIGEST.sub(_digest, line))):
        name, method, path, header_text, body = match.groups()
        headers = tuple(_HEADER.findall(header_text))
        raw = None if body is None else _PACKED.get(dict(headers).get("Content-Encoding", ""), bytes)(body.encode())
        return Request(line, method, path, headers, raw, name or "")
    for word in sorted(WORDS, key=len, reverse=True):
        if line == word or line.startswith(f"{word} "):
            return Deed(line, word, tuple(line[len(word) :].split()))
    raise BadScenario(f"no step: {line}")


def _whole_lines(text: str) -> Iterator[str]:
    kept = ""
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("  "):
            kept += " " + line.strip()
            continue
        if kept:
            yield kept
        kept = line.rstrip()
    if kept:
        yield kept


def _words(match: re.Match[str]) -> str:
    return " ".join(["word"] * int(match[1]))


def _digest(match: re.Match[str]) -> str:
    return "sha256:" + hashlib.sha256(match[1].encode()).hexdigest()

"""Tell two answers apart: status, headers, framing, body and connection, but for dates, times, ids and addresses."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tests.transparency.wire import Answer, Heard

VOLATILE = re.compile(
    r'("(?:created_at|created|completed_at|modified_at|expires_at|request_id|id|item_id|response_id|call_id|[a-z_]+_duration)"'
    r':\s?)(?:"[^"]*"|\d+(?:\.\d+)?)'
)
UNORDERED = re.compile(r'("(?:modelfile|parameters)":")((?:[^"\\]|\\.)*)')  # Go's maps have no order
PROGRESS = re.compile(r',"completed":\d+')
STREAMS = ("application/x-ndjson", "text/event-stream")
LISTINGS = ("models", "data")


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same: `part` is answers, status, headers, framing, chunks, body or open."""

    part: str
    theirs: str
    ours: str

    def __str__(self) -> str:
        theirs, ours = _around(self.theirs, self.ours)
        return f"{self.part}: Ollama {theirs!r}, we {ours!r}"


def differences(theirs: Heard, ours: Heard, masks: tuple[dict[str, str], dict[str, str]]) -> list[Difference]:
    """What differs; `masks` are each side's own addresses and paths with what stands for them."""
    if [answer.status for answer in theirs.answers] != [answer.status for answer in ours.answers]:
        lists = [" | ".join(answer.status for answer in side.answers) or "nothing" for side in (theirs, ours)]
        part = "status" if len(theirs.answers) == len(ours.answers) else "answers"
        found = [Difference(part, *lists)]
    else:
        found = []
    for mine, yours in zip(theirs.answers, ours.answers, strict=False):
        found += _of_one(_Lasting(mine, masks[0]), _Lasting(yours, masks[1]))
    if theirs.open != ours.open:
        found.append(Difference("open", str(theirs.open), str(ours.open)))
    return found


class _Lasting:
    """An answer without what differs from one answer to the next."""

    def __init__(self, answer: Answer, mask: dict[str, str]) -> None:
        text = answer.body.decode("utf-8", "surrogateescape")
        for given, stands in mask.items():
            text = text.replace(given, stands)
        text = UNORDERED.sub(lambda found: found[1] + r"\n".join(sorted(found[2].split(r"\n"))), text)
        self.body = _in_order(VOLATILE.sub(r"\1*", text))
        if paced := '"status":"pulling ' in self.body:  # its lines of progress come by a clock
            self.body = "\n".join(line for line, _ in groupby(PROGRESS.sub("", self.body).split("\n")))
        self.framing = answer.framing
        streamed = (answer.header("Content-Type") or "").startswith(STREAMS)
        self.chunks = len(answer.chunks) if streamed and not paced else 0  # others are cut where the network cuts them
        steady = self.body == answer.body.decode("utf-8", "surrogateescape")
        self.headers = [self._header(line, steady) for line in answer.headers]

    def _header(self, line: str, steady: bool) -> str:
        name = line.partition(":")[0]
        timed = name.lower() == "date" or (name.lower() == "content-length" and not steady)
        return f"{name}: *" if timed else line


def _of_one(theirs: _Lasting, ours: _Lasting) -> Iterator[Difference]:
    less, more = Counter(theirs.headers), Counter(ours.headers)
    if less != more:
        yield Difference("headers", *("; ".join(side.elements()) or "-" for side in (less - more, more - less)))
    if theirs.framing != ours.framing:
        yield Difference("framing", theirs.framing, ours.framing)
    if theirs.body != ours.body:
        yield Difference("body", theirs.body, ours.body)
    elif theirs.chunks != ours.chunks:
        yield Difference("chunks", str(theirs.chunks), str(ours.chunks))


def _in_order(text: str) -> str:
    """A listing with its rows in one order: Ollama gives those of the same age now in this, now in that one."""
    if not text.startswith(tuple(f'{{"{name}":[{{' for name in LISTINGS)) and '"object":"list"' not in text:
        return text
    try:
        told: dict[str, Any] = json.loads(text.replace(":*", ':"*"'))
    except ValueError:
        return text
    for name in LISTINGS:
        rows = told.get(name)
        if isinstance(rows, list):
            rows.sort(key=lambda row: str(row.get("name", row.get("model", row.get("index", "")))))
    return json.dumps(told) + text[len(text.rstrip()) :]


def _around(theirs: str, ours: str, width: int = 160) -> tuple[str, str]:
    """Both texts from a little before where they part."""
    at = next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), min(len(theirs), len(ours)))
    start = max(0, at - 40) if max(len(theirs), len(ours)) > width else 0
    return theirs[start : start + width], ours[start : start + width]

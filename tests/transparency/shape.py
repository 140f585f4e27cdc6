"""Read the shapes of `shapes/*.toml`: each is one request, and what must be asked before it."""

import gzip
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

FOLDER = Path(__file__).parent / "shapes"
BAD_BODIES = Path(__file__).parents[1] / "badbodies" / "table.json"
LONG = {"KILOBYTES": "x" * 5_000, "MEGABYTES": "x" * (3 << 20)}
"""What these words stand for in a body: more than a context is here, and more than a buffer holds."""
SENDINGS = frozenset({"chunked", "gzip", "zstd", "expect", "no-length", "half-closed", "twice"})
KEYS = frozenset({"name", "ask", "headers", "body", "send", "raw", "answers", "first", "differs", "parts", "fault"})

NOT_YET: dict[str, str] = {}
"""Shapes that are not equal yet, by name, with what is missing; one that became equal must leave this list."""


@dataclass(frozen=True)
class Shape:
    """One request as data.

    ask: method, path and perhaps version. headers: beside Host, Content-Type and Content-Length, or in their place.
    body: where KILOBYTES and MEGABYTES stand for as many letters, and REGISTRY for the address of one.
    send: how the body travels (SENDINGS). raw: the whole request as written, in place of all that (lines end in CRLF).
    first: requests asked before it, on connections of their own, of both sides. answers: how many must come back.
    fault: `MODEL KIND` or `MODEL KIND=VALUE`, staged on both sides while it is asked (tests/realollama/stage.py).
    differs: the row of docs/differences.md that this shows; parts: exactly what differs then.
    """

    name: str
    ask: str = "GET /"
    headers: tuple[str, ...] = ()
    body: str | None = None
    send: tuple[str, ...] = ()
    raw: str | None = None
    answers: int = 1
    first: tuple["Shape", ...] = ()
    differs: str = ""
    parts: frozenset[str] = frozenset()
    fault: str = ""
    file: str = ""

    @property
    def bodiless(self) -> bool:
        """Whether HTTP gives its answer no body."""
        return (self.raw or self.ask).lstrip().startswith("HEAD ")

    def sent(self, registry: str = "") -> list[bytes]:
        """The bytes, in parts; after each part but the last an interim answer is awaited."""
        if self.raw is not None:
            return [
                self.raw.lstrip("\n").replace("\r\n", "\n").replace("\n", "\r\n").encode("utf-8", "surrogateescape")
            ]
        body = self._packed(registry)
        lines = [*self._request_line(), *self._head(body)]
        head = "\r\n".join([*lines, "", ""]).encode()
        payload = _chunked(body) if "chunked" in self.send and body is not None else body or b""
        if "expect" in self.send:
            return [head, payload]
        return [(head + payload) * (2 if "twice" in self.send else 1)]

    def _request_line(self) -> list[str]:
        return [self.ask if " HTTP/" in self.ask else f"{self.ask} HTTP/1.1"]

    def _packed(self, registry: str) -> bytes | None:
        if self.body is None:
            return None
        text = self.body
        for word, stands in {**LONG, "REGISTRY": registry}.items():
            text = text.replace(word, stands)
        body = text.encode("utf-8", "surrogateescape")
        if "gzip" in self.send:
            return gzip.compress(body, mtime=0)
        return zstandard.compress(body) if "zstd" in self.send else body

    def _head(self, body: bytes | None) -> list[str]:
        given = {line.partition(":")[0].lower() for line in self.headers}
        head = {"Host": "localhost"}
        if body is not None:
            head["Content-Type"] = "application/json"
            if "chunked" in self.send:
                head["Transfer-Encoding"] = "chunked"
            elif "no-length" not in self.send:
                head["Content-Length"] = str(len(body))
        for coding in {"gzip", "zstd"} & set(self.send):
            head["Content-Encoding"] = coding
        if "expect" in self.send:
            head["Expect"] = "100-continue"
        own = [f"{name}: {value}" for name, value in head.items() if name.lower() not in given]
        return [*own, *(line for line in self.headers if not line.endswith(":"))]


def _chunked(body: bytes) -> bytes:
    """In two chunks, cut in the middle."""
    half = len(body) // 2
    parts = [part for part in (body[:half], body[half:]) if part]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def shapes() -> list[Shape]:
    """Every shape, in the order of the files."""
    found = [shape for file in sorted(FOLDER.glob("*.toml")) for shape in _read(file)]
    names = [shape.name for shape in found]
    doubles = {name for name in names if names.count(name) > 1}
    if doubles:
        raise ValueError(f"shapes of one name: {doubles}")
    return found


def bad_bodies() -> list[Shape]:
    """Every body of tests/badbodies/table.json, as a shape."""
    rows: list[dict[str, Any]] = json.loads(BAD_BODIES.read_text())
    return [_bad(row) for row in rows]


def _bad(row: dict[str, Any]) -> Shape:
    deep = row.get("deep", 0)
    body: str = row["body"] if "body" in row else '{"model":"x","a":' + "[" * deep + "]" * deep + "}"
    raw = body.encode("latin-1").decode("utf-8", "surrogateescape")
    kind = row.get("type", "text/plain")
    return Shape(row["name"], ask=f"POST {row['path']}", headers=(f"Content-Type: {kind}",), body=raw, file="badbodies")


def _read(file: Path) -> list[Shape]:
    rows: list[dict[str, Any]] = tomllib.loads(file.read_text())["shape"]
    return [_shape(row, file.stem) for row in rows]


def _shape(row: dict[str, Any], file: str) -> Shape:
    if strange := set(row) - KEYS:
        raise ValueError(f"{file}: {row.get('name')}: no key {strange}")
    send = tuple(row.get("send", "").split())
    if strange := set(send) - SENDINGS:
        raise ValueError(f"{file}: {row['name']}: no sending {strange}")
    return Shape(
        name=row["name"],
        ask=row.get("ask", "GET /"),
        headers=tuple(row.get("headers", ())),
        body=row.get("body"),
        send=send,
        raw=row.get("raw"),
        answers=row.get("answers", 2 if "twice" in send else 1),
        first=tuple(_step(text) for text in row.get("first", ())),
        differs=row.get("differs", ""),
        parts=frozenset(row.get("parts", ())),
        fault=row.get("fault", ""),
        file=file,
    )


def _step(text: str) -> Shape:
    """`POST /api/copy {"source": …}`: method, path, and a body if there is one."""
    method, path, *body = text.split(" ", 2)
    return Shape(name=text, ask=f"{method} {path}", body=body[0] if body else None)

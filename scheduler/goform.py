"""Read a multipart form as Go reads it, for the few words in it that decide: `/v1/audio/transcriptions` is one.

From `net/http` (ParseMultipartForm, FormValue, FormFile) and `mime/multipart` of Go 1.26. The form goes to Ollama byte
for byte; which model it is for is said in the query, which Go looks at first, so a reading of ours that differs from
Go's can never send a request to another model than the one we know of.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from urllib.parse import parse_qs

from scheduler.gosyntax import go_quote


class NotForm(ValueError):
    """A body that Go does not take for a multipart form; the text is its message."""


@dataclass(slots=True)
class Form:
    """The first value of each field, and the size in bytes of the first file of each name."""

    values: dict[str, str] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)


def read_form(headers: Mapping[str, str], query: str, raw: bytes) -> Form:
    """The form in a body; what the query says comes first. Raises NotForm."""
    told = Message()
    told["Content-Type"] = headers.get("Content-Type", "")
    if told.get_content_type() != "multipart/form-data":
        raise NotForm("request Content-Type isn't multipart/form-data")
    boundary = told.get_param("boundary")
    if not isinstance(boundary, str) or not boundary:
        raise NotForm("no multipart boundary param in Content-Type")
    form = Form({name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()})
    for part in _parts(raw, boundary.encode("latin-1", "replace")):
        _add(form, part)
    return form


def _parts(raw: bytes, boundary: bytes) -> list[memoryview]:
    """What lies between the boundaries, each with its headers."""
    line = b"\n" if raw.startswith(b"--" + boundary + b"\n") else b"\r\n"
    mark = re.compile(re.escape(line + b"--" + boundary) + rb"(?=[ \t\r\n]|--|\Z)")
    parts: list[memoryview] = []
    here = re.compile(re.escape(b"--" + boundary)).match(raw) or mark.search(raw)
    if here is None:
        raise NotForm("multipart: NextPart: EOF")
    while not raw.startswith(b"--", here.end()):
        begin = raw.find(line, here.end())
        if begin < 0:
            raise NotForm("multipart: NextPart: EOF")
        there = mark.search(raw, begin)
        if there is None:
            raise NotForm(_cut(raw[begin + len(line) :], line))
        parts.append(memoryview(raw)[begin + len(line) : there.start()])
        here = there
    return parts


def _cut(rest: bytes, line: bytes) -> str:
    """What Go says of a last part that never ends."""
    if line * 2 in rest:
        return "unexpected EOF"
    for header in rest.split(line):
        if header and b":" not in header:
            return f"malformed MIME header: missing colon: {go_quote(header.decode('utf-8', 'replace'), chr(34))}"
    return "multipart: NextPart: EOF"


def _add(form: Form, part: memoryview) -> None:
    raw = bytes(part[: 1 << 16])
    ends = [(at, len(gap)) for gap in (b"\r\n\r\n", b"\n\n") if (at := raw.find(gap)) >= 0]
    if not ends:
        return
    at, gap = min(ends)
    told = Message()
    for line in raw[:at].decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() == "content-disposition":
            told["Content-Disposition"] = value.strip()
    name = told.get_param("name", header="content-disposition")
    if told.get_content_disposition() != "form-data" or not isinstance(name, str) or not name:
        return
    content = part[at + gap :]
    if told.get_param("filename", header="content-disposition"):
        form.files.setdefault(name, len(content))
    else:
        form.values.setdefault(name, bytes(content).decode("utf-8", "replace"))

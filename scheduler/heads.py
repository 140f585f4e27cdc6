"""Read the head of a request as Go's HTTP server does, so that what Ollama would refuse is refused in its own words.

From Go 1.26: net/http `readRequest`, `readTransfer`, `conn.readRequest` and `conn.serve`; net/textproto
`ReadMIMEHeader`; net/url `ParseRequestURI`; golang.org/x/net/http/httpguts.
"""

import re
from collections.abc import Iterable
from functools import cached_property

from multidict import CIMultiDict, CIMultiDictProxy

from scheduler.errors import Failure

Pairs = list[tuple[bytes, bytes]]

CLIENT_ENCODING = "latin-1"  # of header values as text: every byte has a character, and none is lost
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NAME = re.compile(rb"[ !#$%&'*+.^_`|~0-9A-Za-z-]+")  # a space in it is told in other words
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_URL_CONTROL = re.compile(rb"[\x00-\x20\x7f]")
_HOST = re.compile(rb"[0-9A-Za-z!$%&'()*+,\-.:;=\[\]_~]*")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*:")
_AUTHORITY = re.compile(rb"(?:[^@/]*@)?((?:\[[0-9A-Fa-f:.]+(?:%25[^\]]*)?\]|[^:\[\]@\\^`{}|<>\"]*)(?::[0-9]*)?)")
_VERSION = re.compile(rb"HTTP/([0-9])\.([0-9])")
_LENGTH = re.compile(rb"[0-9]+")
_MOST = (1 << 63) - 1


class NotHTTP(Exception):
    """What no request can be made of. `answer` is what Go's server says before it closes the connection."""

    def __init__(self, status: str, text: str = "") -> None:
        super().__init__(text or status)
        head = "Content-Type: text/plain; charset=utf-8\r\nConnection: close"
        self.answer = f"HTTP/1.1 {status}\r\n{head}\r\n\r\n{text or status}".encode()


class BodyFault(Failure):
    """A body whose framing is broken or that ended short, in the words of Go's reader."""


TOO_LARGE = NotHTTP("431 Request Header Fields Too Large")


def _bad(why: str = "") -> NotHTTP:
    return NotHTTP(f"400 Bad Request: {why}" if why else "400 Bad Request")


class Head:
    """One request's head. `target` is what follows the method, in origin form; `host` whom it is for."""

    def __init__(self, method: str, target: str, modern: bool, host: bytes, pairs: Pairs) -> None:
        self.method = method
        self.raw_path = target
        self.modern = modern  # HTTP/1.1
        self.host = host.decode(CLIENT_ENCODING)
        self.raw_headers = pairs  # as sent, each fold one space
        self.content_length: int | None = 0  # bytes of the body; None: chunked
        self._by: dict[bytes, list[bytes]] = {}
        for name, value in pairs:
            self._by.setdefault(name.lower(), []).append(value)
        connection = self.values(b"connection")
        self.keep_alive = not _has(connection, b"close") if self.modern else _has(connection, b"keep-alive")
        expect = next(iter(self.values(b"expect")), b"")
        self.expects = bool(expect) and self.modern and b"100-continue" in re.split(rb"[ ,\t]+", expect.lower())
        self.expects_more = bool(expect) and not self.expects  # than we can do: 417

    @cached_property
    def headers(self) -> CIMultiDictProxy[str]:
        """By name, whatever its case."""
        decoded = ((name.decode(), value.decode(CLIENT_ENCODING)) for name, value in self.raw_headers)
        return CIMultiDictProxy(CIMultiDict(decoded))

    @property
    def names(self) -> Iterable[bytes]:
        """Every name, in lower case."""
        return self._by

    def values(self, name: bytes) -> list[bytes]:
        """Every value of one header, whose name is given in lower case."""
        return self._by.get(name, [])


def check_first_line(line: bytes) -> tuple[str, bytes, int, int]:
    """Method, target and version of a request line. Raises NotHTTP."""
    method, _, rest = line.partition(b" ")
    target, _, version = rest.partition(b" ")
    if not version or not _TOKEN.fullmatch(method):
        raise _bad()
    match = _VERSION.fullmatch(version)
    if match is None:
        raise _bad()
    return method.decode(), target, int(match[1]), int(match[2])


def read_head(block: bytes) -> Head:
    """The head in `block`: every line up to the empty one, which is not in it. Raises NotHTTP."""
    first, *lines = [line[:-1] if line.endswith(b"\r") else line for line in block.split(b"\n")]
    method, target, major, minor = check_first_line(first)
    host, path = _target(method, target)
    pairs = _pairs(lines)
    head = Head(method, path, (major, minor) >= (1, 1), host, pairs)
    given = head.values(b"host")
    if len(given) > 1:
        raise _bad()
    if given and not host:
        head.host = given[0].decode(CLIENT_ENCODING)
    head.content_length = _length(head)
    if major != 1 and (method, target, major, minor) != ("PRI", b"*", 2, 0):  # HTTP/2's greeting is told 400
        raise NotHTTP("505 HTTP Version Not Supported: unsupported protocol version")
    if head.modern and not given and major == 1 and method != "CONNECT":
        raise _bad("missing required Host header")
    if given and not _HOST.fullmatch(given[0]):
        raise _bad("malformed Host header")
    if any(b" " in name for name in head.names):
        raise _bad("invalid header name")
    return head


def _target(method: str, target: bytes) -> tuple[bytes, str]:
    """Host, if it is told here, and origin form (url.ParseRequestURI)."""
    if not target or _URL_CONTROL.search(target):
        raise _bad()
    if target == b"*" or (method == "CONNECT" and not target.startswith(b"/")):
        return b"", target.decode(CLIENT_ENCODING)
    host = b""
    if not target.startswith(b"/"):
        scheme = _SCHEME.match(target)
        if scheme is None:
            raise _bad()
        host, target = _authority(target[scheme.end() :])
    if _BAD_ESCAPE.search(target.partition(b"?")[0]):
        raise _bad()
    if target.isascii():
        return host, target.decode()
    return host, "".join(chr(byte) if byte < 128 else f"%{byte:02X}" for byte in target)


def _authority(rest: bytes) -> tuple[bytes, bytes]:
    """Split what follows the scheme of an absolute target."""
    if not rest.startswith(b"//"):
        return b"", rest if rest.startswith(b"/") else b"/"
    before, query, after = rest[2:].partition(b"?")
    authority, slash, path = before.partition(b"/")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise _bad()
    return match[1], (slash or b"/") + path + query + after


def _pairs(lines: list[bytes]) -> Pairs:
    """Name and value of every header line; a line that begins with a space goes on with the one before."""
    told: list[tuple[bytes, list[bytes]]] = []  # the lines of a value, joined but once: there may be 200,000 of them
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            if not told:
                raise _bad()
            told[-1][1].append(line.strip(b" \t"))
            continue
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise _bad()
        told.append((name, [value.strip(b" \t")]))
    pairs = [(name, b" ".join(values).lstrip(b" \t")) for name, values in told]
    if _CONTROL.search(b"".join([value for _, value in pairs])):
        raise _bad()
    return pairs


def _length(head: Head) -> int | None:
    """Bytes of the body, None where it is chunked (transfer.go: parseTransferEncoding, fixLength, fixTrailer)."""
    codings = head.values(b"transfer-encoding") if head.modern else []
    if codings and (len(codings) > 1 or codings[0].lower() != b"chunked"):
        raise NotHTTP("501 Not Implemented", "Unsupported transfer encoding")
    given = head.values(b"content-length")
    if given and (len(set(given)) > 1 or not _LENGTH.fullmatch(given[0]) or int(given[0][:20]) > _MOST):
        raise _bad()
    if not codings:
        return int(given[0]) if given else 0
    named = b",".join(head.values(b"trailer")).lower().split(b",")
    if any(name.strip() in (b"transfer-encoding", b"trailer", b"content-length") for name in named):
        raise _bad()
    return None


def _has(values: list[bytes], token: bytes) -> bool:
    return any(part.strip(b" \t").lower() == token for value in values for part in value.split(b","))

"""What strangers send: heads, framings, names and bodies that are not quite right; raw bytes, by name."""

import json

HOST = b"Host: localhost\r\n"


def post(path: str, body: bytes, *more: str) -> bytes:
    """A request with a body, as it should be; `more` header lines."""
    lines = "".join(f"{line}\r\n" for line in more)
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def framed(headers: str, body: bytes = b"{}", path: str = "/api/show") -> bytes:
    """A request whose framing is said by `headers`."""
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode() + body


def head(first: bytes, *lines: bytes) -> bytes:
    """A head without a body."""
    return b"\r\n".join((first, *lines)) + b"\r\n\r\n"


VERSION = b"GET /api/version HTTP/1.1"
CHUNKED = "Transfer-Encoding: chunked\r\n"
SMUGGLED = b"GET /api/ps HTTP/1.1\r\nHost: localhost\r\n\r\n"

HEADS: dict[str, bytes] = {
    "plain": head(VERSION, b"Host: localhost"),
    "old": head(b"GET /api/version HTTP/1.0"),
    "old, kept": head(b"GET /api/version HTTP/1.0", b"Connection: Keep-Alive"),
    "old HEAD, kept": head(b"HEAD / HTTP/1.0", b"Connection: keep-alive"),
    "older": b"GET /\r\n",
    "newer": head(b"GET / HTTP/2.0", b"Host: localhost"),
    "a little newer": head(b"GET /api/version HTTP/1.7", b"Host: localhost"),
    "no version": head(b"GET / ", b"Host: localhost"),
    "odd version": head(b"GET / HTTP/1.10", b"Host: localhost"),
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n",
    "close": head(VERSION, b"Host: localhost", b"Connection: foo, Close"),
    "no host": head(VERSION),
    "two hosts": head(VERSION, b"Host: localhost", b"Host: localhost"),
    "odd host": head(VERSION, b"Host: local host"),
    "empty host": head(VERSION, b"Host:"),
    "foreign host": head(VERSION, b"Host: evil.example"),
    "absolute": head(b"GET http://localhost/api/version?a=b HTTP/1.1", b"Host: evil.example"),
    "absolute, foreign": head(b"GET http://evil.example/api/version HTTP/1.1", b"Host: localhost"),
    "absolute, with user": head(b"GET http://a:b@localhost/api/version HTTP/1.1", b"Host: localhost"),
    "absolute, odd port": head(b"GET http://localhost:x/api/version HTTP/1.1", b"Host: localhost"),
    "no slash": head(b"GET api/version HTTP/1.1", b"Host: localhost"),
    "star": head(b"OPTIONS * HTTP/1.1", b"Host: localhost"),
    "OPTIONS": head(b"OPTIONS /api/chat HTTP/1.1", b"Host: 127.0.0.1"),
    "OPTIONS by name": head(b"OPTIONS /api/chat HTTP/1.1", b"Host: localhost"),
    "OPTIONS nowhere": head(b"OPTIONS /nowhere HTTP/1.1", b"Host: 127.0.0.1"),
    "preflight": head(
        b"OPTIONS /api/chat HTTP/1.1",
        b"Host: 127.0.0.1",
        b"Origin: http://localhost:3000",
        b"Access-Control-Request-Method: POST",
    ),
    "foreign origin": head(VERSION, b"Host: 127.0.0.1", b"Origin: https://evil.example"),
    "origin null": head(VERSION, b"Host: 127.0.0.1", b"Origin: null"),
    "origin with odd bytes": head(VERSION, b"Host: 127.0.0.1", b"Origin: app://\xff\xfe"),
    "HEAD of nothing": head(b"HEAD /nowhere HTTP/1.1", b"Host: localhost"),
    "HEAD of a listing": head(b"HEAD /api/tags HTTP/1.1", b"Host: localhost"),
    "HEAD of a demand": head(b"HEAD /api/chat HTTP/1.1", b"Host: localhost"),
    "bad escape": head(b"GET /%zz HTTP/1.1", b"Host: localhost"),
    "bad escape in the query": head(b"GET /api/version?%zz HTTP/1.1", b"Host: localhost"),
    "control in the path": head(b"GET /\x01 HTTP/1.1", b"Host: localhost"),
    "odd method": head(b"G@T / HTTP/1.1", b"Host: localhost"),
    "unknown method": head(b"BREW / HTTP/1.1", b"Host: localhost"),
    "folded": head(VERSION, b"Host: localhost", b"X-A: b", b"  c"),
    "folded 200,000 times": head(VERSION, b"Host: localhost", b"X-A: b", *((b" a",) * 200_000)),
    "folded at first": head(VERSION, b" Host: localhost"),
    "bare line feeds": b"GET /api/version HTTP/1.1\nHost: localhost\n\n",
    "bare return in a value": head(VERSION, b"Host: localhost", b"X-A: b\rc"),
    "NUL in a value": head(VERSION, b"Host: localhost", b"X-A: b\0c"),
    "NUL in a name": head(VERSION, b"Host: localhost", b"X\0A: b"),
    "no colon": head(VERSION, b"Host: localhost", b"nonsense"),
    "no name": head(VERSION, b"Host: localhost", b": b"),
    "space before colon": head(VERSION, b"Host: localhost", b"X-A : b"),
    "invalid UTF-8 in a value": head(VERSION, b"Host: localhost", b"X-A: \xff\xfe"),
    "invalid UTF-8 in a name": head(VERSION, b"Host: localhost", b"X\xff: b"),
    "empty lines ahead": b"\r\n\r\n" + head(VERSION, b"Host: localhost"),
    "64 KB of one header": head(VERSION, b"Host: localhost", b"X-A: " + b"a" * 65_536),
    "64 KB of many headers": head(VERSION, b"Host: localhost", *(b"X-%d: %d" % (i, i) for i in range(5000))),
    "64 KB of target": head(b"GET /" + b"a" * 65_536 + b" HTTP/1.1", b"Host: localhost"),
    "a megabyte of one header": head(VERSION, b"Host: localhost", b"X-A: " + b"a" * (1 << 20) + b"a" * 8192),
    "expectation": framed("Expect: 200-ok\r\nContent-Length: 2\r\n"),
    "continue": framed("Expect: 100-continue\r\nContent-Length: 2\r\n"),
    "continue, nothing to say": framed("Expect: 100-continue\r\nContent-Length: 0\r\n", b""),
    "pipelined": 3 * head(VERSION, b"Host: localhost"),
    "pipelined, one of them wrong": head(VERSION, b"Host: localhost") + b"nonsense\r\n" + head(VERSION),
    "pipelined behind a close": head(VERSION, b"Host: localhost", b"Connection: close") + head(VERSION),
    "empty line behind a body": framed("Content-Length: 2\r\n") + b"\r\n" + head(VERSION, b"Host: localhost"),
    "redirected": head(b"GET //api/../api/version?a=b HTTP/1.1", b"Host: localhost"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
"""Heads, the half of them not HTTP."""

FRAMINGS: dict[str, bytes] = {
    "length and chunks": framed("Content-Length: 5\r\n" + CHUNKED, b"2\r\n{}\r\n0\r\n\r\n"),
    "chunks and length": framed(CHUNKED + "Content-Length: 3\r\n", b"2\r\n{}\r\n0\r\n\r\n" + SMUGGLED),
    "chunks and bad length": framed(CHUNKED + "Content-Length: x\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    "chunked twice": framed(CHUNKED + CHUNKED, b"2\r\n{}\r\n0\r\n\r\n"),
    "chunked, chunked": framed("Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"),
    "gzip, chunked": framed("Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
    "identity": framed("Transfer-Encoding: identity\r\n", b""),
    "xchunked": framed("Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    "chunked with a tab": framed("Transfer-Encoding:\tchunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    "chunked with vertical tab": framed("Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"),
    "CHUNKED": framed("Transfer-Encoding: CHUNKED\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    "space before colon, chunked": framed("Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
    "folded coding": framed("Transfer-Encoding:\r\n chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    "empty coding": framed("Transfer-Encoding:\r\n", b""),
    "chunks for HTTP/1.0": b"POST /api/show HTTP/1.0\r\n" + CHUNKED.encode() + b"\r\n2\r\n{}\r\n0\r\n\r\n",
    "two lengths": framed("Content-Length: 2\r\nContent-Length: 3\r\n"),
    "one length twice": framed("Content-Length: 2\r\nContent-Length: 2\r\n"),
    "lengths in one": framed("Content-Length: 2, 2\r\n"),
    "negative length": framed("Content-Length: -2\r\n"),
    "signed length": framed("Content-Length: +2\r\n"),
    "hexadecimal length": framed("Content-Length: 0x2\r\n"),
    "empty length": framed("Content-Length:\r\n"),
    "length beyond 63 bits": framed("Content-Length: 9223372036854775808\r\n"),
    "length of 5,000 digits": framed("Content-Length: " + "1" * 5000 + "\r\n"),
    "length with underscore": framed("Content-Length: 1_0\r\n"),
    "length in other digits": framed("Content-Length: \u0662\r\n"),
    "chunk overflow": framed(CHUNKED, b"10000000000000002\r\n{}\r\n0\r\n\r\n"),
    "chunk size not hexadecimal": framed(CHUNKED, b"0x2\r\n{}\r\n0\r\n\r\n"),
    "chunk size with sign": framed(CHUNKED, b"+2\r\n{}\r\n0\r\n\r\n"),
    "empty chunk size": framed(CHUNKED, b"\r\n{}\r\n0\r\n\r\n"),
    "chunk size ends with bare line feed": framed(CHUNKED, b"2\n{}\r\n0\r\n\r\n"),
    "return inside a chunk size": framed(CHUNKED, b"2\r;\r\n{}\r\n0\r\n\r\n"),
    "chunk longer than said": framed(CHUNKED, b"1\r\n{}\r\n0\r\n\r\n"),
    "a byte a chunk": framed(CHUNKED, b"1\r\n \r\n" * 200_000 + b"2\r\n{}\r\n0\r\n\r\n"),
    "a byte a chunk, each with an extension": framed(CHUNKED, (b"1;" + b"a" * 60 + b"\r\n \r\n") * 1000),
    "chunk extension": framed(CHUNKED, b'2;a="b"\r\n{}\r\n0\r\n\r\n'),
    "endless chunk extension": framed(CHUNKED, b"2;" + b"a" * 5000 + b"\r\n{}\r\n0\r\n\r\n"),
    "trailers": framed(CHUNKED + "Trailer: X-T\r\n", b"2\r\n{}\r\n0\r\nX-T: a\r\n\r\n"),
    "forbidden trailer": framed(CHUNKED + "Trailer: Content-Length\r\n", b"0\r\n\r\n"),
    "two in one": framed("Content-Length: 2\r\n", b"{}" + SMUGGLED),
}
"""Ways to say where a body ends, the half of them wrong. The real Ollama answers what it can see of a body before
its end; so do we where the body is sound."""

NAMES: tuple[str, ...] = (
    "",
    " ",
    "x",
    "\0",
    "qwen-fast\0:latest",
    "qwen-fast:latest\0",
    "\ufffd",
    "\ud800",
    "a" * 80,
    "a" * 81,
    "a" * 10_240,
    "../../etc/passwd",
    "..",
    ".",
    "/",
    "//",
    "a/../b",
    "library/../qwen-fast",
    "/etc/passwd",
    "C:\\Windows\\system32",
    "file:///etc/passwd",
    "http://evil.example/x",
    "http://127.0.0.1:1/a/b:c",
    "evil.example/a/b:c",
    "a/b/c/d/e",
    "a:b:c",
    ":latest",
    "qwen-fast:",
    "qwen-fast:latest:latest",
    "qwen-fast@sha256:0000",
    "sha256:0000",
    "sha256-0000",
    "q\u200bwen-fast",
    "qwen\u2010fast",
    "\u0501wen-fast",  # a Cyrillic look-alike
    "\uff51wen-fast",  # full width
    "qwen-f\u0430st",
    "K\u212a:latest",  # the Kelvin sign folds to k
    "\u202eqwen-fast",
    "qwen-fast\r\nX-Injected: 1",
    "qwen fast",
    "$(reboot)",
    "`id`",
    "; rm -rf /",
    "| cat /etc/passwd",
    "&& true",
    "> /dev/null",
    "'qwen-fast'",
    '"qwen-fast"',
    "%00",
    "%2e%2e%2f",
    "{{.Model}}",
    "${HOME}",
    "*",
    "?",
    "-",
    "--model",
    "-qwen",
    "_",
    "\U0001f600",
    "null",
    "true",
    "NaN",
    "🦙/🦙:🦙",
)
"""What is given for a model's name. None is one that is installed."""


def body(name: str, **more: object) -> bytes:
    """A question to a model of that name; what is no Unicode goes as the escape it is."""
    return json.dumps({"model": name, "prompt": "x", **more}).encode()


DEEP = 100_000
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1",
    "two values": b'{"model":"x"}{"model":"y"}',
    "cut": b'{"model":"x',
    "NUL": b'{"model":"x","prompt":"\0"}',
    "escaped NUL": b'{"model":"x","prompt":"\\u0000"}',
    "NUL ahead": b"\0" + body("x"),
    "NUL behind": body("x") + b"\0",
    "byte order mark": b"\xef\xbb\xbf" + body("x"),
    "invalid UTF-8 in the name": b'{"model":"\xff\xfe","prompt":"x"}',
    "invalid UTF-8 in a key": b'{"mod\xffel":"x","prompt":"x"}',
    "overlong UTF-8 in the name": b'{"model":"\xc0\xaf","prompt":"x"}',
    "UTF-16": body("x").decode().encode("utf-16"),
    "lone surrogate in the name": b'{"model":"\\ud800","prompt":"x"}',
    "model twice": b'{"model":"x","model":"y","prompt":"x"}',
    "model in capitals": b'{"model":"x","MODEL":"y","prompt":"x"}',
    "model with the long s": '{"model":"x","\u017ftream":false,"prompt":"x"}'.encode(),
    "model with the Kelvin sign": '{"model":"x","\u212aeep_alive":"1h","prompt":"x"}'.encode(),
    "model is a number": b'{"model":1}',
    "model is a list": b'{"model":["x"]}',
    "model is null": b'{"model":null,"prompt":"x"}',
    "options is a list": b'{"model":"x","options":[]}',
    "messages is an object": b'{"model":"x","messages":{}}',
    "deep lists": b'{"model":"x","format":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"model":"x","format":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "deep and cut": b'{"model":"x","options":' + b"[" * DEEP,
    "deep in an unknown key": b'{"model":"x","what":' + b"[" * 10_001 + b"]" * 10_001 + b"}",
    "long number": b'{"model":"x","options":{"seed":' + b"1" * 100_000 + b"}}",
    "large exponent": b'{"model":"x","options":{"temperature":1e999999}}',
    "many keys": b'{"model":"x",' + b",".join(b'"k%d":0' % i for i in range(50_000)) + b"}",
    "one key many times": b'{"model":"x"' + b',"MODEL":"x"' * 50_000 + b"}",
    "bad escape": b'{"model":"\\x41"}',
    "control in a string": b'{"model":"a\nb"}',
    "keep_alive of ages": b'{"model":"x","keep_alive":"999999999h"}',
    "keep_alive NaN": b'{"model":"x","keep_alive":NaN}',
}
"""Bodies, for a route that asks for a model in JSON. None asks for one that is installed."""

COSTLY = frozenset(("many keys", "one key many times", "deep objects"))
"""Bodies that take seconds to understand, with others at it: one route is enough."""

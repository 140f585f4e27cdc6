"""Say what Go's encoding/json says about a body it does not take; slow and exact, used only once a body is known bad.

A port of the scanner in Go 1.26's encoding/json/scanner.go, by value instead of by byte.
"""

import re
from typing import Literal, NoReturn

Kind = Literal["object", "array", "string", "number", "bool", "null"]

MAX_DEPTH = 10_000
_SPACE = re.compile(rb"[ \t\n\r]*")
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
_HEX = re.compile(rb"[0-9a-fA-F]*")
_DIGITS = re.compile(rb"[0-9]+")
_WORDS: dict[bytes, tuple[bytes, Kind]] = {b"t": (b"true", "bool"), b"f": (b"false", "bool"), b"n": (b"null", "null")}


class NotJSON(ValueError):
    """A body that Go's decoder does not take; the text is its message ("EOF" where there is no value at all)."""


def value_kind(raw: bytes) -> Kind:
    """The kind of the first JSON value in `raw`. Raises NotJSON where Go's decoder finds none."""
    return _Scanner(raw).run()


def only_kind(raw: bytes) -> Kind:
    """The kind of the JSON value that `raw` is, and nothing beside it. Raises NotJSON as json.Unmarshal fails."""
    scanner = _Scanner(raw)
    kind = scanner.run()
    scanner.skip()
    if scanner.at < len(raw):
        scanner.fail("after top-level value")
    return kind


def go_quote(text: str, quote: str = "'") -> str:
    """`text` between quotes, escaped as Go's strconv.Quote does (`quote` instead of its double one)."""
    short = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\"}
    out = ""
    for char in text:
        if char == quote:
            out += "\\" + char
        elif char in short:
            out += short[char]
        elif char.isprintable():
            out += char
        elif ord(char) < 0x80:
            out += f"\\x{ord(char):02x}"
        else:
            out += f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
    return f"{quote}{out}{quote}"


class _Scanner:
    """One walk over a body: `at` is the next byte, `open` the brackets not yet closed, `fresh` an empty last one."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0
        self.open: list[int] = []
        self.fresh = False

    def run(self) -> Kind:
        self.skip()
        if self.at == len(self.raw):
            raise NotJSON("EOF")
        kind = self.begin()
        while self.open:
            self.step()
        return kind

    def step(self) -> None:
        """What may stand inside a bracket: its end, or a comma (unless it is fresh) and a member."""
        self.skip()
        char = self.peek()
        in_object = self.open[-1] == ord("{")
        if char == (b"}" if in_object else b"]"):
            self.at += 1
            self.open.pop()
            self.fresh = False
            return
        if not self.fresh:
            if char != b",":
                self.fail("after object key:value pair" if in_object else "after array element")
            self.at += 1
        if in_object:
            self.key()
        self.skip()
        self.begin()

    def begin(self) -> Kind:
        """A scalar, or only the opening of a bracket, so that no depth of nesting is a depth of calls."""
        char = self.peek()
        self.fresh = char in (b"{", b"[")
        if self.fresh:
            self.open.append(self.raw[self.at])
            if len(self.open) > MAX_DEPTH:
                self.fail("exceeded max depth")
            self.at += 1
            return "object" if char == b"{" else "array"
        if char == b'"':
            self.string()
            return "string"
        if char == b"-" or char.isdigit():
            self.number()
            return "number"
        if char in _WORDS:
            return self.word(*_WORDS[char])
        self.fail("looking for beginning of value")

    def key(self) -> None:
        self.skip()
        if self.peek() != b'"':
            self.fail("looking for beginning of object key string")
        self.string()
        self.skip()
        if self.peek() != b":":
            self.fail("after object key")
        self.at += 1

    def string(self) -> None:
        match = _STRING.match(self.raw, self.at)
        self.at = match.end() if match else self.at
        char = self.peek()
        if char == b'"':
            self.at += 1
            return
        if char != b"\\":
            self.fail("in string literal")
        self.at += 1
        if self.peek() != b"u":
            self.fail("in string escape code")
        self.at += 1
        digits = _HEX.match(self.raw, self.at)
        self.at = digits.end() if digits else self.at
        self.fail("in \\u hexadecimal character escape")

    def number(self) -> None:
        if self.peek() == b"-":
            self.at += 1
        if self.peek() == b"0":
            self.at += 1
        else:
            self.digits("in numeric literal")
        if self.raw[self.at : self.at + 1] == b".":
            self.at += 1
            self.digits("after decimal point in numeric literal")
        if self.raw[self.at : self.at + 1] in (b"e", b"E"):
            self.at += 1
            if self.peek() in (b"+", b"-"):
                self.at += 1
            self.digits("in exponent of numeric literal")

    def digits(self, context: str) -> None:
        match = _DIGITS.match(self.raw, self.at)
        if not match:
            self.fail(context)
        self.at = match.end()

    def word(self, whole: bytes, kind: Kind) -> Kind:
        for char in whole:
            if self.peek() != bytes((char,)):
                self.fail(f"in literal {whole.decode()} (expecting {chr(char)!r})")
            self.at += 1
        return kind

    def skip(self) -> None:
        match = _SPACE.match(self.raw, self.at)
        self.at = match.end() if match else self.at

    def peek(self) -> bytes:
        """The next byte. Raises NotJSON at the end: something was still to come."""
        if self.at >= len(self.raw):
            raise NotJSON("unexpected EOF")
        return self.raw[self.at : self.at + 1]

    def fail(self, context: str) -> NoReturn:
        char = self.peek().decode("latin-1")
        quoted = "'\"'" if char == '"' else go_quote(char)
        raise NotJSON(f"invalid character {quoted} {context}")

"""What Go's JSON decoder says of a body that is no JSON (encoding/json of Go 1.26)."""

import json
import re

JSON_BLANKS = " \t\r\n"
_LITERALS = {"n": "null", "t": "true", "f": "false"}
_VALUE = re.compile(r'[{\["\d-]')
_PLACES = {
    "Expecting property name": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':'": "after object key",
    "Invalid control": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX": "in \\u hexadecimal character escape",
}


def complaint(error: json.JSONDecodeError) -> str:
    """The same fault in Go's words; Python names the same character, but for a trailing comma and a literal."""
    text, place = error.doc, error.pos
    if error.msg.startswith("Illegal trailing comma"):
        place = len(text) - len(text[place + 1 :].lstrip(JSON_BLANKS))
    if error.msg.startswith("Invalid \\"):
        place += 1
    if place >= len(text.rstrip(JSON_BLANKS)) or error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    if error.msg.startswith("Expecting value"):
        return _no_value(text, place)
    if error.msg.startswith("Expecting ','"):
        return _unexpected(text[place], f"after {_inside(text, place)}")
    where = next((said for begin, said in _PLACES.items() if error.msg.startswith(begin)), "in the body")
    return _unexpected(text[place], where)


def _no_value(text: str, place: int) -> str:
    literal = _LITERALS.get(text[place], "")
    for offset, wanted in enumerate(literal):
        if place + offset >= len(text.rstrip(JSON_BLANKS)):
            return "unexpected EOF"
        if text[place + offset] != wanted:
            return _unexpected(text[place + offset], f"in literal {literal} (expecting '{wanted}')")
    return _unexpected(text[place], "looking for beginning of value")


def _inside(text: str, place: int) -> str:
    """In which kind of container this place of a body lies, its strings aside."""
    opened = []
    for mark in re.sub(r'"(?:\\.|[^"\\])*"', "", text[:place]):
        if mark in "{[":
            opened.append(mark)
        elif mark in "}]" and opened:
            opened.pop()
    return "array element" if opened and opened[-1] == "[" else "object key:value pair"


def _unexpected(character: str, where: str) -> str:
    shown = {"'": "\\'", '"': '"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character, character)
    if len(shown) == 1 and shown < " ":
        shown = f"\\x{ord(shown):02x}"
    return f"invalid character '{shown}' {where}"

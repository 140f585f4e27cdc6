"""Read `keep_alive` as Ollama reads it: whether a request without a prompt means load or unload hangs on it."""

import re
from typing import Any

from scheduler.gosyntax import NotJSON, go_quote

FOREVER = 2**63 - 1
_LIMIT = 2**63
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)", re.ASCII)
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,  # micro sign
    "\u03bcs": 10**3,  # Greek mu
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


def parse_keep_alive(value: Any) -> int:
    """Nanoseconds that a JSON `keep_alive` (not null) asks for; negative means `FOREVER`.

    `api.Duration.UnmarshalJSON`: a number is seconds, a text a Go duration. Raises NotJSON with its message.
    """
    if isinstance(value, bool):
        raise NotJSON("Unsupported type: 'bool'")
    if isinstance(value, float):
        return FOREVER if value < 0 or value > 9e9 else int(value * 1e9)
    if isinstance(value, str):
        nanoseconds = parse_duration(value)
        return FOREVER if nanoseconds < 0 else nanoseconds
    kind = "[]interface {}" if isinstance(value, list) else "map[string]interface {}"
    raise NotJSON(f"Unsupported type: '{kind}'")


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration such as "1h30m" or "-1.5s" (time.ParseDuration). Raises NotJSON in Go's words."""
    rest = text[1:] if text.startswith(("-", "+")) else text
    if rest == "0":
        return 0
    total = 0
    at = 0
    while at < len(rest) or not rest:
        nanoseconds, at = _part(rest, at, text)
        total += nanoseconds
        if total > _LIMIT:
            raise _invalid(text)
    if text.startswith("-"):
        return -total
    if total > FOREVER:
        raise _invalid(text)
    return total


def _part(rest: str, at: int, text: str) -> tuple[int, int]:
    """One number with its unit, in nanoseconds, and where the next begins."""
    match = _PART.match(rest, at)
    whole, fraction, unit = match.groups() if match else ("", None, "")
    if match is None or not (whole or fraction) or len(whole.lstrip("0")) > 19:
        raise _invalid(text)
    if not unit:
        raise NotJSON(f"time: missing unit in duration {_quoted(text)}")
    if unit not in _UNITS:
        raise NotJSON(f"time: unknown unit {_quoted(unit)} in duration {_quoted(text)}")
    nanoseconds = int(whole or 0) * _UNITS[unit]
    if fraction:
        digits = fraction[:18]  # what Go keeps of it, near enough: beyond are fractions of a nanosecond
        nanoseconds += int(int(digits) * (_UNITS[unit] / 10 ** len(digits)))
    return nanoseconds, match.end()


def _invalid(text: str) -> NotJSON:
    return NotJSON(f"time: invalid duration {_quoted(text)}")


def _quoted(text: str) -> str:
    """`text` as the time package quotes it: every byte beyond ASCII, and control characters, as \\x.."""
    if text.isascii() and text.isprintable():
        return go_quote(text, '"')
    out = "".join(
        f"\\{char}" if char in '"\\' else char if char.isascii() and char >= " " else _bytes(char) for char in text
    )
    return f'"{out}"'


def _bytes(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "replace"))

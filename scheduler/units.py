"""Read and write sizes and durations as people type them ("35GB", "2m"); everything inside is bytes and seconds."""

from __future__ import annotations

import math
import re
from decimal import Decimal, localcontext

SIZE_UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
MOST = 2**63  # bytes: what no memory has
LEAST = 10**6  # bytes: what is less holds no model
DURATION_UNITS = {"d": Decimal(86400), "h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}

SIZE_ADVICE = 'write bytes as a whole number, or a number and a unit: "35GB" (10^9 bytes), "32GiB" (2^30), "64MB"'
DURATION_ADVICE = 'write seconds as a number, or numbers with units: "90s", "2m", "1h30m", "250ms"'

_FOLDED = {unit.lower(): factor for unit, factor in SIZE_UNITS.items()}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(
    r"(?:(?P<d>N)d)?(?:(?P<h>N)h)?(?:(?P<m>N)m(?!s))?(?:(?P<s>N)s)?(?:(?P<ms>N)ms)?".replace("N", r"\d+(?:\.\d+)?"),
    re.ASCII,
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


class UnitError(ValueError):
    """A size or duration that cannot be read; `problem` says what is wrong with it, `mend` what would be right."""

    def __init__(self, value: object, problem: str, mend: str) -> None:
        super().__init__(f"{value!r}: {problem}; {mend}")
        self.value = value
        self.problem = problem
        self.mend = mend


def parse_size(value: object) -> int:
    """Bytes from a whole number of bytes or from text such as "35GB", "32GiB", "1.5 MB".

    Raises UnitError. A fraction of a byte is rounded down: a size is a promise that must not grow by reading it.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise UnitError(value, "is not a size", SIZE_ADVICE)
    if isinstance(value, int):
        return _held(value, value)
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise UnitError(value, "is not a size", SIZE_ADVICE)
    number, unit = match.groups()
    if unit and unit.lower() not in _FOLDED:
        raise UnitError(value, f"has an unknown unit {unit!r}", _unit_advice(number, unit))
    with localcontext(prec=60):
        return _held(value, int(Decimal(number) * _FOLDED[unit.lower() or "b"]))


def parse_memory(value: object) -> int:
    """Bytes that models take, as `parse_size` reads them; a number whose unit was forgotten is refused. Raises
    UnitError."""
    size = parse_size(value)
    if size >= LEAST:
        return size
    match = _NUMBER.match(str(value).strip())
    number = match[0] if match and size else "48"
    mend = f'write "{number}GB" (10^9 bytes) or "{number}GiB" (2^30)'
    raise UnitError(value, f"is {size} bytes, in which no model fits", mend)


def parse_budget(text: str) -> int | None:
    """Bytes of the memory for models as it is typed at a command, such as "48GB"; None for "auto". Raises UnitError."""
    if text == "auto":
        return None
    try:
        return parse_memory(text)
    except UnitError as error:
        raise UnitError(text, error.problem, f'{error.mend}; or "auto"') from None


def _held(value: object, size: int) -> int:
    """A size that memory can be said to have."""
    if size < 0:
        raise UnitError(value, "is below zero", SIZE_ADVICE)
    if size >= MOST:
        raise UnitError(value, "is more than any memory has", SIZE_ADVICE)
    return size


def _unit_advice(number: str, unit: str) -> str:
    """What to write instead; a bare "G" gets both of its readings, because we will not guess which was meant."""
    letter = unit[0].upper()
    if len(unit) > 2 or letter not in "KMGT":
        return f"units are {', '.join(SIZE_UNITS)}"
    decimal = next(name for name in SIZE_UNITS if name.upper() == f"{letter}B")
    return f'write "{number}{decimal}" or "{number}{letter}iB"'


def parse_duration(value: object) -> float:
    """Seconds from a number of seconds or from text such as "90s", "1h30m", "250ms". Raises UnitError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UnitError(value, "is not a duration", DURATION_ADVICE)
    try:
        seconds = _duration_text(value) if isinstance(value, str) else float(value)
    except OverflowError:  # a whole number beyond any float
        seconds = math.inf
    if not math.isfinite(seconds) or seconds < 0:
        raise UnitError(value, "is not a length of time", DURATION_ADVICE)
    return seconds


def _duration_text(value: str) -> float:
    text = value.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    if text.startswith("-"):
        raise UnitError(value, "is below zero", DURATION_ADVICE)
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise UnitError(value, "is not a duration", DURATION_ADVICE)
    parts = {unit: number for unit, number in match.groupdict().items() if number is not None}
    return float(sum(Decimal(number) * DURATION_UNITS[unit] for unit, number in parts.items()))


def format_size(size: int) -> str:
    """The shortest exact text for so many bytes; `parse_size` gives the same number back."""
    exact = [f"{size // factor}{unit}" for unit, factor in SIZE_UNITS.items() if size % factor == 0]
    return min(exact, key=len) if size else "0B"


def about_size(size: float) -> str:
    """A size for people to read, not to parse: three digits at most, in decimal units ("35.0 GB", "874 MB")."""
    for unit in ("TB", "GB", "MB", "kB"):
        amount = size / SIZE_UNITS[unit]
        if amount >= 1:
            return f"{amount:.1f} {unit}" if amount < 100 else f"{amount:.0f} {unit}"
    return f"{size:.0f} B"


def format_duration(seconds: float) -> str:
    """The exact text for a duration; `parse_duration` gives the same number back ("1h30m", "0.25s" is "250ms")."""
    left = Decimal(repr(float(seconds)))
    if left == 0:
        return "0s"
    if left < 1 and left % DURATION_UNITS["ms"] == 0:
        return f"{int(left * 1000)}ms"
    text = ""
    for unit, factor in (("h", DURATION_UNITS["h"]), ("m", DURATION_UNITS["m"])):
        whole, left = divmod(left, factor)
        text += f"{int(whole)}{unit}" if whole else ""
    return f"{text}{left.normalize():f}s" if left else text

"""Sizes, durations and model names are read as documented, and refused with advice otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from scheduler.names import is_cloud, normal_name
from scheduler.units import UnitError, about_size, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("35GB", 35 * 10**9),
        ("32GiB", 32 * 2**30),
        ("64MB", 64 * 10**6),
        ("64 MiB", 64 * 2**20),
        ("10kB", 10_000),
        ("10KB", 10_000),
        ("10KiB", 10_240),
        ("2TB", 2 * 10**12),
        ("1.5gb", 1_500_000_000),
        ("0.1GB", 100_000_000),
        ("512", 512),
        ("512B", 512),
        (0, 0),
        (38338 * 2**20, 38338 * 2**20),
    ],
)
def test_sizes(text: object, size: int) -> None:
    """Decimal and binary units differ, case and a space do not matter, and a bare number is bytes."""
    assert parse_size(text) == size


@pytest.mark.parametrize("value", ["", "GB", "-1GB", "35 G B", "1e9", "lots", -1, 1.5, True, None, [], "٣GB"])
def test_not_a_size(value: object) -> None:
    """What is no size is refused with the value and an example of what would be right."""
    with pytest.raises(UnitError) as told:
        parse_size(value)
    assert repr(value) in str(told.value)
    assert '"35GB"' in told.value.mend


def test_a_bare_letter_is_not_guessed() -> None:
    """35G could mean two sizes 7 % apart, so both are offered and neither is taken."""
    with pytest.raises(UnitError, match=r"35GB.*35GiB"):
        parse_size("35G")


def test_an_unknown_unit_lists_the_known() -> None:
    """A unit nobody knows is named together with those that are known."""
    with pytest.raises(UnitError, match=r"'parsec'.*GiB"):
        parse_size("3parsec")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("2m", 120.0),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("1d", 86400.0),
        ("1.5h", 5400.0),
        ("1m30s500ms", 90.5),
        ("30", 30.0),
        (30, 30.0),
        (0.5, 0.5),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    """Units may be chained from large to small, and a bare number is seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "m",
        "-5s",
        "5 minutes",
        "30s1m",
        "1m1m",
        -1,
        float("inf"),
        float("nan"),
        False,
        None,
        10**400,
        "9" * 400 + "h",
    ],
)
def test_not_a_duration(value: object) -> None:
    """What is no duration is refused with the value and an example of what would be right."""
    with pytest.raises(UnitError) as told:
        parse_duration(value)
    assert repr(value) in str(told.value)
    assert '"90s"' in told.value.mend


@given(st.integers(min_value=0, max_value=2**60))
def test_a_size_survives_writing(size: int) -> None:
    """What format_size writes, parse_size reads back exactly."""
    assert parse_size(format_size(size)) == size


@given(st.integers(min_value=0, max_value=10**8).map(lambda ms: ms / 1000) | st.floats(min_value=0, max_value=1e9))
def test_a_duration_survives_writing(seconds: float) -> None:
    """What format_duration writes, parse_duration reads back exactly."""
    assert parse_duration(format_duration(seconds)) == seconds


def test_written_as_a_person_would() -> None:
    """The exact texts are the short ones people use."""
    assert [format_size(n) for n in (35 * 10**9, 32 * 2**30, 1001, 0)] == ["35GB", "32GiB", "1001B", "0B"]
    assert [format_duration(s) for s in (90, 5400, 0.25, 0, 3601.5)] == ["1m30s", "1h30m", "250ms", "0s", "1h1.5s"]
    assert [about_size(n) for n in (35 * 10**9, 874_000_000, 12)] == ["35.0 GB", "874 MB", "12 B"]


@pytest.mark.parametrize(
    ("typed", "normal"),
    [
        ("qwen-fast", "qwen-fast:latest"),
        ("Qwen-Fast:LATEST", "qwen-fast:latest"),
        ("registry.ollama.ai/library/qwen-fast", "qwen-fast:latest"),
        ("library/qwen-fast:8b", "qwen-fast:8b"),
        ("me/qwen", "me/qwen:latest"),
        ("hf.co/me/qwen:Q4_0", "hf.co/me/qwen:q4_0"),
        ("hf.co/library/qwen", "hf.co/library/qwen:latest"),
        ("http://127.0.0.1:5000/me/qwen", "127.0.0.1:5000/me/qwen:latest"),
        (" qwen:8b:local ", "qwen:8b"),
        ("gpt-oss:cloud", "gpt-oss:cloud"),
        ("gpt-oss:20b-cloud", "gpt-oss:20b-cloud"),
    ],
)
def test_names(typed: str, normal: str) -> None:
    """Every spelling Ollama takes for one model has one normal name, and normalising twice changes nothing."""
    assert normal_name(typed) == normal
    assert normal_name(normal) == normal


@pytest.mark.parametrize(
    ("name", "cloud"),
    [
        ("gpt-oss:cloud", True),
        ("gpt-oss:20B-Cloud", True),
        ("gpt-oss:20b", False),
        ("my-cloud", False),
        ("gpt-oss:cloud:local", False),
        ("gpt-oss:local:cloud", False),
    ],
)
def test_cloud_names(name: str, cloud: bool) -> None:
    """Only a suffix of the tag sends a name to the cloud, as in Ollama."""
    assert is_cloud(name) is cloud


def test_a_duration_below_zero_is_told_as_that() -> None:
    """Its form is right: what is wrong is its sign."""
    with pytest.raises(UnitError, match="is below zero"):
        parse_duration("-1m")

"""Names lead to models through the routing table, and names that can be none are known as such."""

import pytest
from hypothesis import given, strategies as st

from scheduler.errors import Refused
from scheduler.names import normal_name
from scheduler.routes import Aliases, Target, name_fault

TABLE: dict[str, tuple[str, str | None]] = {
    "claude-sonnet-4-5": ("qwen-quality-128k:latest", None),
    "gpt-4": ("qwen-quality-128k:latest", "agent"),
    "claude-3-haiku": ("small", "helper"),
    "small": ("qwen-fast:latest", "batch"),
    "mini": ("small", None),
    "claude-opus-4": ("gpt-4", None),
    "loop": ("hoop", None),
    "hoop": ("loop", None),
}
ALIASES = Aliases(TABLE, paid=["claude-opus-4", "claude-opus-4-1"])


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("claude-sonnet-4-5", Target("qwen-quality-128k:latest", "interactive")),
        ("Claude-Sonnet-4-5:LATEST", Target("qwen-quality-128k:latest", "interactive")),
        ("gpt-4", Target("qwen-quality-128k:latest", "agent")),
        ("claude-3-haiku", Target("qwen-fast:latest", "helper")),  # the nearer class wins
        ("mini", Target("qwen-fast:latest", "batch")),
        ("qwen-fast", Target("qwen-fast", "interactive")),
        ("unheard-of:7b", Target("unheard-of:7b", "interactive")),
        ("claude-opus-4", Target("qwen-quality-128k:latest", "agent")),  # somebody gave it a model
        ("gpt-4:turbo", Target("gpt-4:turbo", "interactive")),  # another tag is another name
    ],
)
def test_a_name_is_followed_to_its_model(name: str, target: Target) -> None:
    """Aliases, chains of them, and names that stand for themselves."""
    assert ALIASES.resolve(name) == target


def test_a_paid_route_without_configuration_is_told() -> None:
    """It is known, and refused with its reason rather than looked for among the local models."""
    with pytest.raises(Refused, match="paid route not configured") as caught:
        ALIASES.resolve("claude-opus-4-1")
    assert caught.value.status == 503


def test_a_loop_ends() -> None:
    """Settings do not allow one; should one come anyway it ends in an error."""
    with pytest.raises(Refused, match="leads back to itself") as caught:
        ALIASES.resolve("loop")
    assert caught.value.status == 500


def test_without_a_table_names_stand_for_themselves() -> None:
    """The default class is a setting of the table."""
    assert Aliases(default_class="batch").resolve("x") == Target("x", "batch")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("qwen-fast", None),
        ("qwen2.5-coder:32b-instruct", None),
        (" qwen-fast ", None),
        ("ns/model", None),
        ("hf.co/bartowski/Llama-3.2-1B-GGUF:Q4_K_M", None),
        ("http://host:8080/ns/model:tag", None),
        ("gpt-oss:120b-cloud", None),
        ("gpt-oss:cloud", None),
        ("x:local", None),
        ("_x", None),
        ("", "missing"),
        (" \t", "missing"),
        ("a b", "invalid"),
        ("-x", "invalid"),
        ("x:", "invalid"),
        (":x", "invalid"),
        ("/x", "invalid"),
        ("x/", "invalid"),
        ("ns.dot/x", "invalid"),
        ("a/b/c/d", "invalid"),
        ("é", "invalid"),
        ("\ufffd", "invalid"),
        ("x" * 81, "invalid"),
        ("x:" + "t" * 81, "invalid"),
        ("x:-cloud", "invalid"),
        ("x:cloud:local", "conflict"),
        ("x:local:cloud", "conflict"),
        ("x:1b-cloud:LOCAL", "conflict"),
    ],
)
def test_what_can_be_a_model_s_name(name: str, fault: str | None) -> None:
    """Ollama's own rules for names (internal/modelref, types/model/name.go)."""
    assert name_fault(name) == fault


@given(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}(:[A-Za-z0-9_][A-Za-z0-9_.]{0,9})?", fullmatch=True))
def test_a_sound_name_stays_sound_when_made_normal(name: str) -> None:
    """What we decide on can be said to Ollama again."""
    assert name_fault(name) is None
    assert name_fault(normal_name(name)) is None

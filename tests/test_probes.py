"""LiteLLM's health checks, as captured on the wire, are known; what people and programs send is not taken for one."""

import json
from typing import Any

import pytest

from scheduler.dialects import Rules, understand
from scheduler.paths import route
from scheduler.probes import is_probe
from scheduler.routes import Aliases

HEY, SUM, TEST = TEXTS = ("Hey how's it going?", "What's 1 + 1?", "test from litellm")
RULES = Rules(Aliases(), frozenset(TEXTS), b"0" * 16)


def user(content: Any, **more: Any) -> list[dict[str, Any]]:
    """The only message of a conversation."""
    return [{"role": "user", "content": content, **more}]


def kind(path: str, body: dict[str, Any]) -> str:
    """What a request for `m` counts as."""
    return understand(route("POST", path), path, json.dumps({"model": "m"} | body).encode(), {}, RULES).kind


PROBES: list[tuple[str, dict[str, Any]]] = [
    (
        "/api/generate",
        {"prompt": f"### User:\n{SUM}\n\n", "options": {"num_predict": 16}, "stream": False, "images": []},
    ),
    ("/api/generate", {"prompt": f"### User:\n{HEY}\n\n", "options": {}, "stream": False, "images": []}),
    (
        "/api/generate",
        {"prompt": f"### User:\n{HEY}\n\n", "options": {"num_predict": 1, "keep_alive": "7m"}, "stream": False},
    ),
    ("/api/generate", {"prompt": TEST, "options": {"num_predict": 16}, "stream": False}),
    ("/api/chat", {"messages": user(HEY, images=[]), "options": {"num_predict": 16}, "stream": False}),
    ("/api/chat", {"messages": user(SUM), "options": {"num_predict": 1}, "stream": False, "keep_alive": "7m"}),
    ("/api/chat", {"messages": user(TEST), "options": {}, "stream": False, "tools": []}),
    ("/api/generate", {"prompt": SUM, "stream": False, "format": "json"}),
    ("/v1/completions", {"prompt": SUM, "max_tokens": 16}),
    ("/v1/responses", {"input": SUM}),
    ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": SUM}]}]}),
    ("/v1/chat/completions", {"messages": user(SUM), "max_tokens": 16}),
    ("/v1/chat/completions", {"messages": user(HEY)}),
    ("/v1/messages", {"messages": user([{"type": "text", "text": SUM}]), "max_tokens": 16}),
    ("/v1/messages", {"messages": user([{"type": "text", "text": HEY}]), "max_tokens": 4096}),
    ("/v1/messages", {"messages": user(SUM), "max_tokens": 16, "stream": False}),
    ("/api/embed", {"input": [TEST]}),
    ("/api/embed", {"input": TEST}),
    ("/api/embeddings", {"prompt": TEST}),
    ("/v1/embeddings", {"input": [TEST], "encoding_format": "base64"}),
]


@pytest.mark.parametrize(("path", "body"), PROBES)
def test_a_captured_probe_is_one(path: str, body: dict[str, Any]) -> None:
    """Every form LiteLLM 1.79 and 1.106 were seen to send."""
    assert kind(path, body) == "probe"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {"prompt": f"### User:\n{SUM}\n\n"}),  # streams, as nothing says otherwise
        ("/api/generate", {"prompt": f"### User:\n{SUM} Why?\n\n", "stream": False}),
        ("/api/generate", {"prompt": f"### System:\nBe short.\n\n### User:\n{SUM}\n\n", "stream": False}),
        ("/api/generate", {"prompt": SUM, "stream": False, "system": "Be short."}),
        ("/api/generate", {"prompt": SUM, "stream": False, "suffix": "."}),
        ("/api/generate", {"prompt": SUM, "stream": False, "template": "{{ .Prompt }}"}),
        ("/api/generate", {"prompt": SUM, "stream": False, "images": ["aGk="]}),
        ("/api/generate", {"prompt": SUM, "stream": False, "context": [1, 2]}),
        ("/api/generate", {"prompt": SUM, "stream": False, "format": {"type": "object"}}),
        ("/v1/completions", {"prompt": SUM, "stream": True}),
        ("/v1/responses", {"input": SUM, "instructions": "Be short."}),
        ("/v1/images/generations", {"prompt": SUM}),
        ("/api/generate", {"prompt": SUM.lower(), "stream": False}),
        ("/api/chat", {"messages": user(SUM)}),
        ("/api/chat", {"messages": user(SUM), "stream": True}),
        ("/api/chat", {"messages": user("What's 2 + 2?"), "stream": False}),
        ("/api/chat", {"messages": user(SUM, images=["aGk="]), "stream": False}),
        ("/api/chat", {"messages": user(SUM), "stream": False, "tools": [{"type": "function"}]}),
        ("/api/chat", {"messages": user(SUM), "stream": False, "format": {"type": "object"}}),
        ("/api/chat", {"messages": [{"role": "system", "content": "x"}, *user(SUM)], "stream": False}),
        ("/api/chat", {"messages": [{"role": "assistant", "content": SUM}], "stream": False}),
        ("/api/chat", {"messages": user(HEY) + user(SUM), "stream": False}),
        ("/v1/chat/completions", {"messages": user(SUM), "stream": True}),
        ("/v1/chat/completions", {"messages": user(SUM), "response_format": {"type": "json_object"}}),
        ("/v1/chat/completions", {"messages": user([{"type": "text", "text": SUM}, {"type": "text", "text": "x"}])}),
        ("/v1/messages", {"messages": user(SUM), "max_tokens": 16, "system": "x"}),
        ("/v1/messages", {"messages": user(SUM), "max_tokens": 16, "tools": [{"name": "Read"}]}),
        ("/api/embed", {"input": [TEST, TEST]}),
        ("/api/embed", {"input": ["a text"]}),
        ("/api/embeddings", {"prompt": "a text"}),
    ],
)
def test_a_question_is_none(path: str, body: dict[str, Any]) -> None:
    """Other words, a stream, a system prompt, tools, pictures or a second message make it a real request."""
    assert kind(path, body) == "request"


def test_the_texts_are_the_configuration_s() -> None:
    """With other texts the usual ones are questions, and the configured one is a probe."""
    assert is_probe("generate", {"prompt": "ping"}, False, {"ping"})
    assert not is_probe("generate", {"prompt": SUM}, False, {"ping"})
    assert not is_probe("generate", {"prompt": SUM}, False, ())


@pytest.mark.parametrize("messages", [None, [], [None], ["x"], [{}], user(None), user([]), user([None]), user([{}])])
def test_odd_shapes_are_no_probes(messages: Any) -> None:
    """Nothing a body can hold in place of messages is mistaken or breaks the recognition."""
    assert not is_probe("chat", {"messages": messages}, False, frozenset(TEXTS))


def test_an_empty_text_never_makes_wishes_probes() -> None:
    """A preload stays a preload even if somebody configures an empty probe text."""
    rules = Rules(Aliases(), frozenset({""}), b"0" * 16)
    body = b'{"model":"m","stream":false}'
    assert understand(route("POST", "/api/chat"), "/api/chat", body, {}, rules).kind == "preload"

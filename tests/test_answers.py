"""Answers of our own are byte for byte what Ollama 0.32 sent when asked, and real answers' ends are understood."""

import json
import re
from typing import Any, Literal, get_args

import pytest

from scheduler.answers import (
    JSON,
    NDJSON,
    PLAIN_JSON,
    SSE,
    TAIL,
    canned,
    ending,
    error,
    error_in_stream,
    go_json,
    seconds,
    tokens,
    wish,
)
from scheduler.core.messages import Kind
from scheduler.demand import NATIVE, STREAMS, Body, Demand, Dialect

NOW = "2026-11-24T16:54:31.865694Z"
COUNTED = {*STREAMS, "embed", "embeddings", "openai-embeddings"}
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)


def demand(dialect: Dialect, stream: bool = False, kind: Kind = "request", alias: str = "fast") -> Demand:
    """A demand as the answers look at it."""
    return Demand("POST", "/", dialect, alias, "fast:latest", kind, "interactive", stream, Body(b"{}", b""))


def steady(body: bytes) -> str:
    """A body with what is made by chance taken out."""
    return re.sub(r'("(?:id|request_id)":")(msg_|req_|chatcmpl-)[0-9a-f]+', r"\1\2", body.decode())


# --- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "status", "content_type", "body"),
    [
        ("chat", 404, JSON, '{"error":"model \'x\' not found"}'),
        (
            "openai-chat",
            404,
            PLAIN_JSON,
            '{"error":{"message":"model \'x\' not found","type":"not_found_error","param":null,"code":null}}\n',
        ),
        (
            "openai-embeddings",
            400,
            JSON,
            '{"error":{"message":"model \'x\' not found","type":"invalid_request_error","param":null,"code":null}}',
        ),
        (
            "openai-chat",
            503,
            PLAIN_JSON,
            '{"error":{"message":"model \'x\' not found","type":"api_error","param":null,"code":null}}\n',
        ),
        (
            "anthropic",
            400,
            JSON,
            '{"type":"error","error":{"type":"invalid_request_error","message":"model \'x\' not found"},'
            '"request_id":"req_"}',
        ),
        (
            "anthropic",
            503,
            PLAIN_JSON,
            '{"type":"error","error":{"type":"overloaded_error","message":"model \'x\' not found"},'
            '"request_id":"req_"}\n',
        ),
        (
            "anthropic",
            501,
            PLAIN_JSON,
            '{"type":"error","error":{"type":"api_error","message":"model \'x\' not found"},"request_id":"req_"}\n',
        ),
    ],
)
def test_errors_in_each_shape(dialect: Dialect, status: int, content_type: str, body: str) -> None:
    """The shapes, types and content types of Ollama's own errors."""
    got = error(dialect, status, "model 'x' not found")
    assert (got[0], steady(got[1])) == (content_type, body)


def test_go_escapes_html() -> None:
    """Go's encoder writes <, > and & as escapes, other text as it is, and a lone surrogate as something valid."""
    assert error("chat", 400, 'type: <nil> & "é"\u2028')[1] == (
        '{"error":"type: \\u003cnil\\u003e \\u0026 \\"é\\"\\u2028"}'.encode()
    )
    assert json.loads(go_json({"a": "\ud800"})) == {"a": "?"}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_error_in_a_stream(dialect: Dialect) -> None:
    """It parses as the dialect's clients parse it, and holds the reason."""
    raw = error_in_stream(dialect, "Ollama broke off").decode()
    if dialect in NATIVE:
        assert raw == '{"error":"Ollama broke off"}\n'
    elif dialect in ("anthropic", "openai-responses"):
        event, data, *rest = raw.split("\n")
        assert (event, rest) == ("event: error", ["", ""])
        told = json.loads(data.removeprefix("data: "))
        assert told["type"] == "error"
        assert (told["error"]["type"], told["error"]["message"]) == ("api_error", "Ollama broke off")
    else:
        assert raw.startswith("data: ")
        assert raw.endswith("}\n\n")
        assert json.loads(raw.removeprefix("data: "))["error"]["message"] == "Ollama broke off"


# --- wishes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "stream", "kind", "content_type", "body"),
    [
        (
            "generate",
            True,
            "preload",
            JSON,
            '{"model":"fast","created_at":"NOW","response":"","done":true,"done_reason":"load"}',
        ),
        (
            "generate",
            False,
            "unload",
            JSON,
            '{"model":"fast","created_at":"NOW","response":"","done":true,"done_reason":"unload"}',
        ),
        (
            "chat",
            True,
            "preload",
            JSON,
            '{"model":"fast","created_at":"NOW","message":{"role":"assistant","content":""},"done":true,'
            '"done_reason":"load"}',
        ),
        (
            "chat",
            True,
            "unload",
            JSON,
            '{"model":"fast","created_at":"NOW","message":{"role":"assistant","content":""},"done":true,'
            '"done_reason":"unload"}',
        ),
        ("embed", False, "preload", JSON, '{"model":"fast","embeddings":[]}'),
        ("embeddings", False, "preload", JSON, '{"embedding":[]}'),
        (
            "openai-chat",
            False,
            "preload",
            PLAIN_JSON,
            '{"id":"chatcmpl-","object":"chat.completion","created":1795539271,"model":"fast",'
            '"system_fingerprint":"fp_ollama","choices":[{"index":0,"message":{"role":"assistant","content":""},'
            '"finish_reason":"load"}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}\n',
        ),
        (
            "openai-chat",
            True,
            "preload",
            SSE,
            'data: {"id":"chatcmpl-","object":"chat.completion.chunk","created":1795539271,"model":"fast",'
            '"system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":""},'
            '"finish_reason":"load"}]}\n\ndata: [DONE]\n\n',
        ),
        (
            "anthropic",
            False,
            "preload",
            PLAIN_JSON,
            '{"id":"msg_","type":"message","role":"assistant","model":"fast","content":null,'
            '"stop_reason":"stop_sequence","usage":{"input_tokens":0,"output_tokens":0}}\n',
        ),
        (
            "anthropic",
            True,
            "preload",
            SSE,
            'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_","type":"message",'
            '"role":"assistant","model":"fast","content":[],"usage":{"input_tokens":0,"output_tokens":0}}}\n\n'
            'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"stop_sequence"},'
            '"usage":{"input_tokens":0,"output_tokens":0}}\n\n'
            'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        ),
    ],
)
def test_a_wish_is_answered_as_ollama_does(
    dialect: Dialect, stream: bool, kind: Kind, content_type: str, body: str
) -> None:
    """A preload and an unload, each as it was captured; the name is the client's own."""
    got = wish(demand(dialect, stream, kind), NOW)
    assert (got[0], steady(got[1])) == (content_type, body.replace("NOW", NOW))


# --- canned ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", [d for d in DIALECTS if d != "library"])
def test_a_canned_success_is_a_whole_answer(dialect: Dialect, stream: bool) -> None:
    """By our own reading it is complete; where it generates it says something and counts a token."""
    asked = demand(dialect, stream and dialect in STREAMS, "probe")
    content_type, body = canned(asked, NOW)
    assert ending(asked, body) == "whole"
    streamed = NDJSON if dialect in NATIVE else SSE
    assert content_type == (streamed if asked.stream else JSON if dialect in NATIVE else PLAIN_JSON)
    if dialect in STREAMS:
        assert b'"ok"' in body
    if not asked.stream and dialect in COUNTED:
        answer = json.loads(body)
        assert answer.get("model", "fast") == "fast"
        assert tokens(asked, body) == {
            "embed": (1, None),
            "embeddings": (None, None),
            "openai-embeddings": (1, None),
        }.get(dialect, (1, 1))


# --- how a real answer ended -------------------------------------------------------------------------------------

LINE = '{"model":"fast","created_at":"T","message":{"role":"assistant","content":"hi"},"done":false}\n'
LAST = (
    '{"model":"fast","created_at":"T","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",'
    '"total_duration":31,"load_duration":3,"prompt_eval_count":59,"prompt_eval_duration":8,"eval_count":61,'
    '"eval_duration":18}\n'
)
LIAR = json.dumps({"model": "m", "response": '"done":true,"total_duration":5,"eval_count":7 [DONE]', "done": False})
LONG = (
    '{"model":"m","response":"","done":true,"done_reason":"stop","context":[' + "1," * TAIL + '1],"total_duration":9,'
    '"prompt_eval_count":4,"eval_count":5,"eval_duration":2}\n'
)
CHUNK = 'data: {"id":"c","choices":[{"index":0,"delta":{"content":"[DONE]"},"finish_reason":null}]}\n\n'
USAGE = (
    'data: {"id":"c","choices":[],"usage":{"prompt_tokens":59,"completion_tokens":61,"total_tokens":120}}\n\n'
    "data: [DONE]\n\n"
)
DELTA = (
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
    '"text":"event: message_stop"}}\n\n'
)
STOP = (
    'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":'
    '{"input_tokens":59,"output_tokens":5}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
)
COMPLETED = (
    'event: response.completed\ndata: {"response":{"output":[],"usage":{"input_tokens":59,"output_tokens":5,'
    '"total_tokens":64}},"type":"response.completed"}\n\n'
)
FAILED = '{"error":"an error was encountered while running the model"}\n'

ENDINGS: list[tuple[Dialect, bool, str, Literal["whole", "error", "cut"]]] = [
    ("chat", True, LINE + LAST, "whole"),
    ("chat", True, LINE, "cut"),
    ("chat", True, LINE + LAST[:-9], "cut"),
    ("chat", True, LINE + FAILED, "error"),
    ("chat", True, "", "cut"),
    ("generate", True, LIAR + "\n", "cut"),
    ("generate", True, LIAR + "\n" + LAST, "whole"),
    ("generate", True, LONG, "whole"),
    ("generate", False, LONG, "whole"),
    ("generate", False, LONG[:-2], "cut"),
    ("generate", False, "", "cut"),
    ("openai-chat", True, CHUNK + USAGE, "whole"),
    ("openai-chat", True, CHUNK, "cut"),
    ("openai-chat", True, CHUNK + USAGE[:-4], "cut"),
    ("openai-chat", True, CHUNK[: CHUNK.index('"},"finish')] + "data: [DONE]", "cut"),
    ("openai-chat", False, '{"id":"c"}\n', "whole"),
    ("anthropic", True, DELTA + STOP, "whole"),
    ("anthropic", True, DELTA, "cut"),
    ("anthropic", True, DELTA + STOP[:-5], "cut"),
    ("anthropic", True, 'event: error\ndata: {"type":"error"}\n\n', "error"),
    ("anthropic", False, '{"id":"m","usage":{}}\n', "whole"),
    ("openai-completions", True, CHUNK + USAGE, "whole"),
    ("openai-completions", True, CHUNK, "cut"),
    ("openai-responses", True, DELTA + COMPLETED, "whole"),
    ("openai-responses", True, COMPLETED[:-4], "cut"),
    ("openai-responses", True, DELTA, "cut"),
    ("openai-responses", True, 'event: error\ndata: {"type":"error"}\n\n', "error"),
    ("openai-responses", False, '{"id":"resp_1"}\n', "whole"),
    ("openai-images", False, "", "whole"),
    ("openai-transcription", False, "Any words.", "whole"),
    ("library", False, "", "whole"),
    ("library", True, '{"status":"pulling"}\n{"status":"success"}\n', "whole"),
    ("library", True, '{"status":"pulling"}\n{"error":"no such host"}\n', "error"),
    ("embed", True, '{"embeddings":[[1]]}', "whole"),
    ("embeddings", False, '{"embedding":[1', "cut"),
    ("openai-embeddings", False, '{"data":[]}\n', "whole"),
]


@pytest.mark.parametrize(("dialect", "stream", "answer", "how"), ENDINGS)
def test_how_an_answer_ended(
    dialect: Dialect, stream: bool, answer: str, how: Literal["whole", "error", "cut"]
) -> None:
    """The last bytes tell a whole answer from a cut one, whatever the model itself says in it."""
    tail = answer.encode()[-TAIL:]
    assert ending(demand(dialect, stream), tail) == how


@pytest.mark.parametrize("dialect", sorted(STREAMS))
def test_our_own_error_ends_a_stream(dialect: Dialect) -> None:
    """What we write into a broken stream is not taken for a whole answer by anybody, ourselves included."""
    tail = error_in_stream(dialect, "it ended: done")
    assert ending(demand(dialect, stream=True), tail) != "whole"


@pytest.mark.parametrize(
    ("dialect", "answer", "counts"),
    [
        ("chat", LINE + LAST, (59, 61)),
        ("chat", LINE, (None, None)),
        ("generate", LONG, (4, 5)),
        ("generate", LIAR, (None, None)),
        ("generate", LIAR + "\n" + LAST, (59, 61)),
        ("openai-chat", CHUNK + USAGE, (59, 61)),
        ("openai-chat", CHUNK, (None, None)),
        ("openai-embeddings", '{"usage":{"prompt_tokens": 9,"total_tokens":9}}', (9, None)),
        ("anthropic", DELTA + STOP, (59, 5)),
        ("anthropic", '{"usage":{"input_tokens":59,"output_tokens":5}}\n', (59, 5)),
        ("openai-responses", DELTA + COMPLETED, (59, 5)),
        ("embed", '{"embeddings":[[1]],"prompt_eval_count":9}', (9, None)),
        ("embeddings", '{"embedding":[1]}', (None, None)),
        ("chat", '{"prompt_eval_count":', (None, None)),
        ("chat", '{"prompt_eval_count":null,"eval_count":"7"}', (None, None)),
    ],
)
def test_token_counts(dialect: Dialect, answer: str, counts: tuple[Any, Any]) -> None:
    """They are read from the end, and only where the answer itself tells them."""
    assert tokens(demand(dialect), answer.encode()[-TAIL:]) == counts


def test_ollamas_own_seconds() -> None:
    """Its own dialects tell how long it read and wrote; the others do not."""
    answer = b'{"model":"m","response":"\\"eval_duration\\":9","done":true,"total_duration":7000000000,'
    answer += b'"prompt_eval_count":200,"prompt_eval_duration":2500000000,"eval_count":8,"eval_duration":400000000}'
    assert seconds(demand("generate"), answer) == (2.5, 0.4)
    assert seconds(demand("generate"), answer[:40]) == (None, None)
    assert seconds(demand("openai-chat"), answer) == (None, None)


def test_a_tail_full_of_near_misses_is_cheap() -> None:
    """Text that looks like a count on every word is walked once, not over and over."""
    assert tokens(demand("chat"), b'\\"eval_count":1 ' * (TAIL // 16)) == (None, None)

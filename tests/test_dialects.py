"""Requests are sorted by route; a body becomes one decided model, one kind and our own serialisation, or an error."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, strategies as st

from scheduler.demand import NATIVE, Demand
from scheduler.dialects import RUNNER_OPTIONS, Rules, understand, unfit
from scheduler.errors import BadRequest, Failure, Refused
from scheduler.names import normal_name
from scheduler.paths import DEMANDS, route
from scheduler.routes import Aliases

ALIASES = Aliases(
    {
        "gpt-4": ("qwen-quality-128k:latest", "agent"),
        "claude-3-haiku": ("qwen-fast:latest", "helper"),
        "far": ("gpt-oss:120b-cloud", None),
        "the big one": ("qwen-quality-128k:latest", None),
    },
    paid=["claude-opus-4"],
)
RULES = Rules(ALIASES, frozenset({"What's 1 + 1?"}), b"0123456789abcdef")
HI: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
TABLE = json.loads((Path(__file__).parent / "badbodies" / "table.json").read_text())


def asked(path: str, body: bytes | str | dict[str, Any], client: str = "192.0.2.1:5000", **headers: str) -> Demand:
    """What a POST of this body to this path asks for."""
    if isinstance(body, dict):
        body = json.dumps(body)
    raw = body.encode() if isinstance(body, str) else body
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return understand(route("POST", path), path, raw, named, RULES, client)


def sent(demand: Demand, context: int = 0) -> dict[str, Any]:
    """What goes upstream."""
    value = json.loads(demand.body.at(context))
    assert isinstance(value, dict)
    return value


# --- routes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "kind", "dialect"),
    [
        ("POST", "/api/generate", "demand", "generate"),
        ("POST", "/api/chat", "demand", "chat"),
        ("POST", "/api/embed", "demand", "embed"),
        ("POST", "/api/embeddings", "demand", "embeddings"),
        ("POST", "/v1/chat/completions", "demand", "openai-chat"),
        ("POST", "/v1/embeddings", "demand", "openai-embeddings"),
        ("POST", "/v1/messages", "demand", "anthropic"),
        ("POST", "/v1/messages?beta=true", "demand", "anthropic"),
        ("GET", "/", "read", "generate"),
        ("HEAD", "/", "read", "generate"),
        ("GET", "/api/version", "read", "generate"),
        ("GET", "/api/tags", "read", "generate"),
        ("GET", "/api/ps?x=1", "read", "generate"),
        ("POST", "/api/show", "show", "library"),
        ("GET", "/v1/models", "read", "openai-chat"),
        ("GET", "/v1/models/qwen-fast:latest", "show", "openai-chat"),
        ("GET", "/status", "own", "generate"),
        ("GET", "/healthz", "own", "generate"),
        ("HEAD", "/readyz", "own", "generate"),
        ("HEAD", "/api/hello", "passive", "generate"),
        ("GET", "/api/generate", "passive", "generate"),
        ("GET", "/api/show", "passive", "generate"),
        ("HEAD", "/api/blobs/sha256:0", "read", "library"),
        ("GET", "/v1/messages/batches", "passive", "anthropic"),
        ("POST", "/", "unserved", "generate"),
        ("POST", "/status", "unserved", "generate"),
        ("POST", "/api/pull", "library", "library"),
        ("POST", "/api/create", "library", "library"),
        ("DELETE", "/api/delete", "library", "library"),
        ("POST", "/api/blobs/sha256:0", "upload", "library"),
        ("POST", "/api/blobs/", "unserved", "generate"),
        ("POST", "/api/blobs/a/b", "unserved", "generate"),
        ("POST", "/api/me", "call", "library"),
        ("DELETE", "/api/user/keys/a%2fb", "unserved", "generate"),
        ("DELETE", "/api/user/keys/ab", "call", "library"),
        ("PUT", "/api/chat", "unserved", "generate"),
        ("PATCH", "/v1/messages", "unserved", "anthropic"),
        ("OPTIONS", "/api/chat", "unserved", "generate"),
        ("post", "/api/chat", "unserved", "generate"),
        ("POST", "/api/chat/", "unserved", "generate"),
        ("POST", "//api/chat", "unserved", "generate"),
        ("POST", "/API/CHAT", "unserved", "generate"),
        ("POST", "/api%2Fchat", "demand", "chat"),
        ("POST", "/api/%63hat", "demand", "chat"),
        ("POST", "/v1/completions", "demand", "openai-completions"),
        ("POST", "/v1/responses", "demand", "openai-responses"),
        ("POST", "/v1/audio/transcriptions", "demand", "openai-transcription"),
        ("POST", "/v1/images/generations", "demand", "openai-images"),
        ("POST", "/v1/messages/count_tokens", "unserved", "anthropic"),
    ],
)
def test_routes(method: str, target: str, kind: str, dialect: str) -> None:
    """Only what needs a model is demand; what might load one and is not known is not served."""
    found = route(method, target)
    assert (found.kind, found.dialect) == (kind, dialect)


# --- what is asked -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/api/generate", {"prompt": "hi"}, "request"),
        ("/api/generate", {"prompt": "hi", "keep_alive": 0}, "request"),
        ("/api/generate", {}, "preload"),
        ("/api/generate", {"prompt": "", "suffix": "x", "images": ["aGk="], "raw": True}, "preload"),
        ("/api/generate", {"prompt": None, "keep_alive": None}, "preload"),
        ("/api/generate", {"keep_alive": -1}, "preload"),
        ("/api/generate", {"keep_alive": "5m"}, "preload"),
        ("/api/generate", {"keep_alive": 0}, "unload"),
        ("/api/generate", {"keep_alive": 0.0, "prompt": ""}, "unload"),
        ("/api/generate", {"keep_alive": "0s"}, "unload"),
        ("/api/generate", {"KEEP_ALIVE": "0", "Prompt": ""}, "unload"),
        ("/api/chat", {"messages": HI}, "request"),
        ("/api/chat", {"messages": [{}]}, "request"),
        ("/api/chat", {"messages": [], "keep_alive": "-0h"}, "unload"),
        ("/api/chat", {"messages": None}, "preload"),
        ("/api/chat", {}, "preload"),
        ("/api/embed", {"input": "hi"}, "request"),
        ("/api/embed", {"input": [""]}, "request"),
        ("/api/embed", {"input": ""}, "preload"),
        ("/api/embed", {"input": []}, "preload"),
        ("/api/embed", {"keep_alive": 0}, "preload"),
        ("/api/embeddings", {"prompt": "hi"}, "request"),
        ("/api/embeddings", {"keep_alive": 0}, "preload"),
        ("/v1/embeddings", {"input": ""}, "request"),
        ("/v1/chat/completions", {"messages": HI, "keep_alive": 0}, "request"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": []}]}, "preload"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": ""}]}, "request"),
        ("/v1/chat/completions", {"messages": [{"role": "assistant", "tool_calls": []}]}, "request"),
        ("/v1/messages", {"max_tokens": 1, "messages": HI}, "request"),
        ("/v1/messages", {"max_tokens": 1, "messages": [{"content": []}]}, "preload"),
        ("/v1/messages", {"max_tokens": 1, "messages": [{"content": ""}, {"content": None}]}, "preload"),
        ("/v1/messages", {"max_tokens": 1, "messages": [{"content": [{"type": "new", "text": "x"}]}]}, "preload"),
        ("/v1/messages", {"max_tokens": 1, "messages": [{"content": []}], "system": "x"}, "request"),
        (
            "/v1/messages",
            {"max_tokens": 1, "messages": [{"content": []}], "system": [{"type": "text", "text": "x"}]},
            "request",
        ),
        ("/v1/messages", {"max_tokens": 1, "messages": [{"content": []}], "system": ["x"]}, "preload"),
        (
            "/v1/messages",
            {"max_tokens": 1, "messages": [{"content": [{"type": "tool_result", "tool_use_id": "1"}]}]},
            "request",
        ),
    ],
)
def test_a_request_without_a_prompt_is_a_wish(path: str, body: dict[str, Any], kind: str) -> None:
    """Exactly where Ollama would only load or unload."""
    demand = asked(path, {"model": "m"} | body)
    assert demand.kind == kind
    assert demand.cls == ("batch" if kind == "preload" else "interactive")


@pytest.mark.parametrize(
    ("path", "stream", "streams"),
    [
        ("/api/generate", "", True),
        ("/api/chat", "", True),
        ("/api/chat", '"stream":null,', True),
        ("/api/chat", '"stream":false,', False),
        ("/api/chat", '"STREAM":false,', False),
        ("/api/chat", '"stream":false,"stream":null,', True),
        ("/v1/chat/completions", "", False),
        ("/v1/chat/completions", '"stream":true,"stream":null,', True),
        ("/v1/messages", '"stream":true,', True),
        ("/api/embed", '"stream":true,', False),
        ("/v1/embeddings", '"stream":true,', False),
    ],
)
def test_who_streams(path: str, stream: str, streams: bool) -> None:
    """Native generation streams unless told not to, /v1 only when told to, an embedding never."""
    body = f'{{{stream}"model":"m","max_tokens":1,"prompt":"hi","input":"hi","messages":{json.dumps(HI)}}}'
    assert asked(path, body).stream == streams


@pytest.mark.parametrize(
    ("body", "model"),
    [
        ('{"model":"a","MODEL":"b"}', "b:latest"),
        ('{"MODEL":"b","model":"a"}', "a:latest"),
        ('{"model":"a","model":null}', "a:latest"),
        ('{"model":"a","Model":""}', None),
        ('{"\\u006dodel":"a"}', "a:latest"),
        ('{"model":"a","mode\\u006c":"b"}', "b:latest"),
        ('{"model":" Qwen-Fast "}', "qwen-fast:latest"),
        ('{"model":"x:local"}', "x:latest"),
        ('{"model":"registry.ollama.ai/library/x"}', "x:latest"),
    ],
)
def test_the_last_model_counts(body: str, model: str | None) -> None:
    """Keys fold case and the last one wins, null apart."""
    if model is None:
        with pytest.raises(BadRequest):
            asked("/api/chat", body)
        return
    demand = asked("/api/chat", body)
    assert demand.model == model
    assert normal_name(sent(demand)["model"]) == model


def test_names_go_upstream_as_they_are_meant() -> None:
    """A model's own name goes as the client said it, for Ollama's answers repeat it; an alias goes as its model."""
    assert sent(asked("/api/chat", {"model": "Qwen-Fast", "messages": HI}))["model"] == "Qwen-Fast"
    demand = asked("/api/chat", {"model": "GPT-4:latest", "messages": HI})
    assert (demand.alias, demand.model, demand.cls) == ("GPT-4:latest", "qwen-quality-128k:latest", "agent")
    assert sent(demand)["model"] == "qwen-quality-128k:latest"
    assert asked("/api/chat", {"model": "the big one", "messages": HI}).model == "qwen-quality-128k:latest"


def test_a_paid_name_is_refused() -> None:
    """It is our decision and no fault of the client's: 503 with the reason."""
    with pytest.raises(Refused, match="paid route not configured") as caught:
        asked("/v1/messages", {"model": "claude-opus-4", "max_tokens": 1, "messages": HI})
    assert caught.value.status == 503


def test_a_cloud_model_passes_as_it_is() -> None:
    """Options and keep_alive are the cloud's business; there is no wish, no probe and no context of ours."""
    body = {"model": "far", "messages": [], "keep_alive": 0, "options": {"num_ctx": 8}, "shift": False}
    demand = asked("/api/chat", body)
    assert (demand.remote, demand.kind, demand.model) == (True, "request", "gpt-oss:120b-cloud")
    assert sent(demand) == body | {"model": "gpt-oss:120b-cloud"}


def test_path_and_client_are_kept() -> None:
    """The query goes upstream with the path."""
    demand = asked("/v1/messages?beta=true", {"model": "m", "max_tokens": 1, "messages": HI})
    assert (demand.method, demand.path, demand.client) == ("POST", "/v1/messages?beta=true", "192.0.2.1:5000")


# --- what goes upstream ------------------------------------------------------------------------------------------


def test_what_reloads_never_goes_upstream() -> None:
    """Options of the runner, `shift` and `keep_alive` are taken out in every spelling; the rest stays as written."""
    options = {name: 1 for name in sorted(RUNNER_OPTIONS)}
    body = json.dumps({"model": "m", "messages": HI, "\u212aeep_alive": -1, "\u017fhift": False, "think": False})
    body = body[:-1] + f',"Options":{json.dumps(options)},"OPTIONS":{{"temperature":0.10,"seed":1e2}}}}'
    demand = asked("/api/chat", body)
    assert demand.body.at(0) == (
        b'{"options":{"temperature":0.10,"seed":1e2},"messages": [{"role": "user", "content": "hi"}],'
        b'"think": false,"model":"m"}'
    )
    assert demand.body.at(4096) == demand.body.at(0).replace(b'{"temperature', b'{"num_ctx":4096,"temperature')


@pytest.mark.parametrize(
    ("options", "merged"),
    [
        ('"options":{"top_k":1,"num_ctx":5},"options":{"top_p":2}', {"top_k": 1, "top_p": 2}),
        ('"options":{"top_k":1},"OPTIONS":{"top_k":3}', {"top_k": 3}),
        ('"options":{"top_k":1},"options":null', {}),
        ('"options":{"top_k":1},"options":null,"options":{"seed":2}', {"seed": 2}),
        ('"options":{}', {}),
        ('"options":null', {}),
        ('"options":{"Top_K":1,"NUM_CTX":5}', {"Top_K": 1, "NUM_CTX": 5}),  # a map's keys do not fold
        ('"options":{"num\\u005fctx":5,"seed":1,"seed":2}', {"seed": 2}),
    ],
)
def test_options_merge_as_in_go(options: str, merged: dict[str, int]) -> None:
    """Given twice they are one map, key by key; null forgets them."""
    demand = asked("/api/generate", f'{{"model":"m","prompt":"hi",{options}}}')
    assert sent(demand)["options"] == merged
    assert sent(demand, 8192)["options"] == {"num_ctx": 8192} | merged


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/embeddings"])
def test_v1_bodies_get_no_options(path: str) -> None:
    """/v1 can carry neither a context nor a keep_alive, should a later Ollama learn to read them there."""
    body = {"model": "gpt-4", "messages": HI, "input": "x", "max_tokens": 3, "user": "u"}
    extra = {"keep_alive": 0, "options": {"num_ctx": 5}, "num_ctx": 5}
    demand = asked(path, body | extra)
    assert sent(demand) == body | {"model": "qwen-quality-128k:latest"}
    assert demand.body.after == b""


def test_unknown_fields_and_odd_text_stay() -> None:
    """What we do not know is Ollama's business, to the digit; invalid UTF-8 becomes U+FFFD as it would there."""
    raw = b'{"new":{"x":[1.0,2e5,"\\ud800",12345678901234567890]},"model":"m","prompt":"\xff\xe9"} trailing'
    demand = asked("/api/generate", raw)
    assert demand.body.at(0) == (
        b'{"options":{},"new":{"x":[1.0,2e5,"\\ud800",12345678901234567890]},'
        b'"prompt":"\xef\xbf\xbd\xef\xbf\xbd","model":"m"}'
    )


SPELLINGS = st.sampled_from(["model", "Model", "MODEL", "mode\\u006c", "MODE\\u004c", "mo\u017fdel", "model "])
KEYS = st.one_of(
    SPELLINGS,
    st.sampled_from(
        ["keep_alive", "\u212aEEP_ALIVE", "options", "OPTION\u017f", "option\\u0073", "\u017fhift", "shift"]
    ),
    st.sampled_from(["messages", "prompt", "input", "max_tokens", "stream", "x", ""]),
    st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cs", "Cc"]), max_size=4),
)
VALUES = st.one_of(
    st.sampled_from(['"a"', '"b:7b"', '"GPT-4"', '" c "', '"x:local"', "null", "1", "true", '"5m"', "0", "[]", '""']),
    st.sampled_from(['{"num_ctx":1}', '{"num_ctx":2,"seed":1}', '{"num\\u005fgpu":9,"top_k":4}', "{}"]),
    st.sampled_from([json.dumps(HI), '"hi"', '["hi"]', "1e5"]),
)
PAIRS = st.lists(st.tuples(KEYS, VALUES), max_size=8)


def go_fold(key: str) -> str:
    """Go's folding, written here again on its own: ASCII case and the two characters that join it."""
    return "".join({"\u017f": "s", "\u212a": "k"}.get(c, c.lower() if c.isascii() else c) for c in key)


def fields_in_go(raw: bytes) -> Iterator[tuple[str, Any]]:
    """The fields that Go would fill from a body, in order."""
    pairs = json.JSONDecoder(object_pairs_hook=lambda pairs: pairs).decode(raw.decode())
    yield from ((go_fold(key), value) for key, value in pairs)


@given(path=st.sampled_from(sorted(DEMANDS)), before=PAIRS, after=PAIRS, context=st.sampled_from([0, 4096]))
def test_ollama_reads_the_model_we_decided(
    path: str, before: list[tuple[str, str]], after: list[tuple[str, str]], context: int
) -> None:
    """Whatever a body says and however it spells it, what we send names our model once, and nothing that reloads."""
    good = [("model", '"m"'), ("messages", json.dumps(HI)), ("max_tokens", "5"), ("input", '"hi"'), ("prompt", '"hi"')]
    text = ",".join(f'"{key}":{value}' for key, value in [*before, *good, *after])
    with contextlib.suppress(Failure):
        demand = asked(path, f"{{{text}}}")
        native = demand.dialect in NATIVE
        fields = list(fields_in_go(demand.body.at(context if native else 0)))
        names = [name for name, _ in fields]
        assert [normal_name(value) for name, value in fields if name == "model"] == [demand.model]
        assert not {"keep_alive", "shift", "num_ctx"} & set(names)
        assert names.count("options") == native
        options = [name for name, value in fields if name == "options" for name, _ in value]
        assert RUNNER_OPTIONS & set(options) == ({"num_ctx"} if native and context else set())
        assert options.count("num_ctx") <= 1


# --- bad bodies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", TABLE, ids=[bad["name"] for bad in TABLE])
def test_a_bad_body_is_refused_in_ollama_s_words(bad: dict[str, Any]) -> None:
    """Each of the recorded bodies gets the status and message that Ollama gave, and none becomes a demand."""
    body = bad.get("body") or ""
    if depth := bad.get("deep"):
        body = '{"model":"x","a":' + "[" * depth + "]" * depth + "}"
    with pytest.raises(BadRequest) as caught:
        asked(bad["path"], body.encode("latin-1"), Content_Type=bad.get("type", ""))
    assert (caught.value.status, caught.value.message) == (bad["status"], bad["message"])
    assert caught.value.retry_after is None


def test_raw_mode_takes_no_template() -> None:
    """Ollama says so only for a model it has, and not of an unload."""
    told = unfit(asked("/api/generate", {"model": "m", "prompt": "hi", "raw": True, "system": "x"}), embedding=False)
    assert told is not None
    assert (told.status, told.message) == (400, "raw mode does not support template, system, or context")
    assert unfit(asked("/api/generate", {"model": "m", "raw": True, "context": [1], "keep_alive": 0}), False) is None


def test_any_content_type_is_json() -> None:
    """LiteLLM sends octet-stream, curl a form; only what the body holds counts."""
    for kind in ("application/octet-stream", "application/x-www-form-urlencoded", "text/plain; charset=utf-16", ""):
        assert asked("/api/chat", {"model": "m", "messages": HI}, Content_Type=kind).model == "m:latest"


def test_zstd_is_unpacked_where_ollama_does() -> None:
    """On /v1 a zstd body is read; on a native route it is no JSON, as for Ollama."""
    body = json.dumps({"model": "m", "messages": HI}).encode()
    packed = zstandard.compress(body)
    assert asked("/v1/chat/completions", packed, Content_Encoding="zstd").model == "m:latest"
    with pytest.raises(BadRequest, match=r"invalid character '\('"):
        asked("/api/chat", packed, Content_Encoding="zstd")
    with pytest.raises(BadRequest, match="invalid character"):
        asked("/v1/chat/completions", packed)
    halves = zstandard.compress(body[:20]) + zstandard.compress(body[20:])
    assert asked("/v1/responses", halves, Content_Encoding="zstd").model == "m:latest"
    for bad, words in (
        (body, "invalid input: magic number mismatch"),
        (packed[:-5], "unexpected EOF"),
        (packed[:3], "unexpected EOF"),
    ):
        with pytest.raises(BadRequest, match=words) as caught:
            asked("/v1/chat/completions", bad, Content_Encoding="zstd")
        assert caught.value.voice == "gin"  # Ollama's own shape, even here


@pytest.mark.parametrize("depth", [70, 970, 9_990])
def test_deep_json_is_taken_as_go_takes_it(depth: int) -> None:
    """What lies deeper than our own parser goes is passed on as it was written; keys after it still count."""
    deep = "[" * depth + '"]}\\" {[' + '"' + "]" * depth
    body = '{"options":{"stop":%s,"num_ctx":5},"tools":null,"format":%s,"messages":[{"role":"user"}],"model":"m"}'
    demand = asked("/api/chat", (body % (deep, deep)).encode())
    assert demand.model == "m:latest"
    assert demand.body.at(7) == (
        b'{"options":{"num_ctx":7,"stop":%b},"tools":null,"format":%b,"messages":[{"role":"user"}],"model":"m"}'
        % (deep.encode(), deep.encode())
    )
    with pytest.raises(BadRequest, match=r"cannot unmarshal array into Go struct field ChatRequest\.model"):
        asked("/api/chat", f'{{"model":{deep}}}'.encode())


def test_a_zstd_bomb_stays_small() -> None:
    """A few kilobytes that would unpack to a gigabyte are refused at Ollama's own limit."""
    bomb = zstandard.ZstdCompressor().compress(b" " * 21 * 2**20)
    assert len(bomb) < 10_000
    with pytest.raises(BadRequest, match="request body too large"):
        asked("/v1/messages", bomb, Content_Encoding="zstd")


# --- who and what ------------------------------------------------------------------------------------------------


def test_the_digest_is_of_the_conversation() -> None:
    """Equal words make equal digests whatever the options; other words, another dialect or another key do not."""
    one = asked("/api/chat", {"model": "m", "messages": HI, "options": {"seed": 1}, "keep_alive": 5})
    same = asked("/api/chat", {"messages": HI, "model": "gpt-4"})
    assert one.digest == same.digest
    assert len(one.digest) == 32
    others = [
        asked("/api/chat", {"model": "m", "messages": [*HI, *HI]}),
        asked("/api/chat", {"model": "m", "messages": HI, "tools": [{"type": "function"}]}),
        asked("/v1/chat/completions", {"model": "m", "messages": HI}),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 4
    other_key = Rules(ALIASES, frozenset(), b"another key of 16")
    body = json.dumps({"model": "m", "messages": HI}).encode()
    assert understand(route("POST", "/api/chat"), "/api/chat", body, {}, other_key).digest != one.digest


def test_the_session_is_who_asks() -> None:
    """The client's own name for itself, with its credential; where it says none it could be anyone."""
    body = {"model": "m", "messages": HI}
    user = body | {"user": "ann"}

    def session(body: dict[str, Any] = user, client: str = "192.0.2.1:5000", **headers: str) -> str:
        return asked("/v1/chat/completions", body, client, **headers).session

    assert session(body) == session(body, Authorization="Bearer a") == ""
    assert session() == session(client="192.0.2.2:1") != session(Authorization="Bearer a")
    assert session(Authorization="Bearer a") == session(x_api_key="a")
    assert asked("/v1/chat/completions", body, Authorization="Bearer a").key != ""


# --- speed -------------------------------------------------------------------------------------------------------


def test_a_large_chat_is_understood_quickly() -> None:
    """120 kB of chat with tools take under 4 ms (the best of a few, for the machine is shared)."""
    tools = [{"type": "function", "function": {"name": f"t{n}", "description": "x" * 400}} for n in range(40)]
    messages = [{"role": "user", "content": 'some "quoted" words\n and more of them, é ' * 25}] * 100
    body = json.dumps({"model": "gpt-4", "messages": messages, "tools": tools, "options": {"seed": 1}})
    assert len(body) > 120_000
    took = []
    for _ in range(10):
        begin = time.perf_counter()
        asked("/api/chat", body)
        took.append(time.perf_counter() - begin)
    assert min(took) < 0.004

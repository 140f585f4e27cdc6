"""The Go structs Ollama 0.32 decodes each dialect's body into: a bad body is refused before it waits for a model.

From `api/types.go`, `openai/openai.go` and `anthropic/anthropic.go`; that of `/v1/responses` is a module of its own.
What is left unchecked here Ollama refuses itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from scheduler.demand import Dialect
from scheduler.goduration import parse_keep_alive
from scheduler.gojson import fold
from scheduler.gosyntax import NotJSON, go_quote
from scheduler.gotypes import ANY, Check, Go, field_name, slice_of, struct, word
from scheduler.responses import RAW, RESPONSES
from scheduler.tools import ARGUMENTS, TOOL, TOOL_CALL

# --- the types that decode themselves ----------------------------------------------------------------------------


def _keep_alive(value: Any, run: Check) -> None:
    inner = Check(struct=run.struct, path=run.path, field=run.field)
    inner.visit(value, ANY)
    if inner.saved:
        raise NotJSON(inner.saved)
    parse_keep_alive(value)


def _think(value: Any, run: Check) -> None:
    levels = '"high", "medium", "low", "max", true, or false'
    if isinstance(value, str):
        if value not in ("high", "medium", "low", "max"):
            raise NotJSON(f"invalid think value: {go_quote(value, chr(34))} (must be {levels})")
    elif not isinstance(value, bool):
        raise NotJSON(f"think must be a boolean or string ({levels})")


def _alone(value: Any, go: Go, run: Check) -> None:
    """A type that decodes itself by a second call of json.Unmarshal: its first mismatch ends the outer one too, and
    the message names the outer struct but the inner type."""
    inner = Check(struct=run.struct, path=run.path, inner=True)
    if not isinstance(value, dict):
        inner.mismatch(word(value), go.name)
    for key, item in value.items() if isinstance(value, dict) else ():
        name = field_name(key, go.fields)
        if name:
            inner.path = (*run.path, name)
            inner.visit(item, go.fields[name])
    if inner.saved:
        raise NotJSON(inner.saved)


def _chat_message(value: Any, run: Check) -> None:
    _alone(value, _CHAT_ALIAS, run)


def _anthropic_message(value: Any, run: Check) -> None:
    _alone(value, _ANTHROPIC_RAW, run)
    content = next((value[key] for key in reversed(value) if fold(key) == "content"), _MISSING)
    if content is _MISSING:
        raise NotJSON("unexpected end of JSON input")
    if content is None or isinstance(content, str):
        return
    inner = Check(struct=run.struct, path=run.path)
    if not isinstance(content, list):
        inner.mismatch(word(content), "[]anthropic.ContentBlock")
    for block in content if isinstance(content, list) else ():
        if block is not None:
            _alone(block, _ANTHROPIC_BLOCK, run)
    if inner.saved:
        raise NotJSON(inner.saved)


_MISSING = object()

# --- the types -----------------------------------------------------------------------------------------------------

_STRING = Go("string", "string")
_BOOL = Go("bool", "bool")
_BOOL_OR_NULL = Go("bool", "bool", pointer=True)
_INT = Go("int", "int")
_INT32 = Go("int32", "int")
_INT64 = Go("int64", "int")
_FLOAT = Go("float64", "float")
_FLOAT32 = Go("float32", "float")
_OPTIONS = Go("map[string]interface {}", "map")

_IMAGES = slice_of(Go("api.ImageData", "bytes"))
_KEEP_ALIVE = Go("api.Duration", "any", own=_keep_alive)
_THINK = Go("api.ThinkValue", "any", own=_think)
_API_TOOLS = Go("api.Tools", "slice", TOOL)

_CHAT_ALIAS = struct(
    "api.Alias",
    role=_STRING,
    content=_STRING,
    thinking=_STRING,
    images=_IMAGES,
    tool_calls=slice_of(TOOL_CALL),
    tool_name=_STRING,
    tool_call_id=_STRING,
)
_ANTHROPIC_RAW = Go(
    'struct { Role string "json:\\"role\\""; Content json.RawMessage "json:\\"content\\"" }',
    "struct",
    fields=MappingProxyType({"role": _STRING}),
)
_ANTHROPIC_BLOCK = struct(
    "anthropic.ContentBlock",
    type=_STRING,
    text=_STRING,
    source=struct("anthropic.ImageSource", type=_STRING, media_type=_STRING, data=_STRING, url=_STRING),
    id=_STRING,
    name=_STRING,
    input=ARGUMENTS,
    tool_use_id=_STRING,
    is_error=_BOOL,
    thinking=_STRING,
    signature=_STRING,
)
_OPENAI_CALL = struct(
    "openai.ToolCall",
    id=_STRING,
    index=_INT,
    type=_STRING,
    function=struct(
        'struct { Name string "json:\\"name\\""; Arguments string "json:\\"arguments\\"" }',
        name=_STRING,
        arguments=_STRING,
    ),
)
_OPENAI_MESSAGE = struct(
    "openai.Message",
    role=_STRING,
    content=ANY,
    reasoning=_STRING,
    tool_calls=slice_of(_OPENAI_CALL),
    name=_STRING,
    tool_call_id=_STRING,
)

_GENERATE = struct(
    "api.GenerateRequest",
    model=_STRING,
    prompt=_STRING,
    suffix=_STRING,
    system=_STRING,
    template=_STRING,
    context=slice_of(_INT),
    stream=_BOOL_OR_NULL,
    raw=_BOOL,
    format=RAW,
    keep_alive=_KEEP_ALIVE,
    images=_IMAGES,
    options=_OPTIONS,
    think=_THINK,
    truncate=_BOOL_OR_NULL,
    shift=_BOOL_OR_NULL,
    _debug_render_only=_BOOL,
    logprobs=_BOOL,
    top_logprobs=_INT,
    width=_INT32,
    height=_INT32,
    steps=_INT32,
)
_CHAT = struct(
    "api.ChatRequest",
    model=_STRING,
    messages=slice_of(Go("api.Message", "struct", own=_chat_message)),
    stream=_BOOL_OR_NULL,
    format=RAW,
    keep_alive=_KEEP_ALIVE,
    tools=_API_TOOLS,
    options=_OPTIONS,
    think=_THINK,
    truncate=_BOOL_OR_NULL,
    shift=_BOOL_OR_NULL,
    _debug_render_only=_BOOL,
    logprobs=_BOOL,
    top_logprobs=_INT,
)
_EMBED = struct(
    "api.EmbedRequest",
    model=_STRING,
    input=ANY,
    keep_alive=_KEEP_ALIVE,
    truncate=_BOOL_OR_NULL,
    dimensions=_INT,
    options=_OPTIONS,
)
_EMBEDDINGS = struct("api.EmbeddingRequest", model=_STRING, prompt=_STRING, keep_alive=_KEEP_ALIVE, options=_OPTIONS)
_OPENAI_CHAT = struct(
    "openai.ChatCompletionRequest",
    model=_STRING,
    messages=slice_of(_OPENAI_MESSAGE),
    stream=_BOOL,
    stream_options=struct("openai.StreamOptions", include_usage=_BOOL),
    max_tokens=_INT,
    seed=_INT,
    stop=ANY,
    temperature=_FLOAT,
    frequency_penalty=_FLOAT,
    presence_penalty=_FLOAT,
    top_p=_FLOAT,
    response_format=struct("openai.ResponseFormat", type=_STRING, json_schema=struct("openai.JsonSchema")),
    tools=slice_of(TOOL),
    reasoning=struct("openai.Reasoning", effort=_STRING),
    reasoning_effort=_STRING,
    logprobs=_BOOL,
    top_logprobs=_INT,
    _debug_render_only=_BOOL,
)
_STREAM_OPTIONS = struct("openai.StreamOptions", include_usage=_BOOL)
_OPENAI_COMPLETIONS = struct(
    "openai.CompletionRequest",
    model=_STRING,
    prompt=_STRING,
    frequency_penalty=_FLOAT32,
    max_tokens=_INT,
    presence_penalty=_FLOAT32,
    seed=_INT,
    stop=ANY,
    stream=_BOOL,
    stream_options=_STREAM_OPTIONS,
    temperature=_FLOAT32,
    top_p=_FLOAT32,
    suffix=_STRING,
    logprobs=_INT,
    _debug_render_only=_BOOL,
)
_OPENAI_IMAGES = struct(
    "openai.ImageGenerationRequest",
    model=_STRING,
    prompt=_STRING,
    n=_INT,
    size=_STRING,
    response_format=_STRING,
    seed=_INT64,
)
_OPENAI_IMAGE_EDITS = struct(
    "openai.ImageEditRequest", model=_STRING, prompt=_STRING, image=_STRING, size=_STRING, seed=_INT64
)
_OPENAI_EMBEDDINGS = struct("openai.EmbedRequest", input=ANY, model=_STRING, dimensions=_INT, encoding_format=_STRING)
_ANTHROPIC = struct(
    "anthropic.MessagesRequest",
    model=_STRING,
    max_tokens=_INT,
    messages=slice_of(
        Go("anthropic.MessageParam", "struct", own=_anthropic_message, null="unexpected end of JSON input")
    ),
    system=ANY,
    stream=_BOOL,
    temperature=_FLOAT,
    top_p=_FLOAT,
    top_k=_INT,
    stop_sequences=slice_of(_STRING),
    tools=slice_of(struct("anthropic.Tool", type=_STRING, name=_STRING, description=_STRING, max_uses=_INT)),
    tool_choice=struct("anthropic.ToolChoice", type=_STRING, name=_STRING, disable_parallel_tool_use=_BOOL),
    thinking=struct("anthropic.ThinkingConfig", type=_STRING, budget_tokens=_INT),
    metadata=struct("anthropic.Metadata", user_id=_STRING),
    output_config=struct("anthropic.OutputConfig", effort=_STRING),
)

STRUCTS: Mapping[Dialect, Go] = MappingProxyType(
    {
        "generate": _GENERATE,
        "chat": _CHAT,
        "embed": _EMBED,
        "embeddings": _EMBEDDINGS,
        "openai-chat": _OPENAI_CHAT,
        "openai-completions": _OPENAI_COMPLETIONS,
        "openai-embeddings": _OPENAI_EMBEDDINGS,
        "openai-responses": RESPONSES,
        "openai-images": _OPENAI_IMAGES,
        "openai-image-edits": _OPENAI_IMAGE_EDITS,
        "anthropic": _ANTHROPIC,
    }
)
"""What the JSON body of each dialect is decoded into."""

"""What a request means: `understand` makes a Demand of the body of a route that needs a model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

import zstandard

from scheduler import gotypes, prompts
from scheduler.classes import Asked, Classes
from scheduler.core.messages import Kind
from scheduler.demand import NATIVE, STREAMS, Body, Demand, Dialect
from scheduler.errors import BadRequest
from scheduler.goform import NotForm, read_form
from scheduler.gojson import Field, read_object, sound
from scheduler.gosyntax import NotJSON, go_quote
from scheduler.identity import FIELDS, Telling, Who, who
from scheduler.names import is_cloud, normal_name
from scheduler.paths import Route
from scheduler.probes import is_probe
from scheduler.routes import Aliases, Target, name_fault
from scheduler.structs import STRUCTS


@dataclass(frozen=True, slots=True)
class Rules:
    """What `understand` must know of the configuration. `key` (16 to 64 secret bytes) keys the digests."""

    aliases: Aliases
    probe_texts: frozenset[str]
    key: bytes
    classes: Classes = field(default_factory=Classes)
    telling: Telling = field(default_factory=Telling)


def understand(
    route: Route, target: str, raw: bytes, headers: Mapping[str, str], rules: Rules, client: str = ""
) -> Demand:
    """Make a Demand of a demand route's body. `target` is path and query, `headers` fold case, `client` is the peer.

    Raises BadRequest with Ollama's own status and words where the body is not one Ollama would take, and Refused
    where the name's route is not configured.
    """
    dialect = route.dialect
    if dialect == "openai-transcription":
        return _transcription(target, raw, headers, rules, client)
    if dialect not in NATIVE and headers.get("Content-Encoding") == "zstd":
        raw = _unzstd(raw)
    fields = _read(dialect, raw)
    values = gotypes.effective(fields, STRUCTS[dialect])
    prompts.check_values(dialect, values)
    alias = sound(values.get("model") or "")
    meant = rules.aliases.resolve(alias)
    stream = _streams(dialect, values)
    try:
        _check_name(dialect, meant.model)
        prompts.check_input(dialect, values)
    except BadRequest as error:
        error.streamed = stream
        raise
    remote = is_cloud(meant.model)
    asking = who(
        {pair.name: pair.value for pair in fields if pair.name in FIELDS}, headers, client, rules.telling, rules.key
    )
    cls = _class(alias, meant, target, headers, asking, rules)
    kind = "request" if remote else _kind(dialect, values, stream, rules, cls)
    return Demand(
        method="POST",
        path=target,
        dialect=dialect,
        alias=alias,
        model=meant.model if remote else normal_name(meant.model),
        kind=kind,
        cls="batch" if kind == "preload" else meant.cls if cls == "probe" else cls,
        stream=stream,
        body=_serialise(dialect, fields, meant.model, as_sent=remote or kind in _WISHES),
        digest=_digest(dialect, fields, rules.key),
        session=asking.session,
        key=asking.key,
        client=client,
        remote=remote,
        keep_alive=kind != "unload" and values.get("keep_alive") is not None,
        objection="" if kind == "unload" else prompts.objection(dialect, values),
        mistyped="" if kind == "unload" else prompts.mistyped(dialect, values),
        usage=bool(gotypes.member(values.get("stream_options"), "include_usage")),
    )


def _transcription(target: str, raw: bytes, headers: Mapping[str, str], rules: Rules, client: str) -> Demand:
    """A multipart form: it goes to Ollama as it came, and the query says for which model."""
    path, _, query = target.partition("?")
    try:
        form = read_form(headers, query, raw)
    except NotForm as error:
        raise BadRequest(400, f"failed to parse multipart form: {error}") from error
    alias = form.values.get("model", "")
    if not alias:
        raise BadRequest(400, "model is required")
    if "file" not in form.files:
        raise BadRequest(400, "file is required: http: no such file")
    if not form.files["file"]:
        raise BadRequest(400, "audio file is empty")
    meant = rules.aliases.resolve(alias)
    _check_name("openai-transcription", meant.model)
    remote = is_cloud(meant.model)
    asking = who(form.values, headers, client, rules.telling, rules.key)
    cls = _class(alias, meant, target, headers, asking, rules)
    return Demand(
        method="POST",
        path=f"{path}?model={quote(meant.model.strip())}{f'&{query}' if query else ''}",
        dialect="openai-transcription",
        alias=alias,
        model=meant.model if remote else normal_name(meant.model),
        kind="probe" if cls == "probe" and not remote else "request",
        cls=meant.cls if cls == "probe" else cls,
        stream=False,
        body=Body(raw, b"", takes_context=False),
        digest=blake2b(raw, key=rules.key, digest_size=16).hexdigest(),
        session=asking.session,
        key=asking.key,
        client=client,
        remote=remote,
    )


def unfit(demand: Demand, embedding: bool) -> BadRequest | None:
    """What Ollama answers, without a load, of a model that it has: the request contradicts itself, or the model only
    makes embeddings and is asked to speak, or an option is of a wrong type."""
    if demand.objection:
        return BadRequest(400, demand.objection)
    if not embedding or demand.kind == "unload" or "embed" in demand.dialect or demand.dialect == "library":
        return BadRequest(500, demand.mistyped) if demand.mistyped else None
    what = "generate" if demand.dialect in _GENERATES else "chat"
    told = BadRequest(400, f"{go_quote(demand.alias, chr(34))} does not support {what}", voice="writer")
    told.streamed = demand.stream
    return told


_GENERATES = frozenset({"generate", "openai-completions", "openai-images", "openai-image-edits"})


# --- reading -----------------------------------------------------------------------------------------------------


def _read(dialect: Dialect, raw: bytes) -> list[Field]:
    """The body's keys, checked against what Ollama decodes them into. JSON whatever the content type says."""
    struct = STRUCTS[dialect]
    try:
        return gotypes.read(raw, struct)
    except NotJSON as error:
        message = str(error)
        if message == "EOF" and dialect in NATIVE:
            message = "missing request body"
        raise BadRequest(400, message) from error


_UNPACKED = 20 * 2**20  # bytes; Ollama's limit for a compressed body (server/cloud_proxy.go)
_WINDOW = 8 * 2**20
_PIECE = 1024  # bytes of it that are unpacked at once: what they can grow to stays bounded
_MAGIC = b"\x28\xb5\x2f\xfd"


def _unzstd(raw: bytes) -> bytes:
    """A body sent with `Content-Encoding: zstd`, which Ollama takes on its /v1 routes and nowhere else."""
    unpacked, at = bytearray(), 0
    zstd = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    while at < len(raw):
        frame = zstd.decompressobj()
        if not _MAGIC.startswith(raw[at : at + 4]):
            raise BadRequest(400, "invalid input: magic number mismatch", voice="gin")
        while not frame.eof:
            if at >= len(raw):
                raise BadRequest(400, "unexpected EOF", voice="gin")
            try:
                unpacked += frame.decompress(raw[at : at + _PIECE])
            except zstandard.ZstdError as error:
                raise BadRequest(400, f"invalid input: {error}", voice="gin") from error
            at = min(at + _PIECE, len(raw))
            if len(unpacked) > _UNPACKED:
                raise BadRequest(400, "http: request body too large", voice="gin")
        at -= len(frame.unused_data)
    return bytes(unpacked)


def _check_name(dialect: Dialect, name: str) -> None:
    """Raise what Ollama answers for something that can be no model's name (writeModelRefParseError)."""
    match name_fault(name):
        case "conflict":
            told = f"use either :local or :cloud, not both: {json.dumps(name, ensure_ascii=False)}"
            raise BadRequest(400, told, voice="writer")
        case "invalid":
            raise BadRequest(400, "invalid model name", voice="writer")
        case "missing" if dialect in ("embed", "openai-embeddings") or dialect in _GENERATES:
            raise BadRequest(404, f"model '{name}' not found")
        case "missing":
            raise BadRequest(400, "model is required", voice="writer")


def _streams(dialect: Dialect, values: Mapping[str, Any]) -> bool:
    given = values.get("stream")
    if given is None:
        return dialect in ("generate", "chat")
    return bool(given) and dialect in STREAMS


def _kind(dialect: Dialect, values: Mapping[str, Any], stream: bool, rules: Rules, cls: str) -> Kind:
    wants = prompts.wants(dialect, values)
    if wants == "request" and (cls == "probe" or is_probe(dialect, values, stream, rules.probe_texts)):
        return "probe"
    return wants


# --- writing -----------------------------------------------------------------------------------------------------

# Options that make Ollama load the model anew (api/types.go, Runner, and what older versions had there).
RUNNER_OPTIONS = frozenset(
    {"num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict"}
    | {"low_vram", "f16_kv", "use_mlock", "numa", "logits_all", "vocab_only", "embedding_only", "keep_alive"}
)
# Top-level fields that decide about residency: `shift` reloads too. The /v1 routes know none of them today.
_WISHES = frozenset({"preload", "unload"})
_OURS = frozenset({"model", "keep_alive", "options", "shift", "num_ctx"})


def _serialise(dialect: Dialect, fields: list[Field], name: str, as_sent: bool) -> Body:
    """Our own serialisation: the client's fields as they were written, our model and the options we let through.

    The model comes last, so that it wins should some version of Ollama find a key equal to it that we do not. What goes
    `as_sent` (to another place, or a wish while everything passes through) has only its model changed.
    """
    drop = frozenset({"model"}) if as_sent else _OURS
    kept = [pair.pair for pair in fields if not gotypes.field_name(pair.name, drop)]
    told = json.dumps(name, ensure_ascii=False).encode()
    model, named = b'"model":%b' % told, len(told) + 1
    if as_sent or dialect not in NATIVE:
        return Body(b"{%b}" % b",".join([*kept, model]), b"", takes_context=False, named=named)
    options = b",".join(_options(fields))
    after = b",".join([options + b"}", *kept, model + b"}"])
    return Body(b'{"options":{', after, more=bool(options), named=named)


def _options(fields: list[Field]) -> list[bytes | memoryview]:
    """The options as Go merges them (one map, key by key; null forgets them), without those that reload a model."""
    merged: dict[str, bytes | memoryview] = {}
    for pair in fields:
        if gotypes.field_name(pair.name, ("options",)):
            if pair.value is None:
                merged.clear()
            else:
                merged |= {option.name: option.pair for option in read_object(pair.text)}
    return [text for name, text in merged.items() if name not in RUNNER_OPTIONS]


# --- who and what ------------------------------------------------------------------------------------------------

_CONVERSATION = frozenset(
    {"messages", "prompt", "system", "input", "suffix", "context", "images", "tools", "instructions", "image"}
)


def _digest(dialect: Dialect, fields: list[Field], key: bytes) -> str:
    """A keyed digest of what is asked; equal for equal conversations in one dialect, and it tells nothing of them."""
    digest = blake2b(dialect.encode(), key=key, digest_size=16)
    for pair in fields:
        if name := gotypes.field_name(pair.name, _CONVERSATION):
            digest.update(b"\0%b\0" % name.encode())
            digest.update(pair.text_bytes)
    return digest.hexdigest()


def _class(alias: str, meant: Target, target: str, headers: Mapping[str, str], asking: Who, rules: Rules) -> str:
    asked = Asked(alias, meant.model, target.partition("?")[0], headers, asking)
    return rules.classes.of(asked, meant.cls)

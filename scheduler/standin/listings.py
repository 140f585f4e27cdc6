"""The bodies of the reads: what is installed, what is resident, what a model is made of (server/routes.go of 0.32)."""

import hashlib
import struct
from base64 import b64encode
from typing import Any

from scheduler.standin.answers import go_time
from scheduler.standin.library import Installed
from scheduler.standin.memory import Runner
from scheduler.standin.stage import EMBEDDING_LENGTH, HEADS, KV_HEADS, StagedModel

_REMOTE_HOST = "https://ollama.com:443"
_CHAT = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
_TOOLS = "{{ if .Tools }}<|im_start|>system\n{{ range .Tools }}{{ . }}\n{{ end }}<|im_end|>\n{{ end }}"
_STOPS = ("<|im_start|>", "<|im_end|>")
_LAYER = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
_VOCABULARY = 32_000


def tags(installed: list[Installed]) -> dict[str, Any]:
    """`GET /api/tags`."""
    return {"models": [_installed(each) for each in installed]}


def ps(runners: list[Runner]) -> dict[str, Any]:
    """`GET /api/ps`: those that stay longest come first."""
    ordered = sorted(runners, key=lambda runner: -runner.expires)
    return {
        "models": [
            {
                "name": runner.model.name,
                "model": runner.model.name,
                "size": runner.model.resident_size,
                "digest": runner.model.digest,
                "details": _details(runner.model),
                "expires_at": go_time(runner.expires),
                "size_vram": runner.vram,
                "context_length": runner.options.num_ctx,
            }
            for runner in ordered
        ]
    }


def show(installed: Installed) -> dict[str, Any]:
    """`POST /api/show`."""
    model, parameters = installed.model, _parameters(installed)
    text = "\n".join(f"{name:<30} {_quoted(value)}" for name, value in parameters)
    return {
        "modelfile": _modelfile(installed, parameters),
        **({"parameters": text} if text else {}),
        "template": installed.template or _template(model),
        **({"system": installed.system} if installed.system else {}),
        "details": _details(model, installed.parent),
        **remote_fields(model),
        "model_info": _model_info(model),
        "tensors": _tensors(model),
        "capabilities": _capabilities(model),
        "modified_at": go_time(installed.at),
    }


def openai_models(installed: list[Installed]) -> dict[str, Any]:
    """`GET /v1/models`."""
    return {"object": "list", "data": [openai_model(each.model.name, each) for each in installed] or None}


def openai_model(name: str, installed: Installed) -> dict[str, Any]:
    """`GET /v1/models/{model}`, under the name that was asked for."""
    owner = name.rpartition("/")[0].rpartition("/")[2] or "library"
    return {"id": name, "object": "model", "created": int(installed.at), "owned_by": owner}


def embedding(text: str, dimensions: int = 0) -> list[float]:
    """A unit vector that depends on the text only, of the stage's width unless fewer dimensions are asked."""
    raw = hashlib.shake_256(text.encode()).digest(EMBEDDING_LENGTH)
    values = [byte / 127.5 - 1.0 for byte in raw][: dimensions or None]
    length = sum(value * value for value in values) ** 0.5 or 1.0
    return [round(value / length, 8) for value in values]


def openai_embeddings(model: str, vectors: list[list[float]], tokens: int, encoding: str) -> dict[str, Any]:
    """The answer of `/v1/embeddings`, each vector as numbers or (`base64`) as little-endian floats."""
    packed = [b64encode(struct.pack(f"<{len(v)}f", *v)).decode() for v in vectors] if encoding == "base64" else vectors
    data = [{"object": "embedding", "embedding": vector, "index": place} for place, vector in enumerate(packed)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def remote_fields(model: StagedModel) -> dict[str, str]:
    """What a stub adds to its answers; empty for a local model."""
    return {"remote_model": model.name.partition(":")[0], "remote_host": _REMOTE_HOST} if model.remote else {}


def _installed(installed: Installed) -> dict[str, Any]:
    model = installed.model
    widths = {"context_length": model.trained_ctx, "embedding_length": EMBEDDING_LENGTH}
    return {
        "name": model.name,
        "model": model.name,
        **remote_fields(model),
        "modified_at": go_time(installed.at),
        "size": model.size,
        "digest": model.digest,
        "details": {**_details(model, installed.parent), **widths},
        "capabilities": _capabilities(model),
    }


def _details(model: StagedModel, parent: str = "") -> dict[str, Any]:
    return {
        "parent_model": parent,
        "format": "" if model.remote else "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": f"{model.size / 0.6e9:.1f}B",
        "quantization_level": "Q4_K_M",
    }


def _capabilities(model: StagedModel) -> list[str]:
    return ["embedding"] if model.embedding else ["completion", "tools"][: 1 + model.tools]


def _model_info(model: StagedModel) -> dict[str, Any]:
    info: dict[str, Any] = {
        "general.architecture": "llama",
        "general.file_type": 15,
        "general.parameter_count": round(model.size / 0.6),
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.key_length": EMBEDDING_LENGTH // HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-06,
        "llama.attention.value_length": EMBEDDING_LENGTH // HEADS,
        "llama.block_count": model.layers,
        "llama.context_length": model.trained_ctx,
        "llama.embedding_length": EMBEDDING_LENGTH,
        "llama.feed_forward_length": 2 * EMBEDDING_LENGTH,
        **({"llama.pooling_type": 1} if model.embedding else {}),
        "llama.rope.dimension_count": EMBEDDING_LENGTH // HEADS,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.model": "llama",
        **dict.fromkeys(("tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.tokens")),
        "tokenizer.ggml.unknown_token_id": 0,
    }
    return {key: value for key, value in info.items() if not model.remote or key.startswith("general.")}


def _tensors(model: StagedModel) -> list[dict[str, Any]]:
    """The names and shapes of such a model; their bytes are the staged size only in `/api/tags`."""
    if model.remote:
        return []
    wide, outer = [EMBEDDING_LENGTH, EMBEDDING_LENGTH], [EMBEDDING_LENGTH, _VOCABULARY]
    named = [("token_embd", outer), ("output_norm", [EMBEDDING_LENGTH]), ("output", outer)]
    for layer in range(model.layers):
        named += [(f"blk.{layer}.{part}", wide[:1] if part.endswith("norm") else wide) for part in _LAYER]
    return [{"name": f"{name}.weight", "type": "F32", "shape": shape} for name, shape in named]


def _template(model: StagedModel) -> str:
    if model.embedding:
        return "{{ .Prompt }}"
    return f"{_TOOLS}{_CHAT}" if model.tools else _CHAT


def _parameters(installed: Installed) -> list[tuple[str, object]]:
    """Every PARAMETER line, one for each value of a list."""
    model = installed.model
    known: dict[str, object] = {} if model.num_ctx is None else {"num_ctx": model.num_ctx}
    if not model.embedding:
        known["stop"] = list(_STOPS)
    known |= dict(installed.parameters)
    return [(name, each) for name, value in known.items() for each in (value if isinstance(value, list) else [value])]


def _modelfile(installed: Installed, parameters: list[tuple[str, object]]) -> str:
    model = installed.model
    source = model.name if model.remote else f"/standin/models/blobs/sha256-{model.key}"
    template = installed.template or _template(model)
    lines = [
        '# Modelfile generated by "ollama show"',
        "# To build a new Modelfile based on this, replace FROM with:",
        f"# FROM {model.name}",
        "",
        f"FROM {source}",
        f"TEMPLATE {_in_modelfile(template)}",
        *([f"SYSTEM {_in_modelfile(installed.system)}"] if installed.system else []),
        *(f"PARAMETER {name} {value}" for name, value in parameters),
    ]
    return "\n".join(lines) + "\n"


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _in_modelfile(text: str) -> str:
    """Text as a Modelfile quotes it: only where it must (parser/parser.go)."""
    if "\n" not in text and text == text.strip(" "):
        return text
    return f'"""{text}"""' if '"' in text else f'"{text}"'

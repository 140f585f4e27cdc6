"""The bodies of the reads: what is installed, what is resident, what a model is made of (server/routes.go of 0.32)."""

import hashlib
import struct
from base64 import b64encode
from typing import Any

from scheduler.standin.answers import go_time
from scheduler.standin.memory import Runner
from scheduler.standin.stage import EMBEDDING_LENGTH, HEADS, KV_HEADS, Stage, StagedModel

INSTALLED_AT = 1_764_000_000.0
_REMOTE_HOST = "https://ollama.com:443"
_TEMPLATE = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"


def tags(stage: Stage) -> dict[str, Any]:
    """`GET /api/tags`."""
    return {"models": [_installed(model) for model in stage.models]}


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


def show(model: StagedModel) -> dict[str, Any]:
    """`POST /api/show`."""
    parameters = {} if model.num_ctx is None else {"num_ctx": model.num_ctx}
    about: dict[str, Any] = {
        "modelfile": _modelfile(model, parameters),
        "template": _TEMPLATE,
        "details": _details(model),
        **remote_fields(model),
        "model_info": _model_info(model),
        "capabilities": _capabilities(model),
        "modified_at": go_time(INSTALLED_AT),
    }
    if parameters:
        text = "\n".join(f"{name:<30} {value}" for name, value in parameters.items())
        about = {"modelfile": about.pop("modelfile"), "parameters": text, **about}
    return about


def openai_models(stage: Stage) -> dict[str, Any]:
    """`GET /v1/models`."""
    return {"object": "list", "data": [openai_model(model.name) for model in stage.models] or None}


def openai_model(name: str) -> dict[str, Any]:
    """`GET /v1/models/{model}`."""
    owner = name.rpartition("/")[0].rpartition("/")[2] or "library"
    return {"id": name, "object": "model", "created": int(INSTALLED_AT), "owned_by": owner}


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


def _installed(model: StagedModel) -> dict[str, Any]:
    widths = {"context_length": model.trained_ctx, "embedding_length": EMBEDDING_LENGTH}
    return {
        "name": model.name,
        "model": model.name,
        **remote_fields(model),
        "modified_at": go_time(INSTALLED_AT),
        "size": model.size,
        "digest": model.digest,
        "details": {**_details(model), **widths},
        "capabilities": _capabilities(model),
    }


def _details(model: StagedModel) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "" if model.remote else "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": f"{model.size / 0.6e9:.1f}B",
        "quantization_level": "Q4_K_M",
    }


def _capabilities(model: StagedModel) -> list[str]:
    return ["embedding"] if model.embedding else ["completion", "tools"]


def _model_info(model: StagedModel) -> dict[str, Any]:
    info: dict[str, Any] = {
        "general.architecture": "llama",
        "general.file_type": 15,
        "general.parameter_count": round(model.size / 0.6),
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.key_length": EMBEDDING_LENGTH // HEADS,
        "llama.attention.value_length": EMBEDDING_LENGTH // HEADS,
        "llama.block_count": model.layers,
        "llama.context_length": model.trained_ctx,
        "llama.embedding_length": EMBEDDING_LENGTH,
        "llama.feed_forward_length": 2 * EMBEDDING_LENGTH,
    }
    if model.embedding:
        info["llama.pooling_type"] = 1
    return info


def _modelfile(model: StagedModel, parameters: dict[str, int]) -> str:
    source = model.name if model.remote else f"/standin/models/blobs/sha256-{model.key}"
    lines = [
        '# Modelfile generated by "ollama show"',
        "# To build a new Modelfile based on this, replace FROM with:",
        f"# FROM {model.name}",
        "",
        f"FROM {source}",
        f'TEMPLATE """{_TEMPLATE}"""',
        *(f"PARAMETER {name} {value}" for name, value in parameters.items()),
    ]
    return "\n".join(lines) + "\n"

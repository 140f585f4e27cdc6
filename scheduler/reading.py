"""What Ollama's answers say, in the core's words: a row of /api/ps, the details of /api/show, why it is away."""

import ollama

from scheduler.core import messages as m
from scheduler.names import normal_name


def why(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return "connection refused" if isinstance(error, ConnectionError) or "connect" in text.lower() else text


def resident(row: ollama.ProcessResponse.Model) -> m.Resident:
    name = normal_name(row.model or row.name or "")
    return m.Resident(name, int(row.size or 0), row.context_length or 0, int(row.size_vram or 0), row.digest or "")


def blob(modelfile: str) -> str:
    """The file named by the FROM line; "" where it names a model."""
    for line in modelfile.splitlines():
        if line.startswith("FROM ") and "/" in line:
            return line.removeprefix("FROM ").strip()
    return ""


def shown(show: ollama.ShowResponse) -> m.Listed:
    """What /api/show tells: f16 KV bytes of one token as Ollama predicts them (llm/llama_server.go), trained context,
    the Modelfile's num_ctx."""
    info = dict(show.modelinfo or {})
    arch = str(info.get("general.architecture", ""))

    def number(key: str) -> int:
        value = info.get(f"{arch}.{key}") or 0
        if isinstance(value, list):
            value = min((v for v in value if v), default=0)
        return int(value)

    heads, kv_heads = number("attention.head_count"), number("attention.head_count_kv")
    width = number("embedding_length") // heads if heads else 0
    kv_token = 2 * number("block_count") * max(1, kv_heads) * width * 2
    num_ctx = 0
    for line in (show.parameters or "").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "num_ctx" and words[1].isdecimal():
            num_ctx = int(words[1])
    capabilities = set(show.capabilities or ())
    embedding = "embedding" in capabilities and "completion" not in capabilities
    remote = bool(getattr(show, "remote_model", None))
    return m.Listed("", 0, kv_token, number("context_length"), num_ctx, "", embedding, remote)


def reason(error: Exception) -> str:
    """Why nothing came of asking, in Ollama's own words where it gave some."""
    if isinstance(error, ollama.ResponseError):
        return error.error
    return str(error) or "ollama did not answer in time"

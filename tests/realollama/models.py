"""Write the small GGUF models that the staged Ollama runs: each says a fixed sentence of its own, word by word.

The next token depends only on the last one (attention and feed-forward are zero, the output matrix is a transition
table), so an answer names the model that gave it, never repeats a token twice in a row (Ollama cuts such an answer
off without its last line) and ends by itself unless the sentence is endless. Keys are what Ollama 0.32 and llama.cpp
read for architecture `llama`; one byte of prompt is one token.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

WIDTH_STEP = 64
HEAD_LENGTH = 32  # one layer with one short head: attention is the cost of a long prompt
TRAINED_CONTEXT = 262_144
UNKNOWN, BEGIN, END = 0, 1, 2
BYTES, WORDS = 3, 259  # where the byte tokens begin, and where the words do

Matrix = npt.NDArray[np.float32]

CHAT_TEMPLATE = (
    "{{- if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}"
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
)
TOOLS_TEMPLATE = (
    "{{- if .Tools }}<|im_start|>system\n{{ range .Tools }}<tool>{{ . }}</tool>{{ end }}<|im_end|>\n{{ end }}"
    '{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}{{ range .ToolCalls }}<tool_call>{"name": '
    '"{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}</tool_call>{{ end }}<|im_end|>\n{{ end }}'
    "<|im_start|>assistant\n"
)


def sentence(name: str, words: int) -> tuple[str, ...]:
    """The default answer of a model: `words` different words that carry its name, e.g. `qwen-fast0 qwen-fast1 …`."""
    short = name.partition(":")[0]
    return tuple(f"{short}{number}" for number in range(words))


def write_model(
    path: Path,
    name: str,
    words: tuple[str, ...],
    *,
    endless: bool = False,
    embedding: bool = False,
    scenes: Mapping[str, tuple[str, ...]] | None = None,
) -> None:
    """Write a GGUF that answers `words` (again and again if `endless`), or one that embeds (mean pooling).

    `scenes` are other answers by the letter that begins them when a prompt ends with it; no word may come twice.
    """
    scenes = dict(scenes or {})
    every = (*words, *(word for scene in scenes.values() for word in scene))
    if len(set(every)) < len(every):
        raise ValueError(f"a word of {name} comes twice")
    width = -(-(len(every) + len(scenes) + 2) // WIDTH_STEP) * WIDTH_STEP
    tensors = _tensors(name, words, width, endless, embedding)
    _add_scenes(tensors, len(words), scenes)
    write_gguf(path, name, tensors, lambda writer: _add_tokens(writer, every), embedding=embedding)


def write_gguf(
    path: Path,
    name: str,
    tensors: dict[str, Matrix],
    add_tokens: Callable[[gguf.GGUFWriter], None],
    *,
    embedding: bool = False,
    context: int = TRAINED_CONTEXT,
) -> None:
    """Write the file: these tensors, the vocabulary that `add_tokens` adds, `context` as the trained length."""
    width = tensors["token_embd.weight"].shape[1]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDTH_STEP)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_key_length(HEAD_LENGTH)
    writer.add_value_length(HEAD_LENGTH)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(HEAD_LENGTH)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    if embedding:
        writer.add_pooling_type(gguf.PoolingType.MEAN)
    add_tokens(writer)
    for tensor, values in tensors.items():
        writer.add_tensor(tensor, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokens(writer: gguf.GGUFWriter, words: tuple[str, ...]) -> None:
    specials = ["<unk>", "<s>", "</s>"]
    tokens = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), *(f"▁{word}" for word in words)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * len(words)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * WORDS + [-float(number + 1) for number in range(len(words))])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_unk_token_id(UNKNOWN)


def _add_scenes(tensors: dict[str, Matrix], first: int, scenes: dict[str, tuple[str, ...]]) -> None:
    """Room for other answers in the tables: rows for their words, and a dimension for the letter of each."""
    meaning, following = tensors["token_embd.weight"], tensors["output.weight"]
    more = sum(map(len, scenes.values()))
    tensors["token_embd.weight"] = meaning = np.pad(meaning, ((0, more), (0, 0)))
    tensors["output.weight"] = following = np.pad(following, ((0, more), (0, 0)))
    meaning[len(meaning) - more :, -1] = 1.0
    dimension = first
    for letter, words in scenes.items():
        meaning[BYTES + ord(letter), dimension] = 1.0
        for number in range(len(words)):
            row = WORDS + first + number
            following[row, dimension + number] = 10.0
            meaning[row, dimension + number + 1] = 1.0
        following[END, dimension + len(words)] = 10.0
        dimension += len(words) + 1
        first += len(words)


def _tensors(name: str, words: tuple[str, ...], width: int, endless: bool, embedding: bool) -> dict[str, Matrix]:
    first = WORDS
    rows = first + len(words)
    chance = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    meaning = np.zeros((rows, width), np.float32)
    following = np.zeros((rows, width), np.float32)
    constant = width - 1
    meaning[:, constant] = 1.0
    following[first, constant] = 4.0  # any token that is no word starts the sentence
    for number in range(len(words)):
        meaning[first + number, number] = 1.0
        after = first + number + 1 if number + 1 < len(words) else (first if endless else END)
        following[after, number] = 10.0
    if embedding:
        meaning = chance.standard_normal((rows, width)).astype(np.float32)
    tensors = {
        "token_embd.weight": meaning,
        "output_norm.weight": np.ones(width, np.float32),
        "output.weight": following,
    }
    return tensors | {f"blk.0.{part}": values for part, values in layer(chance, width).items()}


def layer(chance: np.random.Generator, width: int) -> dict[str, Matrix]:
    """One layer whose inputs are random, so that every model has a blob of its own, and whose outputs are zero."""

    def random(rows: int, columns: int) -> Matrix:
        return (0.02 * chance.standard_normal((rows, columns))).astype(np.float32)

    return {
        "attn_norm.weight": np.ones(width, np.float32),
        "attn_q.weight": random(HEAD_LENGTH, width),
        "attn_k.weight": random(HEAD_LENGTH, width),
        "attn_v.weight": random(HEAD_LENGTH, width),
        "attn_output.weight": np.zeros((width, HEAD_LENGTH), np.float32),
        "ffn_norm.weight": np.ones(width, np.float32),
        "ffn_gate.weight": random(WIDTH_STEP, width),
        "ffn_up.weight": random(WIDTH_STEP, width),
        "ffn_down.weight": np.zeros((width, WIDTH_STEP), np.float32),
    }

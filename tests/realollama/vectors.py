"""Staged models that embed as a test expects: whole words are tokens, and each word's vector is chosen.

Pooling is the mean, and llama.cpp's epsilon leaves small vectors small before it: words that mean nothing hardly count
beside those that do. The keys are what llama.cpp reads for a BERT vocabulary.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.realollama.models import Matrix, layer, write_gguf
from tests.realollama.store import StagedModel

FRAME = ("[UNK]", "[CLS]", "[SEP]")
FAINT = 1e-6  # a component of a word that means nothing; with llama.cpp's epsilon of 1e-6 it stays about a thousandth


@dataclass(frozen=True)
class VectorModel(StagedModel):
    """A staged embedding model: `meanings` are groups of words with the vector that all of a group share.

    Words in `silent` are tokens without a meaning. Words are in lower case, as the tokenizer makes them. `trained`
    is the context length in tokens.
    """

    embedding: bool = True
    num_ctx: int | None = None
    width: int = 384
    trained: int = 512
    meanings: tuple[tuple[str, tuple[float, ...]], ...] = field(default=(), repr=False)
    silent: str = ""

    def recipe(self) -> list[Any]:
        """What the GGUF and its entry in the store are made of, as JSON."""
        return [*super().recipe(), "bert", self.width, self.trained, self.silent, self.meanings]

    def creation(self) -> dict[str, Any]:
        """What `/api/create` is told beside name and file."""
        return {}

    def write(self, file: Path) -> None:
        """Write the GGUF."""
        chance = np.random.default_rng(int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:8], "big"))
        known = {word: vector for words, vector in self.meanings for word in words.split()}
        words = list(dict.fromkeys([*known, *self.silent.split()]))
        rows = len(FRAME) + len(words)
        meaning: Matrix = (FAINT * chance.standard_normal((rows, self.width))).astype(np.float32)
        for row, word in enumerate(words, len(FRAME)):
            if word in known:
                meaning[row] = np.asarray(known[word], np.float32)
        tensors = {
            "token_embd.weight": meaning,
            "output_norm.weight": np.ones(self.width, np.float32),
            **{f"blk.0.{part}": values for part, values in layer(chance, self.width).items()},
        }
        write_gguf(
            file, self.name, tensors, lambda writer: _add_words(writer, words), embedding=True, context=self.trained
        )


def _add_words(writer: gguf.GGUFWriter, words: list[str]) -> None:
    """BERT's vocabulary: a known word is a token, an unknown one is `[UNK]`, every input is framed."""
    writer.add_tokenizer_model("bert")
    writer.add_token_list([*FRAME, *(f"▁{word}" for word in words)])
    writer.add_token_types(
        [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * len(words)
    )
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_sep_token_id(2)

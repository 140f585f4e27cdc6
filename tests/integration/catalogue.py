"""The staged models under the names that Ollama's own integration tests ask for."""

import hashlib
from pathlib import Path

import numpy as np

from tests.integration.source import names, vectors
from tests.realollama.stage import StagedModel
from tests.realollama.vectors import VectorModel
from tests.realollama.words import WordModel

SIZE = 6_000_000_000  # of a model that talks: five of them beside each other, the rest has to be swapped
LIGHT = 500_000_000  # of one that embeds: all of them fit beside some that talk
SMALL = 1_000_000  # of one from which the tests make others: it is read whole
THINKER = "llama3.2:1b"
FRESH = ("gemma3:270m", "gemma2:2b", "deepseek-r1:1.5b", "deepseek-coder-v2:16b-lite-instruct-q2_K")
QUANTIZED = "qwen2.5:0.5b-instruct-fp16"
LICENSED = "llama3.2:latest"
TRAINED = {  # tokens; what these models have in Ollama's library
    "all-minilm": 256,
    "bge-m3": 8192,
    "embeddinggemma": 2048,
    "nomic-embed-text": 2048,
    "qwen3-embedding": 32_768,
    "snowflake-arctic-embed2": 8192,
}
ALIKE = (  # words that the tests want nearer to each other than to the rest
    "cat kitten feline sleeping sofa couch",
    "dog",
    "king queen",
    "baron",
    "paris london",
    "vancouver",
    "quantum physics complex",
    "programming coding python",
    "pizza delicious",
    "machine learning artificial intelligence",
    "groceries",
    "brown fox",
    "weather",
)
SILENT = "why is the word long short medium text test very input hi there my ?"  # a token each
SKY, GRASS = "sky blue", "grass green"


def full(name: str) -> str:
    """The name with its tag."""
    return name if ":" in name else f"{name}:latest"


def catalogue(module: Path) -> list[StagedModel]:
    """Every model that the tests can have here: those that talk, those that call tools, and those that embed."""
    tools = {full(name) for name in names(module, "libraryToolsModels")}
    lists = ("ollamaEngineChatModels", "mlxEngineChatModels", "llamaRunnerChatModels", "libraryChatModels")
    talk = {full(name) for each in lists for name in names(module, each)} | tools | {THINKER, *FRESH}
    words = [
        WordModel(
            name,
            SIZE,
            load_seconds=0.0,
            tools=name in tools,
            thinks=name == THINKER,
            licence="A licence of the stage." if name == LICENSED else "",
        )
        for name in sorted(talk)
    ]
    return [*words, WordModel(QUANTIZED, SMALL, load_seconds=0.0, marked="F16"), *embedders(module)]


def embedders(module: Path) -> list[StagedModel]:
    """The embedding models, with the vectors that the tests expect of them."""
    expected = {full(name): vector for name, vector in vectors(module).items()}
    models: list[StagedModel] = []
    for name in names(module, "libraryEmbedModels"):
        sky = expected[full(name)]
        meanings = [(words, _direction(words, len(sky))) for words in ALIKE]
        meanings.append((SKY, sky))
        if name == "all-minilm":
            meanings.append((GRASS, expected[full("grass")]))
        models.append(
            VectorModel(
                full(name),
                LIGHT,
                load_seconds=0.0,
                width=len(sky),
                trained=TRAINED.get(name, 512),
                meanings=tuple(meanings),
                silent=SILENT if name == "all-minilm" else f"{SILENT} {GRASS}",
            )
        )
    return models


def _direction(words: str, width: int) -> tuple[float, ...]:
    chance = np.random.default_rng(int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big"))
    return tuple(round(float(each), 4) for each in chance.standard_normal(width))

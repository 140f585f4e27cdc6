"""Staged models that say what a test waits for: a sentence, a thought before it, a tool call picked by the template.

One sentence of all the words that Ollama's own integration tests look for serves every talking model. Each has a blob
of its own, so each has a runner of its own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.realollama.models import write_model
from tests.realollama.quantize import mark
from tests.realollama.store import StagedModel

SENTENCE = (
    "Rayleigh scattering in the atmosphere: blue wavelength interact with nitrogen and oxygen . Sunlight water "
    "droplets refract a rainbow . Soil is organic . Fourth of July independence . Once upon time 😀 😊 散射 频率 "
    "Russia fought France . Sequence f(n) = n-1 while True ; select x from y ; yes no safe unsafe plugin components"
)
THOUGHT = ("<think>", "Twelve", "times", "fifteen", "is", "180", "</think>", "Tokyo")
WEATHER, SHELL = "W", "S"  # the letter a prompt ends with → the tool that is called
CALLS = {
    WEATHER: (
        '<tool_call>{"name":',
        '"get_weather",',
        '"arguments":',
        '{"location":',
        '"San',
        'Francisco"}}</tool_call>',
    ),
    SHELL: ("<tool_call>", '{"name":"bash",', '"arguments":{"command":', '"git', "diff", 'main"}}', "</tool_call>"),
}
THINKING = (
    "{{ range .Messages }}{{ .Role }}: {{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}"
    "{{ .Content }}\n{{ end }}"
)
PLAIN = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}"
TOOLS = (
    "{{ range .Tools }}{{ . }}\n{{ end }}{{ range .Messages }}{{ .Role }}: {{ .Content }}{{ if .ToolCalls }}"
    '<tool_call>{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}{{ end }}'
    "</tool_call>{{ end }}\n{{ end }}"
    f"{{{{ if .Tools }}}}{{{{ if eq (len .Tools) 1 }}}}{WEATHER}{{{{ else }}}}{SHELL}{{{{ end }}}}{{{{ end }}}}"
)


def once(text: str) -> tuple[str, ...]:
    """The words of a text, each only the first time: the next word depends on the last one alone."""
    return tuple(dict.fromkeys(text.split()))


@dataclass(frozen=True)
class WordModel(StagedModel):
    """A staged model with words, template and licence of its own choice; the context is what Ollama chooses.

    marked: the file type that its head tells, such as F16, whatever its tensors are.
    """

    num_ctx: int | None = None
    thinks: bool = False
    licence: str = ""
    marked: str = ""

    @property
    def answer(self) -> tuple[str, ...]:
        """The words that it says unless a tool is to be called."""
        words = self.script or once(SENTENCE)
        return (*THOUGHT, *(word for word in words if word not in THOUGHT)) if self.thinks else words

    def recipe(self) -> list[Any]:
        """What the GGUF and its entry in the store are made of, as JSON."""
        return [*super().recipe(), "plain name", self.marked, self.creation(), CALLS if self.tools else {}]

    def write(self, file: Path) -> None:
        """Write the GGUF."""
        plain = self.name.encode().hex()  # llama.cpp treats some names (phi-3) in a way of their own
        write_model(file, plain, self.answer, scenes=CALLS if self.tools else {})
        if self.marked:
            mark(str(file), self.marked)

    def creation(self) -> dict[str, Any]:
        """What `/api/create` is told beside name and file."""
        template = TOOLS if self.tools else THINKING if self.thinks else PLAIN
        wish: dict[str, Any] = {"template": template, "parameters": {"stop": ["<|im_end|>"]}}
        return wish | ({"license": self.licence} if self.licence else {})

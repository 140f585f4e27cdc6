"""The `llama-quantize` of the stage, where a type is asked for: `python quantize.py FILE TYPE` marks the copy as such.

The tensors stay what they are: what Ollama reads of a quantization is the file type in the head (`general.file_type`).
"""

import sys

import gguf


def mark(file: str, kind: str) -> None:
    """Write the file type of that name into the GGUF's head, in place."""
    known = {each.name.removeprefix("MOSTLY_"): each for each in gguf.LlamaFileType}
    reader = gguf.GGUFReader(file, "r+")
    reader.fields["general.file_type"].parts[-1][0] = known[kind]
    reader.data.flush()


if __name__ == "__main__":
    mark(*sys.argv[1:3])

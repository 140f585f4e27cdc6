"""Print what tells us from Ollama now: `python -m tests.transparency [WORD …]` asks shapes whose name has a word."""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.transparency.shape import shapes
from tests.transparency.worlds import two_worlds


async def main(words: list[str]) -> None:
    """Ask, and print a line for every shape that is not equal."""
    wanted = [shape for shape in shapes() if not words or any(word in f"{shape.file} {shape.name}" for word in words)]
    with tempfile.TemporaryDirectory() as folder:
        async with two_worlds(Path(folder)) as worlds:
            began = time.monotonic()
            unequal = 0
            for shape in wanted:
                try:
                    found = [str(difference) for difference in await worlds.differences(shape)]
                except TimeoutError:
                    found = ["no answer in time"]
                unequal += bool(found)
                if found:
                    mark = f" [{shape.differs}]" if shape.differs else ""
                    sys.stdout.write(f"{shape.file}: {shape.name}{mark}\n" + "".join(f"    {line}\n" for line in found))
            seconds = time.monotonic() - began
    sys.stdout.write(f"{len(wanted)} shapes, {unequal} not equal, {seconds:.1f} s\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))

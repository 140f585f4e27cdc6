"""Make `docs/settings.md` and the JSON schema from the settings themselves: `python -m scheduler.settings_docs`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from scheduler.settings import Settings
from scheduler.settings_environment import EXEMPT, variable_of
from scheduler.settings_keys import NAME, Key, known_keys
from scheduler.settings_problems import typed
from scheduler.settings_read import documented_text

_HEAD = """# Settings

<!-- Made by `python -m scheduler.settings_docs` from scheduler/settings.py; a test keeps the two alike. -->

The configuration is one TOML file, read at start and again on `reload` or SIGHUP. Without `--config FILE` (or
`OLLAMA_SCHEDULER_CONFIG`, which is the same) it is `config.toml` in the platform's configuration folder:
`~/Library/Application Support/ollama-scheduler` on a Mac, `~/.config/ollama-scheduler` on Linux.
A file named but missing is an error; without the default file the documented one at the end of this page holds.

`ollama-scheduler init` writes a file from what Ollama lists, `config show` prints what is in force and where each value
came from, `config check` says what is wrong, `config schema` prints the JSON schema of the file.

## How a file meets the defaults

- A key that the file names counts; a key that it does not name keeps its default.
- `models`, `sets`, `phases` and `aliases` together are the routing table. Each of the four that the file names replaces
  the documented one **whole**; entries are never mixed.
- A file that names `models` starts a routing table of its own: those of `sets`, `phases` and `aliases` that it does not
  name are then empty, because the documented ones speak of models it may not have. Naming `sets` does the same to
  `phases`.
- Without any phase there is one, `normal`, which allows every set.

## Values

- **Sizes** are bytes as a whole number, or text with a unit: `"35GB"` is 35 times 10^9, `"32GiB"` is 32 times 2^30;
  also kB, MB, TB, KiB, MiB, TiB. `"35G"` could mean either and is refused.
- **Durations** are seconds as a number, or text with units: `"90s"`, `"2m"`, `"1h30m"`, `"250ms"`, `"1d"`.
- **Model names** are compared as Ollama does: case does not matter, and a name without a tag means `:latest`.
- **Names of sets and phases** are letters, digits and any of `-`, `_`, `.`.
- **An alias** is a model's name, or a table with `model` and `class`. It may lead to another alias; the first class met
  on the way counts. `claude-opus-4` is known as a paid route (503 until one can be configured) unless you give it a
  model.

## Environment

Where a variable is given below, it sets the key and wins over the file. Keys under names of your own choice
(`models`, `sets`, `phases`, `aliases`) and lists cannot be set so, and trying is an error, as is any other variable
that begins with `OLLAMA_SCHEDULER_`. Not settings, and let be:
EXEMPT.
`OLLAMA_HOST` is never read: clients use it to find us.

## Keys"""

_TAIL = "What holds without a file (`scheduler/default.toml`):\n"


def settings_page() -> str:
    """The whole of docs/settings.md."""
    parts = [_HEAD.replace("EXEMPT", ", ".join(f"`{name}`" for name in EXEMPT))]
    for table, keys in groupby(known_keys(), key=lambda key: key.path[:-1]):
        parts.append("\n".join(_table(table, list(keys))))
    return "\n".join(parts) + f"\n\n## The documented configuration\n\n{_TAIL}\n```toml\n{documented_text()}```\n"


def _table(table: tuple[str, ...], keys: list[Key]) -> Iterator[str]:
    head = f"[[{_dotted(table)}]]" if keys[0].many else f"[{_dotted(table)}]"
    yield f"\n### `{head}`\n" if table else "\n### At the top of the file\n"
    if table and keys[0].about:
        yield f"{keys[0].about}\n"
    yield "| key | value | default | environment |"
    yield "|---|---|---|---|"
    for key in keys:
        variable = f"`{variable_of(key)}`" if key.in_environment else ""
        yield f"| `{_dotted(key.path[-1:])}` | {key.kind} | {_default(key)} | {variable} |"
    yield ""
    for key in keys:
        yield f"- `{_dotted(key.path[-1:])}`: {key.sentence}"


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(f'"{part}"' if part == NAME else part for part in path)


def _default(key: Key) -> str:
    if key.required:
        return "must be given"
    return "" if key.default is None else f"`{typed(key.default)}`"


def settings_schema() -> dict[str, Any]:
    """The JSON schema of the file, for editors. What only the whole shows (loops, budget) `config check` tells."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema(by_alias=True)}


if __name__ == "__main__":
    page = Path(__file__).parents[1] / "docs" / "settings.md"
    page.write_text(settings_page(), encoding="utf-8")

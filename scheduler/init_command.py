"""`init`: ask a running Ollama what it has and write a configuration with sets that fit this machine."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import httpx
import ollama
import typer
from pydantic import TypeAdapter, ValidationError

from scheduler.ask import end
from scheduler.init_file import Found, configuration, declared, fitting_sets
from scheduler.memory import auto_budget
from scheduler.names import is_cloud, normal_name
from scheduler.settings import OllamaSettings
from scheduler.settings_problems import SettingsError, problems_of, typed
from scheduler.settings_read import default_path, settings_of
from scheduler.settings_types import Upstream
from scheduler.units import UnitError, about_size, parse_budget

Sets: TypeAlias = Mapping[str, Sequence[Found]]

NO_MODELS = 1
REFUSED = 2
CODES = (
    "Exit codes: 0 written, 1 Ollama did not answer or has no model that fits, "
    "2 refused (the file is there, a bad value)."
)

_SECONDS = 15.0  # how long one answer of Ollama may take; its first listing waits for its own cache
_STUB = 10**6  # bytes: a model smaller than this has no weights here, only the address of a remote one


def init(
    ollama_url: Annotated[
        str, typer.Option("--ollama", metavar="URL", help="Where Ollama is (OLLAMA_HOST is not read).")
    ] = "http://127.0.0.1:11434",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write; the platform's folder if not given.")
    ] = None,
    budget: Annotated[
        str, typer.Option("--budget", metavar="SIZE", help='Memory for models: "auto" or "38GB".')
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON, for a script to read.")] = False,
) -> None:
    """Write a configuration from the models Ollama lists: their sizes, and the sets that fit the budget."""
    path = out or default_path()
    try:
        if path.exists() and not force:
            raise _Refused(f"{path} is there already; --force replaces it, --out FILE writes another")
        url, budget_bytes = _address(ollama_url), _budget(budget)
        models = _listed(url)
        _some_fit(models, url, budget_bytes)
        sets = fitting_sets(models, budget_bytes, OllamaSettings().max_loaded_models)
        text = configuration(models, sets, url, budget, budget_bytes)
        settings_of(tomllib.loads(text))  # a file that would not be accepted is never written
        made = _write(path, text)
    except _NoModels as error:
        raise end(str(error), NO_MODELS, json_out) from None
    except (_Refused, SettingsError) as error:
        raise end(str(error), REFUSED, json_out) from None
    if json_out:
        typer.echo(json.dumps(_answer(path, made, url, models, sets, budget_bytes), indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(_lines(path, made, url, models, sets, budget_bytes)))


class _Refused(Exception):
    """The file is there or cannot be written, or a value is bad."""


class _NoModels(Exception):
    """Ollama did not answer, or has no model that fits."""


def _address(text: str) -> str:
    try:
        return TypeAdapter(Upstream).validate_python(text)
    except ValidationError as error:
        (problem,) = problems_of(error, {})
        raise _Refused(f"--ollama: {problem.value} {problem.problem}; {problem.mend}") from None


def _budget(text: str) -> int:
    try:
        size = parse_budget(text)
    except UnitError as error:
        raise _Refused(f"--budget: {typed(error.value)} {error.problem}; {error.mend}") from None
    return auto_budget()[0] if size is None else size


def _listed(url: str) -> list[Found]:
    """What Ollama has of its own, in its own order; models in the cloud take no memory here and are left out."""
    # A proxy from the environment is for the internet, not for an Ollama that the user names.
    with ollama.Client(host=url, timeout=_SECONDS, trust_env=False) as client:
        try:
            listed = client.list().models
            models = [
                _found(client, model.model, int(model.size))
                for model in listed
                if model.model and model.size and model.size > _STUB and not is_cloud(model.model)
            ]
        except (ConnectionError, httpx.HTTPError, ollama.ResponseError, ValueError) as error:
            raise _NoModels(
                f"no Ollama answers at {url} ({_reason(error)}); start it, or name it with --ollama"
            ) from None
    if not models:
        raise _NoModels(f"Ollama at {url} has no models of its own; `ollama pull` one first")
    return models


def _some_fit(models: Sequence[Found], url: str, budget: int) -> None:
    """Raises _NoModels where all are larger than the budget: a configuration that can serve nobody helps nobody."""
    smallest = min(models, key=lambda model: model.size)
    if declared(smallest) > budget:
        raise _NoModels(
            f"no model of the Ollama at {url} fits the budget of {about_size(budget)}: the smallest is "
            f"{smallest.name}, {about_size(smallest.size)}; --budget SIZE allows more, or `ollama pull` a smaller one"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, ollama.ResponseError):
        return f"status {error.status_code}"
    if isinstance(error, httpx.TimeoutException):
        return f"nothing within {_SECONDS:.0f} s"
    return "no connection" if isinstance(error, ConnectionError | httpx.HTTPError) else "its answer is not Ollama's"


def _found(client: ollama.Client, name: str, size: int) -> Found:
    """A model with its context: what its Modelfile sets, and what its file says it was trained for."""
    shown = client.show(name)
    set_to = re.search(r"^num_ctx\s+(\d+)\s*$", shown.parameters or "", re.MULTILINE)
    trained = (value for key, value in (shown.modelinfo or {}).items() if key.endswith(".context_length"))
    known = next(trained, None)
    return Found(normal_name(name), size, int(set_to[1]) if set_to else None, known if isinstance(known, int) else None)


def _write(path: Path, text: str) -> Path | None:
    """Write beside the place and move there, so that nothing is lost when the disk is full; the topmost of the folders
    that had to be made."""
    missing = [folder for folder in path.parents if not folder.exists()]
    beside = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise _Refused(f"{path} cannot be written ({error.strerror}); --out FILE writes another") from None
    return missing[-1] if missing else None


def _lines(path: Path, made: Path | None, url: str, models: list[Found], sets: Sets, budget: int) -> Iterator[str]:
    yield f"Ollama at {url} has {len(models)} model{'s' if len(models) > 1 else ''}; budget {about_size(budget)}"
    for model in models:
        context = f"context {model.num_ctx}" if model.num_ctx else "context as Ollama chooses"
        large = "" if declared(model) <= budget else ", LARGER THAN THE BUDGET, left out"
        yield f"  {model.name}: {about_size(model.size)}, {context}{large}"
    for name, members in sets.items():
        total = about_size(sum(declared(model) for model in members))
        yield f"set {name}: {total} ({', '.join(model.name for model in members)})"
    yield f"wrote {path}{f', for which the folder {made} was made' if made else ''}"


def _answer(path: Path, made: Path | None, url: str, models: list[Found], sets: Sets, budget: int) -> dict[str, Any]:
    return {
        "file": str(path),
        "made_folder": None if made is None else str(made),
        "ollama": url,
        "budget": budget,
        "models": [{**asdict(model), "fits": declared(model) <= budget} for model in models],
        "sets": {name: [model.name for model in members] for name, members in sets.items()},
    }

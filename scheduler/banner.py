"""What a daemon says when it has started: what it found, and a first request that works as pasted."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from scheduler.outlook import gigabytes, short

LISTEN = "127.0.0.1:11450"  # where the documented configuration listens
NO_CHAT = ("embed", "minilm", "bge-")  # in the names of models that answer no question
FITS = {
    "fits": "fits",
    "too_large": "TOO LARGE: its requests are refused",
    "no_order": "cannot be held together: Ollama's own gates let its models in in no order",
    "unknown": "not known yet",
}


def lines(status: Mapping[str, Any], listen: str = LISTEN, ask: str | None = None) -> list[str]:
    """The lines, from an answer of `GET /status`. `listen` is where clients find us, `ask` the name for the first
    request (a small installed model if it is not given)."""
    url = f"http://{listen}"
    return [
        f"ollama-scheduler {status['version']} listens on {url}",
        *_ollama(status["ollama"]),
        _memory(status["memory"]),
        *_models(status["models"]),
        *_sets(status["phase"]),
        *(f"warning   {text}" for text in status["warnings"] if not text.startswith("this is the stand-in")),
        *(f"needs you {need['what']}; type: {need['type_this']}" for need in status["needs_you"]),
        f"try       {first_request(url, ask or _name(status) or 'MODEL')}",
    ]


def first_request(url: str, name: str) -> str:
    """A command to paste: one chat with the model or alias `name`."""
    body = json.dumps({"model": name, "messages": [{"role": "user", "content": "Hello"}]}, ensure_ascii=False)
    quoted = body.replace("'", "'\\''")
    return f"curl {url}/api/chat -d '{quoted}'"


def _ollama(ollama: Mapping[str, Any]) -> Iterator[str]:
    if ollama["stand_in"]:
        yield "STAND-IN  no Ollama is behind this: every answer is made up and carries X-Scheduler-Stand-In: 1"
    what = "stand-in" if ollama["stand_in"] else "Ollama"
    match ollama["state"]:
        case "up":
            yield f"ollama    {what} {ollama['version']} at {ollama['address']}"
        case "down":
            yield f"ollama    {ollama['address']} does not answer ({ollama['error']}); requests are held meanwhile"
        case _:
            yield f"ollama    {ollama['address']} has not answered yet; requests are held meanwhile"


def _memory(memory: Mapping[str, Any]) -> str:
    if memory["budget"] is None:
        return "memory    the budget is not known yet"
    resident = " and ".join(map(short, memory["models"])) or "nothing"
    return f"memory    {gigabytes(memory['budget'])} budget ({memory['source']}); in memory now: {resident}"


def _models(models: list[Mapping[str, Any]]) -> Iterator[str]:
    for number, model in enumerate(sorted(models, key=lambda m: (-m["size"], m["name"]))):
        size = f"{gigabytes(model['size'])} {model['size_source']}" if model["size"] else "size unknown"
        trouble = f"; {model['trouble']}" if model["trouble"] else ""
        yield f"{'' if number else 'models':<9} {short(model['name'])}: {size}{trouble}"


def _sets(phase: Mapping[str, Any]) -> Iterator[str]:
    home = f", home {phase['home']}" if phase["home"] else ""
    yield f"phase     {phase['name']}{home}"
    for number, each in enumerate(phase["sets"]):
        members = " + ".join(map(short, each["models"]))
        allowed = "" if each["allowed"] else "; not in this phase"
        verdict = f"{gigabytes(each['size'])} {FITS[each['fit']]}{allowed}"
        yield f"{'' if number else 'sets':<9} {each['name']} ({members}): {verdict}"


def _name(status: Mapping[str, Any]) -> str:
    """The smallest model that can be asked a question, those of the phase's sets first; "" if none is known."""
    sets = status["phase"]["sets"]
    held = {name for each in sets for name in each["models"]}
    fitting = {name for each in sets if each["allowed"] and each["fit"] == "fits" for name in each["models"]}
    sound = [m for m in status["models"] if not m["trouble"] and (m["name"] in fitting or m["name"] not in held)]
    chatty = [model for model in sound if not any(part in model["name"] for part in NO_CHAT)]
    best = min(chatty, key=lambda m: (m["name"] not in fitting, m["size"], m["name"]), default=None)
    return short(best["name"]) if best else ""

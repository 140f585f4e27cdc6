"""What may be said with each command: one closed shape each, and errors that say what would have been right."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from scheduler.core.commands import Others
from scheduler.units import DURATION_ADVICE, UnitError, parse_duration

DAY = 24 * 3600.0
PIN, PAUSE = DAY, 30 * DAY  # seconds at most: what is forgotten must end by itself
NAMES = 200  # characters of an owner's name


class Wrong(ValueError):
    """A value that cannot stand; `right` says what would have been."""

    def __init__(self, problem: str, right: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.right = right


class Bad(Exception):
    """A body that cannot be followed; `problems` has an entry for each field that is wrong."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        self.problems = problems
        super().__init__("; ".join(map(_sentence, problems)))


def _length(value: object) -> float:
    try:
        seconds = parse_duration(value)
    except UnitError as error:
        raise Wrong(error.problem, error.mend) from None
    if seconds <= 0:
        raise Wrong("is no time at all", DURATION_ADVICE)
    return seconds


def _a_day(seconds: float) -> float:
    if seconds > PIN:
        raise Wrong("is longer than a day", 'write "24h" or less')
    return seconds


def _a_month(seconds: float) -> float:
    if seconds > PAUSE:
        raise Wrong("is longer than 30 days", 'write "30d" or less, or leave it out: then `resume` ends it')
    return seconds


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Wrong("is not a name", "write a name as text")
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair: no journal and no Ollama can be told of it
        raise Wrong("is not UTF-8 text", "write a name as text") from None
    return value.strip()


def _owner(value: object) -> str:
    if not isinstance(value, str) or len(value) > NAMES or not value.isprintable():
        raise Wrong("is not somebody's name", f"write who asks, as printable text of at most {NAMES} characters")
    return value.strip()


Text = Annotated[str, BeforeValidator(_text)]
ADay = Annotated[float, BeforeValidator(_length), AfterValidator(_a_day)]
AMonth = Annotated[float, BeforeValidator(_length), AfterValidator(_a_month)]


class Body(BaseModel):
    """What every command may say: who asks."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    by: Annotated[str, BeforeValidator(_owner)] = ""


class PhaseBody(Body):
    """`phase`."""

    phase: Text


class PinBody(Body):
    """`pin`: `for` how long, and what becomes of those it keeps out."""

    model: Text
    for_: ADay = Field(alias="for")
    others: Others = "wait"


class ModelBody(Body):
    """`unpin`, `load`."""

    model: Text


class UnloadBody(Body):
    """`unload`: one model, or all of them."""

    model: Annotated[str, BeforeValidator(_text)] | None = None
    all: bool = False


class PauseBody(Body):
    """`pause`: `for` how long, or until somebody resumes."""

    for_: AMonth | None = Field(default=None, alias="for")
    others: Others = "wait"


class RequestBody(Body):
    """`cancel`: the id that /status shows."""

    request: Text


class SwitchBody(Body):
    """`passthrough`, `quiet`."""

    on: bool


SHAPES: dict[str, type[Body]] = {
    "phase": PhaseBody,
    "pin": PinBody,
    "unpin": ModelBody,
    "load": ModelBody,
    "unload": UnloadBody,
    "pause": PauseBody,
    "resume": Body,
    "cancel": RequestBody,
    "passthrough": SwitchBody,
    "quiet": SwitchBody,
    "reload": Body,
}
"""The shape of each command's body."""

_RIGHT = {
    "by": "who asks, as text",
    "phase": "a phase of the configuration, as text",
    "model": "a model or an alias, as text",
    "for": DURATION_ADVICE,
    "others": '"wait" or "refuse"',
    "all": "true or false",
    "request": "a request's id, as /status shows it",
    "on": "true or false",
}


def read(command: str, raw: bytes) -> Body:
    """The body of `command`; nothing at all is an empty one. Raises Bad."""
    shape = SHAPES[command]
    try:
        content = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError):
        raise Bad([_problem("body", raw[:100].decode("utf-8", "replace"), "is not JSON", _whole(shape))]) from None
    if not isinstance(content, dict):
        raise Bad([_problem("body", content, "is not an object", _whole(shape))])
    try:
        return shape.model_validate(content)
    except ValidationError as error:
        raise Bad([_found(dict(each), shape) for each in error.errors(include_url=False)]) from None


def _found(found: dict[str, Any], shape: type[Body]) -> dict[str, Any]:
    """One of pydantic's errors in our words."""
    field = str(found["loc"][0]) if found["loc"] else "body"
    reason = found.get("ctx", {}).get("error")
    if isinstance(reason, Wrong):
        return _problem(field, found["input"], reason.problem, reason.right)
    if found["type"] == "missing":
        return _problem(field, None, "is missing", _RIGHT[field])
    if found["type"] == "extra_forbidden":
        return _problem(field, found["input"], "is not known here", _whole(shape))
    return _problem(field, found["input"], "cannot be used", _RIGHT[field])


def _whole(shape: type[Body]) -> str:
    """What the body may hold."""
    names = [each.alias or name for name, each in shape.model_fields.items()]
    return f"a JSON object with {', '.join(sorted(names))}"


def _problem(field: str, value: Any, problem: str, right: str) -> dict[str, Any]:
    return {"field": field, "value": value, "problem": problem, "right": right}


def _sentence(problem: dict[str, Any]) -> str:
    value = "" if problem["value"] is None else f" {json.dumps(problem['value'], ensure_ascii=False)[:100]}"
    return f"{problem['field']}{value} {problem['problem']}; right is: {problem['right']}"

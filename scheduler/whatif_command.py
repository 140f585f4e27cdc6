"""`whatif`: recorded demand under another policy, budget or phase: would it have been better?"""

import json
import math
import shlex
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from scheduler import residency_picture as picture, simulated_tables as tables, whatif as again
from scheduler.ask import ConfigOption, NoJournal, Silent, UrlOption, end, journals
from scheduler.recorded import BadJournal, Recorded, first_moment, read
from scheduler.recorded_jobs import jobs_of, measured
from scheduler.simulated_host import NoHost, asked_budget
from scheduler.simulated_options import BudgetOption, JsonOption, PhaseOption, PolicyOption
from scheduler.simulated_policies import checked_policies
from scheduler.simulator.workload import Job, write
from scheduler.units import UnitError, format_size, parse_duration

PAST, BAD = 1, 2
CODES = (
    "Exit codes: 0 told, 1 somebody would have waited past the stated bound or would not have been served, "
    "2 something given cannot be used, or nothing was asked in that time."
)
DAYS = {"today": 0, "yesterday": 1}  # days ago
ADVICE = 'write "today", "yesterday", a day such as 2026-11-23, a moment such as 2026-11-23T14:00, or a time such as 6h'


class NoTrace(Exception):
    """The demand cannot be saved; the message says what would be right."""


class NoTime(Exception):
    """A stretch of time that cannot be looked at; the message says what would be right."""


UNUSABLE = (BadJournal, NoHost, NoTime, NoTrace, UnitError, picture.NoPicture, OSError, Silent, NoJournal)


def whatif(
    journal: Annotated[
        list[Path] | None,
        typer.Option("--journal", metavar="FILE", help="A journal file; the daemon's own if none is given."),
    ] = None,
    day: Annotated[
        str | None, typer.Option("--day", metavar="DAY", help="One day: yesterday (unless said otherwise) or a date.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="From then until now: a day, a moment, or so long ago."),
    ] = None,
    policy: PolicyOption = None,
    budget: BudgetOption = None,
    phase: PhaseOption = None,
    picture_file: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Draw what was in memory when: .svg, .png or .pdf.")
    ] = None,
    save_trace: Annotated[
        Path | None, typer.Option("--save-trace", metavar="FILE", help="Write the demand, nameless, for `simulate`.")
    ] = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    json_out: JsonOption = False,
) -> None:
    """Play what was asked on a day again, under another policy, budget or phase: would it have been better?

    A request that came within five minutes of the end of its session's last one follows that again, with the same
    pause; any other comes at its own time. Services and load seconds are those that were measured. No name of a client,
    no key and no word of a prompt is in a journal, nor in what this writes. Where the policy states a bound, every wait
    that is played is held to it; one past it is an error, exit code 1. So is a request that would not have been served.
    """
    try:
        if picture_file is not None:
            picture.check(picture_file)
        changes = _changes(policy, budget, phase)
        if journal and url is not None:
            raise NoTime("--journal and --url say two different things; give one")
        recorded = _recorded(journal or journals(url, config, json_out), journal is not None, day, since)
        jobs = jobs_of(recorded)
        courses = [again.past(recorded), *(again.course(recorded, jobs, change) for change in changes)]
        if save_trace is not None:
            _save(jobs, save_trace)
        if picture_file is not None:
            picture.draw(picture_file, courses, recorded.begin, recorded.end - recorded.begin)
    except UNUSABLE as error:
        raise end(str(error), BAD, json_out) from None
    if json_out:
        content = _content(recorded, jobs, courses)
        content |= {} if save_trace is None else {"simulate": _not_saved(recorded)}
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        _show(recorded, jobs, courses)
        if save_trace is not None:
            typer.echo("\n".join(_to_simulate(recorded, save_trace)))
    if any(course.result.past_bound or course.result.unserved for course in courses):
        raise typer.Exit(PAST)


def _save(jobs: Sequence[Job], file: Path) -> None:
    """Write the demand. Raises NoTrace."""
    try:
        write(jobs, file)
    except OSError as error:
        raise NoTrace(f"--save-trace {file}: cannot be written: {error.strerror or error}; name another file") from None


def _not_saved(recorded: Recorded) -> dict[str, Any]:
    """What was measured that a workload does not hold: the seconds of loads and unloads, slots, budget and phase."""
    models = {
        model.name: {"load": round(model.load, 3), "unload": round(model.unload, 3), "parallel": model.parallel}
        for model in measured(recorded).values()
    }
    return {
        "budget": recorded.budget,
        "gates": True,
        "phase": recorded.phase or recorded.config.phase,
        "models": models,
    }


def _to_simulate(recorded: Recorded, file: Path) -> Iterator[str]:
    """How to simulate what was saved as it was measured."""
    lacks = _not_saved(recorded)
    yield f"{file} holds the demand alone. With the budget and the phase as they were:"
    words = ["ollama-scheduler", "simulate", "--trace", str(file), "--phase", lacks["phase"], "--gates"]
    yield f"  {shlex.join([*words, *(['--budget', format_size(recorded.budget)] if recorded.budget else [])])}"
    yield "and with loads as they were measured, if the configuration says:"
    for name, model in lacks["models"].items():
        yield f"  [simulate.models.{json.dumps(name, ensure_ascii=False)}]"
        yield from (f"  {key} = {value}" for key, value in model.items())


def _changes(policies: list[str] | None, budget: str | None, phase: str | None) -> list[again.Change]:
    """As it was, then everything that is asked for."""
    size = None if budget is None else asked_budget(budget)[0]
    changes = [again.Change()]
    for name in checked_policies(policies) if policies else [None]:
        changes.append(again.Change(name, size, phase))
    return list(dict.fromkeys(changes))


def _recorded(files: Sequence[Path], named: bool, day: str | None, since: str | None) -> Recorded:
    """What was asked in that time. Raises NoTime where that is nothing."""
    begin, end = _stretch(files, named, day, since)
    recorded = read(files, begin, end)
    if not recorded.served:
        first = min(map(first_moment, files))
        stretch = f"from {_shown(begin)} {'on' if end == math.inf else f'until {_shown(end)}'}"
        usual = " (yesterday, since no other day is named; for today add --since today)"
        chosen = "" if day or since or named else usual
        raise NoTime(f"nobody asked for anything {stretch}{chosen}; the journal begins at {_shown(first)}")
    return recorded


def _stretch(files: Sequence[Path], named: bool, day: str | None, since: str | None) -> tuple[float, float]:
    """Begin and end, in seconds since 1970. Files that are named are taken whole where no time is."""
    if day is not None and since is not None:
        raise NoTime("--day and --since say two different things; give one")
    if since is not None:
        return _moment(since), math.inf
    if day is None and named:
        return min(map(first_moment, files)), math.inf
    chosen = _day(day or "yesterday")
    if chosen is None:
        raise NoTime(f'--day {day!r} is no day; write "today", "yesterday" or a date such as 2026-11-23')
    return _midnight(chosen), _midnight(chosen + timedelta(days=1))


def _day(text: str) -> date | None:
    if text in DAYS:
        return datetime.now().astimezone().date() - timedelta(days=DAYS[text])
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _midnight(day: date) -> float:
    return datetime.combine(day, time()).astimezone().timestamp()


def _moment(text: str) -> float:
    """Seconds since 1970. Raises NoTime."""
    chosen = _day(text)
    if chosen is not None:
        return _midnight(chosen)
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        pass
    try:
        return datetime.now().astimezone().timestamp() - parse_duration(text)
    except UnitError:
        raise NoTime(f"--since {text!r} is no time; {ADVICE}") from None


def _shown(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M")


def _show(recorded: Recorded, jobs: Sequence[Job], courses: Sequence[again.Course]) -> None:
    out = tables.console()
    results = [course.result for course in courses]
    closed = sum(bool(job.after) for job in jobs)
    out.print(f"{_shown(recorded.begin)} to {_shown(recorded.end)}: {len(jobs)} requests, {closed} after another")
    for text in _left_out(recorded):
        out.print(text, soft_wrap=True)
    out.print(tables.table(results, "as it was, and as it would have been"))
    was, simulated, *others = results
    off = again.margin(recorded, was, simulated)
    if text := again.doubt(was, simulated, off):
        out.print(f"careful: {text}", soft_wrap=True)
    for other in others:
        out.print(again.verdict(simulated, other, off), soft_wrap=True)
    if not others:
        out.print("nothing else was asked about: add --policy, --budget or --phase to see whether that would be better")
    for result in results:
        for text in tables.remarks(result):
            out.print(text, soft_wrap=True)
        for note in result.notes:
            out.print(f"{result.policy}: {note}", soft_wrap=True)


def _left_out(recorded: Recorded) -> list[str]:
    """What the demand that is played lacks."""
    parts = [
        (recorded.refused, "were refused"),
        (recorded.hung_up, "hung up before they were served"),
        (recorded.cut_off, "were cut off by an end of the daemon"),
    ]
    told = [f"{count} {what}" for count, what in parts if count]
    texts = [f"left out: requests of which {', '.join(told)}"] if told else []
    if recorded.commands:
        text = f"left out: {recorded.commands} commands of a person (pins, pauses, loads, unloads)"
        count, seconds = again.ordered(recorded)
        if count:
            text += f", though the {count} loads ({seconds:.0f} s) that they ordered count in how it was"
        texts.append(f"{text}; phases are entered when they were then, unless --phase is given")
    return texts


def _content(recorded: Recorded, jobs: Sequence[Job], courses: Sequence[again.Course]) -> dict[str, Any]:
    was, simulated, *others = (course.result for course in courses)
    off, (count, seconds) = again.margin(recorded, was, simulated), again.ordered(recorded)
    return {
        "from": datetime.fromtimestamp(recorded.begin).astimezone().isoformat(),
        "to": datetime.fromtimestamp(recorded.end).astimezone().isoformat(),
        "requests": len(jobs),
        "left_out": {
            "refused": recorded.refused,
            "hung_up": recorded.hung_up,
            "cut_off": recorded.cut_off,
            "commands": recorded.commands,
            "ordered_loads": count,
            "ordered_load_seconds": seconds,
        },
        "careful": again.doubt(was, simulated, off),
        "as_it_was": tables.content(was),
        "simulated_as_it_was": tables.content(simulated),
        "would_have_been": [
            {**tables.content(other), "verdict": again.verdict(simulated, other, off)} for other in others
        ],
    }

"""`status`: what the daemon is doing, in at most twelve lines a person reads at a glance, in one line, or as JSON."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from scheduler.ask import DOWN, ConfigOption, JsonOption, Silent, UrlOption, ask, end, place
from scheduler.outlook import gigabytes, short

NEEDS_YOU = 1
CODES = "Exit codes: 0 fine, 1 it needs you, 2 the daemon does not answer."
COLOURS = {"ok": "green", "busy": "cyan", "changing": "yellow", "paused": "blue", "degraded": "magenta"}
ALARM = "red"  # stuck, down, passthrough
SHOWN_NEEDS = 2
SHOWN_MODELS = 3
SHOWN_WARNINGS = 3
MOST = 12  # lines in all
BAR = 24  # cells of the memory bar


def status(
    url: UrlOption = None,
    config: ConfigOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every second, until Ctrl-C.")] = False,
    line: Annotated[bool, typer.Option("--line", help="One short line, for a shell prompt.")] = False,
    json_out: JsonOption = False,
) -> None:
    """Say what the daemon is doing and whether it needs you."""
    where = place(url, config, json_out)
    if watch and json_out:
        raise end("--watch draws a screen for people; with --json ask once for each object", DOWN, True)
    if watch:
        raise typer.Exit(_watch(where))
    answer = _answer(where)
    if json_out:
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    elif line:
        typer.echo(one_line(answer))
    else:
        console = Console(highlight=False)
        for text in lines(answer):
            if console.is_terminal:
                matters = text.plain.startswith((answer["verdict"].upper(), "needs you", "ollama "))
                console.print(text, no_wrap=not matters, overflow="fold" if matters else "ellipsis")
            else:  # nobody looks at a screen: no line is cut
                console.print(text, soft_wrap=True)
    raise typer.Exit(exit_code(answer))


def exit_code(answer: Mapping[str, Any]) -> int:
    """0 fine, 1 needs you, 2 down."""
    if answer["verdict"] == "down":
        return DOWN
    return NEEDS_YOU if answer["needs_you"] or answer["verdict"] == "stuck" else 0


def one_line(answer: Mapping[str, Any]) -> str:
    """The verdict, what is resident, and who waits, as short as a prompt wants it."""
    if answer["verdict"] == "down":
        return "ollama-scheduler down"
    parts = [str(answer["verdict"])]
    change = answer["transition"]
    if change is not None:
        what = change["load"] or change["leave"]
        parts.append(f"{change['stage']} {'+'.join(map(short, what))} {change['elapsed']:.0f}s")
    else:
        parts.append("+".join(map(short, answer["memory"]["models"])) or "empty")
    if answer["running"] or answer["waiting"]:
        parts.append(f"{answer['running']} running {answer['waiting']} waiting")
    if answer["needs_you"]:
        parts.append("needs you")
    return ", ".join(parts)


def lines(answer: Mapping[str, Any]) -> Iterator[Text]:
    """At most twelve lines: where there is more to tell, warnings make room."""
    rows = list(_rows(answer))
    if answer["verdict"] != "down":
        rows += _warnings(answer["warnings"], MOST - len(rows))
    yield from rows


def _rows(answer: Mapping[str, Any]) -> Iterator[Text]:
    verdict = answer["verdict"]
    yield Text.assemble((verdict.upper(), f"bold {COLOURS.get(verdict, ALARM)}"), "  ", _headline(answer))
    if verdict == "down":
        return
    yield from _needs(answer["needs_you"], answer["headline"])
    yield _ollama(answer)
    yield _memory(answer["memory"])
    yield from _models(answer["models"], {pin["model"]: pin for pin in answer["pins"]})
    if answer["transition"] is not None:
        yield _transition(answer["transition"])
    hour = answer["counters"]["hour"]
    yield Text(
        f"hour      {hour['changes']} changes, {hour['seconds_loading']:.0f} s lost to loads, "
        f"{hour['probes_absorbed']} probes absorbed, worst wait {hour['worst_wait']:.0f} s"
    )
    if answer["decisions"]:
        last = answer["decisions"][0]
        subject = " ".join(filter(None, (last["order"], short(last["model"]) or last["request"])))
        yield Text(f"last      {subject}, {_ago(last['age'])} ago: {last['because']}")


def _headline(answer: Mapping[str, Any]) -> str:
    return str(answer["headline"]).removeprefix("PASSTHROUGH is ")  # the verdict before it says that word


def _needs(needs: list[Mapping[str, Any]], headline: str) -> Iterator[Text]:
    """What to type and why; not again why where the headline says it."""
    more = len(needs) - SHOWN_NEEDS
    for number, need in enumerate(needs[:SHOWN_NEEDS], 1):
        rest = f"  (and {more} more: --json)" if more > 0 and number == SHOWN_NEEDS else ""
        command = (need["type_this"], "bold")  # first: a narrow screen cuts what comes last
        because = "" if headline.startswith(need["what"]) else f"  because: {need['what']}"
        yield Text.assemble(("needs you ", "bold red"), "type: ", command, because, rest)


def _ollama(answer: Mapping[str, Any]) -> Text:
    ollama = answer["ollama"]
    name = "stand-in, no real Ollama," if ollama["stand_in"] else "Ollama"
    version = f" {ollama['version']}" if ollama["version"] else ""
    phase = answer["phase"]
    home = f", home {phase['home']}" if phase["home"] else ""
    quiet = ", quiet" if answer["quiet"] else ""
    then = answer["scheduled"]
    soon = f"; {then['what']} in {_ago(then['left'])}" if then is not None else ""
    where = f"{name}{version} at {ollama['address']} is {ollama['state']}"
    return Text(f"ollama    {where}; phase {phase['name']}{home}, policy {answer['policy']}{quiet}{soon}")


def _memory(memory: Mapping[str, Any]) -> Text:
    budget, promised = memory["budget"], memory["promised"]
    if not budget:
        return Text(f"memory    {gigabytes(promised)} promised; the budget is not known yet")
    filled = min(BAR, round(BAR * promised / budget))
    orphans = f", {gigabytes(memory['orphans'])} of it orphans" if memory["orphans"] else ""
    bar = Text.assemble(("█" * filled, "cyan" if promised <= budget else "red"), ("░" * (BAR - filled), "dim"))
    short_of = f", {memory['pressure']}: of {gigabytes(memory['whole'])}" if budget < (memory["whole"] or 0) else ""
    numbers = f" {promised / 1e9:.1f} of {gigabytes(budget)} ({memory['source']}{short_of}){orphans}"
    return Text.assemble("memory    ", bar, numbers)


def _models(models: list[Mapping[str, Any]], pins: Mapping[str, Mapping[str, Any]]) -> Iterator[Text]:
    """Those in memory, then those somebody waits for or has pinned; what is left is counted."""
    telling = [m for m in models if m["state"] != "absent" or m["waiting"] or m["preloads"] or m["name"] in pins]
    telling.sort(key=lambda m: (m["state"] == "absent", -m["waiting"], m["name"] not in pins))
    more = len(telling) - SHOWN_MODELS
    for number, model in enumerate(telling[:SHOWN_MODELS], 1):
        rest = f"  (and {more} more: --json)" if more > 0 and number == SHOWN_MODELS else ""
        slots = f"{model['running']} of {model['parallel']} slots, " if model["state"] != "absent" else ""
        trouble = f"; {model['trouble']}" if model["trouble"] else ""
        pin = pins.get(model["name"])
        pinned = f", pinned by {pin['owner']} for {_ago(pin['left'])}" if pin else ""
        place = f"{short(model['name'])} {model['state']}"
        text = f"model     {place}, {slots}{model['waiting']} waiting{pinned}{trouble}{rest}"
        yield Text(text)


def _transition(transition: Mapping[str, Any]) -> Text:
    least, most = transition["expected"]
    load = " and ".join(map(short, transition["load"])) or "nothing"
    leave = " and ".join(map(short, transition["leave"])) or "nothing"
    time_text = f"{transition['elapsed']:.0f} s of {least:.0f} to {most:.0f} s"
    text = f"{transition['stage']}, {leave} out, {load} in, {time_text}: {transition['because']}"
    return Text.assemble(("change    ", "yellow"), text)


def _warnings(warnings: list[str], room: int) -> Iterator[Text]:
    """The first few; that it is the stand-in stands in the line of Ollama."""
    telling = [text for text in warnings if not text.startswith("this is the stand-in")]
    shown = min(SHOWN_WARNINGS, room)
    more = len(telling) - shown
    for number, text in enumerate(telling[:shown], 1):
        rest = f"  (and {more} more: --json)" if more > 0 and number == shown else ""
        yield Text.assemble(("warning   ", "yellow"), text, rest)


def _ago(seconds: float) -> str:
    """An age for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _answer(where: str) -> dict[str, Any]:
    """The daemon's answer, or one that says it is down."""
    try:
        return ask(where, "/status", knows={"verdict"})
    except Silent as error:
        return {"verdict": "down", "headline": str(error), "needs_you": [], "error": str(error)}


def _watch(where: str) -> int:
    """Show it until Ctrl-C; the exit code of what was shown last."""
    answer = _answer(where)
    console = Console(highlight=False)
    try:
        with Live(_page(answer), console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                time.sleep(1.0)
                answer = _answer(where)
                live.update(_page(answer), refresh=True)
    except KeyboardInterrupt:
        return exit_code(answer)


def _page(answer: Mapping[str, Any]) -> Text:
    return Text("\n").join(lines(answer))

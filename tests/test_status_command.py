"""`status` and `why` at the command line: a few lines for people, JSON for scripts, and exit codes for both."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import typer
from typer.testing import CliRunner, Result

from scheduler.__main__ import command_line
from scheduler.core import messages as m
from scheduler.core.machine import Machine
from scheduler.ledger import Ledger
from scheduler.status import Surroundings, build
from scheduler.status_command import exit_code, lines, one_line, status
from scheduler.why import why as would
from scheduler.why_command import why
from tests.played import CONFIG, FAST, QUALITY, SIZES, Play

app = typer.Typer()
app.command()(status)
app.command()(why)
WALL = 1_700_000_000.0


def answer_of(machine: Machine, ledger: Ledger, after: float = 0.0, warnings: tuple[str, ...] = ()) -> dict[str, Any]:
    """What /status of a daemon in this state says."""
    around = Surroundings("0.1.0", "http://127.0.0.1:11434", 1000.0, warnings)
    return dict(build(machine.state, machine.state.at + after, WALL, {}, ledger, around))


def busy(seed: int = 3, seconds: float = 500.0) -> tuple[Machine, Ledger]:
    """A core in the middle of a lively play."""
    play, ledger = Play(seed), Ledger()
    play.witnesses.append(ledger.note)
    play.begin()
    play.demand(300, 1000.0)
    play.run(until=1000.0 + seconds)
    return play.machine, ledger


def needy() -> tuple[Machine, Ledger]:
    """A core whose Ollama is away while somebody waits."""
    play, ledger = Play(), Ledger()
    play.witnesses.append(ledger.note)
    play.begin()
    play.post(m.Arrived(play.at, "r1", QUALITY))
    play.post(m.OllamaDown(play.at, "connection refused"))
    return play.machine, ledger


@contextmanager
def daemon(routes: dict[str, Callable[[str], Any]]) -> Iterator[str]:
    """Something on loopback that answers these routes with JSON; gives its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = urlsplit(self.path)
            route = routes.get(place.path)
            model = parse_qs(place.query).get("model", [""])[0]
            body = json.dumps(route(model)).encode() if route else b"404 page not found"
            self.send_response(200 if route else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run(*words: str) -> Result:
    """One call of the command line."""
    return CliRunner().invoke(app, list(words))


def test_fine() -> None:
    """A daemon at work: exit 0, the headline first, its models and memory below."""
    machine, ledger = busy()
    answer = answer_of(machine, ledger)
    assert answer["needs_you"] == []
    with daemon({"/status": lambda _: answer}) as url:
        result = run("status", "--url", url)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"{answer['verdict'].upper()}  {answer['headline']}"
    assert "of 38.0 GB (memory.budget)" in result.stdout
    assert "http://127.0.0.1:11434" in result.stdout


@pytest.mark.parametrize("seconds", range(50, 1000, 50))
def test_at_most_twelve_lines(seconds: int) -> None:
    """Whatever is going on, and with every kind of line there is, it is twelve lines at most."""
    machine, ledger = busy(seed=seconds, seconds=float(seconds))
    answer = answer_of(machine, ledger, warnings=("one", "two"))
    answer["needs_you"] = [{"what": f"need {n}", "since": "", "type_this": "x"} for n in range(4)]
    page = [text.plain for text in lines(answer)]
    assert len(page) <= 12
    assert all("\n" not in line for line in page)
    assert any("and 2 more" in line for line in page)


def test_warnings_that_matter_are_shown() -> None:
    """Up to three warnings, and not that this is the stand-in, which another line says; the rest is counted."""
    machine, ledger = busy()
    answer = answer_of(machine, ledger)
    answer["warnings"] = ["this is the stand-in, no real Ollama", "one", "two", "three", "four"]
    answer["decisions"], answer["models"], answer["transition"] = [], [], None
    page = [text.plain for text in lines(answer)]
    assert page[-3:] == ["warning   one", "warning   two", "warning   three  (and 1 more: --json)"]


def test_passthrough_is_said_once() -> None:
    """The verdict's own word does not begin the sentence beside it."""
    machine, ledger = busy()
    answer = answer_of(machine, ledger) | {
        "verdict": "passthrough",
        "headline": "PASSTHROUGH is on, by ada; 0 running.",
    }
    assert next(lines(answer)).plain == "PASSTHROUGH  on, by ada; 0 running."


def test_what_is_scheduled_is_in_the_line_of_the_phase() -> None:
    """Whether it is quiet, and what changes next in how long; how much of the budget pressure leaves."""
    machine, ledger = busy()
    answer = answer_of(machine, ledger)
    assert not any("quiet" in text.plain for text in lines(answer))
    answer["quiet"] = "quiet hours: 22:00 to 07:00"
    answer["scheduled"] = {"at": "2026-01-05T08:00:00Z", "left": 7200.0, "what": "phase work", "by": "schedule: 9:00"}
    answer["memory"] |= {"whole": 2 * answer["memory"]["budget"], "pressure": "critical"}
    page = [text.plain for text in lines(answer)]
    assert any(line.endswith(", policy default, quiet; phase work in 2 h") for line in page)
    assert any(", critical: of 76.0 GB)" in line for line in page)


def test_needs_you() -> None:
    """Where a person is needed: exit 1, what, and the command to type."""
    machine, ledger = needy()
    with daemon({"/status": lambda _: answer_of(machine, ledger)}) as url:
        result = run("status", "--url", url)
    assert result.exit_code == 1
    assert "type: ollama serve" in result.stdout
    assert "connection refused" in result.stdout


def test_down() -> None:
    """Where nothing listens: exit 2 and the address that was asked."""
    with daemon({}) as url:
        pass
    result = run("status", "--url", url)
    assert result.exit_code == 2
    assert url in result.stdout
    assert len(result.stdout.splitlines()) == 1


def test_something_else_answers() -> None:
    """An Ollama (or anything else) at that address is not mistaken for us."""
    with daemon({"/status": lambda _: ["no object of ours"]}) as other, daemon({}) as ollama:
        for url in (other, ollama):
            result = run("status", "--url", url)
            assert result.exit_code == 2
            assert "something else answers" in result.stdout


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://[", "not a host at all"])
def test_a_bad_address(url: str) -> None:
    """An address that is none is told as such, with no traceback."""
    result = run("status", "--url", url)
    assert result.exit_code == 2
    assert "no scheduler answers" in result.stdout


def test_json() -> None:
    """`--json` prints the daemon's answer unchanged, with the same exit code; down is an answer too."""
    machine, ledger = needy()
    answer = answer_of(machine, ledger)
    with daemon({"/status": lambda _: answer}) as url:
        result = run("status", "--url", url, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, answer)
    down = run("status", "--url", url, "--json")
    assert (down.exit_code, json.loads(down.stdout)["verdict"]) == (2, "down")
    both = run("status", "--url", url, "--json", "--watch")
    assert (both.exit_code, "ask once for each" in json.loads(both.stdout)["error"]) == (2, True)


def test_line() -> None:
    """`--line` is one short line for a prompt, in every state."""
    machine, ledger = needy()
    with daemon({"/status": lambda _: answer_of(machine, ledger)}) as url:
        result = run("status", "--url", url, "--line")
    assert (result.exit_code, result.stdout) == (1, "stuck, empty, 0 running 1 waiting, needs you\n")
    assert run("status", "--url", url, "--line").stdout == "ollama-scheduler down\n"


def test_line_while_changing() -> None:
    """During a change the prompt shows its stage, its model and for how long."""
    play, ledger = Play(), Ledger()
    play.begin()
    play.run(until=play.at + 1.0)
    play.post(m.Arrived(play.at, "r1", QUALITY))
    line = one_line(answer_of(play.machine, ledger, after=3.0))
    assert line == "changing, loading qwen-quality-128k 3s, 0 running 1 waiting"


def test_the_address_is_the_configured_one(tmp_path: Path) -> None:
    """Without `--url` the daemon is looked for where the configuration has it listen."""
    machine, ledger = busy()
    with daemon({"/status": lambda _: answer_of(machine, ledger)}) as url:
        file = tmp_path / "config.toml"
        file.write_text(f'listen = "{url.removeprefix("http://")}"\n')
        assert run("status", "--config", str(file)).exit_code == 0
    missing = run("status", "--config", str(tmp_path / "none.toml"))
    assert missing.exit_code == 2
    assert "none.toml" in missing.stderr
    assert missing.stdout == ""


JSON_TOO = ["status", "why m", "reload", "pin m --for 1h", "bounds", "config check", "journal verify", "whatif"]


@pytest.mark.parametrize("command", JSON_TOO)
def test_an_error_is_json_too(command: str, tmp_path: Path) -> None:
    """With --json a script finds one JSON object on stdout whose `error` says what went wrong: no such file, no daemon,
    a word that nobody understands."""
    words = [*command.split(), "--json"]
    told = {"--config": "none.toml", "--url": "no scheduler answers", "--nonsense": "No such option"}
    if command.startswith("config"):  # it asks no daemon
        del told["--url"]
    given = {"--config": [str(tmp_path / "none.toml")], "--url": ["http://127.0.0.1:9"]}
    for where, says in told.items():
        result = CliRunner().invoke(command_line([]), [*words, where, *given.get(where, [])])
        assert (result.exit_code, result.stderr) == (2, "")
        assert says in json.loads(result.stdout)["error"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("pin m --json", "Missing option '--for'"),
        ("pin --for 1h --json", "Missing argument"),
        ("passthrough maybe --json", "neither on nor off"),
        ("statsu --json", "No such command 'statsu'"),
        ("--nonsense status --json", "No such option"),
    ],
)
def test_a_command_line_that_nobody_understands_is_told_as_json(line: str, says: str) -> None:
    """With --json that is an `error` too, exit code 2; without it, a usage for people."""
    result = CliRunner().invoke(command_line([]), line.split())
    assert (result.exit_code, result.stderr) == (2, "")
    assert says in json.loads(result.stdout)["error"]
    plain = CliRunner().invoke(command_line([]), line.removesuffix(" --json").split())
    assert (plain.exit_code, plain.stdout) == (2, "")
    assert "Usage:" in plain.stderr


def test_why_is_not_said_twice() -> None:
    """Where the headline says what is wrong, the line below only says what to type."""
    machine, ledger = needy()
    answer = answer_of(machine, ledger)
    told = [text.plain for text in lines(answer)]
    assert told[0].startswith("STUCK  Ollama at http://127.0.0.1:11434 does not answer")
    assert told[1] == "needs you type: ollama serve"
    answer["needs_you"].append({"what": "Something else", "type_this": "mend", "since": answer["at"]})
    assert [text.plain for text in lines(answer)][2] == "needs you type: mend  because: Something else"


def test_the_version() -> None:
    """`--version` says it in one word, and no command is looked for."""
    result = CliRunner().invoke(command_line(["--version"]), ["--version"])
    assert (result.exit_code, result.stdout.strip()) == (0, version("ollama-scheduler"))


@pytest.mark.parametrize("wrong", ["frob = 1\n", "queue = [\n", "[queue]\nlimit = 0\n"])
def test_a_bad_configuration_locks_nobody_out(tmp_path: Path, wrong: str) -> None:
    """A daemon that runs on an older configuration is found by `listen` of one that is bad now, which is told."""
    machine, ledger = busy()
    with daemon({"/status": lambda _: answer_of(machine, ledger)}) as url:
        file = tmp_path / "config.toml"
        file.write_text(f'listen = "{url.removeprefix("http://")}"\n{wrong}')
        result = run("status", "--line", "--config", str(file))
    assert result.exit_code == 0, result.output
    assert "config.toml cannot be used" in result.stderr
    assert "cannot be used" not in result.stdout


def test_a_stray_variable_locks_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that sets nothing is told, and the one that says where the daemon listens still counts."""
    machine, ledger = busy()
    monkeypatch.setenv("OLLAMA_SCHEDULER_FROB", "1")
    with daemon({"/status": lambda _: answer_of(machine, ledger)}) as url:
        monkeypatch.setenv("OLLAMA_SCHEDULER_LISTEN", url.removeprefix("http://"))
        result = run("status")
    assert result.exit_code == 0, result.output
    assert "OLLAMA_SCHEDULER_FROB" in result.stderr


def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment does not come between us and our own daemon."""
    machine, ledger = busy()
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with daemon({"/status": lambda _: answer_of(machine, ledger)}) as url:
        assert run("status", "--url", url).exit_code == 0


def test_names_are_not_markup() -> None:
    """A name or error with brackets is shown as it is."""
    machine, ledger = needy()
    answer = answer_of(machine, ledger)
    answer["headline"] = "[red]a name[/red] [/nonsense]"
    with daemon({"/status": lambda _: answer}) as url:
        assert "[red]a name[/red] [/nonsense]" in run("status", "--url", url).stdout


def test_watch_until_interrupted() -> None:
    """`--watch` shows the state anew until Ctrl-C, then ends with the code of what it showed last."""
    machine, ledger = needy()
    asked = threading.Semaphore(0)

    def tell(_: str) -> dict[str, Any]:
        asked.release()
        return answer_of(machine, ledger)

    script = (
        f"import sys, typer; from {status.__module__} import status; app = typer.Typer(); app.command()(status); app()"
    )
    with daemon({"/status": tell}) as url:
        child = subprocess.Popen(
            [sys.executable, "-c", script, "--watch", "--url", url],
            stdout=subprocess.PIPE,
            env={**os.environ, "COLUMNS": "200"},
            text=True,
        )
        try:
            assert all(asked.acquire(timeout=30) for _ in range(3))
            child.send_signal(signal.SIGINT)
            out, _ = child.communicate(timeout=30)
        finally:
            child.kill()
            child.wait()
    assert child.returncode == 1
    assert "STUCK" in out


def test_exit_code_of_stuck() -> None:
    """Stuck needs somebody even where nobody knows what to type."""
    assert exit_code({"verdict": "stuck", "needs_you": []}) == 1
    assert exit_code({"verdict": "degraded", "needs_you": []}) == 0


def test_why_prints_sentences() -> None:
    """`why` asks for the name as it was typed and prints the daemon's sentences."""
    machine, _ = busy()
    answers = {FAST: would(machine.state, FAST, machine.state.at)}
    with daemon({"/why": lambda name: answers[name]}) as url:
        result = run("why", FAST, "--url", url)
        as_json = run("why", FAST, "--url", url, "--json")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == answers[FAST]["sentences"]
    assert json.loads(as_json.stdout) == answers[FAST]


def test_why_of_nothing() -> None:
    """An empty name, of a variable that is not set, is told as that."""
    result = run("why", " ", "--url", "http://127.0.0.1:9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nothing is asked about" in result.stderr


def test_why_of_a_request_nobody_remembers() -> None:
    """What looks like a request's id and is none is told as that, and is not taken for a model."""
    with daemon({"/why": lambda _: {"error": "no request 'r9373-99' waits or runs"}}) as url:
        result = run("why", "r9373-99", "--url", url)
    assert (result.exit_code, result.stdout) == (
        1,
        "No such request is remembered: no request 'r9373-99' waits or runs.\n",
    )


def test_why_exit_codes() -> None:
    """1 where a request would be refused, 2 where no daemon answers."""
    machine = Machine.fresh(CONFIG, 1.0)
    machine.step(m.ModelsListed(1.0, (m.Listed(FAST, SIZES[FAST]),)))
    with daemon({"/why": lambda name: would(machine.state, name, 2.0)}) as url:
        refused = run("why", "no-such-model", "--url", url)
    assert refused.exit_code == 1
    assert "refused with 404" in refused.stdout
    with daemon({"/why": lambda _: {"error": "paid route not configured"}}) as url:
        paid = run("why", "claude-opus-4", "--url", url)
    assert (paid.exit_code, paid.stdout) == (1, "A request would be refused: paid route not configured.\n")
    down = run("why", "no-such-model", "--url", url)
    assert down.exit_code == 2
    assert "no scheduler answers" in down.stderr

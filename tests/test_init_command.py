"""`init` writes a configuration that is accepted as it stands, from what a listening Ollama says it has."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, strategies as st
from typer.testing import CliRunner

from scheduler import init_command
from scheduler.init_command import init
from scheduler.init_file import Found, declared, fitting_sets, let_in
from scheduler.settings_read import read_settings

MODELS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "qwen-quality-128k:latest": (34_998_765_432, 'num_ctx                        131072\nstop  "x"', {}),
    "qwen2.5-coder:32b-instruct": (20_000_000_000, "", {"qwen2.context_length": 32768}),
    "Qwen-Fast:latest": (5_000_000_001, "temperature 1", {}),
    "huge:405b": (400_000_000_000, "num_ctx 4096", {}),
    "gpt-oss:20b-cloud": (13_000_000_000, "", {}),
    "remote-stub:latest": (384, "", {}),
}


class Listing:
    """An Ollama that only lists and shows, on a loopback port of its own; `models` may be changed."""

    def __init__(self) -> None:
        self.models = dict(MODELS)
        self.broken = False
        listing = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                models = [{"name": n, "model": n, "size": size} for n, (size, _, _) in listing.models.items()]
                self._send({"models": models} if self.path == "/api/tags" else {})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                _, parameters, info = listing.models[body["model"]]
                self._send({"parameters": parameters, "model_info": info})

            def _send(self, content: dict[str, Any]) -> None:
                data = b"<html>not Ollama</html>" if listing.broken else json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listing]:
    """A listening Ollama, and no configuration or proxy but the test's own."""
    for name in ("XDG_CONFIG_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")
    listing = Listing()
    thread = threading.Thread(target=listing.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield listing
    listing.server.shutdown()
    thread.join()
    listing.server.server_close()


def run(*arguments: object, code: int = 0) -> str:
    """What `init` prints; it must end with this code."""
    app = typer.Typer()
    app.command()(init)
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_what_it_writes_is_accepted(listing: Listing, tmp_path: Path) -> None:
    """The file names each local model that fits with its size and Modelfile context, and sets that fit together."""
    out = tmp_path / "deep" / "er" / "config.toml"
    told = run("--ollama", listing.url, "--out", out, "--budget", "38GB")
    read = read_settings(out)
    assert read.warnings == ()
    assert read.settings.ollama == listing.url
    assert read.settings.memory.budget == 38 * 10**9
    models = read.settings.models
    assert {name: (each.size, each.num_ctx) for name, each in models.items()} == {
        "qwen-quality-128k:latest": (35 * 10**9, 131072),
        "qwen2.5-coder:32b-instruct": (20 * 10**9, None),
        "qwen-fast:latest": (5_010_000_000, None),
    }
    assert read.settings.sets == {
        "qwen-quality-128k": ("qwen-quality-128k:latest",),
        "qwen2.5-coder-32b-instruct": ("qwen2.5-coder:32b-instruct", "qwen-fast:latest"),
    }
    assert read.settings.phases["normal"].sets == tuple(read.settings.sets)
    assert {alias: each.model for alias, each in read.settings.aliases.items()} == {
        "claude-sonnet-4-5": "qwen-quality-128k:latest",
        "gpt-4": "qwen-quality-128k:latest",
        "claude-3-5-sonnet": "qwen2.5-coder:32b-instruct",
        "claude-3-haiku": "qwen-fast:latest",
    }
    assert "trained for 32768 tokens" in out.read_text()
    assert "huge:405b: 400 GB, context 4096, LARGER THAN THE BUDGET" in told
    assert told.rstrip().endswith(f"wrote {out}, for which the folder {tmp_path / 'deep'} was made")


def test_auto_is_the_default(listing: Listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --budget and --out: budget auto as this machine has it, in the platform's folder."""
    monkeypatch.setattr("scheduler.init_command.auto_budget", lambda: (30 * 10**9, "a test"))
    run("--ollama", listing.url)
    read = read_settings()
    assert read.file is not None
    assert read.file.is_relative_to(tmp_path)
    assert read.settings.memory.budget == "auto"
    assert list(read.settings.sets) == ["qwen2.5-coder-32b-instruct"]


def test_json_for_scripts(listing: Listing, tmp_path: Path) -> None:
    """A script gets what was found and written in parts."""
    out = tmp_path / "config.toml"
    answer = json.loads(run("--ollama", listing.url, "--out", out, "--budget", "38GB", "--json"))
    assert answer["file"] == str(out)
    assert answer["made_folder"] is None
    assert answer["budget"] == 38 * 10**9
    assert answer["sets"]["qwen-quality-128k"] == ["qwen-quality-128k:latest"]
    assert [model["name"] for model in answer["models"] if not model["fits"]] == ["huge:405b"]


def test_a_file_that_is_there_stays(listing: Listing, tmp_path: Path) -> None:
    """Nothing is overwritten without --force, and nothing is left beside the file with it."""
    out = tmp_path / "config.toml"
    out.write_text("mine")
    assert "--force" in run("--ollama", listing.url, "--out", out, code=2)
    assert out.read_text() == "mine"
    run("--ollama", listing.url, "--out", out, "--force")
    assert "mine" not in out.read_text()
    assert list(tmp_path.glob("*.new")) == []


def test_no_model_fits(listing: Listing, tmp_path: Path) -> None:
    """That is an error which names the smallest and the budget; a file that serves nobody is not written, nor a folder
    made for it."""
    out = tmp_path / "deep" / "config.toml"
    told = run("--ollama", listing.url, "--out", out, "--budget", "3GB", code=1)
    assert "fits the budget of 3.0 GB: the smallest is qwen-fast:latest, 5.0 GB" in told
    assert not out.parent.exists()


def test_no_alias_of_a_model_that_is_left_out(listing: Listing, tmp_path: Path) -> None:
    """An alias whose model does not fit would only lead to its refusal."""
    out = tmp_path / "config.toml"
    run("--ollama", listing.url, "--out", out, "--budget", "22GB")
    aliases = read_settings(out).settings.aliases
    assert {each.model for each in aliases.values()} == {"qwen2.5-coder:32b-instruct", "qwen-fast:latest"}


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--ollama", "127.0.0.1:11434"], 2, '--ollama: "127.0.0.1:11434" does not begin with http'),
        (["--budget", "38G"], 2, 'write "38GB" or "38GiB"'),
        (["--budget", "38"], 2, '--budget: "38" is 38 bytes, in which no model fits; write "38GB"'),
        (["--ollama", "http://127.0.0.1:1"], 1, "no Ollama answers at http://127.0.0.1:1 (no connection)"),
    ],
)
def test_bad_input(tmp_path: Path, arguments: list[str], code: int, told: str) -> None:
    """A bad address, a bad size and a silent Ollama are told in a line, and nothing is written."""
    out = tmp_path / "config.toml"
    assert told in run(*arguments, "--out", out, code=code)
    assert told in json.loads(run(*arguments, "--out", out, "--json", code=code))["error"]
    assert not out.exists()


def test_an_ollama_without_models(listing: Listing, tmp_path: Path) -> None:
    """Models in the cloud are none of ours: with nothing else there is nothing to write."""
    listing.models = {name: MODELS[name] for name in ("gpt-oss:20b-cloud", "remote-stub:latest")}
    assert "has no models of its own" in run("--ollama", listing.url, "--out", tmp_path / "c.toml", code=1)


def test_something_else_that_answers(listing: Listing, tmp_path: Path) -> None:
    """A server that is no Ollama is told apart from none at all."""
    listing.broken = True
    assert "its answer is not Ollama's" in run("--ollama", listing.url, "--out", tmp_path / "c.toml", code=1)


def test_a_place_that_cannot_be_written(listing: Listing, tmp_path: Path) -> None:
    """A folder that is a file is told in a line."""
    (tmp_path / "file").write_text("")
    assert "cannot be written" in run("--ollama", listing.url, "--out", tmp_path / "file" / "c.toml", code=2)


@given(st.lists(st.integers(min_value=1, max_value=60), max_size=8), st.integers(min_value=1, max_value=100))
def test_sets_are_what_they_promise(sizes: list[int], budget: int) -> None:
    """Each set fits, each model that fits is in one, none is inside another, and nothing more would fit into any."""
    models = [Found(f"m{n}:latest", size * 10**9, None, None) for n, size in enumerate(sizes)]
    sets = [set(members) for members in fitting_sets(models, budget * 10**9, 3).values()]
    fitting = {model for model in models if declared(model) <= budget * 10**9}
    assert set().union(*sets) == fitting
    for each in sets:
        total = sum(map(declared, each))
        assert total <= budget * 10**9
        assert not any(each < other for other in sets)
        if len(each) < 3:
            assert all(not let_in([*each], other, budget * 10**9) for other in fitting - each)


def test_ollama_that_is_ourselves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A configuration that would be refused is not written: why is told in lines, without a traceback."""
    monkeypatch.setattr(init_command, "_listed", lambda _: [Found("small:latest", 10**9, None, None)])
    told = run("--ollama", "http://127.0.0.1:11450", "--out", tmp_path / "c.toml", code=2)
    assert "ollama" in told
    assert "11450" in told
    assert not (tmp_path / "c.toml").exists()

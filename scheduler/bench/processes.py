"""Starts what is measured and what measures, each in a process of its own, and ends it by its pid; loopback only."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import psutil

from scheduler.bench.connection import Result, request
from scheduler.bench.stub import AWAY, CONTEXT, RESIDENT

READY_SECONDS = 20.0  # a daemon that is not ready by then counts as broken
POLL = 0.005  # seconds between knocks
END_SECONDS = 15.0  # from SIGTERM to SIGKILL
SPARE_SECONDS = 20.0  # what a generator may take beyond the seconds it measures
SERVE = (sys.executable, "-m", "scheduler", "serve")
PARALLEL = 128  # requests at once into the stub: more than any mode has, so that no slot is waited for

CONFIGURATION = f"""\
listen = "127.0.0.1:{{listen}}"
ollama = "http://127.0.0.1:{{ollama}}"

[memory]
budget = "38GB"

[ollama_settings]
num_parallel = {PARALLEL}
device = "48GB"

[models."{RESIDENT}"]
size = "5GB"
num_ctx = {CONTEXT}
parallel = {PARALLEL}

[models."{AWAY}"]
size = "35GB"
num_ctx = {CONTEXT}

[sets]
fast = ["{RESIDENT}"]
quality = ["{AWAY}"]

[phases.normal]
sets = ["fast", "quality"]

[aliases]
"""

NGINX = """\
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream stub {{ server 127.0.0.1:{upstream}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{listen};
        keepalive_requests 10000000;
        location / {{
            proxy_pass http://stub;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


class NotMeasured(Exception):
    """What was to be measured did not start, or did something else; the message says why."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A process that serves HTTP on 127.0.0.1:`port`. `ready_after` is seconds from its start to its first 200."""

    port: int
    pid: int
    ready_after: float = 0.0

    def cpu(self) -> float:
        """Processor seconds used so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def memory(self) -> int:
        """Resident bytes now."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET. Raises OSError or http.client.HTTPException."""
        return _exchange(self.port, "GET", path)


@contextmanager
def stub() -> Iterator[Serving]:
    """The upstream of `scheduler.bench.stub`."""
    with _running([sys.executable, "-m", "scheduler.bench.stub"]) as process:
        yield Serving(int(_line(process)["port"]), process.pid)


@contextmanager
def daemon(upstream: Serving, folder: Path) -> Iterator[Serving]:
    """`serve` in front of `upstream`, ready; its files go into `folder`. Raises NotMeasured."""
    port = free_port()
    state = folder / f"daemon-{port}"
    state.mkdir()
    config = state / "config.toml"
    config.write_text(CONFIGURATION.format(listen=port, ollama=upstream.port))
    command = [*SERVE, "--config", str(config), "--state", str(state)]
    began = time.perf_counter()
    with (state / "log").open("wb") as log, _running(command, log.fileno()) as process:
        while not _answers(port, "/readyz"):
            if process.poll() is not None or time.perf_counter() - began > READY_SECONDS:
                last = (state / "log").read_text(errors="replace").strip().splitlines()[-1:]
                raise NotMeasured(f"the daemon did not get ready: {' '.join(last) or process.returncode}")
            time.sleep(POLL)
        yield Serving(port, process.pid, time.perf_counter() - began)


@contextmanager
def nginx(upstream: Serving, folder: Path) -> Iterator[Serving]:
    """nginx with one worker in front of `upstream`. Raises NotMeasured, also where there is no nginx."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")
    if program is None:
        raise NotMeasured("nginx is not installed here")
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, upstream=upstream.port, listen=port))
    began = time.perf_counter()
    with (
        (folder / "nginx.err").open("wb") as log,
        _running([program, "-p", str(folder), "-e", str(folder / "nginx.log"), "-c", str(config)], log.fileno()) as it,
    ):
        while not _answers(port, "/"):
            if it.poll() is not None or time.perf_counter() - began > READY_SECONDS:
                raise NotMeasured(f"nginx did not start: {(folder / 'nginx.err').read_text().strip()[-200:]}")
            time.sleep(POLL)
        yield Serving(port, it.pid)


def served(target: Serving) -> None:
    """Chat through `target` until the model answers: it knows its upstream and the model. Raises NotMeasured."""
    deadline = time.perf_counter() + READY_SECONDS
    content = request(target.port, RESIDENT).partition(b"\r\n\r\n")[2]
    answer: tuple[int, bytes] = (0, b"")
    while answer[0] != 200:
        if time.perf_counter() > deadline:
            raise NotMeasured(f"no chat came through: {answer[0]} {answer[1][:200]!r}")
        with suppress(OSError, http.client.HTTPException):
            answer = _exchange(target.port, "POST", "/api/chat", content)
        time.sleep(POLL)


def generate(mode: str, port: int, **options: float) -> Result:
    """Run one mode of the load generator to its end; its result."""
    limit = options.get("seconds", 0.0) + SPARE_SECONDS
    command = _generator(mode, port, options)
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=limit, check=True, start_new_session=True)
    return cast(Result, json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def holding(port: int, **options: float) -> Iterator[None]:
    """Hold requests that nobody answers; entered when all are sent. Raises NotMeasured if one was answered."""
    with _running(_generator("held", port, options)) as process:
        _line(process)
        yield
        assert process.stdin is not None
        process.stdin.close()
        answered = _line(process)["answered"]
    if answered:
        raise NotMeasured(f"{answered:.0f} of the requests to hold were answered")


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _generator(mode: str, port: int, options: dict[str, float]) -> list[str]:
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "scheduler.bench.load", mode, "--port", str(port), *given]


@contextmanager
def _running(command: list[str], log: int | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """A process until the block is left, then told to end and, later, made to. Ctrl-C reaches only the bench."""
    out = log if log is not None else subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=log, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _line(process: "subprocess.Popen[bytes]") -> Result:
    """The next line of JSON that a process says."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise NotMeasured(f"{process.args!r} ended before it said a word")
    return cast(Result, json.loads(line))


def _answers(port: int, path: str) -> bool:
    try:
        return _exchange(port, "GET", path)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def _exchange(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()

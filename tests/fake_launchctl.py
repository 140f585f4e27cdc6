"""A `launchctl` with a launchd behind it: put on the PATH it really starts and stops what a property list names.

`fake_launchctl.py VERB …` speaks as launchctl(1) does; FAKE_LAUNCHD is the folder that holds its memory. One process
for each job plays launchd: it starts the program with launchd's environment, limits and log files, starts it again by
KeepAlive, and ends it with SIGTERM, then SIGKILL. Codes: 3, 113 not there, 5 refused (also: there already), 36 and 37
on its way out, 112 or 125 no such domain, 119 disabled, 122 others may write the file, 134 the wrong kind of session.

FAKE_LAUNCHD_PRINTS: a job that was booted out stays visible for so many prints. FAKE_LAUNCHD_THROTTLE: seconds instead
of ThrottleInterval. FAKE_LAUNCHD_NO_GUI: the code with which the gui domain is missing. FAKE_LAUNCHD_BUSY: so many
bootstraps fail with 5 first.
"""

import contextlib
import fcntl
import json
import os
import plistlib
import pwd
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(os.environ.get("FAKE_LAUNCHD", "."))
LIFE = 600.0  # seconds: no job outlives a forgotten test for longer
SAYS = {
    3: "No such process",
    5: "Input/output error",
    36: "Operation now in progress",
    37: "Operation already in progress",
    112: "Could not find specified domain",
    113: "Could not find service",
    119: "Service is disabled",
    122: "Path had bad ownership/permissions",
    125: "Domain does not support specified action",
    134: "Service cannot load in requested session",
}
EX_CONFIG = 78


class Code(Exception):
    """A verb that ends with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@contextlib.contextmanager
def memory() -> Iterator[dict[str, Any]]:
    """All that this launchd knows, for one process at a time."""
    ROOT.mkdir(parents=True, exist_ok=True)
    with (ROOT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file = ROOT / "memory.json"
        known = json.loads(file.read_text("utf-8")) if file.exists() else {"jobs": {}, "disabled": [], "said": []}
        try:
            yield known
        finally:
            beside = file.with_suffix(".new")
            beside.write_text(json.dumps(known), "utf-8")
            beside.replace(file)


# --- the verbs ---------------------------------------------------------------------------------------------------


def bootstrap(domain: str, path: str) -> None:
    """Take a list into a domain and start what it says."""
    content, about = _list(Path(path))
    label = content["Label"]
    name = f"{domain}/{label}"
    with memory() as known:
        _domain_there(domain)
        job = known["jobs"].get(name)
        if job is not None:
            raise Code(37 if job["leaving"] else 5)
        if name in known["disabled"]:
            raise Code(119)
        if stat.S_IMODE(about.st_mode) & 0o022:
            raise Code(122)
        sessions = content.get("LimitLoadToSessionType", ["Aqua"])
        if ("Aqua" if domain.startswith("gui/") else "Background") not in sessions:
            raise Code(134)
        known["busy"] = known.get("busy", 0) + 1
        if known["busy"] <= int(os.environ.get("FAKE_LAUNCHD_BUSY", "0")):
            raise Code(5)
        known["jobs"][name] = {"path": path, "leaving": False, "prints": 0, "over": False, **_fresh(content)}
        # A process of its own, as launchd is: it outlives this one, and so does what it starts.
        keeper = subprocess.Popen(
            [sys.executable, __file__, "--keep", name],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(ROOT / "keeper.log").open("a"),
        )
        known["jobs"][name]["keeper"] = keeper.pid


def bootout(name: str) -> None:
    """Begin to end a job; it is gone later."""
    _domain_there(name)
    with memory() as known:
        job = known["jobs"].get(name)
        if job is None:
            raise Code(3 if name.startswith("gui/") else 113)  # people saw both
        if job["leaving"]:
            raise Code(36)
        job["leaving"], job["prints"] = True, int(os.environ.get("FAKE_LAUNCHD_PRINTS", "2"))


def show(name: str) -> None:
    """`print`: what is known of a job; the last looks of one that leaves count down."""
    _domain_there(name)
    with memory() as known:
        job = known["jobs"].get(name)
        if job is not None and job["leaving"]:
            job["prints"] -= 1
            if job["over"] and job["prints"] < 0:
                del known["jobs"][name]
                job = None
        if job is None:
            raise Code(113)
        for line in _printed(name, job):
            _say(line)


def enable(name: str) -> None:
    """Allow a label to be booted in."""
    _domain_there(name)
    with memory() as known:
        known["disabled"] = [each for each in known["disabled"] if each != name]


def disable(name: str) -> None:
    """Keep a label from being booted in."""
    _domain_there(name)
    with memory() as known:
        known["disabled"] = [*known["disabled"], name]


def kickstart(*arguments: str) -> None:
    """Start a job now; with -k, end what runs first. The list is not read again."""
    *options, name = arguments
    with memory() as known:
        job = known["jobs"].get(name)
        if job is None:
            raise Code(113)
        job["kick"] = "kill" if "-k" in options else "start"


VERBS = {
    "bootstrap": bootstrap,
    "bootout": bootout,
    "print": show,
    "enable": enable,
    "disable": disable,
    "kickstart": kickstart,
}


def _say(line: str, where: TextIO | None = None) -> None:
    (where or sys.stdout).write(f"{line}\n")


def _domain_there(name: str) -> None:
    gone = int(os.environ.get("FAKE_LAUNCHD_NO_GUI", "0"))
    kind, _, rest = name.partition("/")
    if kind not in ("gui", "user") or rest.partition("/")[0] != str(os.getuid()) or (kind == "gui" and gone):
        raise Code(gone or 112)


def _list(path: Path) -> tuple[dict[str, Any], os.stat_result]:
    try:
        content = plistlib.loads(path.read_bytes())
        return {"Label": content["Label"], **content}, path.stat()
    except Exception:
        raise Code(5) from None


def _fresh(content: Mapping[str, Any]) -> dict[str, Any]:
    spawn = {"Interactive": "interactive (4)", "Background": "daemon (3)"}.get(content.get("ProcessType", ""), "daemon")
    return {
        "content": dict(content),
        "state": "not running",
        "pid": 0,
        "last": "(never exited)",
        "runs": 0,
        "spawn": spawn,
        "kick": "",
    }


def _printed(name: str, job: Mapping[str, Any]) -> Iterator[str]:
    """As launchd prints a job of macOS 14, with what a careless reader would stumble over."""
    content = job["content"]
    yield f"{name} = {{"
    yield f"\tactive count = {int(bool(job['pid']))}"
    yield f"\tpath = {job['path']}"
    yield "\ttype = LaunchAgent"
    yield f"\tstate = {'SIGTERMed' if job['leaving'] and job['pid'] else job['state']}"
    yield ""
    yield f"\tprogram = {content['ProgramArguments'][0]}"
    yield "\targuments = {"
    yield from (f"\t\t{each}" for each in content["ProgramArguments"])
    yield "\t}"
    yield f"\tstdout path = {content.get('StandardOutPath', '/dev/null')}"
    yield "\tenvironment = {"
    yield f"\t\tXPC_SERVICE_NAME => {content['Label']}"
    yield "\t}"
    yield f"\tminimum runtime = {content.get('ThrottleInterval', 10)}"
    yield f"\texit timeout = {content.get('ExitTimeOut', 5)}"
    yield f"\truns = {job['runs']}"
    if job["pid"]:
        yield f"\tpid = {job['pid']}"
    yield f"\tlast exit code = {job['last']}"
    yield f"\tspawn type = {job['spawn']}"
    yield "\tevent channels = {"
    yield '\t\t"com.apple.something" = {'
    yield "\t\t\tstate = active"
    yield "\t\t\tpid = 1"
    yield "\t\t}"
    yield "\t}"
    yield "}"


# --- one job, kept by a process of its own -----------------------------------------------------------------------


class Keeper:
    """Starts, watches and ends one job."""

    def __init__(self, name: str) -> None:
        self.name = name
        with memory() as known:
            self.content: dict[str, Any] = known["jobs"][name]["content"]
        self.process: subprocess.Popen[bytes] | None = None
        self.began = 0.0
        self.due: float | None = None
        if self.content.get("RunAtLoad") or self.content.get("KeepAlive"):
            self.due = 0.0

    def live(self) -> None:
        """Until the job has left."""
        end = time.monotonic() + LIFE
        while time.monotonic() < end and ROOT.is_dir():
            if self.process is not None and self.process.poll() is not None:
                self._ended(self.process.returncode)
            with memory() as known:
                job = known["jobs"].get(self.name)
                leaving, kick = job is None or job["leaving"], job["kick"] if job else ""
                if job:
                    job["kick"] = ""
            if leaving:
                break
            if kick == "kill":
                self._end()
            if kick or (self.process is None and self.due is not None and time.monotonic() >= self.due):
                self._start()
            time.sleep(0.02)
        self._end()
        self._note(pid=0, state="not running", over=True)

    def _start(self) -> None:
        if self.process is not None:
            return
        self.began, self.due = time.monotonic(), None
        with memory() as known:
            known["jobs"][self.name]["runs"] += 1
        content = self.content
        mask = content.get("Umask", -1)
        try:
            with contextlib.ExitStack() as files:
                out, err = (
                    files.enter_context(Path(content.get(key, "/dev/null")).open("ab"))
                    for key in ("StandardOutPath", "StandardErrorPath")
                )
                self.process = subprocess.Popen(
                    content["ProgramArguments"],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    cwd=content.get("WorkingDirectory", "/"),
                    env=self._environment(),
                    umask=int(mask, 8) if isinstance(mask, str) else mask,
                    start_new_session=True,
                    preexec_fn=self._limits,
                )
        except OSError:
            self._closed(EX_CONFIG)
        else:
            self._note(pid=self.process.pid, state="running")

    def _environment(self) -> dict[str, str]:
        """launchd's own few, then the list's, of which it drops what is no text."""
        user = pwd.getpwuid(os.getuid()).pw_name
        own = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": os.environ["HOME"], "USER": user, "LOGNAME": user}
        given = self.content.get("EnvironmentVariables", {})
        ours = {"XPC_SERVICE_NAME": self.content["Label"], "XPC_FLAGS": "0x0", "TMPDIR": str(ROOT), "SHELL": "/bin/sh"}
        return own | ours | {name: value for name, value in given.items() if isinstance(value, str)}

    def _limits(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = self.content.get("SoftResourceLimits", {}).get("NumberOfFiles", 256)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, hard), hard))

    def _ended(self, code: int) -> None:
        self.process = None
        self._closed(code)

    def _closed(self, code: int) -> None:
        """It ended, or could not begin: whether and when it is started again."""
        keep = self.content.get("KeepAlive", False)
        if isinstance(keep, dict):
            wanted = ("SuccessfulExit" in keep and keep["SuccessfulExit"] == (code == 0)) or (
                "Crashed" in keep and keep["Crashed"] == (code < 0)
            )
        else:
            wanted = keep
        pause = float(os.environ.get("FAKE_LAUNCHD_THROTTLE", self.content.get("ThrottleInterval", 10)))
        self.due = self.began + pause if wanted else None
        last = (
            "78: EX_CONFIG" if code == EX_CONFIG else str(code) if code >= 0 else f"{signal.strsignal(-code)}: {-code}"
        )
        self._note(pid=0, state="spawn scheduled" if wanted else "not running", last=last)

    def _end(self) -> None:
        """SIGTERM; SIGKILL after ExitTimeOut; what is left of its process group goes too."""
        if self.process is None:
            return
        group = self.process.pid
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(self.content.get("ExitTimeOut", 5))
        except subprocess.TimeoutExpired:
            self.process.kill()
        code = self.process.wait()
        if not self.content.get("AbandonProcessGroup"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        self._ended(code)

    def _note(self, **told: Any) -> None:
        with memory() as known:
            if self.name in known["jobs"]:
                known["jobs"][self.name].update(told)


def main() -> int:
    """One verb, or one job."""
    verb, *arguments = sys.argv[1:]
    if verb == "--keep":
        Keeper(arguments[0]).live()
        return 0
    with memory() as known:
        known["said"].append([verb, *arguments])
    if verb not in VERBS:
        _say(f"Unrecognized subcommand: {verb}", sys.stderr)
        return 64
    try:
        VERBS[verb](*arguments)
    except Code as error:
        if verb == "print":
            _say(f'Bad request.\n{SAYS[error.code]} "{arguments[0]}"', sys.stderr)
        else:
            said = {"bootstrap": "Bootstrap failed", "bootout": "Boot-out failed"}.get(verb, f"Could not {verb}")
            _say(f"{said}: {error.code}: {SAYS[error.code]}", sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())

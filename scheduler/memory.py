"""What the machine can tell about memory: the budget "auto" stands for, what Ollama sees as GPU memory, and orphans.

Sources: `sysctl iogpu.wired_limit_mb` overrides Metal's recommended working set (macOS 14+, MiB; 0 = default); the
defaults by RAM and macOS release are measured values collected in docs/design.md. Sizes are bytes.
"""

import platform
import resource
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from scheduler.core.messages import Pressure

GB = 10**9
GIB = 1 << 30
SYSCTL = "/usr/sbin/sysctl"  # launchd gives no useful PATH

_LEVELS: dict[str, Pressure] = {"1": "normal", "2": "warning", "4": "critical"}
PSI = Path("/proc/pressure/memory")
SOME, FULL = 10.0, 5.0  # per cent from which Linux's word counts as a warning, and as critical

_MACOS_26 = ((16, 0.74), (24, 0.74), (32, 0.78), (48, 0.78), (64, 0.81), (96, 0.81), (192, 0.84))
"""Share of RAM (GiB, up to) that Metal recommends from macOS 26 on; until 15 it is 2/3 below 36 GiB and 3/4 above."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """A runner whose Ollama is gone: it keeps its memory and serves nobody."""

    pid: int
    size: int
    model_file: str


def auto_budget() -> tuple[int, str]:
    """What `memory.budget = "auto"` stands for here, and where that is from."""
    total = psutil.virtual_memory().total
    if platform.system() == "Darwin":
        return total * 3 // 4, "auto: 0.75 of physical memory"
    return max(total - 4 * GB, total // 2), "auto: physical memory less 4 GB"


def metal_working_set() -> int:
    """Metal's recommended working set on this Mac; 0 where there is no Metal."""
    if platform.system() != "Darwin":
        return 0
    told = _sysctl("iogpu.wired_limit_mb")
    if told.isdecimal() and int(told) > 0:
        return int(told) << 20
    release = platform.mac_ver()[0].partition(".")[0]
    return recommended(psutil.virtual_memory().total, int(release) if release.isdecimal() else 0)


def _sysctl(name: str) -> str:
    """A kernel value; "" where it cannot be read (macOS 13 does not know this one)."""
    try:
        return subprocess.run(
            [SYSCTL, "-n", name], capture_output=True, text=True, check=False, timeout=5
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def pressure() -> Pressure:
    """How short memory is, by the system's own word.

    macOS: `kern.memorystatus_vm_pressure_level`, 1, 2 or 4, which every process may read (xnu,
    bsd/kern/kern_memorystatus_notify.c). Linux: the share of the last ten seconds in which some task, or all of them,
    waited for memory (/proc/pressure/memory); the limits are our choice. Takes milliseconds: call it in a thread.
    """
    if platform.system() == "Darwin":
        return _LEVELS.get(_sysctl("kern.memorystatus_vm_pressure_level"), "normal")
    some, full = _stalled("some"), _stalled("full")
    return "critical" if full >= FULL else "warning" if some >= SOME else "normal"


def _stalled(kind: str) -> float:
    """Per cent of the last ten seconds in which tasks waited for memory; 0 where the kernel does not tell."""
    try:
        lines = PSI.read_text("ascii").splitlines()
        line = next(line for line in lines if line.startswith(f"{kind} "))
        return float(line.partition("avg10=")[2].split()[0])
    except (OSError, StopIteration, ValueError, IndexError):
        return 0.0


def recommended(total: int, macos: int) -> int:
    """Metal's default recommended working set for `total` bytes of RAM under macOS `macos`."""
    ram = total / GIB
    if macos >= 26:
        share = next((share for up_to, share in _MACOS_26 if ram <= up_to), 2 / 3)
    else:
        share = 0.75 if ram >= 36 else 2 / 3
    return int(total * share)


def files_left() -> tuple[int, int]:
    """How many more files this process may open, and how many it may have open in all."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    limit = 1 << 30 if soft == resource.RLIM_INFINITY else soft
    try:
        return max(0, limit - psutil.Process().num_fds()), limit
    except OSError:  # counting them takes one
        return 0, limit


def orphans(folder: str) -> list[Orphan]:
    """Runners started from model files in `folder` ("" for any) whose parent is not an Ollama any more.

    Takes some milliseconds: call it in a thread.
    """
    return [orphan for process, file in runners(folder) if (orphan := _orphan(process, file)) is not None]


def runner_place(model_file: str) -> tuple[int, int] | None:
    """Process id and loopback port of the runner that was started from `model_file`; None if there is none."""
    for process, file in runners(""):
        if file == model_file and _orphan(process, file) is None:
            port = _option(process.info["cmdline"], "--port")
            if port.isdecimal():
                return process.pid, int(port)
    return None


def runners(folder: str) -> Iterator[tuple[psutil.Process, str]]:
    """Ollama's runner processes that were started from a model file in `folder`, with that file."""
    for process in psutil.process_iter(["cmdline", "ppid", "memory_info", "status"]):
        command = process.info["cmdline"] or []
        file = _option(command, "--model")
        if not file or not _option(command, "--port") or "sha256-" not in file:
            continue
        if process.info["status"] != psutil.STATUS_ZOMBIE and (not folder or Path(file).is_relative_to(folder)):
            yield process, file


def _orphan(process: psutil.Process, file: str) -> Orphan | None:
    if process.info["ppid"] is None:
        return None  # its parent may not be asked for: it cannot be judged
    try:
        parent = psutil.Process(process.info["ppid"])
        if "ollama" in parent.name().lower():
            return None
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied:
        return None  # somebody else's process: it cannot be judged
    memory = process.info["memory_info"]
    try:
        size = Path(file).stat().st_size
    except OSError:
        size = 0
    # Mapped weights do not show in a process's own figure, so the file counts where it is larger.
    return Orphan(process.pid, max(size, memory.rss if memory else 0), file)


def _option(command: list[str], name: str) -> str:
    """The value after `name` in a command line; "" if it is not there."""
    try:
        return command[command.index(name) + 1]
    except (ValueError, IndexError):
        return ""

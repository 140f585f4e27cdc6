"""Every key that launchd.plist(5) knows for an agent, with the kind of its value, and those we do not want in ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value must be: in words, and whether it is."""

    words: str
    holds: Callable[[Any], bool]


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _table(value: Any) -> bool:
    return isinstance(value, dict)


TEXT = Kind("<string>", lambda value: isinstance(value, str))
SWITCH = Kind("<true/> or <false/>", lambda value: isinstance(value, bool))
NUMBER = Kind("<integer>", _number)
TEXTS = Kind("<array> of <string>", _texts)
TABLE = Kind("<dict>", _table)
LIST = Kind("<array>", lambda value: isinstance(value, list))
SWITCH_OR_TABLE = Kind("<true/>, <false/> or <dict>", lambda value: isinstance(value, bool | dict))
TEXT_OR_TEXTS = Kind("<string> or <array> of <string>", lambda value: isinstance(value, str) or _texts(value))
NUMBER_OR_TEXT = Kind("<integer> or <string>", lambda value: _number(value) or isinstance(value, str))
TABLE_OR_LIST = Kind("<dict> or <array> of <dict>", lambda value: _table(value) or isinstance(value, list))

# Names and kinds: launchd.plist(5) of macOS; the same table for machines is nix-darwin's modules/launchd/launchd.nix.
KEYS = {
    "Label": TEXT,
    "ProgramArguments": TEXTS,
    "Program": TEXT,
    "BundleProgram": TEXT,
    "RunAtLoad": SWITCH,
    "KeepAlive": SWITCH_OR_TABLE,
    "ThrottleInterval": NUMBER,
    "ExitTimeOut": NUMBER,
    "TimeOut": NUMBER,
    "ProcessType": TEXT,
    "EnvironmentVariables": TABLE,
    "StandardInPath": TEXT,
    "StandardOutPath": TEXT,
    "StandardErrorPath": TEXT,
    "WorkingDirectory": TEXT,
    "RootDirectory": TEXT,
    "SoftResourceLimits": TABLE,
    "HardResourceLimits": TABLE,
    "LimitLoadToSessionType": TEXT_OR_TEXTS,
    "LimitLoadToHardware": TABLE,
    "LimitLoadFromHardware": TABLE,
    "Umask": NUMBER_OR_TEXT,
    "Disabled": SWITCH,
    "EnableGlobbing": SWITCH,
    "EnableTransactions": SWITCH,
    "EnablePressuredExit": SWITCH,
    "Debug": SWITCH,
    "WaitForDebugger": SWITCH,
    "AbandonProcessGroup": SWITCH,
    "SessionCreate": SWITCH,
    "LaunchOnlyOnce": SWITCH,
    "LaunchEvents": TABLE,
    "MachServices": TABLE,
    "Sockets": TABLE_OR_LIST,
    "StartInterval": NUMBER,
    "StartCalendarInterval": TABLE_OR_LIST,
    "StartOnMount": SWITCH,
    "WatchPaths": TEXTS,
    "QueueDirectories": TEXTS,
    "Nice": NUMBER,
    "LowPriorityIO": SWITCH,
    "LowPriorityBackgroundIO": SWITCH,
    "LegacyTimers": SWITCH,
    "MaterializeDatalessFiles": SWITCH,
    "AssociatedBundleIdentifiers": TEXT_OR_TEXTS,
    "UserName": TEXT,
    "GroupName": TEXT,
    "InitGroups": SWITCH,
    "inetdCompatibility": TABLE,
    "POSIXSpawnType": TEXT,
    "OnDemand": SWITCH,
    "ServiceIPC": SWITCH,
    "HopefullyExitsFirst": SWITCH,
    "HopefullyExitsLast": SWITCH,
    "LimitLoadToHosts": TEXTS,
    "LimitLoadFromHosts": TEXTS,
}

_PREFER = ("weakens what ProcessType gives", "leave it out (launchd.plist(5): prefer ProcessType)")
_GONE = ("is no longer implemented", "leave it out")
_ROOT = ("is for jobs of the system", "leave it out: an agent is its user's")
_CLOCK = ("starts a job that is not meant to run all the time", "leave it out: RunAtLoad and KeepAlive start ours")

UNWANTED = {
    "Program": ("doubles ProgramArguments", "leave it out"),
    "BundleProgram": ("is for programs inside an app", "leave it out"),
    "TimeOut": _GONE,
    "OnDemand": ("is the old name of KeepAlive", "write KeepAlive"),
    "ServiceIPC": _GONE,
    "HopefullyExitsFirst": _GONE,
    "HopefullyExitsLast": _GONE,
    "LimitLoadToHosts": _GONE,
    "LimitLoadFromHosts": _GONE,
    "POSIXSpawnType": ("is the private name of ProcessType", "write ProcessType"),
    "inetdCompatibility": ("hands over a socket we do not read", "leave it out"),
    "UserName": _ROOT,
    "GroupName": _ROOT,
    "InitGroups": _ROOT,
    "RootDirectory": _ROOT,
    "Nice": _PREFER,
    "LowPriorityIO": _PREFER,
    "LowPriorityBackgroundIO": _PREFER,
    "LegacyTimers": _PREFER,
    "LaunchOnlyOnce": ("contradicts KeepAlive", "leave it out"),
    "StartInterval": _CLOCK,
    "StartCalendarInterval": _CLOCK,
    "StartOnMount": _CLOCK,
    "WatchPaths": _CLOCK,
    "QueueDirectories": _CLOCK,
    "EnableTransactions": ("needs XPC, which Python does not speak", "leave it out"),
    "EnablePressuredExit": ("lets macOS kill the daemon when memory is short", "leave it out"),
    "AbandonProcessGroup": ("leaves behind what the daemon started", "leave it out"),
    "Disabled": ("keeps it from starting", "leave it out; `launchctl disable` does the same where it can be seen"),
    "WaitForDebugger": ("holds it until a debugger comes", "leave it out"),
    "Sockets": ("makes the port accept while the daemon cannot serve", "leave it out"),
}

KEEP_ALIVE = {  # NetworkState is no longer implemented
    "SuccessfulExit": SWITCH,
    "Crashed": SWITCH,
    "PathState": TABLE,
    "OtherJobEnabled": TABLE,
    "AfterInitialDemand": SWITCH,
}
LIMITS = {
    name: NUMBER
    for name in ("Core", "CPU", "Data", "FileSize", "MemoryLock", "NumberOfFiles", "NumberOfProcesses", "Stack")
} | {"ResidentSetSize": NUMBER}
TYPES = frozenset({"Background", "Standard", "Adaptive", "Interactive"})
SESSIONS = frozenset({"Aqua", "Background", "LoginWindow", "StandardIO", "System"})
NEEDED = (
    "Label",
    "ProgramArguments",
    "RunAtLoad",
    "KeepAlive",
    "ExitTimeOut",
    "ProcessType",
    "StandardOutPath",
    "StandardErrorPath",
    "WorkingDirectory",
    "SoftResourceLimits",
    "LimitLoadToSessionType",
    "Umask",
)

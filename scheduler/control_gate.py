"""Who may command the daemon: whoever can read its token, from no web page, and under a name of ours."""

import hmac
import logging
import os
import secrets
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

TOKEN = "token"  # the file's name in the state folder
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
SCHEME = "bearer "


@dataclass(frozen=True, slots=True)
class Denied:
    """Why a command is not even read: the status and its JSON."""

    status: int
    answer: Mapping[str, Any]


class Gate:
    """Checks each command before its body is read. `token` is this life's secret; `host` and `port` are where we
    listen; `hosts` are further names under which people reach us, with a port or with ours."""

    def __init__(self, token: str, host: str, port: int, hosts: Collection[str] = ()) -> None:
        self._token = token.encode()
        bracketed = f"[{host}]" if ":" in host else host
        known = [*LOOPBACK, *([bracketed] if host not in ("", "0.0.0.0", "::") else []), *hosts]
        self._hosts = {form for name in known for form in _with_port(name.lower(), port)}
        self._right = f"{LOOPBACK[0]}:{port}, or a name listed in control.hosts"

    def check(self, method: str, headers: Mapping[str, str]) -> Denied | None:
        """None for a command that may be read. `headers` fold case. A web page's request fails before the token is
        looked at (RFC 6454: a page cannot leave out `Origin` on a POST), one by a foreign name too (DNS rebinding)."""
        host = headers.get("Host", "")
        if host.lower() not in self._hosts:
            return _denied(403, "Host", host, "is not a name of this daemon", self._right)
        if "Origin" in headers:
            return _denied(403, "Origin", headers["Origin"], "is a web page; pages may not command us", "no Origin")
        if method != "POST":
            return _denied(405, "method", method, "changes nothing here", "POST")
        given = headers.get("Authorization", "")
        right = f"Bearer and the text of the file {TOKEN!r} in the daemon's state folder"
        if not given:
            return _denied(401, "Authorization", "", "is missing", right)
        if not given.lower().startswith(SCHEME):
            return _denied(401, "Authorization", "", "is of another scheme", right)
        if not hmac.compare_digest(given[len(SCHEME) :].strip().encode("utf-8", "replace"), self._token):
            return _denied(401, "Authorization", "", "holds another token: each start of the daemon makes one", right)
        return None


def _denied(status: int, field: str, value: str, problem: str, right: str) -> Denied:
    said = f"{field} {value!r}" if value else field
    answer = {"error": f"{said} {problem}; right is: {right}", "field": field, "value": value, "right": right}
    return Denied(status, answer)


def _with_port(name: str, port: int) -> list[str]:
    """How a client says it in `Host`: with the port, which it leaves out where it is HTTP's own."""
    inside = name.rpartition("]")[2] if name.startswith("[") else name
    if ":" in inside:
        return [name]
    return [f"{name}:{port}", name] if port == 80 else [f"{name}:{port}"]


def new_token(folder: Path) -> str:
    """A fresh secret, kept in `folder`."""
    token = secrets.token_urlsafe(32)
    keep_token(folder, token)
    return token


def keep_token(folder: Path, token: str) -> None:
    """Keep the secret for those who may read it (mode 0600). Where it cannot be kept that is told, and nobody can
    command this life of the daemon."""
    name = ""
    try:
        handle, name = tempfile.mkstemp(prefix=".token.", dir=folder)  # 0600 by its contract
        with os.fdopen(handle, "w") as file:
            file.write(token + "\n")
        Path(name).replace(folder / TOKEN)
    except OSError as error:
        if name:
            Path(name).unlink(missing_ok=True)
        log.warning("no token could be kept in %s, so no command can be given: %s", folder, error.strerror or error)


def drop_token(folder: Path, token: str) -> None:
    """The daemon ends: nobody shall find a token that commands nobody. Another daemon's stays."""
    file = folder / TOKEN
    try:
        if file.read_text("ascii").strip() == token:
            file.unlink()
    except (OSError, ValueError) as error:
        log.info("the token %s was not removed: %s", file, error)

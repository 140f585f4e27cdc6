"""Who may talk to us from a browser: Ollama's own Host and Origin rules; no web page may drive the models through us.

Ask `Border.check` on every request, before its route: gin runs these rules first, also where no route matches.
From Ollama 0.32 (`server/routes.go` GenerateRoutes, allowedHostsMiddleware; `envconfig/config.go` AllowedOrigins) and
gin-contrib/cors 1.7.2.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Headers = tuple[tuple[str, str], ...]

DEFAULT_ORIGINS = (
    *(
        f"{scheme}://{host}{port}"
        for host in ("localhost", "127.0.0.1", "0.0.0.0")
        for port in ("", ":*")
        for scheme in ("http", "https")
    ),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)
_SCHEMES = (
    "http://",
    "https://",
    "chrome-extension://",
    "safari-extension://",
    "moz-extension://",
    "ms-browser-extension://",
)
_LOCAL_NAMES = (".localhost", ".local", ".internal")
PRIVATE = (
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv6Network("fc00::/7"),
)
_METHODS = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
_HEADERS = (
    "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,"
    "X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,"
    "X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
    "X-Stainless-Runtime-Version,X-Stainless-Timeout"
)
_PREFLIGHT: Headers = (
    ("Access-Control-Allow-Headers", _HEADERS),
    ("Access-Control-Allow-Methods", _METHODS),
    ("Access-Control-Max-Age", "43200"),
)
_VARY: Headers = (
    ("Vary", "Origin"),
    ("Vary", "Access-Control-Request-Method"),
    ("Vary", "Access-Control-Request-Headers"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`status` None: let it pass, adding `headers` to whatever the answer is. Else answer this status, these headers
    and no body."""

    status: int | None = None
    headers: Headers = ()


PASS = Verdict()


class Border:
    """The rules for one listening address.

    `loopback`: we listen on a loopback address, so the Host must be a local one. `origins`: Ollama's OLLAMA_ORIGINS,
    beside its defaults. `hostname`: this machine's name. `addresses`: its own IP addresses,
    of which a zone (`%en0`) does not count.
    Raises ValueError for an origin that Ollama itself would not start with.
    """

    def __init__(
        self,
        loopback: bool,
        origins: Iterable[str] = (),
        hostname: str = "",
        addresses: Collection[str] = (),
    ) -> None:
        allowed = (*origins, *DEFAULT_ORIGINS)
        for origin in allowed:
            _check_rule(origin)
        self._loopback = loopback
        self._any = "*" in allowed
        self._exact = frozenset(origin.strip().lower() for origin in allowed)
        self._wild = tuple(origin.partition("*")[::2] for origin in allowed if "*" in origin)
        self._hostname = hostname.lower()
        self._addresses = frozenset(filter(None, (_address(text.partition("%")[0]) for text in addresses)))

    def check(self, method: str, host: str, origin: str) -> Verdict:
        """Whether a request may pass. `host` and `origin` are its headers as sent, "" where it has none."""
        headers: Headers = ()
        if origin and origin not in (f"http://{host}", f"https://{host}"):
            if not self._allows(origin):
                return Verdict(403)
            told = (("Access-Control-Allow-Origin", "*" if self._any else origin),)
            if method == "OPTIONS":
                return Verdict(204, (*_PREFLIGHT, *(() if self._any else _VARY), *told))
            headers = told if self._any else (("Vary", "Origin"), *told)
        return self._check_host(method, host, headers)

    def _allows(self, origin: str) -> bool:
        """gin-contrib/cors, validateOrigin: case counts, one star stands for anything."""
        return (
            self._any
            or origin in self._exact
            or any(origin.startswith(before) and origin.endswith(after) for before, after in self._wild)
        )

    def _check_host(self, method: str, host: str, headers: Headers) -> Verdict:
        """allowedHostsMiddleware: an address must be ours or a private one, a name a local one."""
        if not self._loopback:
            return Verdict(None, headers) if headers else PASS
        name = _without_port(host)
        address = _address(name)
        if address and self._ours(address):
            return Verdict(None, headers) if headers else PASS
        if not self._local(name.lower()):
            return Verdict(403, headers)
        if method == "OPTIONS":
            return Verdict(204, headers)
        return Verdict(None, headers) if headers else PASS

    def _ours(self, address: IPv4Address | IPv6Address) -> bool:
        if address in self._addresses or address.is_unspecified:
            return True
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        plain = mapped or address
        return plain.is_loopback or any(plain.version == net.version and plain in net for net in PRIVATE)

    def _local(self, name: str) -> bool:
        return name in ("", "localhost", self._hostname) or name.endswith(_LOCAL_NAMES)


def _check_rule(origin: str) -> None:
    """cors.Config.Validate and parseWildcardRules, where Ollama panics at its start."""
    if origin.count("*") > 1:
        raise ValueError(f"origin {origin!r} has more than one *; one is allowed")
    if "*" not in origin and not origin.startswith(_SCHEMES):
        raise ValueError(f"origin {origin!r} has neither a * nor one of {', '.join(_SCHEMES)}")


def _without_port(host: str) -> str:
    """net.SplitHostPort, or the whole where it would refuse."""
    name, colon, _ = host.rpartition(":")
    if not colon:
        return host
    if host.startswith("["):
        inside, closed, after = host[1:].partition("]")
        return inside if closed and after.startswith(":") and ":" not in after[1:] else host
    return host if ":" in name or "[" in host or "]" in host else name


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None

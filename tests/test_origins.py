"""Host and Origin rules are those of a real Ollama 0.32: the tables were read off one listening on 127.0.0.1:11434."""

import pytest

from scheduler.origins import PRIVATE, Border, Verdict

HOST = "127.0.0.1:11434"
BORDER = Border(loopback=True, hostname="Studio", addresses=["203.0.113.7", "fe80::1%en0", "not an address"])
OPEN = Border(loopback=False)
ALLOWED_HEADERS = (
    "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,"
    "X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,"
    "X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
    "X-Stainless-Runtime-Version,X-Stainless-Timeout"
)


@pytest.mark.parametrize(
    ("host", "passes"),
    [
        (HOST, True),
        ("127.0.0.1", True),
        ("127.8.9.10:80", True),
        ("localhost:11434", True),
        ("LocalHost", True),
        ("localhost:", True),
        ("", True),
        ("studio:11434", True),
        ("STUDIO", True),
        ("models.localhost", True),
        ("studio.local:11434", True),
        ("ollama.docker.internal", True),
        ("0.0.0.0:1", True),
        ("[::]:1", True),
        ("[::1]:11434", True),
        ("[::ffff:127.0.0.1]:1", True),
        ("[::ffff:10.0.0.1]:1", True),
        *((str(network[0]), True) for network in PRIVATE[:3]),
        *((f"{network[-1]}:11434", True) for network in PRIVATE[:3]),
        ("[fd00::5]:1", True),
        ("203.0.113.7", True),  # one of this machine's own
        ("[fe80::1]:1", True),
        ("evil.example", False),
        ("evil.example:11434", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("notlocal", False),
        ("local", False),
        ("8.8.8.8:1", False),
        ("172.32.0.1", False),
        ("192.169.0.1", False),
        ("203.0.113.8", False),
        ("169.254.1.1", False),
        ("100.64.0.1", False),
        ("[2001:db8::1]:1", False),
        ("[fe80::2]:1", False),
        ("[::1]", False),  # net.SplitHostPort wants a port after a bracket
        ("::1", True),
        ("a:b:c", False),
        ("127.1", False),
        ("0177.0.0.1", False),
        ("[localhost]:1", True),
        ("[local]host:1", False),
    ],
)
def test_hosts_on_loopback(host: str, passes: bool) -> None:
    """A page whose name was made to point at us cannot come in by that name; local names and addresses can."""
    assert BORDER.check("POST", host, "") == (Verdict() if passes else Verdict(403))
    assert OPEN.check("POST", host, "") == Verdict()  # listening elsewhere, Ollama asks nothing of the host


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "https://localhost",
        "http://localhost:3000",
        "https://127.0.0.1:8443",
        "http://0.0.0.0:1",
        "app://obsidian.md",
        "file://",
        "tauri://localhost",
        "vscode-webview://abc",
        "vscode-file://vscode-app",
    ],
)
def test_origins_allowed_by_default(origin: str) -> None:
    """Local pages and desktop applications get their CORS header; the answer varies by origin."""
    headers = (("Vary", "Origin"), ("Access-Control-Allow-Origin", origin))
    assert BORDER.check("POST", HOST, origin) == Verdict(None, headers)


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://evil.example:11434",
        "null",
        "http://localhost.evil.example",
        "HTTP://LOCALHOST",
        "http://127.0.0.2",
        "chrome-extension://abc",
        "http://[::1]",
        f"ftp://{HOST}",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
def test_other_origins_are_refused(origin: str, method: str) -> None:
    """403 with no header on any method, preflight included."""
    assert BORDER.check(method, HOST, origin) == Verdict(403)
    assert OPEN.check(method, HOST, origin) == Verdict(403)


def test_same_origin_is_not_cross_origin() -> None:
    """A page of ours is let in without CORS headers, provided its host is allowed."""
    assert BORDER.check("POST", HOST, f"http://{HOST}") == Verdict()
    assert BORDER.check("POST", HOST, f"https://{HOST}") == Verdict()
    assert BORDER.check("POST", "evil.example", "http://evil.example") == Verdict(403)


def test_preflight() -> None:
    """An allowed origin's preflight is answered at once, header for header, whatever its host."""
    verdict = BORDER.check("OPTIONS", "evil.example", "http://localhost:3000")
    assert verdict.status == 204
    assert sorted(verdict.headers) == [
        ("Access-Control-Allow-Headers", ALLOWED_HEADERS),
        ("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
        ("Access-Control-Allow-Origin", "http://localhost:3000"),
        ("Access-Control-Max-Age", "43200"),
        ("Vary", "Access-Control-Request-Headers"),
        ("Vary", "Access-Control-Request-Method"),
        ("Vary", "Origin"),
    ]


def test_options_without_origin() -> None:
    """A local name gets 204 at once, an address goes on to the routes, another name gets 403."""
    assert BORDER.check("OPTIONS", "foo.local", "") == Verdict(204)
    assert BORDER.check("OPTIONS", HOST, "") == Verdict()
    assert BORDER.check("OPTIONS", "evil.example", "") == Verdict(403)


def test_a_refused_host_keeps_the_cors_headers() -> None:
    """gin writes the CORS headers before it looks at the host."""
    headers = (("Vary", "Origin"), ("Access-Control-Allow-Origin", "app://x"))
    assert BORDER.check("GET", "evil.example", "app://x") == Verdict(403, headers)
    assert BORDER.check("OPTIONS", "foo.local", "http://foo.local") == Verdict(204)


@pytest.mark.parametrize(
    ("rule", "origin", "allowed"),
    [
        ("https://chat.example.com", "https://chat.example.com", True),
        (" HTTPS://Chat.Example.com".strip(), "https://chat.example.com", False),  # Ollama does not start with it
        ("https://Chat.example.com", "https://chat.example.com", True),
        ("https://chat.example.com", "https://Chat.example.com", False),
        ("https://*.example.com", "https://a.b.example.com", True),
        ("https://*.example.com", "http://a.example.com", False),
        ("*.example.com", "ftp://a.example.com", True),
        ("chrome-extension://*", "chrome-extension://abc", True),
        ("http://10.0.0.5:*", "http://10.0.0.5:80", True),
        ("http://10.0.0.5:*", "http://10.0.0.5", False),
    ],
)
def test_origins_of_the_configuration(rule: str, origin: str, allowed: bool) -> None:
    """OLLAMA_ORIGINS adds to the defaults: exact ones, and one star for anything."""
    try:
        border = Border(loopback=True, origins=[rule])
    except ValueError:
        assert not allowed
        return
    assert (border.check("GET", HOST, origin).status is None) == allowed
    assert border.check("GET", HOST, "http://localhost:1").status is None


def test_every_origin() -> None:
    """With "*" the answer says so and does not vary, and a page may come from anywhere, but not by any host."""
    border = Border(loopback=True, origins=["*"])
    headers = (("Access-Control-Allow-Origin", "*"),)
    assert border.check("POST", HOST, "http://evil.example") == Verdict(None, headers)
    assert border.check("POST", "evil.example", "null") == Verdict(403, headers)
    preflight = border.check("OPTIONS", HOST, "null")
    assert preflight.status == 204
    assert not [name for name, _ in preflight.headers if name == "Vary"]


@pytest.mark.parametrize(
    ("origin", "reason"), [("https://*.a.*", "more than one"), ("chat.example.com", "neither"), ("", "neither")]
)
def test_an_origin_ollama_would_not_start_with(origin: str, reason: str) -> None:
    """It is refused where the configuration is read, with what is wrong."""
    with pytest.raises(ValueError, match=reason):
        Border(loopback=True, origins=[origin])

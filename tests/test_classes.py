"""A request's class and session, from the wire to /status: what its client says, the rules, its alias, and who asks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from scheduler import composition
from scheduler.classes import Asked, Classes, Rule
from scheduler.core import messages as m
from scheduler.identity import Telling, Who, key_hash, who
from scheduler.settings_problems import SettingsError
from scheduler.settings_read import read_settings, settings_of
from tests.live import CODER, FAST, QUALITY, Live

CHAT, MESSAGES, EMBED = "/v1/chat/completions", "/v1/messages", "/v1/embeddings"
NOWHERE = "http://127.0.0.1:1"  # no Ollama: what was taken waits, and /status shows it
SECRET = b"0123456789abcdef"
NOBODY = Who("", "", "")


@contextlib.asynccontextmanager
async def asking(folder: Path, **settings: Any) -> AsyncIterator["Asking"]:
    """A daemon whose requests stay in its queue."""
    async with Live.start(NOWHERE, folder, **settings) as live, asyncio.TaskGroup() as group:
        asks = Asking(live, group)
        yield asks
        for task in asks.tasks:
            task.cancel()


class Asking:
    """Sends requests that nobody answers and reads in /status what became of them."""

    def __init__(self, live: Live, group: asyncio.TaskGroup) -> None:
        self.live = live
        self.tasks: list[asyncio.Task[None]] = []
        self._group = group

    async def row(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
        """The row of /status of one more request."""
        body = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "hi"}]} | (body or {})
        if path == EMBED:
            body["input"] = "hi"
        if path == MESSAGES:
            body["max_tokens"] = 16
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.tasks.append(self._group.create_task(self._send(path, body, named)))
        await self.live.until(lambda: len(self.live.state.requests) == len(self.tasks))
        row: dict[str, Any] = (await self.live.status())["requests"][-1]
        return row

    async def _send(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> None:
        async with self.live.http.post(path, json=body, headers=headers) as answer:
            await answer.read()


async def test_the_documented_names_have_the_documented_classes(tmp_path: Path) -> None:
    """Without a rule: sonnet and every bare model are interactive, gpt-4 and 3.5 sonnet agents, haiku a helper."""
    documented = {
        "claude-sonnet-4-5": ("interactive", QUALITY),
        "gpt-4": ("agent", QUALITY),
        "claude-3-5-sonnet": ("agent", CODER),
        "claude-3-haiku": ("helper", FAST),
        CODER: ("interactive", CODER),
        "never-heard-of": ("interactive", "never-heard-of:latest"),
    }
    async with asking(tmp_path) as asks:
        for alias, (cls, model) in documented.items():
            row = await asks.row(CHAT, {"model": alias})
            assert (row["cls"], row["model"], row["alias"]) == (cls, model, alias)


async def test_rules_give_a_class_and_the_first_that_matches_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of condition is seen to match over the wire; a client's own word outweighs every rule."""
    monkeypatch.setenv("NIGHTLY_KEY", "sk-nightly")
    rules = [
        {"class": "batch", "key": "env:NIGHTLY_KEY"},
        {"class": "helper", "header": "X-App: title*"},
        {"class": "agent", "header": "X-Worker"},
        {"class": "helper", "endpoint": "/v1/embed*"},
        {"class": "batch", "session": "cron-*"},
        {"class": "agent", "alias": "claude-*", "endpoint": MESSAGES},
        {"class": "helper", "model": "qwen-fast"},
        {"class": "batch", "model": "qwen-fast*"},  # never reached
    ]
    async with asking(tmp_path, classes={"rules": rules}) as asks:
        assert (await asks.row(CHAT, Authorization="Bearer sk-nightly"))["cls"] == "batch"
        assert (await asks.row(CHAT, x_api_key="sk-nightly"))["cls"] == "batch"
        assert (await asks.row(CHAT, Authorization="Bearer sk-daily"))["cls"] == "interactive"
        assert (await asks.row(CHAT, X_App="titles"))["cls"] == "helper"
        assert (await asks.row(CHAT, X_App="other"))["cls"] == "interactive"
        assert (await asks.row(CHAT, X_Worker="7"))["cls"] == "agent"
        assert (await asks.row(EMBED, {"model": QUALITY}))["cls"] == "helper"
        assert (await asks.row(CHAT, {"user": "cron-7"}))["cls"] == "batch"
        assert (await asks.row(MESSAGES))["cls"] == "agent"
        assert (await asks.row(MESSAGES, {"model": QUALITY}))["cls"] == "interactive"
        assert (await asks.row(CHAT, {"model": "Qwen-Fast"}))["cls"] == "helper"
        assert (await asks.row(MESSAGES, X_Ollama_Scheduler_Class="Batch"))["cls"] == "batch"
        assert (await asks.row(MESSAGES, X_Ollama_Scheduler_Class="urgent"))["cls"] == "agent"


async def test_a_key_is_told_as_the_hash_that_a_rule_takes(tmp_path: Path) -> None:
    """What /status shows of an API key can be written into a rule, and it is not the key."""
    async with asking(tmp_path) as asks:
        key = (await asks.row(CHAT, Authorization="Bearer sk-nightly"))["key"]
    assert len(key) == 16
    async with asking(tmp_path, classes={"rules": [{"class": "batch", "key": key}]}) as asks:
        assert (await asks.row(CHAT, Authorization="Bearer sk-nightly"))["cls"] == "batch"
        assert (await asks.row(CHAT, Authorization="Bearer sk-daily"))["cls"] == "interactive"
        assert "sk-nightly" not in str(await asks.live.status())


async def test_a_rule_can_make_a_health_check(tmp_path: Path) -> None:
    """What a rule calls a probe gets its canned success: it neither waits nor loads."""
    rules = [{"class": "probe", "header": "X-Health"}]
    body = {"model": QUALITY, "messages": [{"role": "user", "content": "are you there?"}], "stream": False}
    async with Live.start(NOWHERE, tmp_path, classes={"rules": rules}) as live:
        async with live.http.post("/api/chat", json=body, headers={"X-Health": "1"}) as answer:
            assert (answer.status, (await answer.json())["message"]["content"]) == (200, "ok")
        assert [fact.kind for fact, _ in live.steps if isinstance(fact, m.Arrived)] == ["probe"]


async def test_a_session_is_what_its_client_says_of_itself(tmp_path: Path) -> None:
    """Claude Code's header or metadata, `user`, our own header, together with the key; no address, no key alone."""
    async with asking(tmp_path) as asks:
        anonymous = [await asks.row(CHAT), await asks.row(CHAT, Authorization="Bearer ollama")]
        assert [row["session"] for row in anonymous] == ["", ""]
        assert all(row["client"].startswith("127.0.0.1:") for row in anonymous)
        first = (await asks.row(MESSAGES, X_Claude_Code_Session_Id="s1"))["session"]
        assert (await asks.row(MESSAGES, {"model": "claude-3-haiku"}, X_Claude_Code_Session_Id="s1"))[
            "session"
        ] == first
        others = [
            await asks.row(MESSAGES, X_Claude_Code_Session_Id="s2"),
            await asks.row(MESSAGES, X_Claude_Code_Session_Id="s1", Authorization="Bearer ollama"),
            await asks.row(MESSAGES, {"metadata": {"user_id": "user_a_account_b_session_c"}}),
            await asks.row(CHAT, {"user": "ann"}),
            await asks.row(CHAT, X_Ollama_Scheduler_Session="nightly"),
        ]
        told = {first, *(row["session"] for row in others)}
        assert len(told) == 6
        assert all(len(session) == 16 for session in told)


@pytest.mark.parametrize(
    ("said", "headers", "name"),
    [
        ({"metadata": {"user_id": "u", "session_id": "s"}, "user": "ann"}, {}, "s"),
        ({"prompt_cache_key": "c", "user": "ann"}, {}, "c"),
        ({"metadata": {"user_id": 5}, "user": "ann"}, {}, "ann"),
        ({"metadata": "x", "user": ["ann"]}, {}, ""),
        ({"metadata": None, "user": ""}, {}, ""),
        ({"user": "ann"}, {"X-Claude-Code-Session-Id": "s"}, "s"),
        ({"user": "ann"}, {"X-Claude-Code-Session-Id": "s", "X-Ollama-Scheduler-Session": "o"}, "o"),
    ],
)
def test_the_most_telling_name_counts(said: dict[str, Any], headers: dict[str, str], name: str) -> None:
    """A conversation's own id before a person's; what is no text says nothing."""
    known = who(said, headers, "192.0.2.1:5000", Telling(), SECRET)
    assert known.name == name
    assert bool(known.session) == bool(name)


def test_keys_and_addresses_are_sessions_where_the_settings_say_so() -> None:
    """Each of its own client only if told so; a port is no part of an address, and a name outweighs both."""

    def session(by_key: bool, by_peer: bool, peer: str = "192.0.2.1:5000", **headers: str) -> str:
        return who({}, headers, peer, Telling("", by_key, by_peer), SECRET).session

    assert session(False, False, Authorization="Bearer a") == ""
    assert session(True, False) == ""
    assert session(True, False, Authorization="Bearer a") == session(
        True, True, "192.0.2.9:1", Authorization="Bearer a"
    )
    assert session(True, False, Authorization="Bearer a") != session(True, False, Authorization="Bearer b")
    assert session(False, True) == session(False, True, "192.0.2.1:6000") != session(False, True, "192.0.2.2:5000")
    assert session(False, True, "[2001:db8::1]:5000") == session(False, True, "[2001:db8::1]:6000") != ""


def test_hashes_depend_on_the_secret() -> None:
    """Nobody without the daemon's key can tell which API key or session a hash is of."""
    one, two = (who({"user": "ann"}, {"x-api-key": "k"}, "", Telling(), key) for key in (SECRET, b"f" * 16))
    assert one.session != two.session
    assert one.key != two.key


def test_all_that_a_rule_says_must_be_so() -> None:
    """One condition that does not hold is enough for the next rule to be looked at."""
    asked = Asked("gpt-4", QUALITY, CHAT, {"X-App": "cli"}, Who("5e55", key_hash("k", SECRET), "ann"))
    whole = {"alias": "gpt-4", "model": "qwen-*", "endpoint": "/v1/*", "header": "X-App: c?i", "session": "5e55"}
    assert Classes("", (Rule("batch", key=asked.who.key, **whole),)).of(asked, "agent") == "batch"
    for condition in ("alias", "model", "endpoint", "header", "session"):
        other = {**whole, condition: "X-App: x" if condition == "header" else "/x"}
        assert Classes("", (Rule("batch", **other), Rule("helper", alias="gpt-*"))).of(asked, "agent") == "helper"


def test_an_unset_variable_is_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule whose key is in no variable matches no request, not even one without a key, and that is told."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    path = tmp_path / "c.toml"
    path.write_text('[[classes.rules]]\nclass = "batch"\nkey = "env:NO_SUCH_KEY"\n', "utf-8")
    read = read_settings(path)
    assert [str(each) for each in read.warnings] == [
        'classes.rules[0].key: "env:NO_SUCH_KEY" is not in the environment: the rule matches nothing; '
        "set it where the daemon starts, or write the hash that /status shows"
    ]
    classes = composition.classes(read.settings, SECRET, {})
    assert classes.of(Asked("a", "a", CHAT, {}, NOBODY), "agent") == "agent"
    given = composition.classes(read.settings, SECRET, {"NO_SUCH_KEY": "k"})
    assert given.of(Asked("a", "a", CHAT, {}, Who("", key_hash("k", SECRET), "")), "agent") == "batch"


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"class": "batch"}, "classes.rules[0]: matches every request; give it one of alias, model, endpoint,"),
        ({"class": "urgent", "alias": "a"}, 'classes.rules[0].class: "urgent" is not known here; write'),
        ({"alias": "a"}, "classes.rules[0].class: is missing; write it as interactive, agent, helper, batch or probe"),
        ({"class": "batch", "alias": ""}, 'classes.rules[0].alias: "" is not a pattern; write text with * or ?'),
        ({"class": "batch", "header": "X App"}, 'classes.rules[0].header: "X App" is not a header; write "X-App"'),
        ({"class": "batch", "header": "X-App:"}, 'classes.rules[0].header: "X-App:" is not a header; write "X-App"'),
        (
            {"class": "batch", "endpoint": "v1"},
            'classes.rules[0].endpoint: "v1" is not a path; write it from the slash',
        ),
        ({"class": "batch", "aliass": "a"}, "classes.rules[0].aliass: there is no such setting; the nearest known is"),
        ({"class": "batch", "key": "sk-1"}, "classes.rules[0].key: does not name an API key (what it says may be one"),
    ],
)
def test_a_bad_rule_is_told_by_name(rule: dict[str, Any], told: str) -> None:
    """The thing, its value and what would be right; what may be an API key is not repeated."""
    with pytest.raises(SettingsError) as caught:
        settings_of({"classes": {"rules": [rule]}})
    assert told in str(caught.value)
    assert "sk-1" not in str(caught.value)


def test_one_rule_that_is_no_list_is_told() -> None:
    """A single table in place of the list is the likeliest slip."""
    with pytest.raises(SettingsError, match=r"classes.rules: is not a list; write \[\[classes.rules\]\]"):
        settings_of({"classes": {"rules": {"class": "batch", "alias": "a"}}})

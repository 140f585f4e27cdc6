"""Commands over HTTP: who may give them, what may be said, and what they do to a daemon before a real Ollama."""

import asyncio
import contextlib
import json
import re
import stat
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from scheduler import control_bodies as bodies, control_told
from scheduler.control import Control
from scheduler.control_gate import TOKEN, Gate, drop_token, new_token
from scheduler.core import messages as m
from scheduler.core.config import Config, ModelConfig
from scheduler.core.machine import Machine
from scheduler.dispatcher import Dispatcher
from scheduler.reload import Outcome
from scheduler.routes import Aliases
from tests.live import CODER, FAST, QUALITY, Live
from tests.realollama.stage import RealOllama, StagedModel

GATE = Gate("the-token", "127.0.0.1", 11450, ("mac.example.com", "other.example.com:80"))
GOOD = {"Host": "127.0.0.1:11450", "Authorization": "Bearer the-token"}
STAGED = (
    StagedModel(QUALITY, 35_000_000_000, load_seconds=0.3, num_ctx=131_072),
    StagedModel(CODER, 20_000_000_000, load_seconds=0.3, num_ctx=32_768),
    StagedModel(FAST, 5_000_000_000, load_seconds=0.2, num_ctx=8_192, endless=True, tokens_per_second=50.0),
)
SETTINGS: dict[str, Any] = {"ollama_settings": {"device": "38338MiB"}}
LONG = {"num_predict": 2000}  # 40 s: an answer that is still coming when it is cancelled


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:11450", "localhost:11450", "LocalHost:11450", "[::1]:11450", "mac.example.com:11450"],
)
def test_our_own_names_pass(host: str) -> None:
    """Loopback with our port, and what is configured, with our port where it names none."""
    assert GATE.check("POST", {**GOOD, "Host": host}) is None


def test_a_name_configured_with_a_port_passes_with_that() -> None:
    """Where a port is forwarded to ours, clients say the other one; and HTTP's own port is left out."""
    assert GATE.check("POST", {**GOOD, "Host": "other.example.com:80"}) is None
    assert GATE.check("POST", {**GOOD, "Host": "other.example.com:11450"}) is not None
    assert Gate("the-token", "127.0.0.1", 80).check("POST", {**GOOD, "Host": "localhost"}) is None


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"Host": "evil.example.com:11450"}, 403, "Host"),
        ({"Host": "127.0.0.1"}, 403, "Host"),
        ({"Host": "127.0.0.1:11434"}, 403, "Host"),
        ({"Host": "localhost.evil.example.com:11450"}, 403, "Host"),
        ({"Host": ""}, 403, "Host"),
        ({"Origin": "http://127.0.0.1:11450"}, 403, "Origin"),
        ({"Origin": "null"}, 403, "Origin"),
        ({"Origin": ""}, 403, "Origin"),
        ({"Authorization": ""}, 401, "Authorization"),
        ({"Authorization": "Bearer "}, 401, "Authorization"),
        ({"Authorization": "Bearer the-tokem"}, 401, "Authorization"),
        ({"Authorization": "Bearer the-token2"}, 401, "Authorization"),
        ({"Authorization": "the-token"}, 401, "Authorization"),
        ({"Authorization": "Basic the-token"}, 401, "Authorization"),
        ({"Authorization": "Bearer \udcff\xfc"}, 401, "Authorization"),
    ],
)
def test_nobody_else_does(change: dict[str, str], status: int, field: str) -> None:
    """A foreign name, any web page and a missing or wrong token are turned away; the answer names what is wrong, says
    what would be right and tells nothing of the token."""
    denied = GATE.check("POST", {**GOOD, **change})
    assert denied is not None
    assert (denied.status, denied.answer["field"]) == (status, field)
    assert denied.answer["right"]
    assert denied.answer["right"] in denied.answer["error"]
    assert "the-token" not in json.dumps(dict(denied.answer))


def test_only_a_post_changes_anything() -> None:
    """A GET is refused as such, and only once its sender's name is ours."""
    denied = GATE.check("GET", GOOD)
    assert denied is not None
    assert (denied.status, denied.answer["right"]) == (405, "POST")


def test_a_token_is_made_anew_and_is_ours_alone(tmp_path: Path) -> None:
    """Each start writes a fresh secret that only we may read; where none can be written the daemon goes on."""
    first, second = new_token(tmp_path), new_token(tmp_path)
    assert first != second
    assert len(first) >= 40
    assert (tmp_path / TOKEN).read_text() == second + "\n"
    assert stat.S_IMODE((tmp_path / TOKEN).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [TOKEN]
    assert new_token(tmp_path / "nowhere")


def test_a_token_goes_with_its_daemon(tmp_path: Path) -> None:
    """Whoever ends takes its own token along, and no other's; where there is none that is no trouble."""
    first, second = new_token(tmp_path), new_token(tmp_path)
    drop_token(tmp_path, first)
    assert (tmp_path / TOKEN).read_text() == second + "\n"
    drop_token(tmp_path, second)
    assert list(tmp_path.iterdir()) == []
    drop_token(tmp_path, second)


@pytest.mark.parametrize(
    ("command", "body", "field", "said"),
    [
        ("pin", {"model": "m", "for": "2 moons"}, "for", r'for "2 moons" is not a duration; right is: .*"2m"'),
        ("pin", {"model": "m", "for": "25h"}, "for", r'"25h" is longer than a day; right is: write "24h" or less'),
        ("pin", {"model": "m", "for": 0}, "for", "for 0 is no time at all"),
        ("pin", {"model": "m", "for": -1}, "for", "for -1 is not"),
        ("pin", {"model": "m", "for": True}, "for", "is not a duration"),
        ("pin", {"model": "m"}, "for", "for is missing; right is: .*seconds"),
        ("pin", {"for": "2h"}, "model", "model is missing; right is: a model or an alias"),
        ("pin", {"model": "m", "for": "2h", "others": "go"}, "others", 'others "go" .*"wait" or "refuse"'),
        (
            "pin",
            {"model": "m", "for": "2h", "until": 3},
            "until",
            "until 3 is not known here; .*by, for, model, others",
        ),
        ("load", {"model": ""}, "model", "is not a name"),
        ("load", {"model": 7}, "model", "model 7 is not a name"),
        ("load", [], "body", r"body \[\] is not an object; right is: a JSON object with by, model"),
        ("passthrough", {"on": "yes"}, "on", 'on "yes" cannot be used; right is: true or false'),
        ("passthrough", {"on": 1}, "on", "on 1 cannot be used"),
        ("pause", {"for": "soon"}, "for", "is not a duration"),
        ("pause", {"for": 1e12}, "for", r'for 1000000000000.0 is longer than 30 days; right is: write "30d" or less'),
        ("pause", {"for": "31d"}, "for", "is longer than 30 days"),
        ("pause", {"for": 10**400}, "for", "is not a length of time"),
        ("pause", {"for": float("inf")}, "for", "for Infinity is"),
        ("pause", {"for": float("nan")}, "for", "for NaN is"),
        ("load", {"model": "\ud800"}, "model", "is not UTF-8 text; right is: write a name as text"),
        ("phase", {"phase": "a\udfff"}, "phase", "is not UTF-8 text"),
        ("cancel", {"request": "\ud800"}, "request", "is not UTF-8 text"),
        ("resume", {"by": "\ud800"}, "by", "is not somebody's name"),
        ("phase", {"phase": None}, "phase", "is not a name"),
        ("cancel", {}, "request", "as /status shows it"),
        ("resume", {"by": "a\nb"}, "by", "is not somebody's name"),
        ("resume", {"by": "x" * 201}, "by", "at most 200"),
        ("unload", {"model": "m", "all": "yes"}, "all", "true or false"),
    ],
)
def test_what_is_wrong_is_named(command: str, body: Any, field: str, said: str) -> None:
    """A body that cannot be followed is answered with the field, the value as sent, and what would be right."""
    with pytest.raises(bodies.Bad) as bad:
        bodies.read(command, json.dumps(body).encode())
    assert bad.value.problems[0]["field"] == field
    assert re.search(said, str(bad.value)), str(bad.value)


@pytest.mark.parametrize("raw", [b"{", b"nonsense", b'{"by": "\xff"}', b"[" * 100_000])
def test_what_is_no_json_is_told(raw: bytes) -> None:
    """Bytes that are no JSON, or too deep, are a body that cannot be followed, not a failure."""
    with pytest.raises(bodies.Bad, match="is not JSON"):
        bodies.read("resume", raw)


def test_every_problem_is_told() -> None:
    """Two mistakes are two problems."""
    with pytest.raises(bodies.Bad) as bad:
        bodies.read("pin", b'{"for": "never"}')
    assert {problem["field"] for problem in bad.value.problems} == {"for", "model"}


def test_nothing_at_all_is_an_empty_body() -> None:
    """A command that needs nothing takes an empty body."""
    assert bodies.read("resume", b" ").by == ""


class Person:
    """Somebody who commands a live daemon."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._token = (live.folder / TOKEN).read_text().strip()

    async def says(self, command: str, **body: Any) -> tuple[int, dict[str, Any]]:
        """One command: status and JSON."""
        headers = {"Authorization": f"Bearer {self._token}"}
        async with self._live.http.post(f"/control/{command}", json=body, headers=headers) as answer:
            told: dict[str, Any] = await answer.json()
            return answer.status, told

    async def does(self, command: str, **body: Any) -> dict[str, Any]:
        """A command that is followed."""
        status, told = await self.says(command, **body)
        assert status == 200, told
        return told

    async def why(self, **query: str) -> str:
        """What /why says, as one text."""
        async with self._live.http.get("/why", params=query) as answer:
            return " ".join((await answer.json())["sentences"])


@pytest.mark.real
@pytest.mark.timeout(120)
async def test_a_day_with_an_operator(real_ollama: Any, watchers: None, tmp_path: Path) -> None:
    """Load, pin, pause, resume, unload, phase, each by alias where there is one: done, told in the answer, in /status
    and by `why`; what cannot be is refused by name; and Ollama's evictor never wakes."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        await live.acquainted()
        ada = Person(live)

        told = await ada.does("load", model="gpt-4", by="ada")
        assert told["model"] == QUALITY
        assert "load qwen-quality-128k" in told["next"][0]
        await live.until(lambda: live.present() == {QUALITY: "ready"})

        told = await ada.does("pin", model="claude-3-haiku", **{"for": "2h"}, others="refuse", by="ada")
        assert "unload qwen-quality-128k" in told["next"][0]
        await live.until(lambda: live.state.models[FAST].usable)
        pin = (await live.status())["pins"][0]
        assert (pin["model"], pin["owner"], pin["others"]) == (FAST, "ada", "refuse")
        assert 7100 < pin["left"] <= 7200
        assert "It is pinned by ada" in await ada.why(model=FAST)
        status, answer = await live.chat("gpt-4")
        assert status == 503
        assert all(word in answer["error"] for word in (FAST, "pinned by ada"))
        status, told = await ada.says("load", model="gpt-4")
        assert status == 409
        assert "pinned by ada" in told["error"]
        status, told = await ada.says("unload", all=True)
        assert (status, "unpin first" in told["error"]) == (409, True)
        await ada.does("unpin", model=FAST)
        assert (await ada.says("unpin", model=FAST))[0] == 409

        assert (await ada.says("pause", **{"for": 1e12}))[0] == 400
        told = await ada.does("pause", **{"for": "30d"}, by="ada")
        await live.until(lambda: not live.present())
        told = await live.status()
        assert (told["verdict"], told["paused"]["owner"], told["memory"]["promised"]) == ("paused", "ada", 0)
        asking = asyncio.ensure_future(live.chat("claude-3-haiku", options={"num_predict": 3}))
        await live.until(lambda: live.state.requests)
        (request,) = live.state.requests
        told = await live.status()
        assert (told["verdict"], told["requests"][0]["id"]) == ("paused", request)
        assert told["requests"][0]["waits_for"].startswith("the pause by ada to end")
        assert "the pause by ada" in await ada.why(request=request)
        assert (await ada.says("load", model=FAST))[0] == 409
        await ada.does("resume")
        assert (await asking)[0] == 200
        assert "was answered with 200" in await ada.why(request=request)

        await live.until(lambda: live.state.transition is None and len(live.present()) == 2)
        await ada.does("unload", all=True, by="ada")
        await live.until(lambda: not live.present() and not live.state.asked_out)
        assert "unload asked for by ada" in await ada.why(model="claude-3-haiku")
        assert "nothing changes" in (await ada.does("phase", phase="orchestra"))["next"][0] or live.state.transition
        assert live.state.phase == "orchestra"
        status, told = await ada.says("phase", phase="nowhere")
        assert (status, "normal, orchestra" in told["error"]) == (409, True)


@pytest.mark.real
@pytest.mark.timeout(120)
async def test_a_request_is_cancelled_wherever_it_is(real_ollama: Any, watchers: None, tmp_path: Path) -> None:
    """One that runs and one that waits are ended by name; their clients read by whom, the slot serves the next, and
    `why` remembers both."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        await live.acquainted()
        ada = Person(live)
        runs = asyncio.ensure_future(
            live.http.post("/api/generate", json={"model": FAST, "prompt": "a", "options": LONG})
        )
        await live.until(lambda: any(r.place == "running" for r in live.state.requests.values()))
        (first,) = live.state.requests
        answer = await runs
        await answer.content.readany()
        waits = asyncio.ensure_future(live.chat(FAST, "b"))
        await live.until(lambda: len(live.state.requests) == 2)
        second = next(i for i in live.state.requests if i != first)
        assert "for a free slot" in await ada.why(request=second)
        assert "its answer is coming" in await ada.why(request=first)

        told = await ada.does("cancel", request=second, by="ada")
        assert second in told["done"]
        status, refused = await waits
        assert (status, "cancelled by ada" in refused["error"]) == (403, True)
        await ada.does("cancel", request=first, by="ada")
        said = b""
        with contextlib.suppress(aiohttp.ClientPayloadError):  # an answer that is not whole does not end as one that is
            while piece := await answer.content.readany():
                said += piece
        answer.close()
        assert b"cancelled by ada" in said
        await live.until(lambda: not live.state.requests)
        assert (await live.chat(FAST, "c", options={"num_predict": 3}))[0] == 200
        assert "cancelled" in await ada.why(request=first)
        assert "was refused with 403" in await ada.why(request=second)
        status, told = await ada.says("cancel", request=first)
        assert (status, first in told["error"]) == (409, True)
        async with live.http.get("/why", params={"request": "r0000-1"}) as unknown:
            assert unknown.status == 404
        for nothing in ({}, {"model": ""}, {"request": " "}):
            async with live.http.get("/why", params=nothing) as empty:
                assert empty.status == 400
                assert "name a model" in (await empty.json())["error"]


@pytest.mark.real
@pytest.mark.timeout(120)
async def test_passthrough_is_loud_and_off_adopts(real_ollama: Any, tmp_path: Path) -> None:
    """On: everything goes through at once and unscheduled, and /status says so first of all. Off: what Ollama has is
    adopted and scheduled again."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        await live.acquainted()
        ada = Person(live)
        await ada.does("passthrough", on=True, by="ada")
        assert (await ada.says("passthrough", on=True))[0] == 409
        told = await live.status()
        assert told["verdict"] == "passthrough"
        assert told["headline"].startswith("PASSTHROUGH is on, by ada")
        assert told["passthrough"]["suspended"] == ["P1", "P2", "P4", "P5", "P6", "P8"]
        assert told["needs_you"][0]["type_this"] == "ollama-scheduler passthrough off"
        assert (await live.chat("claude-3-haiku", options={"num_predict": 3}))[0] == 200
        assert live.orders(m.Load) == []
        assert set(await ollama.ps()) == {FAST}
        await ada.does("passthrough", on=False)
        await live.until(lambda: live.present() == {FAST: "ready"})
        told = await live.status()
        assert (told["passthrough"], told["verdict"]) == (None, "ok")
        assert (await live.chat("claude-3-haiku", options={"num_predict": 3}))[0] == 200
        assert live.orders(m.Load) == []


@pytest.mark.real
@pytest.mark.timeout(60)
async def test_who_may_not_changes_nothing(real_ollama: Any, tmp_path: Path) -> None:
    """Over HTTP: no token, a web page, a foreign name, an unknown command, a bad body and a GET are all refused in
    JSON that says what is wrong, and no fact reaches the core."""
    ollama: RealOllama = await real_ollama(models=STAGED)
    async with Live.start(ollama.url, tmp_path / "state", **SETTINGS) as live:
        await live.acquainted()
        ada = Person(live)
        bearer = {"Authorization": f"Bearer {(live.folder / TOKEN).read_text().strip()}"}
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer x"}, 401),
            ({**bearer, "Origin": live.url}, 403),
            ({**bearer, "Host": "mac.local:1"}, 403),
        ):
            async with live.http.post("/control/pause", json={}, headers=headers) as answer:
                assert answer.status == status
                assert (await answer.json())["field"] in ("Authorization", "Origin", "Host")
        async with live.http.get("/control/pause", headers=bearer) as answer:
            assert answer.status == 405
        status, told = await ada.says("paus")
        assert (status, told["error"]) == (404, "there is no command 'paus'; the nearest is pause")
        status, told = await ada.says("pause", **{"for": "long"})
        assert (status, told["field"], told["value"]) == (400, "for", "long")
        status, told = await ada.says("unload")
        assert (status, told["field"]) == (400, "model")
        status, told = await ada.says("load", model="claude-opus-4")
        assert (status, "paid route" in told["error"]) == (503, True)
        status, told = await ada.says("load", model="gpt-oss:120b-cloud")
        assert (status, "elsewhere" in told["error"]) == (409, True)
        status, told = await ada.says("reload")
        assert (status, "without a file" in told["error"]) == (409, True)
        assert "is refused" not in told["error"]
        assert live.state.paused is None
        assert not any(isinstance(fact, m.Paused) for fact, _ in live.steps)


def test_what_is_still_being_loaded_is_not_said_to_leave_now() -> None:
    """A pause lets a load under way end first, and says so."""
    machine = Machine.fresh(Config(models=(ModelConfig("fast:latest", 5 * 10**9),)), 0.0)
    for fact in (
        m.MemorySeen(1.0, 38 * 10**9, "a test"),
        m.ModelsListed(1.0, (m.Listed("fast:latest", 5 * 10**9),)),
        m.OllamaUp(1.0, "0.32.0"),
        m.Residents(2.0, 2.0, ()),
        m.LoadAsked(3.0, "fast:latest", "a person"),
    ):
        machine.step(fact)
    pause = m.Paused(4.0, "a person")
    machine.step(pause)
    assert control_told.then(machine.state, pause, 4.0) == ["fast is still being loaded: that ends first."]


class Changed:
    """A configuration in which the policy is another one each time it is read."""

    async def again(self, by: str) -> Outcome:
        """Read it."""
        return Outcome([], ["policy"], [])


@pytest.fixture
async def core() -> Dispatcher:
    """A core whose Ollama never answered."""
    machine = Machine.fresh(Config(models=(ModelConfig("fast:latest", 5 * 10**9),)), 0.0)
    return Dispatcher(machine, lambda: 9.0)


@pytest.fixture
async def away(core: Dispatcher) -> Control:
    """What follows commands in front of it."""
    return Control(core, Aliases(), Changed())


@pytest.mark.parametrize("command", ["load", "pin"])
async def test_what_cannot_be_loaded_without_ollama_says_so(core: Dispatcher, away: Control, command: str) -> None:
    """The cause is named: to ask again in a moment helps nobody while no Ollama runs."""
    body = json.dumps({"model": "fast", **({"for": "1h"} if command == "pin" else {})})
    status, told = await away.follow(command, body.encode(), "127.0.0.1:1")
    assert (status, told["error"].startswith("Ollama has not answered yet: what is installed")) == (409, True)
    core.post(m.OllamaDown(9.0, "connection refused"))
    status, told = await away.follow(command, body.encode(), "127.0.0.1:1")
    assert (status, told["error"].startswith("Ollama does not answer (connection refused): what is ")) == (409, True)
    assert (await away.follow("resume", b"{}", "127.0.0.1:1"))[1]["error"] == "nothing is paused"


async def test_a_changed_setting_is_not_followed_by_nothing_changes(away: Control) -> None:
    """What does not change is what is in memory: `reload` has just named what did."""
    _, told = await away.follow("reload", b"{}", "127.0.0.1:1")
    assert told["done"] == "The configuration was read again; changed: policy."
    assert told["next"][0].startswith("In memory nothing changes now")

"""Residency against an Ollama whose every answer a test can replace: each order ends in one fact, come what may."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import httpx
import pytest
from aiohttp import web
from hypothesis import given, settings, strategies as st

from scheduler.core import messages as m
from scheduler.core.config import Config
from scheduler.core.state import CoreState, ModelState
from scheduler.reading import within
from scheduler.residency import Patience, Residency

F = TypeVar("F", bound=m.Fact)
Script = Callable[[dict[str, Any]], Awaitable[web.StreamResponse | None]]
WAIT = 4.0  # seconds a test waits for what must come
QUICK = Patience(reading=2.0, poll=0.002, poll_longest=0.01, seen=0.2, unload=0.3, unload_again=0.02, back=0.01)
HASTY = Patience(reading=0.1, poll=0.002, poll_longest=0.01, seen=0.06, unload=0.15, unload_again=0.03, back=0.01)
SHOWN: dict[str, Any] = {
    "modelfile": "# made for a test\nFROM /models/blobs/sha256-abc\nPARAMETER num_ctx 8192\n",
    "parameters": 'num_ctx                        8192\nstop                           "a b"',
    "model_info": {
        "general.architecture": "qwen2",
        "qwen2.attention.head_count": 28,
        "qwen2.attention.head_count_kv": [8, 0, 4],
        "qwen2.block_count": 28,
        "qwen2.context_length": 131072,
        "qwen2.embedding_length": 3584,
    },
    "capabilities": ["completion"],
}


@pytest.fixture(autouse=True, scope="module")
def certificates() -> Iterator[None]:
    """The certificates, which nothing here uses, are read once for all tests: that takes longer than a test."""
    read = httpx.create_ssl_context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx, "create_ssl_context", lambda: read)
        yield


class Ollama:
    """Keeps models in memory as Ollama does; `scripts` answer in its place, or return None."""

    def __init__(self) -> None:
        self.url = ""
        self.installed: dict[str, dict[str, Any]] = {}
        self.shown: dict[str, dict[str, Any]] = {}
        self.resident: dict[str, dict[str, Any]] = {}
        self.scripts: dict[str, Script] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._news = asyncio.Event()

    def install(self, name: str, digest: str = "", **row: Any) -> None:
        """Add a model to /api/tags."""
        self.installed[name] = {"name": name, "model": name, "size": 7, "digest": digest or name, **row}

    def bring(self, name: str, size: int = 5_000, context: int = 4096) -> None:
        """Put a model into memory."""
        digest = self.installed.get(name, {}).get("digest", name)
        row = {"name": name, "model": name, "size": size, "size_vram": size, "digest": digest}
        self.resident[name] = {**row, "context_length": context}

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(asked == path for asked, _ in self.asked)

    async def asks(self, path: str, number: int = 1) -> None:
        """Wait until a path was asked for so often."""
        async with asyncio.timeout(WAIT):
            while self.count(path) < number:
                self._news.clear()
                await self._news.wait()

    def say(self, path: str, *answers: Callable[[], web.Response] | None) -> None:
        """Give these answers on a path, one after the other (None: the usual one), then the usual ones."""
        waiting = list(answers)

        async def script(_: dict[str, Any]) -> web.StreamResponse | None:
            answer = waiting.pop(0) if waiting else None
            return None if answer is None else answer()

        self.scripts[path] = script

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        body = await request.json() if request.can_read_body else {}
        self.asked.append((request.path, body))
        self._news.set()
        script = self.scripts.get(request.path)
        scripted = await script(body) if script is not None else None
        return scripted if scripted is not None else web.json_response(self._usual(request.path, body))

    def _usual(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        match path:
            case "/api/version":
                return {"version": "0.99"}
            case "/api/tags":
                return {"models": list(self.installed.values())}
            case "/api/show":
                return self.shown.get(body["model"], SHOWN)
            case "/api/ps":
                return {"models": list(self.resident.values())}
            case "/api/generate" | "/api/embed":
                if body["keep_alive"] == 0:
                    self.resident.pop(body["model"], None)
                else:
                    self.bring(body["model"])
                return {"model": body["model"], "response": "", "embeddings": [], "done": True}
        raise web.HTTPNotFound


class World:
    """A residency, the Ollama it speaks to, and every fact it posted."""

    def __init__(self, ollama: Ollama, tasks: asyncio.TaskGroup, patience: Patience) -> None:
        self.ollama = ollama
        self.state = CoreState(Config())
        self.facts: list[m.Fact] = []
        self.upon: Callable[[m.Fact], None] = lambda _: None  # what the core does with a fact
        self._queue: asyncio.Queue[m.Fact] = asyncio.Queue()
        self.residency = Residency(ollama.url, tasks, self._post, time.monotonic, lambda: self.state, patience)

    def _post(self, fact: m.Fact) -> None:
        self.facts.append(fact)
        self._queue.put_nowait(fact)
        self.upon(fact)

    async def fact(self, *kinds: type[F]) -> F:
        """The next fact of one of these kinds; others are passed over."""
        async with asyncio.timeout(WAIT):
            while True:
                fact = await self._queue.get()
                if isinstance(fact, kinds):
                    return fact

    def count(self, *kinds: type[m.Fact]) -> int:
        """How many facts of these kinds were posted."""
        return sum(isinstance(fact, kinds) for fact in self.facts)


@contextlib.asynccontextmanager
async def served(ollama: Ollama) -> AsyncIterator[None]:
    """`ollama` on a free loopback port."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", ollama.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", int(ollama.url.rpartition(":")[2] or 0))
        await site.start()
        ollama.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def world(patience: Patience = QUICK) -> AsyncIterator[World]:
    """A residency in front of a fresh Ollama; that its task group lives on to the end is part of every test."""
    ollama = Ollama()
    async with served(ollama), asyncio.TaskGroup() as tasks:
        made = World(ollama, tasks, patience)
        try:
            yield made
        finally:
            await made.residency.close()


async def never(_: dict[str, Any]) -> web.StreamResponse | None:
    """A script that does not answer."""
    await asyncio.Event().wait()
    return None


def raw(body: bytes, status: int = 200, kind: str = "application/json", **headers: str) -> Callable[[], web.Response]:
    """An answer of these bytes."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: web.Response(body=body, status=status, content_type=kind, headers=given)


STRANGE = {
    "html": raw(b"<html>Welcome to nginx!</html>", kind="text/html"),
    "empty": raw(b""),
    "null": raw(b"null"),
    "list": raw(b"[1, 2]"),
    "not text": raw(b"\xff\xfe\x00"),
    "bottomless": raw(b"[" * 200_000),
    "not gzip": raw(b"plain", Content_Encoding="gzip"),
    "round in circles": raw(b"", 307, Location="?"),
    "error of no text": raw(b'{"error": null}', 500),
    "error of a table": raw(b'{"error": {"code": 7}}', 500),
    "error of a list": raw(b"[]", 500),
    "error of nothing": raw(b"", 502),
}
LISTS = {
    "number for a list": raw(b'{"models": 3}'),
    "rows of nothing": raw(b'{"models": [null]}'),
    "size of words": raw(b'{"models": [{"model": "a", "size": "huge"}]}'),
    "size without end": raw(b'{"models": [{"model": "a", "size": Infinity}]}'),
    "name of a number": raw(b'{"models": [{"model": 7}]}'),
}


# --- loads -------------------------------------------------------------------------------------------------------


async def test_a_load_is_believed_only_when_ps_shows_it() -> None:
    """Ollama calls the load done, and for a while /api/ps does not list the model: no `Loaded` before it does."""
    async with world() as w:
        looks: list[int] = []
        w.upon = lambda fact: looks.append(w.ollama.count("/api/ps")) if isinstance(fact, m.Loaded) else None
        w.ollama.say("/api/ps", *[raw(b'{"models": []}')] * 3)
        w.residency.take(m.Load("a:latest", "asked for"))
        loaded = await w.fact(m.Loaded)
        assert (loaded.model, loaded.size, loaded.context) == ("a:latest", 5_000, 4096)
        assert loaded.took >= 0
        assert looks == [4]
        assert ("/api/generate", "a:latest", -1) in [
            (path, body.get("model"), body.get("keep_alive")) for path, body in w.ollama.asked
        ]


async def test_two_names_of_one_digest_are_one_runner() -> None:
    """Asked for by its second name, a model is shown by its first; it is there, and it leaves, by either."""
    async with world() as w:
        for name in ("a:latest", "b:latest"):
            w.state.models[name] = ModelState(name, digest="d1")
            w.ollama.install(name, "d1")
        w.ollama.bring("a:latest")
        w.ollama.say("/api/generate", raw(b'{"model": "b", "response": "", "done": true}'))  # it was there
        w.residency.take(m.Load("b:latest", "asked for"))
        assert (await w.fact(m.Loaded)).model == "b:latest"
        w.ollama.say("/api/ps", None, None, raw(b'{"models": []}'))
        w.residency.take(m.Unload("b:latest", "room is needed"))
        assert (await w.fact(m.Unloaded)).model == "b:latest"
        assert w.ollama.count("/api/ps") == 1 + 3


async def test_a_load_that_ps_never_shows_failed() -> None:
    """Done, says Ollama, and keeps nothing: the load failed, and what is resident is read anew."""
    async with world() as w:
        w.ollama.say("/api/generate", raw(b'{"model": "a", "response": "", "done": true}'))
        w.residency.take(m.Load("a:latest", "asked for"))
        failed = await w.fact(m.LoadFailed)
        assert failed.error == "ollama called the load done, but /api/ps does not list the model"
        assert (await w.fact(m.Residents)).models == ()


async def test_an_embedding_model_is_loaded_through_embed() -> None:
    """/api/generate refuses an embedding model, so it is loaded by an empty /api/embed."""
    async with world() as w:
        w.state.models["e:latest"] = ModelState("e:latest", embedding=True)
        w.residency.take(m.Load("e:latest", "asked for"))
        assert (await w.fact(m.Loaded)).model == "e:latest"
        assert w.ollama.count("/api/generate") == 0
        assert [(body["input"], body["keep_alive"]) for path, body in w.ollama.asked if path == "/api/embed"] == [
            ([], -1)
        ]


async def test_an_abandoned_load_hangs_up_and_failed() -> None:
    """The core gives a load up: its connection is closed, so that Ollama stops, and the load failed for that reason."""
    async with world() as w:
        hung_up = asyncio.Event()

        async def hang(_: dict[str, Any]) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                hung_up.set()

        w.ollama.scripts["/api/generate"] = hang
        w.residency.take(m.Load("a:latest", "asked for"))
        await w.ollama.asks("/api/generate")
        w.residency.take(m.AbandonLoad("a:latest", "loading took over 600 s"))
        assert (await w.fact(m.LoadFailed)).error == "loading took over 600 s"
        await asyncio.wait_for(hung_up.wait(), WAIT)
        del w.ollama.scripts["/api/generate"]
        w.residency.take(m.Load("a:latest", "asked for again"))
        assert (await w.fact(m.Loaded)).model == "a:latest"
        assert w.count(m.LoadFailed) == 1


async def test_a_load_abandoned_as_a_reading_times_out_failed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both end the same reading in the same turn of the loop: the load is still answered, with the core's reason."""
    async with world(Patience(reading=0.02)) as w:
        loop = asyncio.get_running_loop()

        async def unlucky() -> None:
            loop.call_later(0.025, w.residency.take, m.AbandonLoad("a:latest", "it took too long"))
            loop.call_soon(time.sleep, 0.04)  # the loop is late: both are due at once
            await asyncio.Event().wait()

        monkeypatch.setattr(w.residency, "_resident", lambda: within(w.residency.patience.reading, unlucky()))
        w.residency.take(m.Load("a:latest", "asked for"))
        assert (await w.fact(m.LoadFailed)).error.startswith("it took too long; ollama called the load done")


async def test_to_abandon_what_is_not_loading_does_nothing() -> None:
    """The load ended a moment before: nothing to close, nothing to tell."""
    async with world() as w:
        w.residency.take(m.AbandonLoad("a:latest", "too late"))
        w.residency.take(m.Look("a sign that all was done"))
        await w.fact(m.Residents)
        assert w.count(m.LoadFailed) == 0


async def test_a_refused_load_is_told_in_ollamas_words() -> None:
    """The reason of a failed load is what Ollama said, nothing around it."""
    async with world() as w:
        w.ollama.say("/api/generate", raw(b'{"error": "model requires more system memory (8 GiB)"}', 500))
        w.residency.take(m.Load("a:latest", "asked for"))
        assert (await w.fact(m.LoadFailed)).error == "model requires more system memory (8 GiB)"


@pytest.mark.parametrize("strange", STRANGE)
async def test_a_load_answered_strangely_failed(strange: str) -> None:
    """Whatever comes instead of an answer, the load failed for a reason that can be read, and the next one works."""
    async with world() as w:
        w.ollama.say("/api/generate", *[STRANGE[strange]] * (21 if strange == "round in circles" else 1))
        w.residency.take(m.Load("a:latest", "asked for"))
        error = (await w.fact(m.LoadFailed)).error
        assert isinstance(error, str)
        assert error.strip()
        w.residency.take(m.Load("a:latest", "asked for again"))
        await w.fact(m.Loaded)


async def test_close_ends_a_load_in_silence() -> None:
    """The daemon ends while a load is under way: its connection is closed and nobody is told anything."""
    async with world() as w:
        w.ollama.scripts["/api/generate"] = w.ollama.scripts["/api/ps"] = never
        w.residency.take(m.Load("a:latest", "asked for"))
        w.residency.take(m.Look("asked for"))
        await w.ollama.asks("/api/generate")
        await w.ollama.asks("/api/ps")
        await w.residency.close()
        assert w.facts == []


async def test_close_ends_a_load_that_is_given_up_in_silence_too() -> None:
    """A load was given up before, and another is just being given up, when the daemon ends: nobody is left to tell."""
    async with world() as w:
        w.ollama.scripts["/api/generate"] = never
        w.residency.take(m.Load("a:latest", "asked for"))
        await w.ollama.asks("/api/generate")
        w.residency.take(m.AbandonLoad("a:latest", "it took too long"))
        await w.fact(m.LoadFailed)
        await w.fact(m.Residents)
        w.residency.take(m.Load("a:latest", "asked for again"))
        w.residency.take(m.Load("b:latest", "asked for"))
        await w.ollama.asks("/api/generate", 3)
        w.residency.take(m.AbandonLoad("b:latest", "it took too long"))
        await w.residency.close()
        assert len(w.facts) == 2


# --- unloads -----------------------------------------------------------------------------------------------------


async def test_an_unload_is_believed_only_when_ps_shows_it_no_more() -> None:
    """Ollama keeps the model until its runner is gone: `Unloaded` comes when /api/ps no longer lists it."""
    async with world() as w:
        w.ollama.bring("a:latest")
        row = b'{"models": [{"model": "a:latest", "size": 5}]}'
        w.ollama.say("/api/ps", *[raw(row)] * 3)
        w.residency.take(m.Unload("a:latest", "room is needed"))
        assert (await w.fact(m.Unloaded)).model == "a:latest"
        assert w.ollama.count("/api/ps") == 4
        assert w.ollama.asked[0] == ("/api/generate", w.ollama.asked[0][1] | {"model": "a:latest", "keep_alive": 0})


async def test_an_unload_of_a_deleted_model_failed() -> None:
    """Ollama answers 404 for a model that was deleted while resident: told once, in its words."""
    async with world() as w:
        w.ollama.bring("a:latest")
        w.ollama.say("/api/generate", raw(b'{"error": "model \'a:latest\' not found"}', 404))
        w.residency.take(m.Unload("a:latest", "room is needed"))
        assert (await w.fact(m.UnloadFailed)).error == "model 'a:latest' not found"
        assert [row.name for row in (await w.fact(m.Residents)).models] == ["a:latest"]
        assert w.ollama.count("/api/generate") == 1


async def test_an_unload_is_repeated_when_a_stranger_keeps_the_model() -> None:
    """A stranger's request renews keep_alive behind our back: the unload is asked for again until the model is gone."""
    async with world() as w:
        w.ollama.bring("a:latest")
        w.ollama.say("/api/generate", *[raw(b'{"model": "a", "response": "", "done": true}')] * 2)
        w.residency.take(m.Unload("a:latest", "room is needed"))
        await w.fact(m.Unloaded)
        assert w.ollama.count("/api/generate") == 3


async def test_an_unload_that_never_happens_failed() -> None:
    """The model stays whatever is said: after its time the unload failed, and what is resident is read anew."""
    async with world() as w:
        w.ollama.bring("a:latest")
        w.ollama.say("/api/generate", *[raw(b'{"model": "a", "response": "", "done": true}')] * 1000)
        w.residency.take(m.Unload("a:latest", "room is needed"))
        assert "still listed by /api/ps" in (await w.fact(m.UnloadFailed)).error
        await w.fact(m.Residents)


@pytest.mark.parametrize("strange", STRANGE)
async def test_an_unload_answered_strangely_failed(strange: str) -> None:
    """Whatever comes instead of an answer, the unload failed for a reason that can be read."""
    async with world() as w:
        w.ollama.bring("a:latest")
        w.ollama.say("/api/generate", *[STRANGE[strange]] * (21 if strange == "round in circles" else 1))
        w.residency.take(m.Unload("a:latest", "room is needed"))
        error = (await w.fact(m.UnloadFailed)).error
        assert isinstance(error, str)
        assert error.strip()


# --- what is resident --------------------------------------------------------------------------------------------


async def test_residents_are_what_ps_says_under_their_usual_names() -> None:
    """Sizes, contexts and digests as told; names in their one spelling; `asked` is before `at`."""
    async with world() as w:
        w.ollama.bring("Registry.Ollama.AI/library/Qwen", size=7, context=8192)
        w.residency.look()
        told = await w.fact(m.Residents)
        digest = "Registry.Ollama.AI/library/Qwen"
        assert told.models == (m.Resident("qwen:latest", 7, 8192, 7, digest),)
        assert told.asked < told.at


@pytest.mark.parametrize("strange", [*STRANGE, *LISTS])
async def test_a_strange_ps_is_unknown_and_told(strange: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever comes instead of /api/ps is no fact about memory: it is told in the log, and asked again."""
    answer = {**STRANGE, **LISTS}[strange]
    async with world() as w:
        w.ollama.bring("a:latest")
        w.ollama.say("/api/ps", *[answer] * (21 if strange == "round in circles" else 2))
        w.residency.look()
        assert [row.name for row in (await w.fact(m.Residents)).models] == ["a:latest"]
        assert w.count(m.Residents) == len(w.facts) == 1
        assert "what is resident is not known: " in caplog.text


async def test_a_ps_that_hangs_is_unknown_then_ollama_is_away_then_back(caplog: pytest.LogCaptureFixture) -> None:
    """Twice without an answer: nothing is known. Three times: Ollama is away, and knocked at until it answers."""
    async with world(HASTY) as w:
        w.upon = lambda fact: w.ollama.scripts.clear() if isinstance(fact, m.OllamaDown) else None
        w.ollama.scripts["/api/ps"] = never
        w.residency.look()
        down = await w.fact(m.OllamaDown, m.Residents)
        assert isinstance(down, m.OllamaDown)
        assert "/api/ps" in down.error
        assert w.ollama.count("/api/ps") == 3
        await w.fact(m.OllamaUp)
        w.residency.look()
        await w.fact(m.Residents)
        assert caplog.text.count("what is resident is not known") == 3


async def test_a_ps_that_hangs_twice_is_no_absence() -> None:
    """Two readings without an answer and one with: Ollama was never away."""
    async with world(HASTY) as w:
        calls = 0

        async def twice(_: dict[str, Any]) -> None:
            nonlocal calls
            calls += 1
            if calls <= 2:
                await asyncio.Event().wait()

        w.ollama.scripts["/api/ps"] = twice
        w.residency.look()
        await w.fact(m.Residents)
        assert len(w.facts) == 1


async def test_a_ps_that_hangs_behind_a_load_is_no_absence() -> None:
    """While a load of ours runs, Ollama may keep /api/ps waiting as long as it likes."""
    async with world(HASTY) as w:
        w.ollama.scripts["/api/generate"] = w.ollama.scripts["/api/ps"] = never
        w.residency.take(m.Load("a:latest", "asked for"))
        await w.ollama.asks("/api/generate")
        w.residency.look()
        await w.ollama.asks("/api/ps", 5)
        assert w.facts == []


async def test_a_look_during_a_reading_leads_to_another() -> None:
    """What is to be seen may be younger than the reading under way: it is read again, once for all who asked."""
    async with world() as w:
        go = asyncio.Event()

        async def first_waits(_: dict[str, Any]) -> None:
            await go.wait()

        w.ollama.scripts["/api/ps"] = first_waits
        w.residency.look()
        await w.ollama.asks("/api/ps")
        for _ in range(3):
            w.residency.take(m.Look("something changed"))
        go.set()
        await w.fact(m.Residents)
        await w.fact(m.Residents)
        assert w.ollama.count("/api/ps") == 2


async def test_a_look_ordered_by_a_readings_own_fact_is_not_swallowed() -> None:
    """The core answers `Residents` with a Look: that is another reading, though the first has not returned yet."""
    async with world() as w:
        w.upon = lambda fact: w.residency.take(m.Look("too old")) if w.count(m.Residents) == 1 else None
        w.residency.look()
        await w.fact(m.Residents)
        await w.fact(m.Residents)
        assert w.ollama.count("/api/ps") == 2


# --- what is installed -------------------------------------------------------------------------------------------


async def test_the_list_says_what_show_adds() -> None:
    """Size, f16 KV bytes of a token, contexts and digest, from /api/tags and /api/show; a draft of zero heads counts
    for nothing."""
    async with world() as w:
        w.ollama.install("Qwen:7b", "d1", size=4_700_000_000)
        await w.residency.listing()
        kv_token = 2 * 28 * 4 * (3584 // 28) * 2
        row = m.Listed("qwen:7b", 4_700_000_000, kv_token, 131072, 8192, "d1", blob="/models/blobs/sha256-abc")
        assert (await w.fact(m.ModelsListed)).models == (row,)
        assert w.residency.installed.blobs == {"qwen:7b": "/models/blobs/sha256-abc"}
        await w.residency.listing()
        assert w.ollama.count("/api/show") == 1  # never again for a digest


async def test_two_names_of_one_digest_both_have_their_blob() -> None:
    """`ollama cp` gives a model a second name: its runner is started from the same file."""
    async with world() as w:
        w.ollama.install("a:latest", "d1")
        w.ollama.install("b:latest", "d1")
        await w.residency.listing()
        assert w.residency.installed.blobs == dict.fromkeys(("a:latest", "b:latest"), "/models/blobs/sha256-abc")
        assert w.ollama.count("/api/show") == 1
        first, second = (await w.fact(m.ModelsListed)).models
        assert (first.kv_token, first.trained) == (second.kv_token, second.trained) != (0, 0)


async def test_an_embedding_model_is_told_by_its_capabilities() -> None:
    """Embedding and no completion."""
    async with world() as w:
        w.ollama.install("e:latest")
        w.ollama.shown["e:latest"] = {**SHOWN, "capabilities": ["embedding"]}
        await w.residency.listing()
        assert [row.embedding for row in (await w.fact(m.ModelsListed)).models] == [True]


async def test_a_remote_model_is_told_whatever_its_name() -> None:
    """/api/tags names the model it stands for, and so does /api/show, which may have no model_info then."""
    async with world() as w:
        w.ollama.install("a:latest", remote_model="gpt-oss:120b", remote_host="https://example.com")
        w.ollama.install("b:latest")
        w.ollama.install("c:latest")
        w.ollama.shown["b:latest"] = {"remote_model": "gpt-oss:120b", "capabilities": ["completion"]}
        await w.residency.listing()
        told = (await w.fact(m.ModelsListed)).models
        assert {row.name: row.remote for row in told} == {"a:latest": True, "b:latest": True, "c:latest": False}


@pytest.mark.parametrize("strange", [*STRANGE, *LISTS])
async def test_a_strange_list_is_no_list_and_told(strange: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever comes instead of /api/tags, no model is thought gone: it is told in the log."""
    answer = {**STRANGE, **LISTS}[strange]
    async with world() as w:
        w.ollama.install("a:latest")
        w.ollama.say("/api/tags", *[answer] * (21 if strange == "round in circles" else 1))
        await w.residency.listing()
        assert w.facts == []
        assert "ollama did not list its models: " in caplog.text
        await w.residency.listing()
        assert [row.name for row in (await w.fact(m.ModelsListed)).models] == ["a:latest"]


SHOWS = {
    "no model_info": raw(b"{}"),
    "words for a number": raw(b'{"model_info": {"general.architecture": "q", "q.block_count": "many"}}'),
    "a table for a number": raw(b'{"model_info": {"general.architecture": "q", "q.block_count": {"a": 1}}}'),
    "a number without end": raw(b'{"model_info": {"general.architecture": "q", "q.context_length": Infinity}}'),
    "a list of all sorts": raw(b'{"model_info": {"general.architecture": "q", "q.block_count": ["x", 3]}}'),
    "a list of lists": raw(b'{"model_info": {"general.architecture": "q", "q.block_count": [[1], [2]]}}'),
    "a model_info of words": raw(b'{"model_info": "none"}'),
}


@pytest.mark.parametrize("strange", [*STRANGE, *SHOWS])
async def test_a_model_that_cannot_be_shown_is_listed_all_the_same(
    strange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One model whose /api/show fails hides neither itself nor the others, and is asked about with the next list."""
    monkeypatch.setattr("scheduler.installed.AT_ONCE", 1)  # so that all of a script's answers are the first one's
    answer = {**STRANGE, **SHOWS}[strange]
    async with world() as w:
        w.ollama.install("a:latest", size=7)
        w.ollama.install("b:latest", size=9)
        w.ollama.say("/api/show", *[answer] * (21 if strange == "round in circles" else 1))
        await w.residency.listing()
        first, second = (await w.fact(m.ModelsListed)).models
        assert (first.name, first.size, first.kv_token) == ("a:latest", 7, 0)
        assert (second.name, second.size) == ("b:latest", 9)
        assert second.kv_token > 0
        if strange == "no model_info":
            return  # that is an answer, if a short one
        await w.residency.listing()
        assert [row.kv_token > 0 for row in (await w.fact(m.ModelsListed)).models] == [True, True]


async def test_a_list_under_way_is_shared() -> None:
    """Who asks for the list while it is read waits for that one."""
    async with world() as w:
        w.ollama.install("a:latest")
        await asyncio.gather(
            *(w.residency.listing() for _ in range(3)), *(w.residency.installed.read_again() for _ in range(3))
        )
        assert w.ollama.count("/api/tags") == 1


async def test_unknown_names_have_the_list_read_once_more_and_not_all_the_time() -> None:
    """What was installed a moment ago is found; a crowd of unknown names costs one reading in so many seconds."""
    async with world(Patience(relist=0.1)) as w:
        await w.residency.listing()
        listed = w.residency.installed.listed_at
        assert listed is not None
        w.ollama.install("a:latest")
        await asyncio.gather(*(w.residency.installed.read_again() for _ in range(20)))
        assert [row.name for row in w.facts[-1].models] == ["a:latest"]  # type: ignore[union-attr]
        assert w.ollama.count("/api/tags") == 2
        assert w.residency.installed.listed_at >= listed + 0.1


# --- away and back -----------------------------------------------------------------------------------------------


async def test_a_refused_connection_is_told_once_per_knock_and_the_list_comes_before_up() -> None:
    """Down with each knock; once it answers: the list, then what is done before, and only then that it is up."""
    ollama = Ollama()
    async with served(ollama):  # to have an address
        pass
    async with asyncio.TaskGroup() as tasks:
        w = World(ollama, tasks, QUICK)
        ollama.install("a:latest")

        async def before() -> None:
            w._post(m.MemorySeen(time.monotonic(), 1, "a test"))

        w.residency.before_up = before
        w.residency.start()
        w.residency.start()  # one who knocks is enough
        for _ in range(3):
            assert (await w.fact(m.OllamaDown)).error == "connection refused"
        async with served(ollama):
            up = await w.fact(m.OllamaUp)
            await w.residency.close()
        assert (up.version, up.stand_in) == ("0.99", False)
        downs, rest = w.facts[:-3], w.facts[-3:]
        assert {type(fact) for fact in downs} == {m.OllamaDown}
        assert [type(fact) for fact in rest] == [m.ModelsListed, m.MemorySeen, m.OllamaUp]


@pytest.mark.parametrize("order", [m.Load("a:latest", "asked for"), m.Unload("a:latest", "room is needed")])
async def test_an_order_that_finds_ollama_away_says_both(order: m.Load | m.Unload) -> None:
    """Connection refused in the middle of an order: Ollama is away, and the order failed, each told once."""
    ollama = Ollama()
    async with served(ollama):
        pass
    patience = Patience(back=WAIT)
    async with asyncio.TaskGroup() as tasks:
        w = World(ollama, tasks, patience)
        w.residency.take(order)
        failed = await w.fact(m.LoadFailed, m.UnloadFailed)
        assert failed.error.startswith("ollama went away: ")
        assert isinstance(w.facts[0], m.OllamaDown)
        assert w.count(m.LoadFailed, m.UnloadFailed) == 1
        await w.residency.close()


@pytest.mark.parametrize("strange", STRANGE)
async def test_a_strange_version_is_an_ollama_that_is_away(strange: str) -> None:
    """Another program on Ollama's port: away, with the reason, until the real one answers."""
    async with world() as w:
        w.ollama.say("/api/version", STRANGE[strange])
        w.residency.start()
        assert (await w.fact(m.OllamaDown)).error.strip()
        await w.fact(m.OllamaUp)
        assert w.count(m.OllamaDown) == 1


async def test_a_reset_is_not_called_a_refusal() -> None:
    """What is told of an Ollama that breaks the connection off is that, not that nobody listens there."""
    async with world() as w:

        async def broken(_: dict[str, Any]) -> None:
            raise asyncio.CancelledError  # aiohttp closes the connection without a byte

        w.ollama.scripts["/api/ps"] = broken
        w.residency.look()
        down = await w.fact(m.OllamaDown)
        assert down.error == "Server disconnected without sending a response."
        del w.ollama.scripts["/api/ps"]
        await w.fact(m.OllamaUp)


async def test_up_waits_for_the_list() -> None:
    """Ollama answers, but not with its models: it is not up before it has listed them."""
    async with world() as w:
        w.ollama.say("/api/tags", *[raw(b'{"error": "busy"}', 500)] * 3)
        w.residency.start()
        await w.fact(m.OllamaUp)
        assert w.ollama.count("/api/tags") == 4
        assert [type(fact) for fact in w.facts] == [m.ModelsListed, m.OllamaUp]


async def test_a_stand_in_is_told_by_its_mark_with_the_size_it_stages() -> None:
    """The header on /api/version says that it is not an Ollama; /standin/stage, how large a device it plays."""
    async with world() as w:
        w.ollama.say("/api/version", raw(b'{"version": "0.1"}', X_Scheduler_Stand_In="1"))
        w.ollama.say("/standin/stage", raw(b'{"device": 40200896512}'))
        w.residency.start()
        assert (await w.fact(m.OllamaUp)).stand_in is True
        assert w.residency.staged == 40200896512


async def test_an_ollama_after_a_stand_in_plays_no_device() -> None:
    """The stand-in ended and a real one took its port: its staged size is no one's any more."""
    async with world() as w:
        w.ollama.say("/api/version", raw(b'{"version": "0.1"}', X_Scheduler_Stand_In="1"))
        w.ollama.say("/standin/stage", raw(b'{"device": 5}'))
        w.residency.start()
        await w.fact(m.OllamaUp)
        w.residency.start()
        assert (await w.fact(m.OllamaUp)).stand_in is False
        assert w.residency.staged is None


async def test_what_fails_before_up_is_told_and_does_not_keep_it_down(caplog: pytest.LogCaptureFixture) -> None:
    """A look at the machine may fail; that Ollama answers is true all the same."""
    async with world() as w:

        async def fails() -> None:
            raise OSError("no such process")

        w.residency.before_up = fails
        w.residency.start()
        await w.fact(m.OllamaUp)
        assert "no such process" in caplog.text


@pytest.mark.parametrize("stage", [b"{}", b"[]", b"nothing", b'{"device": Infinity}', b'{"device": "big"}'])
async def test_a_stand_in_that_stages_nothing_readable_is_away(stage: bytes) -> None:
    """A stage that cannot be read is told and knocked at again."""
    async with world() as w:
        w.ollama.say("/api/version", *[raw(b'{"version": "0.1"}', X_Scheduler_Stand_In="1")] * 2)
        w.ollama.say("/standin/stage", raw(stage), raw(b'{"device": 5}'))
        w.residency.start()
        await w.fact(m.OllamaDown)
        await w.fact(m.OllamaUp)
        assert w.residency.staged == 5


# --- every order, whatever happens -------------------------------------------------------------------------------

ANSWERS = ["usual", "hang", "gone", "no effect", *STRANGE]
ASKED = st.sampled_from(ANSWERS)
ORDERS = st.tuples(st.sampled_from(["load", "unload"]), ASKED, st.lists(ASKED, max_size=4), st.booleans())


def scripted(w: World, kinds: list[str], order: str) -> Script:
    """Answers of these kinds, one after the other, then the usual ones. A hanging load is abandoned by the core."""
    waiting = list(kinds)

    async def script(body: dict[str, Any]) -> web.StreamResponse | None:
        kind = waiting.pop(0) if waiting else "usual"
        if kind == "hang":
            if order == "load" and "model" in body:
                w.residency.take(m.AbandonLoad("a:latest", "it takes too long"))
            return await never(body)
        if kind == "gone":
            raise asyncio.CancelledError
        if kind == "no effect":
            return web.json_response({"model": "a", "response": "", "done": True, "models": []})
        return STRANGE[kind]() if kind != "usual" else None

    return script


async def carried_out(orders: list[tuple[str, str, list[str], bool]]) -> None:
    """Give the orders one after the other, as the core does, and count what comes of each."""
    async with world(HASTY) as w:
        for order, asked, readings, look in orders:
            before = list(w.facts)
            w.ollama.scripts["/api/generate"] = scripted(w, [asked], order)
            w.ollama.scripts["/api/ps"] = scripted(w, readings, order)
            w.residency.take(m.Load("a:latest", "a test") if order == "load" else m.Unload("a:latest", "a test"))
            if look:
                w.residency.look()
            fact: m.Fact
            if order == "load":
                fact = await w.fact(m.Loaded, m.LoadFailed)
                if isinstance(fact, m.Loaded):
                    assert "a:latest" in w.ollama.resident
            else:
                fact = await w.fact(m.Unloaded, m.UnloadFailed)
            w.ollama.scripts.clear()
            w.residency.look()
            await w.fact(m.Residents)
            ends = [
                f
                for f in w.facts[len(before) :]
                if isinstance(f, m.Loaded | m.LoadFailed | m.Unloaded | m.UnloadFailed)
            ]
            assert ends == [fact]


@settings(max_examples=25, deadline=None)
@given(st.lists(ORDERS, min_size=1, max_size=3))
def test_every_order_ends_in_exactly_one_fact(orders: list[tuple[str, str, list[str], bool]]) -> None:
    """Answers missing, broken off, strange or without effect, readings too: each order comes back once, and the
    residency goes on."""
    asyncio.run(carried_out(orders))


def test_weights_are_the_files_of_the_first_from_line_and_the_adapters() -> None:
    """A FROM line that names a model is no file; one that names a path with spaces is; adapters belong to it."""
    from scheduler.reading import weights

    assert weights("# FROM /no\nFROM /a b/sha256-1\nFROM /second") == ("/a b/sha256-1",)
    assert weights("FROM /a\nADAPTER /b") == ("/a", "/b")
    assert weights("FROM llama3\n") == weights("") == ()


async def test_a_large_library_is_asked_about_several_models_at_a_time() -> None:
    """Eight /api/show are under way before the first one answers; the list keeps its order."""
    async with world() as w:
        names = [f"m{n}:latest" for n in range(20)]
        for n, name in enumerate(names):
            w.ollama.install(name, f"d{n}")
        eight = asyncio.Event()

        async def together(_: dict[str, Any]) -> web.StreamResponse | None:
            if w.ollama.count("/api/show") == 8:
                eight.set()
            await eight.wait()
            return None

        w.ollama.scripts["/api/show"] = together
        await w.residency.listing()
        assert [row.name for row in (await w.fact(m.ModelsListed)).models] == names

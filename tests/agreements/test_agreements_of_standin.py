"""The stand-in is true: it and a real Ollama answer every scenario of this folder alike, line by line."""

import asyncio
import difflib
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from scheduler.standin.process import StandIn
from tests.agreements.player import Player
from tests.agreements.script import WORDS, BadScenario, Deed, Request, Scenario, read, scenarios
from tests.agreements.sides import STAGES, Played, Side, both, played_stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCENARIOS = scenarios()
PAIRS = {"plain": 2}
"""How many pairs of Ollamas play the scenarios of a stage side by side; one unless told."""

ROUTES = {
    "GET": "/ /api/version /api/status /api/tags /api/ps /v1/models /v1/models/x",
    "HEAD": "/ /api/version /api/tags /api/blobs/x",
    "POST": (
        "/api/pull /api/push /api/show /api/me /api/create /api/blobs/x /api/copy /api/experimental/web_search "
        "/api/experimental/web_fetch /api/generate /api/chat /api/embed /api/embeddings /v1/chat/completions "
        "/v1/completions /v1/embeddings /v1/responses /v1/messages"
    ),
    "DELETE": "/api/delete",
}
"""Every route of Ollama 0.32 that the stand-in plays (server/routes.go)."""

Transcripts = tuple[list[str], list[str]]


async def transcript(side: Side, scenario: Scenario) -> list[str]:
    """What a fresh side answers."""
    await side.reset()
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout()
    async with aiohttp.ClientSession(side.url, connector=connector, timeout=timeout) as session:
        return await Player(side, session).play(scenario)


class Playing:
    """All scenarios that were chosen, played in the background; a test waits for its own."""

    def __init__(self, chosen: list[Scenario], home: Path) -> None:
        self._home = home
        loop = asyncio.get_running_loop()
        self._results: dict[str, asyncio.Future[Transcripts]] = {each.title: loop.create_future() for each in chosen}
        self._waiting: dict[str, list[Scenario]] = {}
        for each in reversed(chosen):
            self._waiting.setdefault(each.stage, []).append(each)
        self.pairs = [
            asyncio.ensure_future(self._pair(stage, number))
            for stage, waiting in self._waiting.items()
            for number in range(min(PAIRS.get(stage, 1), len(waiting)))
        ]

    async def _pair(self, stage: str, number: int) -> None:
        async with both(stage, self._home / f"{stage}{number}") as (real, played):
            while self._waiting[stage]:
                scenario = self._waiting[stage].pop()
                result = self._results[scenario.title]
                try:
                    told = await asyncio.gather(transcript(real, scenario), transcript(played, scenario))
                except Exception as error:
                    result.set_exception(error)
                else:
                    result.set_result((told[0], told[1]))

    async def of(self, scenario: Scenario) -> Transcripts:
        """What both sides answered; raises what went wrong with either."""
        result = self._results[scenario.title]
        under_way: set[asyncio.Future[None]] = set(self.pairs)
        while not result.done():
            await asyncio.wait([result, *under_way], return_when=asyncio.FIRST_COMPLETED)
            for ended in [pair for pair in under_way if pair.done()]:
                ended.result()
                under_way.discard(ended)
        return result.result()

    async def end(self) -> None:
        """Begin nothing more, and wait until both Ollamas of every pair are gone."""
        for waiting in self._waiting.values():
            waiting.clear()
        await asyncio.gather(*self.pairs, return_exceptions=True)
        for result in self._results.values():
            result.cancel()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def playing(
    request: pytest.FixtureRequest, real_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Playing]:
    """Every scenario that this run asks for, under way."""
    params = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    chosen = [spec.params["scenario"] for spec in params if spec is not None and "scenario" in spec.params]
    playing = Playing(chosen, tmp_path_factory.mktemp("agreements"))
    yield playing
    await playing.end()


@pytest.mark.real
@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(each, id=f"{each.file}: {each.title}", marks=[pytest.mark.long] if each.slow else [])
        for each in SCENARIOS
    ],
)
async def test_it_answers_as_ollama_does(playing: Playing, scenario: Scenario) -> None:
    """Status, headers, bodies, streams, order, residents, loads and evictions are the same on both sides."""
    real, played = await playing.of(scenario)
    told = list(difflib.unified_diff(real, played, "a real Ollama", "the stand-in", n=3, lineterm=""))
    assert not told, "\n".join(told)


async def test_a_stand_in_that_differs_is_seen() -> None:
    """Where the second side has another model, another size or another limit, the transcripts differ."""
    by_title = {each.title: each for each in SCENARIOS}
    chosen = [by_title["large throws small out, and small throws large out"], by_title["chat completions"]]
    usual = played_stage(STAGES["plain"])
    shorter = replace(usual, models=tuple(replace(model, answer_tokens=3) for model in usual.models))
    wider = replace(usual, device=2 * usual.device)
    told: list[list[list[str]]] = []
    for stage in (usual, shorter, wider):
        async with StandIn.start(stage) as standin:
            told.append([await transcript(Played(standin), scenario) for scenario in chosen])
    eviction, words = [[each[place] for each in told] for place in range(2)]
    assert eviction[0] == eviction[1] != eviction[2]
    assert words[0] == words[2] != words[1]


async def test_every_route_and_every_step_is_played() -> None:
    """There are scenarios enough, they have titles of their own, and between them they use all routes and all words."""
    assert len(SCENARIOS) >= 40
    assert len({each.title for each in SCENARIOS}) == len(SCENARIOS)
    steps = [step for scenario in SCENARIOS for step in scenario.steps]
    asked = {(step.method, step.path.partition("?")[0]) for step in steps if isinstance(step, Request)}
    for method, paths in ROUTES.items():
        for path in paths.split():
            wanted = re.compile(re.escape(path.removesuffix("x")) + (r"[^/]+" if path.endswith("/x") else ""))
            assert any(method == had and wanted.fullmatch(at) for had, at in asked), f"{method} {path}"
    assert {step.word for step in steps if isinstance(step, Deed)} == set(WORDS)


async def test_a_line_that_is_no_step_is_refused() -> None:
    """A word that the player does not know, a request without a path, a step before the first title."""
    for text in ("== a\nwait a while", "== a\nGET", "GET /"):
        with pytest.raises(BadScenario):
            read(text, "x")

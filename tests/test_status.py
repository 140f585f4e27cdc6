"""`/status` and `/why` tell the truth: in their documented shape, in every state, and fast."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scheduler.core import messages as m
from scheduler.core.config import Config, ModelConfig, PhaseConfig
from scheduler.core.machine import Machine
from scheduler.ledger import Ledger
from scheduler.status import Progress, Surroundings, build
from scheduler.status_docs import schema_text, status_page, status_schema
from scheduler.why import why
from tests.played import BUDGET, CODER, CONFIG, FAST, QUALITY, SIZES, Play

DOCS = Path(__file__).parents[1] / "docs"
WALL = 1_700_000_000.0
CHECK = jsonschema.Draft202012Validator(status_schema())
EACH = Config(
    models=CONFIG.models,
    sets=(("quality", (QUALITY,)), ("coding", (CODER,)), ("helper", (FAST,))),
    phases=(PhaseConfig("normal", ("quality", "coding", "helper")), PhaseConfig("evening", ("quality",))),
)
"""Each model a set of its own: a load is one load."""
AROUND = Surroundings("0.1.0", "http://127.0.0.1:11434", 1000.0)


@dataclass
class Seen:
    """How far a forwarding is."""

    stage: str = "prefill"
    chunks: int = 0


class Scene:
    """A core told facts by hand, with the ledger that watched."""

    def __init__(self, config: Config = EACH, *, up: bool = True) -> None:
        self.machine = Machine.fresh(config, 1000.0)
        self.ledger = Ledger()
        self.at = 1000.0
        if up:
            self.tell(m.OllamaUp(self.at, "0.32.1"))
            self.tell(m.MemorySeen(self.at, BUDGET, "memory.budget"))
            rows = tuple(m.Listed(name, size, 1000, 131072) for name, size in SIZES.items())
            self.tell(m.ModelsListed(self.at, rows))
            self.tell(m.Residents(self.at, self.at, ()))

    def tell(self, fact: m.Fact) -> list[m.Order]:
        """One fact."""
        self.at = max(self.at, fact.at)
        orders = self.machine.step(fact)
        self.ledger.note(fact, orders)
        return orders

    def arrive(self, name: str, request: str, at: float | None = None) -> list[m.Order]:
        """A request for `name`."""
        return self.tell(m.Arrived(at or self.at, request, name, alias="gpt-4", client="127.0.0.1:50000"))

    def load(self, name: str, took: float = 12.0) -> None:
        """The load under way is done."""
        self.tell(m.Loaded(self.at + took, name, SIZES[name], 32768, took))

    def status(
        self,
        after: float = 0.0,
        progress: Mapping[str, Progress] | None = None,
        around: Surroundings = AROUND,
    ) -> dict[str, Any]:
        """The answer `after` seconds after the last fact, checked against the schema."""
        now = self.at + after
        answer = build(self.machine.state, now, WALL + now - 1000.0, progress or {}, self.ledger, around)
        CHECK.validate(answer)
        assert answer == json.loads(json.dumps(answer, allow_nan=False))
        return dict(answer)

    def model(self, name: str, after: float = 0.0) -> dict[str, Any]:
        """One row of `models`."""
        return next(row for row in self.status(after)["models"] if row["name"] == name)


def test_the_documents_are_those_of_the_code() -> None:
    """Schema and page in docs/ are what `python -m scheduler.status_docs` makes, so every field is explained."""
    assert (DOCS / "status.schema.json").read_text(encoding="utf-8") == schema_text()
    assert (DOCS / "status.md").read_text(encoding="utf-8") == status_page()


def test_every_field_is_explained_and_nothing_else_allowed() -> None:
    """Each object of the schema is closed, demands all of its fields and has a sentence for each; the page has all."""
    schema = status_schema()
    page = status_page()
    for part in [schema, *schema["$defs"].values()]:
        assert part["additionalProperties"] is False
        assert set(part["required"]) == set(part["properties"])
        for name, explained in part["properties"].items():
            assert explained["description"].endswith(".")
            assert f"| `{name}` |" in page
    with pytest.raises(jsonschema.ValidationError):
        CHECK.validate({**Scene().status(), "surprise": 1})


@pytest.mark.parametrize("seed", range(6))
def test_any_moment_of_a_play_has_the_shape(seed: int) -> None:
    """At every hundredth moment of a lively play, and all along, the answer is valid and its parts agree."""
    play, ledger = Play(seed), Ledger()
    play.witnesses.append(ledger.note)
    play.begin()
    play.demand(250, 1200.0)
    seen = set()
    for step in range(14):
        play.run(until=1000.0 + step * 100.0)
        answer = build(play.machine.state, play.at, WALL, {}, ledger, AROUND)
        CHECK.validate(answer)
        seen.add(answer["verdict"])
        waiting = [row for row in answer["requests"] if row["stage"] in ("held", "loading")]
        assert len(waiting) == answer["waiting"] == sum(row["waiting"] + row["preloads"] for row in answer["models"])
        assert len(answer["requests"]) == answer["waiting"] + answer["running"]
        assert all(bool(row["waits_for"]) == (row in waiting) for row in answer["requests"])
        memory = answer["memory"]
        assert memory["promised"] == sum(memory["models"].values()) + memory["orphans"]
        assert set(memory["models"]) == {row["name"] for row in answer["models"] if row["state"] != "absent"}
        assert answer["headline"].endswith(".")
        assert (answer["verdict"] == "changing") <= (answer["transition"] is not None)
    assert len(seen) >= 2


def test_idle() -> None:
    """With nothing to do the verdict is ok and says what is in memory."""
    scene = Scene()
    answer = scene.status()
    assert (answer["verdict"], answer["needs_you"]) == ("ok", [])
    assert answer["headline"] == "Idle; nothing in memory (0.0 of 38.0 GB)."
    assert answer["ollama"]["version"] == "0.32.1"
    assert answer["at"] == "2023-11-14T22:13:20.000Z"
    assert [s["fit"] for s in answer["phase"]["sets"]] == ["fits"] * 3


def test_a_load() -> None:
    """While a model loads: what, since when, how long it should take, why, and who waits for it."""
    scene = Scene()
    scene.arrive(QUALITY, "r1")
    answer = scene.status(after=4.0)
    assert answer["verdict"] == "changing"
    assert answer["headline"] == "Loading qwen-quality-128k (4 s of 7 to 105 s); 1 waiting."
    change = answer["transition"]
    assert (change["stage"], change["elapsed"], change["load"]) == ("loading", 4.0, [QUALITY])
    assert change["because"].startswith("1 waiting for qwen-quality-128k")
    (request,) = answer["requests"]
    assert (request["stage"], request["waits_for"], request["age"]) == ("loading", "its load", 4.0)
    assert (request["alias"], request["model"], request["client"]) == ("gpt-4", QUALITY, "127.0.0.1:50000")
    assert answer["counters"]["hour"]["worst_wait"] == 4.0


def test_what_is_learned_narrows_what_is_expected() -> None:
    """Once a load was measured, the next one's range is around it."""
    scene = Scene()
    scene.arrive(FAST, "r1")
    scene.load(FAST, 10.0)
    scene.tell(m.Ended(scene.at + 1, "r1", "answered", 0.5, 1.0))
    scene.tell(m.Residents(scene.at + 2, scene.at + 1.5, ()))
    scene.arrive(FAST, "r2")
    assert scene.status()["transition"]["expected"] == [7.0, 15.0]
    row = scene.model(FAST)
    assert (row["load_seconds"], row["load_seconds_learned"], row["loads"]) == (10.0, True, 1)


def test_status_tells_what_was_learned_of_a_model() -> None:
    """Seconds of loads, rates in tokens per second, and what its eviction would cost; null where nothing is known."""
    scene = Scene()
    assert set(scene.model(FAST)["learned"].values()) == {None, 0}
    assert scene.status()["disk_factor"] == 1.0
    scene.arrive(FAST, "r1")
    scene.load(FAST, 10.0)
    told = m.Ended(scene.at + 60, "r1", "answered", 50.0, 60.0, 10_000, 200, prompt_seconds=50.0, output_seconds=10.0)
    scene.tell(told)
    learned = scene.model(FAST)["learned"]
    assert (learned["load_cold"], learned["load_warm"], learned["service"]) == (10.0, None, 60.0)
    assert learned["load_believed"] == 5.0  # 5 GB at 1 GB/s
    assert scene.status()["disk_factor"] == 1.414  # twice that, beside as many bytes that were as believed
    assert (learned["prompt_rate"], learned["output_rate"], learned["output_tokens"]) == (200.0, 20.0, 200.0)
    assert (learned["warm_prompts"], learned["warm_tokens"], learned["reprompt"]) == (1, 10_200, 51.0)


def test_a_running_request_shows_how_far_it_is() -> None:
    """Prefill with its tokens where the engine tells and it is plain whose they are, then the answer's pieces."""
    scene = Scene()
    scene.arrive(FAST, "r1")
    scene.load(FAST)
    around = Surroundings("0.1.0", "http://127.0.0.1:11434", 1000.0, prefill={FAST: ((512, 9000),)})
    (request,) = scene.status(3.0, {"r1": Seen()}, around)["requests"]
    assert (request["stage"], request["prompt_done"], request["prompt_total"]) == ("prefill", 512, 9000)
    assert (request["running"], request["waits_for"]) == (3.0, "")
    (request,) = scene.status(5.0, {"r1": Seen("generating", 7)}, around)["requests"]
    assert (request["stage"], request["tokens"], request["prompt_done"]) == ("generating", 7, None)


def test_prefill_of_two_is_nobodys() -> None:
    """With two prompts being read at once it is not known whose progress is whose, and none is shown."""
    config = Config(models=(ModelConfig(FAST, SIZES[FAST], parallel=2),), num_parallel=2)
    scene = Scene(config)
    scene.arrive(FAST, "r1")
    scene.arrive(FAST, "r2")
    scene.load(FAST)
    around = Surroundings("0.1.0", "http://127.0.0.1:11434", 1000.0, prefill={FAST: ((512, 9000),)})
    rows = scene.status(1.0, {"r1": Seen(), "r2": Seen()}, around)["requests"]
    assert [row["prompt_done"] for row in rows] == [None, None]
    rows = scene.status(1.0, {"r1": Seen(), "r2": Seen("generating", 3)}, around)["requests"]
    assert [row["prompt_done"] for row in rows] == [512, None]


def test_busy_says_what_each_waits_for() -> None:
    """A request behind another waits for a slot; one for a model that is away gets the policy's words."""
    scene = Scene()
    scene.arrive(FAST, "r1")
    scene.load(FAST)
    scene.arrive(FAST, "r2")
    scene.arrive(QUALITY, "r3")
    answer = scene.status(2.0)
    assert answer["verdict"] == "busy"
    waits = {row["id"]: row["waits_for"] for row in answer["requests"]}
    assert waits["r1"] == ""
    assert waits["r2"] == "a free slot: 1 of 1 taken"
    assert scene.machine.state.verdict
    assert waits["r3"] == f"its turn: {scene.machine.state.verdict}"
    assert answer["headline"] == "1 running, 2 waiting; qwen-fast in memory (5.0 of 38.0 GB)."


def test_a_client_that_left_is_shown_as_gone() -> None:
    """A running request whose client hung up keeps its slot and says so."""
    scene = Scene()
    scene.arrive(FAST, "r1")
    scene.load(FAST)
    scene.tell(m.Left(scene.at, "r1"))
    assert scene.status()["requests"][0]["client_left"] is True


def test_draining_and_unloading() -> None:
    """The stages of a change are told as they come, and why the model left afterwards."""
    scene = Scene()
    scene.arrive(FAST, "r1")
    scene.load(FAST)
    scene.tell(m.Ended(scene.at + 1.0, "r1", "answered", 0.5, 1.0))
    scene.arrive(QUALITY, "r2")
    answer = scene.status(0.5)
    assert answer["transition"]["stage"] == "unloading"
    assert answer["headline"].startswith("Unloading qwen-fast for qwen-quality-128k (0 s of ")
    assert answer["requests"][0]["waits_for"] == "qwen-fast to leave"
    scene.tell(m.Unloaded(scene.at + 1.0, FAST, 1.0))
    row = scene.model(FAST)
    assert row["state"] == "absent"
    assert "qwen-quality-128k" in row["left_because"]
    assert row["left_at"] is not None
    assert scene.status()["decisions"][0]["order"] == "Load"


def test_ollama_down() -> None:
    """Without Ollama it needs a person: what, since when, and what to type; with somebody waiting it is stuck."""
    scene = Scene()
    scene.tell(m.OllamaDown(1010.0, "connection refused"))
    answer = scene.status(5.0)
    assert answer["verdict"] == "degraded"
    (need,) = answer["needs_you"]
    assert "connection refused" in need["what"]
    assert (need["type_this"], need["since"]) == ("ollama serve", "2023-11-14T22:13:30.000Z")
    scene.arrive(FAST, "r1")
    answer = scene.status(5.0)
    assert answer["verdict"] == "stuck"
    assert answer["requests"][0]["waits_for"] == "Ollama, which does not answer: connection refused"


def test_before_anything_is_known() -> None:
    """The first answers, before Ollama and memory were heard of, are valid and honest."""
    answer = Scene(up=False).status()
    assert (answer["verdict"], answer["ollama"]["state"], answer["ollama"]["version"]) == ("degraded", "unknown", None)
    assert answer["memory"]["budget"] is answer["memory"]["free"] is None
    assert {s["fit"] for s in answer["phase"]["sets"]} == {"unknown"}


def test_failed_loads() -> None:
    """A load that failed shows its error and when it is tried again; after three it needs a person."""
    scene = Scene()
    for number in range(3):
        scene.arrive(QUALITY, f"r{number}")
        scene.tell(m.Ticked(scene.at + 20.0 * number))
        scene.tell(m.LoadFailed(scene.at + 3.0, QUALITY, "unexpected EOF", 3.0))
        scene.tell(m.Residents(scene.at, scene.at, ()))
        row = scene.model(QUALITY, after=1.0)
        assert "unexpected EOF" in row["trouble"]
        assert row["retry_in"] is not None
        assert scene.status()["verdict"] in ("degraded", "stuck")
        assert bool(scene.status()["needs_you"]) is (number == 2)
    assert scene.status()["needs_you"][0]["type_this"] == f"ollama-scheduler why {QUALITY}"
    assert scene.status()["counters"]["day"]["load_failures"] == 3


def test_a_load_past_its_limit() -> None:
    """A load that will not end is stuck, and says for how long it has been loading."""
    scene = Scene()
    scene.arrive(QUALITY, "r1")
    scene.tell(m.Ticked(scene.at + 700.0))
    answer = scene.status()
    assert answer["verdict"] == "stuck"
    assert "loading for 700 s, over its limit of 600 s" in answer["headline"]


def test_orphans() -> None:
    """What orphans hold is promised at once, and a person is told which process to end."""
    scene = Scene()
    scene.tell(m.MemorySeen(scene.at, BUDGET, "memory.budget", orphans=20 * 10**9, orphan_pids=(4711,)))
    answer = scene.status(3.0)
    assert (answer["verdict"], answer["needs_you"]) == ("degraded", [])
    assert answer["memory"]["free"] == BUDGET - 20 * 10**9
    assert scene.status()["phase"]["sets"][0]["fit"] == "fits"
    (need,) = scene.status(61.0)["needs_you"]
    assert "20.0 GB" in need["what"]
    assert need["type_this"] == "kill 4711"


def test_more_than_the_budget() -> None:
    """Where others filled memory beyond the budget, free is below zero and the verdict says that something is wrong."""
    scene = Scene()
    rows = (m.Resident(QUALITY, SIZES[QUALITY], 32768), m.Resident("small:latest", 5 * 10**9, 4096))
    scene.tell(m.Residents(scene.at + 1, scene.at + 0.5, rows))
    answer = scene.status()
    assert answer["memory"]["free"] < 0
    assert answer["verdict"] == "degraded"
    assert answer["models"][0]["because"] == "adopted"


def test_nothing_moves() -> None:
    """Where somebody has long been waiting and nothing is on its way to them, it is stuck and says what is missing."""
    scene = Scene()
    scene.tell(m.ClockGap(scene.at, 3600.0))
    scene.arrive(QUALITY, "r1")
    assert scene.status(3.0)["verdict"] == "busy"
    answer = scene.status(61.0)
    assert answer["verdict"] == "stuck"
    reason = "what is resident, which is being read"
    assert answer["headline"] == f"Nothing moves: 1 waiting, qwen-quality-128k for {reason}."


def test_a_stalled_runner() -> None:
    """A stalled model says so, with what was seen."""
    scene = Scene()
    scene.arrive(FAST, "r1")
    scene.load(FAST)
    scene.tell(m.EngineSeen(scene.at + 1, FAST, False, 1.0))
    scene.tell(m.EngineSeen(scene.at + 7, FAST, False, 7.0))
    answer = scene.status()
    assert answer["verdict"] == "degraded"
    assert "stalled: 1 outstanding, engine idle" in answer["headline"]
    assert not scene.model(FAST)["usable"]


def test_warnings() -> None:
    """A configured model that is not installed, a context that differs, a set that cannot fit, a journal in trouble
    and the stand-in are told without needing anybody."""
    models = (ModelConfig(QUALITY, SIZES[QUALITY], 131072), ModelConfig("gone:latest"))
    scene = Scene(Config(models=models, sets=(("both", (QUALITY, CODER)),), phases=CONFIG.phases[:1]))
    scene.tell(m.OllamaUp(scene.at, "0.32.1", stand_in=True))
    around = Surroundings("0.1.0", "http://127.0.0.1:1", 1.0, ("a word of the daemon",), {}, 7, "No space left")
    answer = scene.status(around=around)
    text = "\n".join(answer["warnings"])
    assert "gone:latest is configured but not installed: ollama pull gone:latest" in text
    assert f"{QUALITY}: Ollama loads it with 32768 tokens of context unaided, not 131072" in text
    assert "set both needs 55.0 GB, more than the budget of 38.0 GB" in text
    assert "journal is not kept for now: No space left" in text
    assert "stand-in" in text
    assert "a word of the daemon" in text
    assert answer["phase"]["sets"][0]["fit"] == "too_large"
    assert (answer["journal_lost"], answer["needs_you"]) == (7, [])


def test_a_set_without_an_order() -> None:
    """A set that fits the budget but not Ollama's own gates is told apart."""
    scene = Scene(Config(models=CONFIG.models, sets=(("pair", (QUALITY, "small:latest")),), phases=CONFIG.phases[:1]))
    scene.tell(m.MemorySeen(scene.at, BUDGET, "memory.budget", device=30 * 10**9))
    answer = scene.status()
    assert answer["phase"]["sets"][0]["fit"] == "no_order"
    assert "in no order" in answer["warnings"][0]


def test_a_mistyped_name_is_no_model() -> None:
    """A name somebody once asked for in vain does not stay among the models."""
    scene = Scene(up=False)
    scene.arrive("qwen-fsat:latest", "r1")
    assert "qwen-fsat:latest" in {row["name"] for row in scene.status()["models"]}
    scene.tell(m.ModelsListed(scene.at, (m.Listed(FAST, SIZES[FAST]),)))
    assert "qwen-fsat:latest" not in {row["name"] for row in scene.status()["models"]}


def test_fast_with_a_thousand_requests() -> None:
    """With a thousand requests waiting and a load under way the answer takes less than 50 ms, as JSON too."""
    scene = Scene()
    scene.arrive(QUALITY, "first")
    for number in range(998):
        scene.arrive(FAST if number % 2 else CODER, f"r{number}", scene.at + 0.001)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        answer = build(scene.machine.state, scene.at, WALL, {}, scene.ledger, AROUND)
        json.dumps(answer)
        took.append(time.perf_counter() - began)
    assert len(answer["requests"]) == 999
    assert min(took) < 0.05


# --- why -------------------------------------------------------------------------------------------------------------


def test_why_served() -> None:
    """A ready model with a free slot: it would be served at once, and nothing has happened."""
    scene = Scene()
    scene.arrive(FAST, "r1")
    scene.load(FAST)
    scene.tell(m.Ended(scene.at + 1, "r1", "answered"))
    before = repr(scene.machine.state)
    answer = why(scene.machine.state, FAST, scene.at, alias="claude-3-haiku")
    assert answer["would"] == "be served"
    assert answer["sentences"][0] == f"claude-3-haiku is {FAST}, 5.0 GB, in set helper; the phase is normal."
    assert "served at once" in answer["sentences"][1]
    assert repr(scene.machine.state) == before


def test_why_a_change_would_begin() -> None:
    """A model that is away: what would leave, what would load, and how long it should take."""
    scene = Scene()
    scene.arrive(FAST, "r1")
    scene.load(FAST)
    scene.tell(m.Ended(scene.at + 1, "r1", "answered"))
    answer = why(scene.machine.state, QUALITY, scene.at)
    assert (answer["would"], answer["leave"], answer["load"]) == ("wait", [FAST], [QUALITY])
    assert answer["expected"] == [11.8, 163.7]  # 5 GB took 2.4 times what their size told: 2.4 ** (5 / 10)
    assert "would begin a change at once: unload qwen-fast, load qwen-quality-128k" in answer["sentences"][1]


def test_why_behind_others() -> None:
    """A busy model: it would wait for a slot, behind so many."""
    scene = Scene()
    scene.arrive(FAST, "r1")
    scene.load(FAST)
    scene.arrive(FAST, "r2")
    answer = why(scene.machine.state, FAST, scene.at)
    assert (answer["would"], answer["because"]) == ("wait", "a free slot: 1 of 1 taken")
    assert "1 of its 1 slots are taken, 1 wait for it." in answer["sentences"]


def test_why_while_another_keeps_memory() -> None:
    """A model whose change must wait: the policy's own words, and what is in memory."""
    scene = Scene()
    scene.arrive(FAST, "r1")
    scene.load(FAST)
    answer = why(scene.machine.state, QUALITY, scene.at)
    assert answer["would"] == "wait"
    scene.arrive(QUALITY, "r2")
    assert scene.machine.state.verdict
    assert answer["because"] == f"its turn: {scene.machine.state.verdict}"
    assert any(line.startswith("In memory: qwen-fast (ready)") for line in answer["sentences"])


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        (CODER, 503, "not served in phase 'evening'"),
        ("gone:latest", 404, "not found"),
        ("huge:latest", 500, "requires more memory"),
    ],
)
def test_why_refused(name: str, status: int, words: str) -> None:
    """What a request would be refused with, and why: the phase, not installed, too large."""
    scene = Scene()
    rows = tuple(m.Listed(known, size, 1000, 131072) for known, size in SIZES.items())
    scene.tell(m.ModelsListed(scene.at, (*rows, m.Listed("huge:latest", 90 * 10**9))))
    scene.tell(m.PhaseSet(scene.at, "evening", "a test"))
    answer = why(scene.machine.state, name, scene.at)
    assert (answer["would"], answer["status"]) == ("be refused", status)
    assert words in answer["message"]
    assert words in answer["sentences"][1]


def test_why_of_what_nobody_knows() -> None:
    """A name that is neither a model nor an alias nor a request is told as that, with the nearest that are, else with
    some; what is known only to the configuration, or to Ollama, is no such name."""
    scene = Scene()
    state, names = scene.machine.state, ["gpt-4:latest", "claude-opus-4:latest"]
    near = why(state, "qwen-fats:latest", scene.at, alias="qwen-fats", names=names)["sentences"]
    assert near[0].startswith("No model, alias or request is known as qwen-fats; the nearest known: qwen-fast.")
    assert "refused with 404" in near[1]
    assert (
        "the nearest known: gpt-4." in why(state, "gtp-4:latest", scene.at, alias="gtp-4", names=names)["sentences"][0]
    )
    far = why(state, "r1:latest", scene.at, alias="r1", names=names)["sentences"][0]
    assert "known are gpt-4, claude-opus-4, qwen-quality-128k" in far
    assert "an id such as r1a2b-7: `ollama-scheduler status --json` has" in far
    leads = why(state, "gone:latest", scene.at, alias="gpt-4", names=names)["sentences"][0]
    assert leads == "gpt-4 is gone, which is neither configured nor installed."
    scene.tell(m.ModelsListed(scene.at, (m.Listed("extra:latest", 10**9),)))
    for name in (FAST, "extra:latest"):
        assert name in why(state, name, scene.at)["sentences"][0]
        assert "No model" not in why(state, name, scene.at)["sentences"][0]
    unheard = why(Machine.fresh(EACH, 1.0).state, "x:latest", 1.0, alias="x")["sentences"][0]
    assert unheard == "x is not configured, and what Ollama has is not known yet."


def test_why_without_ollama() -> None:
    """While Ollama is away it would wait for Ollama."""
    scene = Scene()
    scene.tell(m.OllamaDown(scene.at, "connection refused"))
    answer = why(scene.machine.state, FAST, scene.at)
    assert answer["because"] == "Ollama, which does not answer: connection refused"


@pytest.mark.parametrize("seed", range(4))
def test_why_is_right(seed: int) -> None:
    """At any moment of a play, what `why` says of each model is what a request that then comes really meets."""
    play = Play(seed + 20)
    play.begin()
    play.demand(150, 900.0)
    for step in range(10):
        play.run(until=1000.0 + step * 90.0)
        name = list(SIZES)[step % len(SIZES)]
        said = why(play.machine.state, name, play.at)
        orders = play.post(m.Arrived(play.at, f"asked-{step}", name))
        served = any(isinstance(order, m.Forward) and order.id == f"asked-{step}" for order in orders)
        assert (said["would"] == "be served") is served
        assert bool(said["load"]) is (
            play.machine.state.transition is not None and name in play.machine.state.transition.load
        )


def test_what_people_said_is_shown() -> None:
    """Pins with owner and end, a pause, asked loads and unloads: in /status, as long as they hold, and in `why`."""
    scene = Scene()
    scene.tell(m.Pinned(scene.at, FAST, scene.at + 90.0, "ada", "refuse"))
    scene.load(FAST)
    (pin,) = scene.status(8.0)["pins"]
    assert (pin["model"], pin["owner"], pin["left"], pin["others"]) == (FAST, "ada", 70.0, "refuse")
    assert "It is pinned by ada for another 78 s." in why(scene.machine.state, FAST, scene.at)["sentences"]
    scene.tell(m.Ticked(1090.0))
    assert scene.status()["pins"] == []
    scene.tell(m.LoadAsked(scene.at, QUALITY, "ada"))
    assert scene.status()["loads_asked"] == {QUALITY: "ada"}
    assert "Its load was asked for by ada." in why(scene.machine.state, QUALITY, scene.at)["sentences"]
    assert "Its load was asked for by ada." not in why(scene.machine.state, CODER, scene.at)["sentences"]


def test_a_pause_is_no_trouble_however_long() -> None:
    """Paused is a verdict of its own, told with its end; those who wait for hours are not stuck."""
    scene = Scene()
    scene.tell(m.Paused(scene.at, "ada", scene.at + 7200.0))
    scene.arrive(FAST, "r1")
    told = scene.status(3600.0)
    assert (told["verdict"], told["needs_you"]) == ("paused", [])
    assert told["headline"] == "Paused by ada for another 3600 s; nothing in memory; 1 waiting."
    assert told["requests"][0]["waits_for"] == "the pause by ada to end for another 3600 s"
    assert (told["paused"]["left"], told["paused"]["others"]) == (3600.0, "wait")
    scene.tell(m.Resumed(scene.at + 1, "ada"))
    assert scene.status()["paused"] is None


def test_waiting_for_a_pin_is_not_stuck() -> None:
    """One whom a pin keeps out waits for its end, and /status says for which, by whom and how long."""
    scene = Scene()
    scene.tell(m.Pinned(scene.at, QUALITY, scene.at + 140.0, "ada"))
    scene.load(QUALITY)
    scene.arrive(CODER, "r1")
    told = scene.status(100.0)
    assert told["verdict"] == "busy"
    assert told["requests"][0]["waits_for"] == "the pin of qwen-quality-128k by ada to end for another 28 s"


def test_passthrough_is_said_before_anything_else() -> None:
    """The escape hatch is a verdict of its own, the headline, and the first thing a person has to do."""
    scene = Scene()
    scene.tell(m.PassthroughSet(scene.at, True, "ada"))
    scene.arrive(FAST, "r1")
    scene.tell(m.OllamaDown(scene.at, "connection refused"))
    told = scene.status(5.0)
    assert (told["verdict"], told["passthrough"]["owner"], told["passthrough"]["running"]) == ("passthrough", "ada", 1)
    assert told["headline"].startswith("PASSTHROUGH is on, by ada: everything is forwarded unscheduled")
    assert [need["type_this"] for need in told["needs_you"]] == ["ollama-scheduler passthrough off", "ollama serve"]
    assert told["needs_you"][0]["since"] == told["passthrough"]["since"] == told["started"]
    scene.tell(m.PassthroughSet(scene.at, False, "ada"))
    assert scene.status()["passthrough"] is None


@dataclass
class Planned:
    """What the timetable changes next."""

    at: float
    what: str
    by: str


def test_what_is_scheduled_and_quiet() -> None:
    """What changes next and when, by the wall clock, and who said that nothing is loaded unasked; neither at first."""
    scene = Scene()
    told = scene.status()
    assert (told["scheduled"], told["quiet"]) == (None, "")
    scene.tell(m.QuietSet(scene.at, True, "quiet hours: 22:00 to 07:00"))
    planned = Planned(WALL + 3600.0, "quiet ends", "quiet hours: 22:00 to 07:00")
    told = scene.status(60.0, around=replace(AROUND, scheduled=planned))
    assert told["quiet"] == planned.by
    at = {"at": "2023-11-14T23:13:20.000Z", "left": 3540.0, "what": "quiet ends", "by": planned.by}
    assert told["scheduled"] == at


def test_short_memory_is_no_secret() -> None:
    """What is left of the budget and of what, how short memory is, and that more is seen and not trusted yet; who waits
    for what does not fit is told so, and is not stuck."""
    scene = Scene()
    critical = m.MemorySeen(scene.at, 30 * 10**9, "memory.budget", pressure="critical", whole=BUDGET)
    scene.tell(critical)
    told = scene.status()["memory"]
    assert [told[each] for each in ("budget", "whole", "pressure", "growing")] == [30 * 10**9, BUDGET, "critical", None]
    assert told["free"] == 30 * 10**9
    scene.arrive(QUALITY, "r1")
    told = scene.status(600.0)
    assert told["verdict"] not in ("stuck", "ok")
    assert told["requests"][0]["waits_for"] == "memory, which is short: it needs 35.0 GB and 30.0 GB are left"
    assert "memory is short (critical): 30.0 GB of 38.0 GB may be used" in told["warnings"]
    assert next(each for each in told["phase"]["sets"] if each["name"] == "quality")["fit"] == "fits"
    scene.tell(replace(critical, at=scene.at, budget=BUDGET, pressure="normal", whole=0))
    told = scene.status()["memory"]
    assert [told[each] for each in ("budget", "pressure", "growing")] == [30 * 10**9, "normal", BUDGET]


@dataclass
class Configured:
    """A configuration in force."""

    file: Path | None = Path("config.toml")
    loaded: float = 1000.0
    tried: float = 1005.0
    refused: list[str] = field(default_factory=list)
    restart: list[str] = field(default_factory=list)


def test_the_configuration_in_force_is_told() -> None:
    """Which file holds since when; a refused one with its problems, also as the first warning; what needs a restart."""
    scene = Scene()
    plain = scene.status()["configuration"]
    assert (plain["file"], plain["state"], plain["loaded_at"]) == (None, "in force", scene.status()["started"])
    refused = Configured(refused=["sets: is bad"], restart=["listen needs a restart"])
    told = scene.status(around=replace(AROUND, configured=refused))
    assert told["configuration"]["file"] == "config.toml"
    assert (told["configuration"]["state"], told["configuration"]["problems"]) == ("refused", ["sets: is bad"])
    assert told["configuration"]["tried_at"] > told["configuration"]["loaded_at"]
    assert told["configuration"]["needs_restart"] == ["listen needs a restart"]
    assert told["warnings"][0] == "the configuration is refused and the old one stays: sets: is bad"
    assert told["warnings"][1] == "listen needs a restart"
    assert told["verdict"] == "degraded"


def test_what_is_ignored_and_out_of_reach_is_counted() -> None:
    """`keep_alive` that is not followed is counted; bytes that no order reaches are told, with what ends them."""
    scene = Scene()
    scene.tell(m.Arrived(scene.at, "r1", FAST, keep_alive=True))
    assert scene.status()["keep_alive_ignored"] == 1
    scene.machine.state.unreachable["sha256:1"] = 5_000_000_000
    told = scene.status()
    assert told["memory"]["unreachable"] == 5_000_000_000
    assert any("5.0 GB are held by runners whose name got another blob" in each for each in told["warnings"])

"""What the core learns of a model, from whom, and what is reckoned with before it was learned."""

import pytest

from scheduler.core import messages as m, sizes
from scheduler.core.config import Config, ModelConfig
from scheduler.core.machine import Machine
from scheduler.core.state import ModelState, Past
from tests.scenario import START, Story, Told

GB = 10**9


def a_story(*lines: str, stage: tuple[str, ...] = ("budget 38GB", "model fast 5GB", "resident fast")) -> Story:
    """A machine with one resident model, and what happened."""
    told = Told()
    for line in stage:
        told.tell(line)
    story = Story(told)
    for line in lines:
        story.tell(line)
    return story


def fast(*lines: str) -> ModelState:
    """What is known of the model after this."""
    return a_story(*lines).machine.state.models["fast"]


def test_service_is_a_moving_mean() -> None:
    """The newest service counts three tenths; before the first a request is reckoned with 10 s."""
    assert fast().service_seconds == 10.0
    once = ("arrive 1 fast", "wait 20s", "ended 1")
    assert fast(*once).service_seconds == 20.0
    assert fast(*once, "arrive 2 fast", "wait 40s", "ended 2").service_seconds == pytest.approx(26.0)


@pytest.mark.parametrize("how", ["failed", "abandoned", "stalled", "status 404", "status 500"])
def test_only_answers_teach(how: str) -> None:
    """How long something took that was no answer says nothing about answers."""
    model = fast("arrive 1 fast", "wait 99s", f"ended 1 {how} first 9s")
    assert (model.service_learned, model.first_byte_per_byte) == (None, None)


def test_probes_teach_nothing() -> None:
    """Health checks are small and cheap; what they took is not learned."""
    assert fast("arrive 1 fast probe", "wait 1s", "ended 1 first 1s").service_learned is None


def test_the_slowest_first_byte_is_kept() -> None:
    """The slowest seconds per prompt byte are kept, whatever came later; a prompt of unknown length says nothing."""
    slow = ("arrive 1 fast body 1kB", "wait 5s", "ended 1 first 5s")
    quick = ("arrive 2 fast body 1kB", "wait 1s", "ended 2 first 1s")
    assert fast(*slow, *quick).first_byte_per_byte == fast(*quick, *slow).first_byte_per_byte == pytest.approx(0.005)
    assert fast("arrive 1 fast body 0B", "wait 5s", "ended 1 first 5s").first_byte_per_byte is None


def test_loads_and_unloads() -> None:
    """Seconds of loads and unloads are learned; before that 1 GB a second, and 1 s."""
    stage = ("budget 38GB", "model fast 5GB", "model other 36GB")
    story = a_story("arrive 1 fast", stage=stage)
    model = story.machine.state.models["fast"]
    assert (model.load_seconds, model.unload_seconds) == (5.0, 1.0)
    for line in ("wait 12s", "loaded fast", "ended 1", "arrive 2 other", "wait 3s", "unloaded fast"):
        story.tell(line)
    assert (model.load_seconds, model.unload_seconds) == (12.0, 3.0)
    for line in ("wait 40s", "loaded other", "ended 2", "arrive 3 fast", "unloaded other", "wait 22s", "loaded fast"):
        story.tell(line)
    assert model.load_seconds == pytest.approx(15.0)


def test_sizes() -> None:
    """A larger measured size counts, a smaller never; before any, what was declared, or the file and its cache."""
    assert fast().size == 5 * GB
    stage = ("budget 38GB", "model fast 5GB")
    story = a_story("arrive 1 fast", "loaded fast size 6GB", stage=stage)
    model = story.machine.state.models["fast"]
    assert (model.size, model.held) == (6 * GB, 6 * GB)
    story.post(m.Residents(story.at, story.at, (m.Resident("fast", 4 * GB, model.context),)))
    assert (model.size, model.held) == (6 * GB, 6 * GB)
    undeclared = a_story(stage=("budget 38GB", "model fast 5GB kv 1000 ctx 8192 undeclared"))
    assert undeclared.machine.state.models["fast"].size == 5 * GB + 1000 * 8192


def test_prediction() -> None:
    """Ollama's own prediction is reckoned as Ollama does it: file, f16 cache of all slots, surcharge of the batch."""
    stage = ("budget 38GB", "model fast 5GB listed 4GB kv 1000 ctx 8192", "limit num_parallel 2")
    model = a_story(stage=stage).machine.state.models["fast"]
    assert model.predicted == 5 * GB + 2 * 1000 * 8192 + 768 * sizes.MIB
    assert [sizes.surcharge(context) for context in (4096, 4097, 32768, 32769)] == [
        0,
        768 * sizes.MIB,
        768 * sizes.MIB,
        2 * sizes.GIB,
    ]
    tiers = [sizes.context_tier(size * sizes.GIB) for size in (22, 23, 46, 47)]
    assert tiers == [4096, 32768, 32768, 262144]


def test_contexts() -> None:
    """Unaided Ollama chooses the Modelfile's context or its tier's, never more than was trained; seen is believed."""
    machine = Machine.fresh(Config((ModelConfig("a"),), num_parallel=1), 0.0)
    machine.step(m.MemorySeen(0.0, 60 * sizes.GIB, "test"))
    for listed, expected in (
        (m.Listed("a", GB, trained=131072), 131072),
        (m.Listed("a", GB), 262144),
        (m.Listed("a", GB, trained=131072, num_ctx=8192), 8192),
        (m.Listed("a", GB, trained=4096, num_ctx=8192), 4096),
    ):
        machine.step(m.ModelsListed(0.0, (listed,)))
        assert sizes.expected_context(machine.state, machine.state.models["a"]) == expected


def test_a_model_pulled_anew_is_another() -> None:
    """What was measured of a model's old blob says nothing about the new one."""
    stage = ("budget 38GB", "model fast 5GB undeclared")
    story = a_story("arrive 1 fast", "loaded fast size 9GB", "ended 1", stage=stage)
    model = story.machine.state.models["fast"]
    assert model.measured == 9 * GB
    story.post(m.ModelsListed(story.at, (m.Listed("fast", 6 * GB, 0, 131072, 0, "another digest"),)))
    assert (model.measured, model.unaided) == (0, 0)
    assert model.size == 6 * GB


def test_a_set_as_large_as_the_budget_fits() -> None:
    """A set is too large only if it is larger than the budget."""
    for budget, refused in (("25GB", False), ("24.999GB", True)):
        stage = (f"budget {budget}", "model coder 20GB", "model fast 5GB", "set coding coder fast")
        story = a_story("arrive 1 fast", stage=stage)
        assert any(line.startswith("refuse 1 500") for line in story.printed) is refused


def test_before_the_first_list_everything_may_be_there() -> None:
    """Until Ollama has told what is installed a request is held; then it is served or gets its 404."""
    machine = Machine.fresh(Config(), 0.0)
    assert machine.step(m.Arrived(1.0, "1", "there:latest", dialect="chat")) != []
    assert "1" in machine.state.requests
    machine.step(m.Arrived(1.0, "2", "missing:latest", dialect="chat"))
    orders = machine.step(m.ModelsListed(2.0, (m.Listed("there:latest", GB),)))
    assert m.Refuse("2", 404, "model 'missing:latest' not found", "not installed") in orders
    assert "1" in machine.state.requests


def past(*lines: str) -> list[Past]:
    """The arrivals that are remembered after this."""
    return list(a_story(*lines).machine.state.history.values())


def test_arrivals_are_remembered() -> None:
    """When, for what and of which class a request came, and once it is over how long it kept its slot."""
    begun = ("arrive 1 fast agent", "wait 20s", "arrive 2 fast")
    assert past(*begun) == [Past(START, "fast", "agent"), Past(START + 20, "fast", "interactive")]
    over = past(*begun, "ended 1", "wait 5s", "ended 2")
    assert over[0] == Past(START, "fast", "agent", "", START + 20, 20.0)
    assert over[1] == Past(START + 20, "fast", "interactive", "", START + 25, 5.0)


@pytest.mark.parametrize(
    "lines",
    [
        ("arrive 1 fast probe",),
        ("arrive 1 fast preload",),
        ("arrive 0 fast", "arrive 1 fast", "left 1"),  # while it waits
        ("arrive 1 fast", "left 1"),  # while it runs
        ("arrive 1 fast", "ended 1 abandoned"),
        ("arrive 0 fast", "pause refuse", "arrive 1 fast"),
    ],
)
def test_what_was_no_demand_is_not_remembered(lines: tuple[str, ...]) -> None:
    """Health checks, wishes, refused requests and those whose client left say nothing of who will ask."""
    assert len(past(*lines)) == len([line for line in lines if line.startswith("arrive 0")])


def test_a_failed_request_is_remembered_without_its_seconds() -> None:
    """Somebody asked; how long it took until it failed says nothing."""
    assert past("arrive 1 fast", "wait 20s", "ended 1 failed") == [
        Past(START, "fast", "interactive", "", START + 20, None)
    ]


def test_the_oldest_arrivals_are_forgotten() -> None:
    """Memory is bounded: the last two thousand stay."""
    lines = [line for n in range(2005) for line in (f"arrive {n} fast", "wait 1s", f"ended {n}")]
    remembered = past(*lines)
    assert len(remembered) == 2000
    assert remembered[0].at == START + 5


def test_sleep_makes_the_past_older() -> None:
    """The monotonic clock stands while the machine sleeps; arrivals before it are longer ago than it says."""
    slept = past("arrive 1 fast", "wait 20s", "ended 1", "gap 1h", "arrive 2 fast")
    assert [(p.at, p.ended_at) for p in slept] == [(START - 3600, START + 20 - 3600), (START + 20, None)]

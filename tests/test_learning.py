"""What the core learns of a model, from whom, and what is reckoned with before it was learned."""

import math
from dataclasses import replace
from typing import Any

import pytest

from policies import board, foresee
from scheduler import saved
from scheduler.core import learned, messages as m, sizes
from scheduler.core.config import Config, ModelConfig
from scheduler.core.machine import Machine
from scheduler.core.state import ModelState, Past, Request
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


def test_what_passes_through_teaches_nothing() -> None:
    """Its seconds may hold a load of Ollama's own; also of what was let through before and ends after."""
    assert fast("passthrough on", "arrive 1 fast", "wait 99s", "ended 1 first 9s").service_learned is None
    late = fast("passthrough on", "arrive 1 fast", "wait 9s", "passthrough off", "wait 9s", "ended 1 first 9s")
    assert late.service_learned is None


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
    story = a_story("arrive 1 fast", "wait 20s", "ended 1", "gap 1h", "arrive 2 fast")
    assert [group.at for group in story.machine.state.groups] == [START - 3600, START + 20]


# --- loads from disk and from the page cache ---------------------------------------------------------------------

TWO = ("budget 38GB", "model small 5GB", "model medium 20GB", "model large 35GB")


def turn(name: str, after: str, took: str) -> tuple[str, ...]:
    """A request that brings `name` in, for which `after` leaves."""
    return (f"arrive {name} {name}", f"unloaded {after}", f"wait {took}", f"loaded {name}", f"ended {name}")


def test_a_load_from_disk_and_one_from_the_page_cache_are_told_apart() -> None:
    """What left a moment ago and still fits into the device beside what was loaded since loads as quickly as that
    did before; what a large model has pushed out of the cache loads as from disk."""
    story = a_story("arrive small small", "wait 12s", "loaded small", "ended small", stage=TWO)
    model = story.machine.state.models["small"]
    assert (model.load_cold, model.load_warm) == (12.0, None)
    for line in ("unload small", "unloaded small", "arrive 2 small", "wait 2s", "loaded small", "ended 2"):
        story.tell(line)
    assert (model.load_cold, model.load_warm) == (12.0, 2.0)
    assert model.load_seconds == 12.0  # while it is resident nobody knows what is loaded before it comes back
    story.tell("unload small")
    story.tell("unloaded small")
    assert model.load_seconds == 2.0
    for line in ("arrive 3 large", "wait 40s", "loaded large"):
        story.tell(line)
    assert model.load_seconds == 12.0
    for line in ("ended 3", "arrive 4 small", "unloaded large", "wait 20s", "loaded small"):
        story.tell(line)
    assert model.load_cold == pytest.approx(14.4)
    assert model.load_warm == 2.0


def test_a_load_from_the_cache_says_nothing_of_one_from_disk() -> None:
    """A model whose only load was warm (it was adopted before) is reckoned with by its size once it is cold."""
    stage = (*TWO, "resident medium")
    story = a_story("unload medium", "unloaded medium", "arrive 1 medium", "wait 1s", "loaded medium", stage=stage)
    model = story.machine.state.models["medium"]
    assert model.load_warm == 1.0
    assert model.load_seconds == 20.0
    story.tell("ended 1")
    story.tell("unload medium")
    story.tell("unloaded medium")
    assert model.load_seconds == 1.0
    story.residents(["medium"])
    assert model.load_seconds == 20.0  # somebody else loaded it


def test_first_loads_tell_how_fast_the_disk_is() -> None:
    """What was never loaded is believed to be off by as much as the loads of the others were, by their bytes, 5 GB that
    were not off beside them; a restart does not forget it."""
    story = a_story("arrive 1 small", "wait 10s", "loaded small", "ended 1", stage=TWO)
    models = story.machine.state.models
    twice = 2 ** (5 / (5 + 5))
    assert models["small"].load_seconds == 10.0
    assert [models[name].load_seconds for name in ("medium", "large")] == pytest.approx([20 * twice, 35 * twice])
    for line in turn("medium", "small", "10s"):
        story.tell(line)
    between = 2 ** ((5 - 20) / (5 + 5 + 20))
    assert models["large"].load_seconds == pytest.approx(35 * between)
    again = saved.apply(saved.saved_of(story.machine.state, 0.0), a_story(stage=TWO).machine, 0.0)
    assert again.state.models["large"].load_seconds == pytest.approx(35 * between)


def test_a_small_model_says_little_of_the_disk() -> None:
    """The load of one of 300 MB is mostly the start of its runner."""
    story = a_story("arrive 1 tiny", "wait 2s", "loaded tiny", stage=(*TWO, "model tiny 0.3GB"))
    assert 35.0 < story.machine.state.models["large"].load_seconds < 38.0


def test_a_load_in_which_the_machine_slept_counts_for_four_times_what_was_believed() -> None:
    """Nothing that was never loaded is put off for hours because of it, and later loads of the same make it good."""
    story = a_story("arrive 1 medium", "wait 2h", "loaded medium", "ended 1", stage=TWO)
    large = story.machine.state.models["large"]
    assert large.load_seconds == pytest.approx(35 * 4 ** (20 / 25))
    story.machine.state.models["medium"].load_cold = 20.0  # what many loads more make of the mean
    learned.came(story.machine.state.models["medium"])
    story.tell("unload medium")
    story.tell("unloaded medium")
    assert large.load_seconds == pytest.approx(35.0)


def test_what_a_warm_load_took_is_not_what_one_from_disk_was_believed_to_take() -> None:
    """Adopted, loaded again from the cache in 2 s, then from disk as fast as was believed: nothing was off."""
    story = a_story("unload medium", "unloaded medium", "arrive 1 medium", stage=(*TWO, "resident medium"))
    for line in ("wait 2s", "loaded medium", "ended 1", "unload medium", "unloaded medium"):
        story.tell(line)
    story.machine.state.loaded_bytes += 10**12  # so much was loaded since that its file is not cached any more
    for line in ("arrive 2 medium", "wait 20s", "loaded medium"):
        story.tell(line)
    assert story.machine.state.models["medium"].load_cold == 20.0
    assert story.machine.state.models["large"].load_seconds == pytest.approx(35.0)


def test_one_outlier_counts_for_four_times_the_mean() -> None:
    """A machine that slept in the middle of a load does not make every load take hours."""
    assert learned.mean(10.0, 28_800.0) == pytest.approx(10.0 + 0.3 * 30.0)
    assert learned.mean(10.0, 0.001) == pytest.approx(10.0 - 0.3 * 7.5)
    assert learned.mean(None, 28_800.0) == 28_800.0
    assert learned.mean(10.0, 80.0, learned.FAR_SERVICE) == pytest.approx(31.0)


# --- tokens --------------------------------------------------------------------------------------------------------


def told(story: Story, prompt: int | None, output: int | None, after: float, **more: Any) -> None:
    """The request under way is answered `after` seconds; Ollama tells its tokens."""
    (name,) = story.machine.state.models["fast"].running_ids
    story.wait(after)
    story.post(m.Ended(story.at, name, "answered", service=after, prompt_tokens=prompt, output_tokens=output, **more))


def a_loaded_story(*stage: str) -> Story:
    """A model that was loaded just now, and the first request for it, of 4,000 bytes, under way."""
    story = a_story(stage=("budget 38GB", "model fast 5GB", *stage))
    ask(story, "1", "ann", 4_000)
    story.tell("wait 5s")
    story.tell("loaded fast")
    return story


def ask(story: Story, name: str, session: str, body: int = 4_000) -> None:
    """A request of this session."""
    story.post(m.Arrived(story.at, name, "fast", session=session, body_bytes=body))


def fast_in(story: Story) -> ModelState:
    """What is known of the model."""
    return story.machine.state.models["fast"]


@pytest.mark.parametrize(
    "how",
    [
        {"first_byte": 5.0},  # a stream: reading ends with the first byte
        {"first_byte": 11.9, "prompt_seconds": 5.0, "output_seconds": 7.0},  # not streamed: Ollama tells
        {"first_byte": 2.0, "prompt_seconds": 5.0, "output_seconds": 7.0},  # what Ollama tells outweighs
    ],
)
def test_rates_of_reading_and_writing_are_learned(how: dict[str, float]) -> None:
    """1,000 tokens in 5 s and 100 in 7 s, whether that is told by Ollama or by when the first byte came."""
    story = a_loaded_story()
    told(story, 1_000, 100, 12.0, **how)
    model = fast_in(story)
    assert model.read_seconds == pytest.approx(0.005)
    assert model.write_seconds == pytest.approx(0.07)
    assert (model.output_tokens, model.token_bytes) == (100.0, 4.0)


def test_an_answer_in_one_piece_that_tells_no_seconds_teaches_no_rate() -> None:
    """Nobody can say what of it was reading."""
    story = a_loaded_story()
    told(story, 1_000, 100, 12.0, first_byte=11.9)
    assert (fast_in(story).read_seconds, fast_in(story).write_seconds) == (None, None)


def test_only_a_cold_prompt_tells_how_quickly_one_is_read() -> None:
    """The second request finds its prompt cached: what Ollama says it took is no measure of its tokens."""
    story = a_loaded_story()
    told(story, 1_000, 100, 12.0, prompt_seconds=5.0, output_seconds=7.0)
    ask(story, "2", "ann")
    told(story, 1_200, 100, 8.0, prompt_seconds=0.5, output_seconds=7.0)
    assert fast_in(story).read_seconds == pytest.approx(0.005)


def test_a_health_check_leaves_the_first_prompt_cold() -> None:
    """What it reads is nothing beside a conversation."""
    story = a_story(stage=("budget 38GB", "model fast 5GB"))
    for line in ("load fast", "wait 5s", "loaded fast", "arrive p fast probe", "ended p"):
        story.tell(line)
    ask(story, "1", "ann")
    told(story, 1_000, 100, 12.0, prompt_seconds=5.0)
    assert fast_in(story).read_seconds == pytest.approx(0.005)


def test_service_is_reckoned_from_tokens() -> None:
    """What is unread of a prompt at the learned rate and a mean answer; the mean of all where no rate is known."""
    story = a_loaded_story()
    model = fast_in(story)
    later = Request("x", 9, "fast", "interactive", "request", story.at, session="bob", body_bytes=8_000)
    assert learned.service_seconds(model, later) == 10.0
    told(story, 1_000, 100, 12.0, prompt_seconds=5.0, output_seconds=7.0)
    assert learned.service_seconds(model, later) == pytest.approx(2_000 * 0.005 + 7.0)
    again = replace(later, session="ann", body_bytes=6_000)  # 1,500 tokens, of which 1,100 are cached
    assert learned.service_seconds(model, again) == pytest.approx(400 * 0.005 + 7.0)


# --- warm prompts --------------------------------------------------------------------------------------------------


def test_what_an_eviction_would_have_read_again() -> None:
    """A conversation of 100,000 tokens read at 200 a second is 500 s that leave with its model; the chance that it is
    asked for again fades with ten minutes, is none after half an hour, and nothing is left of it with the model."""
    story = a_loaded_story()
    told(story, 100_000, 0, 500.0, prompt_seconds=500.0)
    model = fast_in(story)
    assert model.reprompt == pytest.approx(500.0)
    story.wait(600.0)
    story.post(m.Ticked(story.at))
    assert model.reprompt == pytest.approx(500.0 / math.e, rel=0.11)
    ask(story, "2", "ann", 440_000)
    told(story, 110_000, 0, 50.0, prompt_seconds=50.0)
    assert model.reprompt == pytest.approx(550.0)
    assert len(model.warm) == 1
    story.wait(1_801.0)
    story.post(m.Ticked(story.at))
    assert (model.reprompt, model.warm) == (0.0, {})
    ask(story, "3", "ann", 440_000)
    told(story, 110_000, 0, 550.0, prompt_seconds=550.0)
    assert model.reprompt == pytest.approx(550.0)
    story.tell("unload fast")
    story.tell("unloaded fast")
    assert (model.reprompt, model.warm) == (0.0, {})


def test_what_is_lost_is_known_when_the_policy_decides() -> None:
    """In the step that drains the model its prompt is already reckoned with, and what was derived before is stale."""
    story = a_loaded_story()
    seen = story.machine.state.revision
    told(story, 100_000, 0, 500.0, prompt_seconds=500.0)
    revision = story.machine.state.revision
    assert revision > seen
    story.post(m.Ticked(story.at + 1.0))
    assert (fast_in(story).reprompt, story.machine.state.revision) == (500.0, revision)
    story.post(m.Ticked(story.at + 120.0))
    assert fast_in(story).reprompt < 450.0
    assert story.machine.state.revision == revision + 1


def test_a_slot_keeps_one_prompt() -> None:
    """Without room beyond the slots the prompt of the one who asked before is pushed out; two slots keep two."""
    for slots in (1, 2):
        story = a_loaded_story()
        fast_in(story).parallel = slots
        told(story, 1_000, 0, 5.0, prompt_seconds=5.0)
        for number, name in enumerate(("bob", "ann", "cyd")):
            ask(story, f"{number}", name)
            told(story, 1_000, 0, 5.0, prompt_seconds=5.0)
        assert list(fast_in(story).warm) == ["ann", "cyd"][-slots:]


def test_the_runners_own_cache_keeps_what_it_has_room_for() -> None:
    """8 GiB at the bytes of a token hold so many more prompts, and never more than 64 are kept account of."""
    for kv, kept in ((2_000_000, 5), (1_000, 64)):  # 4,294 tokens in main memory, and the slot's own 1,000
        story = a_story(stage=("budget 38GB", f"model fast 5GB kv {kv} ctx 4096", "resident fast"))
        for n in range(70):
            ask(story, str(n), f"s{n}")
            told(story, 1_000, 0, 5.0)
        assert list(fast_in(story).warm) == [f"s{n}" for n in range(70 - kept, 70)]


def test_prompts_of_nobody_are_each_their_own() -> None:
    """Who asks without a name does not add to another's conversation."""
    story = a_story(stage=("budget 38GB", "model fast 5GB kv 1000 ctx 4096", "resident fast"))
    for n in range(3):
        ask(story, str(n), "")
        told(story, 1_000, 0, 5.0)
    assert len(fast_in(story).warm) == 3


def test_nobody_is_expected_to_ask_for_what_is_no_model() -> None:
    """A name that was asked for before the list was read, and is not on it, is in no group any more."""
    machine = Machine.fresh(Config(), 0.0)
    for n, name in enumerate(("there", "missing", "there")):
        machine.step(m.Arrived(10.0 * n, str(n), name))
    assert [set(group.weights) for group in machine.state.groups] == [{"there"}, {"missing"}, {"there"}]
    machine.step(m.ModelsListed(40.0, (m.Listed("there", GB),)))
    assert "missing" not in machine.state.models
    assert [(group.at, set(group.weights)) for group in machine.state.groups] == [(0.0, {"there"}), (20.0, {"there"})]


def a_conversation(tokens: int, away: float) -> Story:
    """A conversation of so many tokens was warm in the one model that fits when a request for another came, `away`
    seconds ago; only that request's arrival was heard of since."""
    story = a_story(stage=("budget 3GB", "model fast 2GB", "model right 2GB"))
    ask(story, "1", "ann", 4 * tokens)
    story.wait(2.0)
    story.tell("loaded fast")
    told(story, tokens, 10, 5.0, prompt_seconds=tokens / 200)
    story.post(m.Arrived(story.at, "3", "right", session="bob", body_bytes=4_000))
    story.at += away
    return story


def test_a_warm_conversation_holds_its_model() -> None:
    """One request for another model sends away at once what nothing is lost with, and waits for most of its patience
    where minutes of reading would be lost: the price of a warm prompt is part of the decision."""
    cheap, dear = a_conversation(50, 0.0), a_conversation(100_000, 0.0)
    assert cheap.machine.state.transition is not None
    assert dear.machine.state.transition is None
    dear.wait(100.0)
    assert dear.machine.state.transition is None
    dear.wait(50.0)
    assert dear.machine.state.transition is not None


def test_a_health_check_begins_nothing_that_time_made_due() -> None:
    """When a conversation has become cheap enough to lose since anything was heard, the change it allows comes before
    the probe that happens to be heard first: the probe is answered once."""
    story = a_conversation(40_000, 82.0)
    assert story.machine.state.transition is None
    orders = story.machine.step(m.Arrived(story.at, "p", "fast", "probe"))
    assert [type(order).__name__ for order in orders if getattr(order, "id", "") == "p"] == ["AnswerProbe"]
    assert story.machine.state.transition is not None


def test_a_model_made_anew_under_its_old_name_is_another() -> None:
    """One that was gone from the list and is there again says nothing by what was seen of it before; at the first list
    of a life, what an earlier one learned is kept."""
    story = a_story(
        "arrive 1 fast", "loaded fast ctx 4096", "ended 1", stage=("budget 38GB", "model fast 5GB ctx 8192")
    )
    model = fast_in(story)
    assert (model.unaided, model.measured) == (4096, 5 * GB)
    story.post(m.ModelsListed(story.at, ()))
    story.post(m.ModelsListed(story.at, (m.Listed("fast", 5 * GB, 0, 131072, 8192, "digest of fast"),)))
    assert (model.unaided, model.measured) == (0, 0)
    assert sizes.expected_context(story.machine.state, model) == 8192
    reborn = Machine.fresh(Config(), 0.0)
    reborn.state.models["fast"] = ModelState("fast", unaided=4096, measured=6 * GB)
    reborn.step(m.ModelsListed(1.0, (m.Listed("fast", 5 * GB, 0, 131072, 8192, "digest of fast"),)))
    assert (reborn.state.models["fast"].unaided, reborn.state.models["fast"].measured) == (4096, 6 * GB)


def test_loading_ahead_counts_what_a_wrong_guess_throws_away() -> None:
    """A warm conversation that leaves for what nobody asks for then has to be read again for nothing; where that is
    asked for next, it would have left all the same."""
    story = a_story(
        "arrive 1 fast", "ended 1", stage=("budget 3GB", "model fast 2GB", "model right 2GB", "resident fast")
    )
    world, model = story.machine._world, fast_in(story)

    def saves(asked: str, reprompt: float) -> float:
        model.reprompt = reprompt
        followed = (board.Next(100.0, {asked: 3.0}),)
        return foresee._compared(board.Board(world), world.models["right"], [followed] * 3).saves

    for asked in ("right", "fast"):
        assert saves(asked, 0.0) - saves(asked, 100.0) == pytest.approx(100.0 if asked == "fast" else 0.0)
    assert saves("right", 0.0) > 0 > saves("fast", 100.0)


def test_what_was_read_is_older_after_a_sleep() -> None:
    """The monotonic clock stood still while the machine slept, and the session went on living: after hours nobody is
    expected back, and nothing holds the model for him."""
    story = a_loaded_story()
    told(story, 100_000, 10, 5.0, prompt_seconds=500.0)
    assert fast_in(story).reprompt > 400.0
    story.tell("gap 2h")
    assert fast_in(story).reprompt == 0.0
    assert not fast_in(story).warm

"""The policies and their arithmetic: what fits beside what, who leaves, who is forced in and when."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations, permutations
from math import exp, inf

import pytest
from hypothesis import given, settings, strategies as st

from policies import POLICIES, bound, default, early, fit
from policies.verdict import Change, Memo, Serve
from policies.world import Plan
from scheduler.core import messages as m
from scheduler.core.config import Config, PhaseConfig
from scheduler.core.machine import Machine
from scheduler.core.state import CoreState, ModelState
from scheduler.core.view import Sets, WorldView
from tests.promises import watchers
from tests.scenario import Story, Told
from tests.world_model import World
from tests.world_script import play, some_script

GB = 10**9


def a_world(
    models: Sequence[ModelState],
    budget: int,
    *,
    device: int = 0,
    max_loaded: int = 3,
    sets: tuple[tuple[str, tuple[str, ...]], ...] = (),
    stale_free: bool = False,
) -> WorldView:
    """A healthy world with these models."""
    phases = (PhaseConfig("normal", tuple(name for name, _ in sets)),)
    config = Config(sets=sets, phases=phases, max_loaded=max_loaded, stale_free=stale_free)
    state = CoreState(config, ollama="up", looking=False, budget=budget, device=device)
    for model in models:
        state.models[model.name] = model
        if model.state != "absent":
            state.present[model.name] = None
    return WorldView(state, Sets(config, "normal"))


def absent(name: str, size: int) -> ModelState:
    """A model that can be loaded."""
    return ModelState(name, installed=True, size=size, predicted=size)


def resident(name: str, size: int, last_used: float = 0.0, free_after: int = 0) -> ModelState:
    """A model in memory."""
    model = ModelState(name, installed=True, size=size, predicted=size, state="ready", held=size)
    model.last_used, model.free_after = last_used, free_after
    return model


# --- the gates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "held", "count", "fits"),
    [
        (40 * GB, 0, 0, True),  # an empty device takes what the budget takes
        (41 * GB, 0, 0, False),
        (28 * GB, 5 * GB, 1, True),  # exactly 80 % of the 35 GB that are free
        (28 * GB + 1, 5 * GB, 1, False),
        (1 * GB, 3 * GB, 2, True),
        (1 * GB, 3 * GB, 3, False),  # as many as Ollama holds
    ],
)
def test_gates(size: int, held: int, count: int, fits: bool) -> None:
    """A load is let in within the budget, within 80 % of what is free beside others, and within their number."""
    world = a_world([], 40 * GB, device=40 * GB)
    there = fit.Beside(held, count, 40 * GB - held)
    assert fit.admits(world, absent("a", size), there) is fits


def test_orphans_count_for_us_only() -> None:
    """What runners without a parent hold is no longer ours to give, though Ollama does not see it."""
    world = a_world([], 40 * GB, device=40 * GB)
    world._state.orphans = 15 * GB
    assert fit.admits(world, absent("a", 25 * GB), fit.beside(world, ()))
    assert not fit.admits(world, absent("a", 25 * GB + 1), fit.beside(world, ()))


def test_stale_free_memory() -> None:
    """Off Metal Ollama may believe what was free when some resident was loaded, so the least of those counts."""
    old = resident("old", 1 * GB, free_after=10 * GB)
    for stale, fits in ((False, True), (True, False)):
        world = a_world([old], 40 * GB, device=40 * GB, stale_free=stale)
        assert fit.admits(world, absent("a", 9 * GB), fit.beside(world, [old])) is fits


def test_the_large_one_first() -> None:
    """Quality and fast can be held together, but only quality may come first."""
    fast, quality = absent("fast", 5 * GB), absent("quality", 35 * GB)
    world = a_world([fast, quality], 46 * GB, device=46 * GB)
    assert fit.loading_order(world, [fast, quality], fit.beside(world, ())) == ("quality", "fast")
    assert fit.holdable(world, [fast, quality])
    smaller = a_world([fast, quality], 46 * GB, device=41 * GB)
    assert not fit.holdable(smaller, [fast, quality])


# --- plans ---------------------------------------------------------------------------------------------------------

SIZES = st.integers(1, 12).map(lambda n: n * GB)


@st.composite
def worlds(draw: st.DrawFn) -> WorldView:
    """Some models, some of them resident and within the budget, some sets."""
    sizes = draw(st.lists(SIZES, min_size=2, max_size=5))
    names = [f"m{n}" for n in range(len(sizes))]
    budget = draw(st.integers(8, 24)) * GB
    max_loaded = draw(st.sampled_from((2, 3, 4)))
    models, held = [], 0
    for name, size in zip(names, sizes, strict=True):
        there = draw(st.booleans()) and held + size <= budget
        held += size if there else 0
        models.append(resident(name, size, draw(st.floats(0, 9))) if there else absent(name, size))
    pick = st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True).map(tuple)
    sets = tuple((f"s{n}", members) for n, members in enumerate(draw(st.lists(pick, max_size=2))))
    return a_world(
        models, budget, device=draw(st.sampled_from((budget, budget * 5 // 4))), max_loaded=max_loaded, sets=sets
    )


def some_order(world: WorldView, stay: Sequence[ModelState], load: Sequence[ModelState]) -> bool:
    """Whether the gates let `load` in beside `stay` in any order; the arithmetic is written out a second time here."""
    for order in permutations(load):
        held, count = sum(model.held for model in stay), len(stay)
        for model in order:
            beside_others = count < world.max_loaded and model.predicted <= (world.device - held) * 0.8
            if held + model.size > world.budget or (count and not beside_others):
                break
            held, count = held + model.size, count + 1
        else:
            return True
    return False


@settings(max_examples=400, derandomize=True)
@given(worlds())
def test_plans(world: WorldView) -> None:
    """A plan can be carried out as it stands, brings the model in, and sends nobody away who could have stayed."""
    for wanted in list(world.models.values()):
        if wanted.state != "absent":
            continue
        plan = fit.plan_for(world, wanted)
        if plan is None:
            assert not some_order(world, (), [wanted])
            continue
        stay = [model for model in world.present if model.name not in plan.leave]
        held, count = fit.beside(world, stay), len(stay)
        for name in plan.load:
            model = world.models[name]
            assert fit.admits(world, model, held), f"{plan} cannot load {name}"
            held, count = held.joined(world, model), count + 1
        assert wanted.name in plan.load
        load = [world.models[name] for name in plan.load]
        for name in plan.leave:
            spared = [other for other in load if other.name != name]
            assert not some_order(world, [*stay, world.models[name]], spared), f"{plan}: {name} could stay"


@settings(max_examples=200, derandomize=True)
@given(worlds())
def test_plans_hold_the_set(world: WorldView) -> None:
    """Where some set of the model can be held at all, the plan holds a whole one, or misses less that way."""
    for wanted in list(world.models.values()):
        if wanted.state != "absent":
            continue
        holdable = [s for s in world.sets_of(wanted.name) if some_order(world, (), [world.models[n] for n in s])]
        plan = fit.plan_for(world, wanted)
        if holdable:
            assert plan is not None
            after = {model.name for model in world.present if model.name not in plan.leave} | set(plan.load)
            if not any(set(members) <= after for members in holdable):
                missed = min(to_load_again(world, {*plan.leave, *members} - after) for members in holdable)
                assert missed <= min(leaving_for(world, members) for members in holdable)


def to_load_again(world: WorldView, names: Iterable[str]) -> float:
    """Seconds of loading them, a quarter of them where they are seldom asked for."""
    return sum((m := world.models[name]).load_seconds * (1.0 if world.rides(m) else 0.25) for name in names)


def leaving_for(world: WorldView, members: Sequence[str]) -> float:
    """The least of it that must leave for the whole set, nobody of whom leaves."""
    least = inf
    others = [model for model in world.present if model.name not in members]
    there = [model for model in world.present if model.name in members]
    load = [world.models[name] for name in members if world.models[name].state == "absent"]
    for number in range(len(others) + 1):
        for leave in combinations(others, number):
            stay = [model for model in others if model not in leave]
            if some_order(world, [*stay, *there], load):
                least = min(least, to_load_again(world, [model.name for model in leave]))
    return least


def test_an_idle_member_gives_way_before_a_larger_model() -> None:
    """Quality and fast are there and nobody asks: for coder fast leaves, though it is of coder's set, where that lets
    quality stay; where fast serves somebody, quality leaves."""
    for needed, leaves in ((False, "fast"), (True, "quality")):
        models = [resident("quality", 35 * GB, 1.0), resident("fast", 5 * GB, 9.0), absent("coder", 20 * GB)]
        models[1].running_ids |= dict.fromkeys(["r"] if needed else [])
        world = a_world(models, 56 * GB, device=100 * GB, sets=(("big", ("quality",)), ("coding", ("coder", "fast"))))
        assert fit.plan_for(world, models[2]) == Plan((leaves,), ("coder",))


def test_a_member_that_only_rides_along_sends_nobody_away() -> None:
    """Fast would come with coder, but not where quality had to leave for it."""
    models = [resident("quality", 35 * GB, 1.0), absent("fast", 5 * GB), absent("coder", 20 * GB)]
    sets = (("big", ("quality",)), ("coding", ("coder", "fast")))
    assert fit.plan_for(a_world(models, 56 * GB, device=100 * GB, sets=sets), models[2]) == Plan((), ("coder",))
    assert fit.plan_for(a_world(models, 60 * GB, device=100 * GB, sets=sets), models[2]) == Plan((), ("coder", "fast"))


def test_the_least_recently_used_leaves() -> None:
    """Of two that would do, the one used longer ago goes."""
    models = [resident("new", 5 * GB, 9.0), resident("old", 5 * GB, 1.0), absent("a", 5 * GB)]
    plan = fit.plan_for(a_world(models, 12 * GB, device=100 * GB), models[2])
    assert plan is not None
    assert plan.leave == ("old",)


def test_nothing_is_planned_over_what_is_out() -> None:
    """While a load or an unload has not reported, there is no plan."""
    for state in ("loading", "leaving"):
        other = replace(resident("b", GB), state=state)
        models = [absent("a", GB), other]
        assert fit.plan_for(a_world(models, 12 * GB), models[0]) is None


def test_members_that_cannot_be_loaded_are_left_out() -> None:
    """A member that is not installed, or pauses after a failed load, keeps nobody of its set waiting."""
    models = [
        absent("a", GB),
        replace(absent("gone", GB), installed=False),
        replace(absent("fails", GB), not_before=9.0),
    ]
    plan = fit.plan_for(a_world(models, 12 * GB, sets=(("s", ("gone", "fails", "a")),)), models[0])
    assert plan is not None
    assert plan.load == ("a",)


@settings(max_examples=200, derandomize=True)
@given(worlds())
def test_holdable(world: WorldView) -> None:
    """A set can be held exactly if some order of loading it passes the gates from an empty memory."""
    for size in (1, 2, 3):
        for members in combinations(world.models.values(), size):
            assert fit.holdable(world, members) is some_order(world, (), members)


# --- the default policy ----------------------------------------------------------------------------------------------


DOCUMENTED = (
    "budget 38GB device 40.2GB",
    "model quality 35GB",
    "model coder 20GB",
    "model fast 5GB",
    "set big quality",
    "set coding coder fast",
    "resident coder",
)
THREE = ("budget 3GB", "model left 2GB", "model middle 2GB", "model right 2GB", "resident left")


def a_story(*lines: str, stage: Sequence[str] = DOCUMENTED) -> Story:
    """The documented machine with the coder resident, and what happened since."""
    told = Told()
    for line in stage:
        told.tell(line)
    story = Story(told)
    for line in lines:
        story.tell(line)
    return story


def test_floor_and_turn() -> None:
    """The floor is 2.5 x load, unload and mean service over the contended sets; a turn half of its share, or 5 s."""
    world = a_story("arrive 1 coder", "arrive 2 quality").machine._world
    cycle = (20 + 1 + 5 + 1 + 10) + (35 + 1 + 10)
    assert bound.floor(world) == pytest.approx(2.5 * cycle)
    assert bound.turn(world) == pytest.approx(2.5 * cycle / 4)
    alone = a_story("arrive 1 coder").machine._world
    assert bound.floor(alone) == pytest.approx(2.5 * 37)


def test_only_demand_is_contended() -> None:
    """Health checks and the dead make no set contended."""
    world = a_story("arrive 1 coder probe", "arrive 2 quality").machine._world
    assert bound.floor(world) == pytest.approx(2.5 * 46)


def test_the_heavier_queue_goes_first() -> None:
    """Of two changes that are drained the one is made for which more waits, by the oldest of each class: an interactive
    request weighs three agents'."""
    busy = ("arrive 1 left", "arrive 2 middle agent", "arrive 3 middle helper")
    agent = a_story(*busy, "arrive 4 right agent", "wait 5s", "ended 1", stage=THREE)
    assert _next(agent) == ("middle",)
    person = a_story(*busy, "arrive 4 right", "wait 5s", "ended 1", stage=THREE)
    assert _next(person) == ("right",)


def test_what_fits_goes_first() -> None:
    """What can be loaded beside everybody is loaded before room is made for anybody."""
    assert _next(a_story("arrive 1 coder", "arrive 2 quality", "arrive 3 fast batch")) == ("fast",)


def _next(story: Story) -> tuple[str, ...]:
    """What is being loaded."""
    assert story.machine.state.transition is not None
    return story.machine.state.transition.planned


def _crowded(people: int, *lines: str, stage: Sequence[str] = DOCUMENTED) -> Story:
    """Coder answers one agent, two more wait for it, and `people` wait for quality."""
    agents = ["arrive 0 coder agent", "wait 10s", "ended 0", *(f"arrive {number} coder agent" for number in (1, 2, 3))]
    return a_story(*agents, *(f"arrive {number} quality" for number in range(4, 4 + people)), *lines, stage=stage)


def _weighs(story: Story) -> early.Leaving:
    world = story.machine._world
    plan = world.plan(world.models["quality"])
    assert plan is not None
    said = early.leaving(world, plan)
    assert said is not None
    return said


def test_left_early_for_what_weighs_more() -> None:
    """Where those who wait for another would save over twice what those left behind would lose, a model leaves with
    them waiting; the reason says both."""
    story = _crowded(11)
    said = _weighs(story)
    assert said.saves == pytest.approx(11 * 3 * (30 - 10))  # two more services, by the weight of a person
    assert said.costs == pytest.approx(2 * (10 + 1 + 35 + 120 + 1 + 20))  # drain, change, stay, and back
    assert said.worth == (said.saves > 2 * said.costs) is False
    story.tell("wait 10s")
    story.tell("ended 1")
    assert story.machine.state.transition is None
    story = _crowded(19, "wait 10s", "ended 1")
    under_way = story.machine.state.transition
    assert under_way is not None
    assert (under_way.left, under_way.planned, under_way.forced) == (("coder",), ("quality",), False)
    assert "coder leaves with 2 waiting: that saves about 1120 weighted seconds, and costs 494" in under_way.because


def test_what_usually_waits_makes_nobody_leave() -> None:
    """The longer so much has waited, the less of it counts."""
    story = _crowded(13)
    before = _weighs(story)
    story.machine.step(m.Ticked(story.machine.state.at + 60))
    usual = 41.0 * (1.0 - exp(-60 / 600))
    assert _weighs(story).saves == pytest.approx(before.saves - usual * 20)


def test_nobody_leaves_early_who_has_served_nobody() -> None:
    """What has just come serves somebody first, or two sets could send each other away for ever."""
    stage = (*DOCUMENTED[:-1], "resident quality")
    lines = ["arrive 1 coder agent", "unloaded quality", "arrive 2 coder agent", "arrive 3 coder agent"]
    people = [f"arrive {number} quality" for number in range(4, 23)]
    story = a_story(*lines, *people, "wait 20s", "loaded coder", stage=stage)
    assert [request.model for request in story.machine.state.requests.values() if request.place == "running"] == [
        "coder"
    ]


def test_home_does_not_leave_early() -> None:
    """A home set leaves once it was quiet for `settle`, or at the bound."""
    stage = (*DOCUMENTED[:-1], "phase normal big coding home coding settle 30s", DOCUMENTED[-1])
    story = _crowded(19, "wait 10s", "ended 1", stage=stage)
    assert story.machine.state.transition is None


def test_overdue_comes_before_leaving_early() -> None:
    """Whoever is overdue is not put off by a change that is only worth more."""
    lines = [
        "arrive 0 left agent",
        "wait 10s",
        "ended 0",
        "arrive 1 left agent",
        "arrive 2 left agent",
        "arrive 3 right",
    ]
    story = a_story(*lines, *(f"arrive {number} middle" for number in range(4, 30)), stage=THREE)
    state, world = story.machine.state, story.machine._world
    state.models["left"].running_ids.clear()  # its slot is free again
    state.revision += 1
    verdict = default.decide(world, Memo())
    assert [action.load for action in verdict.actions if isinstance(action, Change)] == [("middle",)]
    state.requests["3"].arrived -= 1000
    state.models["right"].away_since -= 1000
    verdict = default.decide(world, Memo())
    assert [action.request for action in verdict.actions if isinstance(action, Serve)] == ["2"]


def test_nobody_is_left_behind_again_and_again() -> None:
    """Whoever has waited his patience is not left behind, however much others would save by it."""
    story = _crowded(40, "wait 10s")
    assert _weighs(story).worth
    story.machine.state.requests["2"].arrived -= 1000
    world = story.machine._world
    plan = world.plan(world.models["quality"])
    assert plan is not None
    assert early.leaving(world, plan) is None


def test_a_stay_is_learned() -> None:
    """How long a model stays is a mean of the stays that ended for another."""
    story = a_story("arrive 1 coder", "wait 60s", "ended 1", "arrive 2 quality")
    coder = story.machine.state.models["coder"]
    assert coder.stay_learned == coder.stay_seconds == pytest.approx(120 + 0.3 * (60 - 120))
    story = a_story("wait 60s", "unload coder")
    assert story.machine.state.models["coder"].stay_learned is None, "nobody comes in its place"


def test_forced_is_remembered() -> None:
    """A forced change is in the memo, and the memo is the policy's only state."""
    story = a_story("arrive 1 coder", "arrive 2 coder", "arrive 3 quality", "wait 300s")
    state = story.machine.state
    assert state.transition is not None
    assert state.transition.forced
    assert state.memo == Memo(1000.0 + 207.5 - bound.AHEAD * 46.0)  # a load of 35 s and a drain of 11 s ahead of it


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_is_ordered_while_ollama_is_away(policy: str) -> None:
    """A policy that sees an unhealthy world does nothing."""
    story = a_story("arrive 1 coder", "arrive 2 quality", "down: gone")
    assert POLICIES[policy](story.machine._world, Memo()).actions == ()


class Pure:
    """A watcher that asks the policy twice, and whether that left a trace."""

    def __init__(self) -> None:
        self.asked = 0

    def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
        """Every tenth step."""
        if len(world.steps) % 10:
            return
        state = world.machine.state
        before = copy.deepcopy(state)
        decide = POLICIES[world.config.policy]
        first = decide(world.machine._world, state.memo)
        assert decide(world.machine._world, state.memo) == first
        assert state == before
        self.asked += 1

    def ended(self, world: World) -> None:
        """Nothing to say."""


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_are_pure(policy: str) -> None:
    """To ask a policy changes nothing, and it answers the same when asked again."""
    pure = Pure()
    for seed in range(12):
        play(policy, some_script(seed), seed, [pure])
    assert pure.asked > 100


@pytest.mark.parametrize("policy", POLICIES)
def test_a_verdict_asks_for_the_future(policy: str) -> None:
    """A policy that has nothing to do asks for a later time, or for none."""

    class Later(Pure):
        def saw(self, world: World, fact: m.Fact, orders: Sequence[m.Order]) -> None:
            verdict = POLICIES[policy](world.machine._world, world.machine.state.memo)
            assert verdict.wake_at is None or verdict.wake_at > world.machine.state.at
            self.asked += 1

    later = Later()
    for seed in range(12):
        play(policy, some_script(seed), seed, [later, *watchers(policy)])
    assert later.asked > 1000


def test_every_change_says_why() -> None:
    """A change names who waits, for how long, and what makes it possible."""
    verdict = default.decide(a_story("down: gone", "arrive 1 quality").machine._world, Memo())
    assert verdict.because == "Ollama is away"
    story = a_story("arrive 1 quality agent")
    assert story.machine.state.transition is not None
    assert story.machine.state.transition.because == "1 waiting for quality (agent, 0 s); coder drained"


def test_what_is_remembered_is_what_would_be_found_anew() -> None:
    """Time passes and nothing else: a member of the set is not expected any more, so the other fits alone. The machine
    that remembers its plans and a copy that remembers nothing (a journal's next file) find so at the same look."""
    told = Told()
    stage = "budget 38GB device 45GB; model x 26GB; model w 12GB; model a 13GB; set one x; set two w a; resident a"
    for line in stage.split("; "):
        told.tell(line)
    story = Story(told)
    for line in ("arrive 1 a", "ended 1", "arrive 2 x", "unloaded a", "loaded x", "arrive 3 w batch"):
        story.tell(line)
    assert story.machine.state.transition is None
    looks = 0
    while not story.machine.state.transition:
        looks += 1
        tick = m.Ticked(story.at + 10.0 * looks)
        anew = Machine(copy.deepcopy(story.machine.state)).step(tick)
        assert story.machine.step(tick) == anew
    assert 2 < looks < 60
    assert list(story.machine.state.transition.load) == ["w"]


def test_what_is_waited_for_is_said_with_its_limit() -> None:
    """Who waits for a busy model is told what is busy, and from when on the change is forced: not that it comes by
    then, for what runs is never ended."""
    story = a_story("arrive 1 coder", "arrive 2 quality", "wait 20s", "arrive 3 coder batch")
    assert story.machine.state.verdict == (
        "1 waiting for quality (interactive, 20 s); busy: coder (1 of 1 slots, 1 waiting); "
        "it comes once that is drained; forced in 143 s, after what runs then"
    )

"""The chores' looks: memory and orphans, silent runners, the clocks; each posts a fact only where there is one."""

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from freezegun import freeze_time

from scheduler import memory
from scheduler.core import messages as m
from scheduler.core.config import Config
from scheduler.core.machine import Machine
from scheduler.core.state import ModelState
from scheduler.engine import Engine
from scheduler.watch import GAP, SILENT, Budget, Watch

GB = 10**9
A = "a:latest"
FILE = "/models/blobs/sha256-1"


class Scene:
    """A watch over a real core; what is outstanding, the time and the engine are the test's."""

    def __init__(self, budget: Budget) -> None:
        self.machine = Machine.fresh(Config(), 0.0)
        self.time = 100.0
        self.posted: list[m.Fact] = []
        self.out: dict[str, tuple[float, int, tuple[str, ...]]] = {}
        self.blobs = {A: FILE}
        self.staged: int | None = None
        self.engine: Engine | None = Engine(True, 1, ((3, 9),))
        self.asked: list[str] = []
        self.upon_asking: Any = lambda: None
        state = self.machine.state
        self.watch = Watch(budget, self._post, lambda: self.time, lambda: state, self, self.blobs, lambda: self.staged)

    def _post(self, fact: m.Fact) -> None:
        self.posted.append(fact)
        if isinstance(fact, m.MemorySeen):
            self.machine.step(fact)

    def outstanding(self, model: str) -> tuple[float, int, tuple[str, ...]]:
        """As the forwarder tells it."""
        return self.out.get(model, (0.0, 0, ()))

    def quiet(self, model: str, seconds: float) -> tuple[str, ...]:
        """As the forwarder tells it."""
        silent, _, ids = self.outstanding(model)
        return ids if silent >= seconds else ()

    def bring(self, name: str = A) -> None:
        """A model is resident."""
        self.machine.state.models[name] = ModelState(name, state="ready")
        self.machine.state.present[name] = None

    async def look(self, file: str) -> Engine | None:
        """As the engines tell it."""
        self.asked.append(file)
        self.upon_asking()
        return self.engine


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Who would have been sent a signal."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[memory.Orphan]]:
    """A machine of 36 GB with the orphans that a test puts into a folder."""
    orphans: dict[str, list[memory.Orphan]] = {}
    monkeypatch.setattr(memory, "auto_budget", lambda: (36 * GB, "auto: a test"))
    monkeypatch.setattr(memory, "metal_working_set", lambda: 30 * GB)
    monkeypatch.setattr(memory, "orphans", lambda folder: list(orphans.get(folder, ())))
    return orphans


@pytest.fixture
async def auto(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A watch that reckons with what the machine tells."""
    scene = Scene(Budget(None, None))
    monkeypatch.setattr(scene.watch._engines, "look", scene.look)
    yield scene
    await scene.watch.close()


# --- memory ------------------------------------------------------------------------------------------------------


async def test_memory_is_told_when_it_changed_and_only_then(
    auto: Scene, machine: dict[str, list[memory.Orphan]]
) -> None:
    """Budget, where it is from, the device and the orphans: once at first, then with each change of any of them."""
    await auto.watch.memory()
    assert auto.posted == [m.MemorySeen(100.0, 36 * GB, "auto: a test", 0, 30 * GB, ())]
    await auto.watch.memory()
    assert len(auto.posted) == 1
    machine["/models/blobs"] = [memory.Orphan(7, 5 * GB, FILE), memory.Orphan(8, 1 * GB, FILE)]
    await auto.watch.memory()
    assert auto.posted[1:] == [m.MemorySeen(100.0, 36 * GB, "auto: a test", 6 * GB, 30 * GB, (7, 8))]
    assert [orphan.pid for orphan in auto.watch.orphans] == [7, 8]
    await auto.watch.memory()
    assert len(auto.posted) == 2
    machine["/models/blobs"] = [memory.Orphan(9, 6 * GB, FILE)]  # as much, by another
    await auto.watch.memory()
    del machine["/models/blobs"]
    await auto.watch.memory()
    assert [fact.orphan_pids for fact in auto.posted if isinstance(fact, m.MemorySeen)] == [(), (7, 8), (9,), ()]


@pytest.mark.parametrize(
    ("configured", "staged", "seen"),
    [
        (Budget(20 * GB, 25 * GB), None, (20 * GB, "configured", 25 * GB)),
        (Budget(20 * GB, None), 40 * GB, (20 * GB, "configured", 30 * GB)),
        (Budget(None, None), 40 * GB, (40 * GB, "the staged size of the stand-in", 30 * GB)),
        (Budget(40 * GB, None), 40 * GB, (40 * GB, "the staged size of the stand-in", 30 * GB)),
        (Budget(None, 25 * GB), None, (36 * GB, "auto: a test", 25 * GB)),
    ],
)
async def test_what_is_configured_counts_before_what_is_found(
    configured: Budget, staged: int | None, seen: tuple[int, str, int]
) -> None:
    """A budget or a device in the configuration holds; a stand-in's size stands in for the machine's alone."""
    scene = Scene(configured)
    scene.staged = staged
    await scene.watch.memory()
    (fact,) = scene.posted
    assert isinstance(fact, m.MemorySeen)
    assert (fact.budget, fact.source, fact.device) == seen
    await scene.watch.close()


async def test_before_the_first_list_nobody_is_an_orphan(auto: Scene, machine: dict[str, list[memory.Orphan]]) -> None:
    """Until Ollama has told where its models lie, a runner may be a stranger's."""
    auto.blobs.clear()
    machine[""] = machine["/models/blobs"] = [memory.Orphan(7, 5 * GB, FILE)]
    await auto.watch.memory()
    auto.blobs["remote:latest"] = ""  # a model without a file is no folder either
    await auto.watch.memory()
    assert auto.watch.orphans == ()
    assert len(auto.posted) == 1


async def test_models_in_two_folders_are_both_looked_at(auto: Scene, machine: dict[str, list[memory.Orphan]]) -> None:
    """OLLAMA_MODELS was moved: runners from either place hold memory."""
    auto.blobs["b:latest"] = "/old/blobs/sha256-2"
    machine["/models/blobs"] = [memory.Orphan(7, 5 * GB, FILE)]
    machine["/old/blobs"] = [memory.Orphan(8, 3 * GB, FILE)]
    await auto.watch.memory()
    assert auto.machine.state.orphans == 8 * GB


async def test_orphans_are_ended_only_where_the_user_allowed_it(
    auto: Scene, machine: dict[str, list[memory.Orphan]], killed: list[tuple[int, int]]
) -> None:
    """By default they are counted and left alone; allowed, each is asked to end."""
    machine["/models/blobs"] = [memory.Orphan(7, 5 * GB, FILE), memory.Orphan(8, 5 * GB, FILE)]
    await auto.watch.memory()
    assert killed == []
    allowed = Scene(Budget(None, None, reap_orphans=True))
    await allowed.watch.memory()
    assert killed == [(7, signal.SIGTERM), (8, signal.SIGTERM)]
    assert allowed.machine.state.orphans == 10 * GB  # until they are seen gone
    await allowed.watch.close()


@pytest.mark.parametrize("error", [ProcessLookupError, PermissionError])
async def test_an_orphan_that_cannot_be_ended_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, machine: dict[str, list[memory.Orphan]], error: type[OSError]
) -> None:
    """Gone by itself a moment ago, or another user's: the next one is still ended, and memory is told."""
    tried: list[int] = []

    def kill(pid: int, _: int) -> None:
        tried.append(pid)
        raise error

    monkeypatch.setattr(os, "kill", kill)
    machine["/models/blobs"] = [memory.Orphan(7, 5 * GB, FILE), memory.Orphan(8, 5 * GB, FILE)]
    scene = Scene(Budget(None, None, reap_orphans=True))
    await scene.watch.memory()
    assert tried == [7, 8]
    assert len(scene.posted) == 1
    await scene.watch.close()


# --- memory pressure ---------------------------------------------------------------------------------------------

HEEDFUL = Budget(40 * GB, 30 * GB, heed=True, shares={"warning": 0.9, "critical": 0.5})


@pytest.fixture
def level(monkeypatch: pytest.MonkeyPatch) -> list[m.Pressure]:
    """What the system says of memory: the last of the list."""
    said: list[m.Pressure] = ["normal"]
    monkeypatch.setattr(memory, "pressure", lambda: said[-1])
    return said


async def test_less_memory_holds_at_once_and_more_once_it_has_stayed(level: list[m.Pressure]) -> None:
    """The budget follows the system's word downwards at once; upwards the core trusts it a minute later, and until
    then it is not told the same again and again."""
    scene = Scene(HEEDFUL)
    await scene.watch.memory()
    level.append("critical")
    await scene.watch.pressure()
    await scene.watch.pressure()
    state = scene.machine.state
    assert (state.budget, state.whole, state.pressure) == (20 * GB, 40 * GB, "critical")
    level.append("warning")
    await scene.watch.pressure()
    level.append("normal")
    scene.time += 30.0
    for _ in range(3):
        await scene.watch.memory()
    assert (state.budget, state.pressure) == (20 * GB, "normal")
    scene.machine.step(m.Ticked(160.0))  # what stayed for a minute is what the warning left
    assert state.budget == 36 * GB
    scene.time = 160.0
    await scene.watch.memory()
    scene.machine.step(m.Ticked(220.0))
    assert state.budget == 40 * GB
    budgets = [fact.budget // GB for fact in scene.posted if isinstance(fact, m.MemorySeen)]
    assert budgets == [40, 20, 36, 40, 40, 40]  # the last look tells nothing: what the core waits for is known to it
    await scene.watch.close()


@pytest.mark.parametrize("scene", [Scene(Budget(40 * GB, 30 * GB)), Scene(HEEDFUL)], ids=["not heeded", "stand-in"])
async def test_pressure_that_is_not_to_be_heeded(scene: Scene, level: list[m.Pressure]) -> None:
    """Where the configuration says so, and in front of a stand-in, whose memory is made up, the budget stays."""
    scene.staged = 40 * GB if scene.watch._budget.heed else None
    level.append("critical")
    await scene.watch.pressure()
    await scene.watch.memory()
    assert (scene.machine.state.budget, scene.machine.state.pressure) == (40 * GB, "normal")
    await scene.watch.close()


async def test_another_budget_under_pressure(level: list[m.Pressure]) -> None:
    """A changed configuration holds at once, both ways, and what pressure leaves of it is reckoned from the new one."""
    scene = Scene(HEEDFUL)
    await scene.watch.memory()
    level.append("critical")
    await scene.watch.pressure()
    for budget in (60, 30):
        scene.watch.rebudget(replace(HEEDFUL, budget=budget * GB))
        assert (scene.machine.state.budget, scene.machine.state.whole) == (budget * GB // 2, budget * GB)
    await scene.watch.memory()
    assert len(scene.posted) == 4
    await scene.watch.close()


# --- silent runners ----------------------------------------------------------------------------------------------


async def test_a_runner_is_asked_only_when_it_has_been_silent(auto: Scene) -> None:
    """It owes an answer and has said nothing for a second: only then."""
    auto.bring()
    for silent, ids in ((SILENT + 9, ()), (SILENT - 0.01, ("1",))):
        auto.out[A] = (silent, 10, ids)
        await auto.watch.runners()
    assert auto.asked == []
    assert auto.posted == []
    auto.out[A] = (SILENT, 10, ("1",))
    await auto.watch.runners()
    assert auto.asked == [FILE]


async def test_what_is_told_of_a_silent_runner(auto: Scene) -> None:
    """Whether it works, and the silence and the largest body as they are after it was asked, which takes time."""
    auto.bring()
    auto.out[A] = (1.5, 10, ("1",))

    def later() -> None:
        auto.time, auto.out[A] = 102.0, (3.5, 700, ("1", "2"))

    auto.upon_asking = later
    await auto.watch.runners()
    assert auto.posted == [m.EngineSeen(102.0, A, True, 3.5, 700, 1, ("1", "2"))]
    assert auto.watch.engines == {A: Engine(True, 1, ((3, 9),))}
    auto.engine = Engine(False)
    await auto.watch.runners()
    assert auto.posted[1:] == [m.EngineSeen(102.0, A, False, 3.5, 700, 0, ("1", "2"))]
    auto.engine = None
    await auto.watch.runners()
    assert auto.posted[2:] == [m.EngineSeen(102.0, A, None, 3.5, 700, 0, ("1", "2"))]
    assert auto.watch.engines == {}


async def test_an_answer_that_ended_while_its_runner_was_asked_is_no_silence(auto: Scene) -> None:
    """Nothing is outstanding any more: nothing is told, and no old progress is shown."""
    auto.bring()
    auto.out[A] = (1.5, 10, ("1",))
    await auto.watch.runners()
    auto.upon_asking = auto.out.clear
    await auto.watch.runners()
    assert len(auto.posted) == 1
    assert auto.watch.engines == {}


async def test_progress_of_the_talking_and_the_gone_is_forgotten(auto: Scene) -> None:
    """A runner that talks again, or has left memory, has no progress to show."""
    auto.bring()
    auto.bring("b:latest")
    auto.out = {A: (1.5, 10, ("1",)), "b:latest": (1.5, 10, ("2",))}
    await auto.watch.runners()
    assert set(auto.watch.engines) == {A, "b:latest"}
    auto.out[A] = (0.1, 10, ("1",))
    del auto.machine.state.present["b:latest"]
    await auto.watch.runners()
    assert auto.watch.engines == {}


async def test_a_model_without_a_file_is_told_as_unknown(auto: Scene) -> None:
    """Whose file was never shown is asked by no file, and cannot be asked."""
    auto.blobs.clear()
    auto.bring()
    auto.engine = None
    auto.out[A] = (1.5, 10, ("1",))
    await auto.watch.runners()
    assert auto.asked == [""]
    assert auto.posted == [m.EngineSeen(100.0, A, None, 1.5, 10, 0, ("1",))]


async def test_one_that_leaves_while_another_is_asked_breaks_nothing(auto: Scene) -> None:
    """The core goes on while a runner is asked."""
    auto.bring()
    auto.bring("b:latest")
    auto.out = {A: (1.5, 10, ("1",)), "b:latest": (1.5, 10, ("2",))}

    def leaves() -> None:
        auto.machine.state.present.clear()
        auto.machine.state.models.pop("b:latest", None)

    auto.upon_asking = leaves
    await auto.watch.runners()
    assert [fact.model for fact in auto.posted if isinstance(fact, m.EngineSeen)] == [A]


# --- the clocks --------------------------------------------------------------------------------------------------


async def test_a_clock_that_ran_ahead_is_sleep() -> None:
    """The wall clock went on for an hour, the monotonic one for five seconds: told once, with what was slept."""
    with freeze_time("2026-01-01", real_asyncio=True) as wall:
        scene = Scene(Budget(1, 1))
        for _ in range(3):  # both went on alike
            wall.tick(5)
            scene.time += 5
            scene.watch.clocks()
        assert scene.posted == []
        wall.tick(3600)
        scene.time += 5
        scene.watch.clocks()
        scene.watch.clocks()
        assert scene.posted == [m.ClockGap(scene.time, 3595.0)]
        await scene.watch.close()


@pytest.mark.parametrize("ahead", [GAP, GAP / 2, -GAP * 100])
async def test_a_clock_that_was_set_is_no_sleep(ahead: float) -> None:
    """A few seconds, or back: the time was mended, the machine did not sleep."""
    with freeze_time("2026-01-01", real_asyncio=True) as wall:
        scene = Scene(Budget(1, 1))
        wall.tick(ahead)
        scene.watch.clocks()
        assert scene.posted == []
        wall.tick(GAP + 1)
        scene.watch.clocks()
        assert scene.posted == [m.ClockGap(scene.time, GAP + 1)]
        await scene.watch.close()


async def test_small_steps_do_not_add_up_to_sleep() -> None:
    """A wall clock that gains a little with each look is mended by its machine, not asleep."""
    with freeze_time("2026-01-01", real_asyncio=True) as wall:
        scene = Scene(Budget(1, 1))
        for _ in range(10):
            wall.tick(GAP - 1)
            scene.watch.clocks()
        assert scene.posted == []
        await scene.watch.close()


async def test_a_runner_that_died_has_ps_read(auto: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each model that serves it is known whether its process is there; of one that left nothing is kept."""
    dead, forgotten, looks = {FILE: False}, [], []
    engines = auto.watch._engines

    async def is_dead(file: str) -> bool:
        return dead.get(file, False)

    monkeypatch.setattr(engines, "is_dead", is_dead)
    monkeypatch.setattr(engines, "forget", forgotten.append)
    auto.watch.on_death = lambda: looks.append("ps")
    auto.bring()
    await auto.watch.runners()
    assert looks == []
    dead[FILE] = True
    assert await auto.watch.is_dead(A)
    await auto.watch.runners()
    assert looks == ["ps"]
    auto.machine.state.models[A].state = "absent"
    await auto.watch.runners()
    assert (looks, forgotten) == (["ps"], [FILE])


def test_few_open_files_are_told(auto: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """When hardly a file can be opened any more /status says so; before that it does not."""
    assert auto.watch.troubles() == []
    monkeypatch.setattr(memory, "files_left", lambda: (3, 256))
    assert auto.watch.troubles() == ["too many open files: 3 of 256 are left, so clients wait to be let in"]

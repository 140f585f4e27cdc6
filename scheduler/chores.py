"""The chores of a daemon, each in its rhythm: what is looked at, and what is kept."""

from collections.abc import Callable

from scheduler.dispatcher import Dispatcher
from scheduler.housekeeping import Housekeeping
from scheduler.residency import Residency
from scheduler.rhythm import Rhythm
from scheduler.scheduled import Scheduled
from scheduler.watch import Watch


def begun(
    rhythm: Rhythm,
    dispatcher: Dispatcher,
    residency: Residency,
    watch: Watch,
    scheduled: Scheduled,
    look_at_folder: Callable[[], None],
    save: Callable[[], None],
) -> Housekeeping:
    """All of them, under way; the caller stops them."""
    chores = Housekeeping()
    scheduled.look()  # before anything is known of Ollama: in quiet hours it is quiet from the start

    def look() -> None:
        if dispatcher.state.ollama == "up":
            residency.look()

    async def listing() -> None:
        if dispatcher.state.ollama == "up":
            await residency.listing()

    chores.every(rhythm.look, "look at /api/ps", look)
    chores.every(rhythm.listing, "look at /api/tags", listing)
    chores.every(rhythm.memory, "look at memory", watch.memory)
    chores.every(rhythm.pressure, "look at memory pressure", watch.pressure)
    chores.every(rhythm.timetable, "look at the timetable", scheduled.look)
    chores.every(rhythm.runners, "look at silent runners", watch.runners)
    chores.every(rhythm.clocks, "look at the clocks", watch.clocks)
    chores.every(rhythm.clocks, "look at the state folder", look_at_folder)
    chores.every(rhythm.save, "save what was learned", save)
    chores.start()
    return chores

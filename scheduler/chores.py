"""The chores of a daemon, each at its pace: what is looked at, and what is kept."""

from collections.abc import Callable

from scheduler.dispatcher import Dispatcher
from scheduler.housekeeping import Housekeeping
from scheduler.pace import Pace
from scheduler.residency import Residency
from scheduler.scheduled import Scheduled
from scheduler.watch import Watch


def begun(
    pace: Pace,
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

    chores.every(pace.look, "look at /api/ps", look)
    chores.every(pace.listing, "look at /api/tags", listing)
    chores.every(pace.memory, "look at memory", watch.memory)
    chores.every(pace.pressure, "look at memory pressure", watch.pressure)
    chores.every(pace.timetable, "look at the timetable", scheduled.look)
    chores.every(pace.runners, "look at silent runners", watch.runners)
    chores.every(pace.clocks, "look at the clocks", watch.clocks)
    chores.every(pace.clocks, "look at the state folder", look_at_folder)
    chores.every(pace.save, "save what was learned", save)
    chores.start()
    return chores

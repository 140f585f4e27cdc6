"""Plays a solved policy of the two-model world on a list of jobs, as one more baseline to be compared with ours."""

from collections import deque
from collections.abc import Sequence

from scheduler.simulator.baselines_stage import Asked, Place, Stage
from scheduler.simulator.host import Host
from scheduler.simulator.mdp import ADMIT, GO, STAY, Solved
from scheduler.simulator.mdp_world import NAMES
from scheduler.simulator.measures import Result
from scheduler.simulator.workload import Job


def play(solved: Solved, host: Host, jobs: list[Job]) -> Result:
    """What `jobs`, of quality and coder alone, cost under the policy `solved`; jobs of other models stay unserved.

    Where more wait than the world it was solved for has room for, it does as it does at the edge of that world; and
    that world never ends, so once all have arrived here nobody is made to wait for company that will not come.
    """
    stage = Stage(host)
    mine = sum(job.model in NAMES for job in jobs)
    return stage.play("mdp", Table(solved, stage, mine), jobs)


class Table:
    """A rule for the stage: after each event, look up what to do until that is to stay."""

    def __init__(self, solved: Solved, stage: Stage, coming: int) -> None:
        self._most = solved.world.most
        self._acts: list[Sequence[Sequence[Sequence[int]]]] = [table.tolist() for table in solved.acts]
        self._stage = stage
        self._places = [stage.places[name] for name in NAMES]
        self._waiting: tuple[deque[Asked], deque[Asked]] = (deque(), deque())
        self._resident: int | None = None
        self._loading = False
        self._coming = coming

    def arrived(self, asked: Asked) -> None:
        """A request joins those who wait for its model; the first of all brings its model in."""
        if asked.job.model not in NAMES:
            return
        which = NAMES.index(asked.job.model)
        self._waiting[which].append(asked)
        self._coming -= 1
        if self._resident is None:
            self._resident, self._loading = which, True
            self._stage.load(self._places[which])
        self._look()

    def ended(self, place: Place, asked: Asked) -> None:
        """A slot is free."""
        self._look()

    def loaded(self, place: Place) -> None:
        """The change is over."""
        self._loading = False
        self._look()

    def unloaded(self, place: Place) -> None:
        """Half of a change is over: the other model is loaded."""
        if self._resident is not None:
            self._stage.load(self._places[self._resident])

    def woken(self) -> None:
        """Never asked for."""

    def _look(self) -> None:
        while self._resident is not None and not self._loading:
            place = self._places[self._resident]
            act = self._act(self._resident, len(place.running))
            if act == ADMIT:
                self._stage.admit(place, self._waiting[self._resident].popleft())
            elif act == GO:
                self._resident, self._loading = 1 - self._resident, True
                self._stage.unload(place)
            else:
                return

    def _act(self, resident: int, running: int) -> int:
        first, second = (min(len(waiting), self._most) for waiting in self._waiting)
        act = self._acts[resident][running][first][second]
        if act == STAY and not self._coming and not running and self._waiting[1 - resident]:
            return GO
        return act

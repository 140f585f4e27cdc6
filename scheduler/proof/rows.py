"""The rows of the proof by name, in the order they are printed."""

from scheduler.proof.frame import Row
from scheduler.proof.on_traces import FAMILIES, WORLD
from scheduler.proof.worst_waits import IDLE, NAMELESS, WORST

ROWS: dict[str, Row] = {row.name: row for row in (WORLD, FAMILIES, WORST, NAMELESS, IDLE)}

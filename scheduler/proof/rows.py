"""The rows of the proof by name, in the order they are printed."""

from scheduler.proof.against_best import BEST_ONLINE
from scheduler.proof.against_optimum import OPTIMUM
from scheduler.proof.deciding import DECIDING
from scheduler.proof.frame import Row
from scheduler.proof.mistaken import MISTAKEN
from scheduler.proof.on_seeds import OFFICE, PAIRS, PUBLIC_ROW, SEEDS
from scheduler.proof.on_traces import FAMILIES, WORLD
from scheduler.proof.tested import PROMISED, TRUE_TO_LIFE
from scheduler.proof.worst_waits import IDLE, NAMELESS, WORST

_ORDER = (
    WORLD,
    BEST_ONLINE,
    FAMILIES,
    SEEDS,
    OFFICE,
    PAIRS,
    WORST,
    NAMELESS,
    PROMISED,
    OPTIMUM,
    IDLE,
    PUBLIC_ROW,
    MISTAKEN,
    TRUE_TO_LIFE,
    DECIDING,
)
ROWS: dict[str, Row] = {row.name: row for row in _ORDER}

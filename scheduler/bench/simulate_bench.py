"""What simulating costs: seconds for 10,000 requests through the core, and milliseconds of each look ahead in them."""

import time
from statistics import median

from scheduler.bench.report import Row, milliseconds
from scheduler.simulator.host import GB, documented
from scheduler.simulator.mdp_world import exponential
from scheduler.simulator.run import simulate

REQUESTS = 10_000
LOAD = 0.6
HORIZON = 130_000.0  # seconds in which more than that many come


def measure(rounds: int) -> list[Row]:
    """Medians of `rounds` runs of the default policy on the documented models."""
    jobs = exponential(LOAD, 1000, HORIZON)[:REQUESTS]
    took, looks, looking = [], 0, 0.0
    for _ in range(rounds):
        began = time.process_time()
        result = simulate(jobs, documented(38 * GB))
        took.append(time.process_time() - began - result.look_seconds)
        looks += result.looks
        looking += result.look_seconds
    note = f"seconds of the processor, Poisson at load {LOAD:g}, {result.loads} loads"
    rows = [Row(f"simulate: {len(jobs)} requests", through=f"{median(took):.2f} s", target="≤ 5 s", note=note)]
    if looks:
        shown = milliseconds(looking / looks)
        rows.append(Row("looking ahead", through=shown, note=f"mean of {looks // rounds} looks a run"))
    return rows

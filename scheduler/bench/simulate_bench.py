"""What simulating costs: seconds for 10,000 requests through the core, every wait held to the bound."""

import time
from statistics import median

from scheduler.bench.ahead_bench import timed
from scheduler.bench.report import Row
from scheduler.simulator.host import GB, documented
from scheduler.simulator.mdp_world import exponential
from scheduler.simulator.watch_bound import watched

REQUESTS = 10_000
LOAD = 0.6
HORIZON = 130_000.0  # seconds in which more than that many come


def measure(rounds: int) -> list[Row]:
    """Medians of `rounds` runs of the default policy on the documented models, as `simulate` plays them."""
    jobs = exponential(LOAD, 1000, HORIZON)[:REQUESTS]
    took, ahead = [], []
    for _ in range(rounds):
        began = time.process_time()
        with timed() as looks:
            result = watched(jobs, documented(38 * GB))
        took.append(time.process_time() - began - looks.total)
        ahead.append(looks.total)
    note = f"seconds of the processor, Poisson at load {LOAD:g}, {result.loads} loads, the bound watched; "
    note += f"looking ahead apart: {median(ahead):.2f} s"
    return [Row(f"simulate: {len(jobs)} requests", through=f"{median(took):.2f} s", target="≤ 5 s", note=note)]

"""Generated workloads are the same for the same seed, look like the traces of their name, and are what they say."""

from __future__ import annotations

import statistics
from itertools import pairwise
from pathlib import Path

import pytest

from scheduler.simulator.generate import host_for, make
from scheduler.simulator.generate_public import DECODE, PREFILL
from scheduler.simulator.host import CODER, FAST, QUALITY
from scheduler.simulator.workload import Job, check, read, write
from tests.generated import CHANCE, SEEDS, generated, kinds, traces
from tests.orientation import TRACES

NAMES = (*CHANCE, "exponential-0.4", "idle-and-probes-60s", "office", "three-way", "servegen-day", "azure-60")


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(name: str) -> None:
    """The same seed gives the same jobs, another seed gives others, and all of them can be played."""
    one, again, other = make(name, 1000), make(name, 1000), make(name, 1001)
    assert one == again
    assert one != other
    check(one, name)
    known = {model.name for model in host_for(name).models}
    assert {job.model for job in one} <= known


@pytest.mark.parametrize("name", CHANCE)
def test_like_the_traces(name: str) -> None:
    """Over five seeds each class has the counts, services, thinking and gaps of the traces, within sampling."""
    theirs, ours = kinds(traces(name)), kinds(generated(name))
    assert set(ours) == set(theirs)
    for key, there in theirs.items():
        here = ours[key]
        slack = 4.0 / (len(SEEDS) * there.count) ** 0.5  # four standard errors of a mean, relative, at cv 1
        assert here.count == pytest.approx(there.count, rel=0.1 + slack), key
        assert here.service == pytest.approx(there.service, rel=0.03 + slack * max(there.spread, 0.1)), key
        assert here.spread == pytest.approx(there.spread, rel=0.25, abs=0.02), key
        assert here.think == pytest.approx(there.think, rel=0.05 + slack), key


@pytest.mark.parametrize(
    "name", ["alternate-5s", "alternate-10s", "alternate-20s", "alternate-40s", "alternate-closed"]
)
def test_without_chance_they_are_the_traces(name: str) -> None:
    """A workload without chance is the given trace, job by job."""
    assert make(name) == read(TRACES / f"{name}.0.jsonl.gz")


def test_the_load_is_what_it_says() -> None:
    """The slot load of quality and coder is the rho of the name: Poisson and exponential services alike."""
    for name, seconds in (("poisson-0.6", 7200.0), ("exponential-0.6", 40000.0)):
        loads = []
        for seed in range(8):
            jobs = make(name, seed)
            slots = {QUALITY: 2, CODER: 4}
            loads.append(sum(job.service / slots[job.model] for job in jobs if job.model != FAST) / seconds)
        assert statistics.mean(loads) == pytest.approx(0.6, rel=0.06)


def test_the_office_keeps_its_hours() -> None:
    """Each appointment begins within four minutes of its hour, on nine days of fourteen at least."""
    jobs = make("office", 1000)
    starts = sorted(job.t for job in jobs if job.t is not None and job.session == "desk0")
    assert 9 <= len(starts) <= 14
    for start in starts:
        assert abs(start % 86400 - 8.5 * 3600) <= 240
    assert {job.model for job in jobs if job.session == "desk0"} == {QUALITY}
    assert {job.model for job in jobs if job.session == "desk1"} == {CODER}


def test_azure_is_the_published_hour() -> None:
    """Every so-many-th request in order of arrival, served for its tokens at the stated rates, within an hour."""
    for thin, count in ((60, 228), (25, 547), (15, 911)):
        jobs = make(f"azure-{thin}")
        assert len(jobs) == count
        assert [job.t for job in jobs] == sorted(job.t or 0.0 for job in jobs)
        assert max(job.t or 0.0 for job in jobs) < 3700
    first = next(job for job in make("azure-60") if job.model == CODER)
    assert first.service == pytest.approx(4808 / PREFILL[CODER] + 10 / DECODE[CODER], abs=0.001)


def test_a_day_of_servegen() -> None:
    """A day has about 16,000 requests, more of them in its busiest hour than in its quietest, and clumped."""
    jobs = make("servegen-day", 1000)
    assert len(jobs) == pytest.approx(16000, rel=0.05)
    hours = [sum(1 for job in jobs if (job.t or 0.0) // 3600 == hour) for hour in range(24)]
    assert max(hours) > 1.3 * min(hours)
    times = [job.t or 0.0 for job in jobs if job.model == CODER]
    gaps = [two - one for one, two in pairwise(times)]
    assert statistics.pstdev(gaps) / statistics.mean(gaps) > 1.5


def test_pairs_come_within_a_second() -> None:
    """Each prompt to quality has a small request to fast of the same session, at most 0.8 s from it."""
    jobs = make("pairs", 1000)
    prompts = [job for job in jobs if job.model == QUALITY]
    small = [job for job in jobs if job.model == FAST]
    assert len(prompts) == len(small) == 40
    for one, two in zip(prompts, small, strict=True):
        assert one.after == two.after
        assert -0.301 <= _when(two) - _when(one) <= 0.801


def _when(job: Job) -> float:
    return job.think if job.t is None else job.t


def test_unknown_names() -> None:
    """A name that no generator has is a KeyError, with or without a number."""
    for name in ("nothing", "poisson", "poisson-much", "nothing-0.4"):
        with pytest.raises(KeyError):
            make(name)


def test_written_and_read_again(tmp_path: Path) -> None:
    """A generated workload survives being written as a trace."""
    for name in ("orchestra", "office"):
        jobs = make(name, 3)
        write(jobs, tmp_path / "made.jsonl.gz")
        assert read(tmp_path / "made.jsonl.gz") == jobs

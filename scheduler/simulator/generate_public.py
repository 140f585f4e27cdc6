"""Jobs from the public traces in tests/data/public: Azure's requests of 2023, and a day at ServeGen's rates."""

from __future__ import annotations

import csv
import gzip
import random
from datetime import datetime
from pathlib import Path

from scheduler.simulator.generate_chance import CLASS, Draft, lognormal
from scheduler.simulator.host import CODER, FAST, QUALITY
from scheduler.simulator.workload import Job

PUBLIC = Path(__file__).resolve().parents[2] / "tests" / "data" / "public"

PREFILL = {QUALITY: 180.0, CODER: 300.0}
"""Prompt tokens a second that an Azure request is given: a 35 GB and a 20 GB model on an M2 of the larger kind."""
DECODE = {QUALITY: 18.0, CODER: 25.0}
"""Generated tokens a second."""

_MEAN = {QUALITY: 22.0, CODER: 11.0, FAST: 1.5}
_WINDOW = 600.0
_COLUMNS = {QUALITY: "m_large_rps", CODER: "m_mid_rps", FAST: "m_small_rps"}


def azure(thin: int, offset: int = 0) -> list[Job]:
    """The hour of Azure 2023: every `thin`-th coding request to coder, every 4 x `thin`-th conversation to quality.

    Service = context tokens / PREFILL + generated tokens / DECODE; `offset` chooses which of the requests are taken.
    """
    rows = [
        (when, model, tokens)
        for model, name, step in ((CODER, "azure_code_2023", thin), (QUALITY, "azure_conv_2023", 4 * thin))
        for when, tokens in _azure_rows(name)[offset % step :: step]
    ]
    begin = min(when for when, _, _ in rows)
    draft = Draft()
    for when, model, (context, generated) in sorted(rows):
        draft.at((when - begin).total_seconds(), model, context / PREFILL[model] + generated / DECODE[model])
    return draft.jobs


def servegen_day(seed: int, requests: int = 16000, cv: float = 2.0) -> list[Job]:
    """One of the fourteen days of ServeGen's rates, scaled to about so many requests; gaps are Gamma with this cv.

    Large to quality, middle to coder, small to fast; services lognormal with means 22, 11 and 1.5 s and cv 0.7.
    """
    chance, draft = random.Random(seed), Draft()
    with gzip.open(PUBLIC / "servegen_language_rates_10min.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    first = chance.randrange(len(rows) // 144) * 144
    day = rows[first : first + 144]
    total = sum(float(row[column]) for row in day for column in _COLUMNS.values()) * _WINDOW
    drawn: list[tuple[float, str, float]] = []
    for model, column in _COLUMNS.items():
        rates = [float(row[column]) * requests / total for row in day]
        drawn += [(t, model, lognormal(chance, _MEAN[model], 0.7)) for t in _arrivals(chance, rates, cv)]
    for t, model, service in sorted(drawn):
        draft.at(t, model, service, cls=CLASS[model])
    return draft.jobs


def _arrivals(chance: random.Random, rates: list[float], cv: float) -> list[float]:
    """Times at which a renewal process with mean gap 1 fires, on a clock that runs at the rate of each window."""
    shape = 1 / (cv * cv)
    times: list[float] = []
    due, passed = chance.gammavariate(shape, 1 / shape), 0.0
    for number, rate in enumerate(rates):
        until = passed + rate * _WINDOW
        while due < until:
            times.append(number * _WINDOW + (due - passed) / rate)
            due += chance.gammavariate(shape, 1 / shape)
        passed = until
    return times


def _azure_rows(name: str) -> list[tuple[datetime, tuple[int, int]]]:
    with gzip.open(PUBLIC / f"{name}.csv.gz", "rt") as file:
        return [
            (datetime.fromisoformat(row["TIMESTAMP"][:26]), (int(row["ContextTokens"]), int(row["GeneratedTokens"])))
            for row in csv.DictReader(file)
        ]

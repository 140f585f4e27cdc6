"""Plays a workload at a live daemon, as its clients would: each job a request at its time, closed loops closed."""

import asyncio
from collections.abc import Sequence

from scheduler.simulator.workload import Job
from tests.live import Live

TOKENS_PER_SECOND = 10.0  # of the staged models that a trace is played on: a job's service is so many tokens


class Player:
    """Plays `jobs` once; `late` is by how many seconds the latest was sent after its time."""

    def __init__(self, live: Live, jobs: Sequence[Job]) -> None:
        self.late = 0.0
        self.statuses: dict[str, int] = {}
        self._live = live
        self._jobs = jobs
        self._over = {job.id: asyncio.Event() for job in jobs}

    async def play(self) -> None:
        """Until all of them are answered."""
        loop = asyncio.get_running_loop()
        self._begun = loop.time() + 0.2
        async with asyncio.TaskGroup() as group:
            for job in self._jobs:
                group.create_task(self._one(job))

    async def _one(self, job: Job) -> None:
        if job.t is not None:
            due = self._begun + job.t
        else:
            for other in job.after:
                await self._over[other].wait()
            due = asyncio.get_running_loop().time() + job.think
        await self._until(due)
        await self._ask(job)
        self._over[job.id].set()

    async def _until(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        reached = asyncio.Event()
        loop.call_at(due, reached.set)
        await reached.wait()
        self.late = max(self.late, loop.time() - due)

    async def _ask(self, job: Job) -> None:
        headers = {"X-Ollama-Scheduler-Class": job.cls}
        if job.session:
            headers["X-Ollama-Scheduler-Session"] = job.session
        tokens = max(1, round(job.service * TOKENS_PER_SECOND))
        body = {
            "model": job.model,
            "messages": [{"role": "user", "content": f"{job.session} goes on with {job.id}"}],
            "options": {"num_predict": tokens},
        }
        async with self._live.http.post("/api/chat", json=body, headers=headers) as answer:
            await answer.read()
            self.statuses[job.id] = answer.status

"""Let a runner speak: prompt first, then word after word at the staged speed, with whatever was made to go wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic

from scheduler.standin.answers import Tally, words
from scheduler.standin.faults import Events, Fault, Faults
from scheduler.standin.memory import Runner
from scheduler.standin.refusal import Refusal
from scheduler.standin.stage import StagedModel

STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)
ENGINE_ERROR = '{"error": {"message": "staged"}}'
CRASHED = "an error was encountered while running the model: unexpected EOF"


class Speech:
    """The answers of all runners."""

    def __init__(self, faults: Faults, events: Events) -> None:
        self._faults = faults
        self._events = events

    async def listen(self, runner: Runner, prompt_tokens: int, tally: Tally) -> None:
        """Take the prompt in; the time it takes and the (possibly truncated) count go into the tally."""
        began = monotonic()
        tally.prompt_tokens = min(prompt_tokens, runner.options.num_ctx)  # Ollama truncates in silence
        if (error := self._faults.strike("request_error", runner.model.name)) is not None:
            raise Refusal(500, error.message or ENGINE_ERROR)
        await self._held_up(runner)
        await asyncio.sleep(tally.prompt_tokens / runner.model.prefill_tokens_per_second)
        tally.prompt = monotonic() - began

    async def say(self, runner: Runner, most: int | None, tally: Tally) -> AsyncIterator[str]:
        """The words of one answer, at most `most`; raises `Refusal` when the runner dies."""
        name = runner.model.name
        crash, cut = self._faults.strike("crash_serving", name), self._faults.strike("truncate", name)
        said = _words(runner.model, most)
        slow = self._faults.strike("slow_tokens", name)
        pace = (slow and slow.per_second) or runner.model.tokens_per_second
        began = monotonic()
        for place, word in enumerate(said):
            self._may_die(runner, crash, place)
            if cut is not None and place >= cut.after:
                return
            await _until(began + (place + 1) / pace)
            tally.tokens, tally.speaking = place + 1, monotonic() - began
            yield word
        self._may_die(runner, crash, len(said))
        if cut is None:
            tally.reason = "length" if len(said) < runner.model.answer_tokens else "stop"

    async def _held_up(self, runner: Runner) -> None:
        runner.silent = runner.silent or self._faults.strike("silent", runner.model.name) is not None
        if runner.silent:
            self._events.note("silent", model=runner.model.name)
            await asyncio.get_running_loop().create_future()
        slow = self._faults.strike("slow_first_token", runner.model.name)
        if slow is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(slow.seconds):
                    await slow.cleared.wait()

    def _may_die(self, runner: Runner, crash: Fault | None, place: int) -> None:
        if runner.gone.is_set() or runner.crashed:
            raise Refusal(500, CRASHED if place else STOPPED)
        if crash is not None and place >= crash.after:
            runner.crashed = True
            self._events.note("crash", model=runner.model.name)
            raise Refusal(500, crash.message or (CRASHED if place else STOPPED))


def _words(model: StagedModel, most: int | None) -> list[str]:
    return words(model.answer_tokens if most is None or most < 0 else min(most, model.answer_tokens))


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - monotonic()))

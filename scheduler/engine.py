"""Asks a runner's own engine whether it works: the difference between a long prefill and a wedge. Only ever GET.

`GET /slots` of llama-server gives per slot `is_processing`, `n_prompt_tokens`, `n_prompt_tokens_processed` and
`next_token[0].n_decoded`; prefill progress means something only while nothing is decoded yet. Runners that differ
simply do not answer, and nobody depends on it.
"""

import asyncio
from dataclasses import dataclass

import httpx

from scheduler import memory


@dataclass(frozen=True, slots=True)
class Engine:
    """One look at a runner: whether any slot works, and how far the prompts of those that do have come."""

    busy: bool
    prefill: tuple[tuple[int, int], ...] = ()  # (tokens done, tokens in all) of each slot that decodes nothing yet


class Engines:
    """Finds runners and asks them."""

    def __init__(self) -> None:
        self._ports: dict[str, int] = {}
        self._client = httpx.AsyncClient(timeout=2.0, trust_env=False)

    async def look(self, model_file: str) -> Engine | None:
        """The engine that serves `model_file`; None where it cannot be asked."""
        if not model_file:
            return None
        port = self._ports.get(model_file)
        slots = await self._slots(port) if port else None
        if slots is None:
            port = await asyncio.to_thread(memory.runner_port, model_file)
            if port is None:
                return None
            self._ports[model_file] = port
            slots = await self._slots(port)
        return None if slots is None else _engine(slots)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _slots(self, port: int) -> list[dict[str, object]] | None:
        try:
            answer = await self._client.get(f"http://127.0.0.1:{port}/slots")
            slots = answer.json() if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            return None
        return [s for s in slots if isinstance(s, dict)] if isinstance(slots, list) else None


def _engine(slots: list[dict[str, object]]) -> Engine:
    working = [slot for slot in slots if slot.get("is_processing")]
    prefill = tuple(progress for slot in working if (progress := _prefill(slot)) is not None)
    return Engine(bool(working), prefill)


def _prefill(slot: dict[str, object]) -> tuple[int, int] | None:
    match slot:
        case {"next_token": [{"n_decoded": int(decoded)}, *_]} if decoded > 0:
            return None
        case {"n_prompt_tokens_processed": int(done), "n_prompt_tokens": int(total)}:
            return done, total
    return None

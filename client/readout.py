"""A model's head for all sessions of a client at once, beside the event loop.

One row of hidden states costs the head what eight cost, which is reading its weights: some
milliseconds, in which others' messages and heartbeats would stand still. So it computes in a
thread, and what waits together is computed together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .head import Head
from .logprobs import Score, scores

HEAD_LEN = 8
"""Positions whose logits are computed at once. A few cost the head about as much as one; but a
window may end early, and many would hold up everybody else who waits."""

SCORE_LEN = 32
"""The same where all are needed, as of a prompt. With SmolLM2's head in float32, 8, 32 and 128 take
21, 41 and 129 ms of computing, for which others wait; 1000 tokens take 2.7, 1.3 and 1.0 s."""


@dataclass(eq=False)
class _Asked:
    hidden: torch.Tensor
    logits: torch.Tensor | None = None


class Readout:
    """Hidden states to logits, for any number of tasks that ask at the same time."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self._waiting: list[_Asked] = []
        self._turn = asyncio.Lock()
        self.num_batches = 0

    async def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The last block's output `[n, hidden_size]` to logits `[n, vocab_size]`, float32."""
        asked = _Asked(hidden)
        self._waiting.append(asked)
        try:
            # Whoever has its turn computes for all; one that is cancelled leaves it to the next.
            async with self._turn:
                if asked.logits is None:
                    await self._compute()
        finally:
            self._waiting.remove(asked)
        assert asked.logits is not None
        return asked.logits

    async def scores(
        self, hidden: torch.Tensor, tokens: Sequence[int], num_top: int
    ) -> list[Score]:
        """How likely `tokens` are, the next ones after the positions `[n, hidden_size]`.

        Some positions at a time: a prompt's logits may be gigabytes, and others wait meanwhile.
        """
        found: list[Score] = []
        for start in range(0, len(hidden), SCORE_LEN):
            logits = await self.logits(hidden[start : start + SCORE_LEN])
            part = list(tokens[start : start + SCORE_LEN])
            found += await asyncio.to_thread(scores, logits, part, num_top)
        return found

    async def _compute(self) -> None:
        # Outputs that came with one read wake their sessions in one turn of the loop.
        await asyncio.sleep(0)
        batch = [asked for asked in self._waiting if asked.logits is None]
        rows = [asked.hidden for asked in batch]
        together = await asyncio.to_thread(self._run, rows)
        self.num_batches += 1
        for asked, logits in zip(batch, together, strict=True):
            asked.logits = logits

    def _run(self, rows: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        logits = self.head.logits(rows[0] if len(rows) == 1 else torch.cat(rows))
        return torch.split(logits, [len(each) for each in rows])

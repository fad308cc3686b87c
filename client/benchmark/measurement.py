"""One run: everything that a plan names, in turns, round after round.

Machines drift, and what is measured in turns drifts together: ratios hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..model import RemoteModel
from ..route import Route
from .plan import Plan
from .reference import PlainModel
from .samples import Samples
from .streams import Prompts, Streams

Say = Callable[[str, float | None], None]
"""What is being done, and which share of the measurements lies behind; None before they begin."""

Count = Callable[[], Awaitable[tuple[int, ...]]]
"""Bytes so far: what the client has sent, each hop if that is known, and what came back."""


@dataclass(frozen=True)
class Measured:
    """Samples, the route they were taken on, and bytes per token, in the order of `Count`."""

    samples: Samples
    route: Route
    bytes_per_token: tuple[float, ...]
    recoveries: int


class Measurement:
    """Runs a plan on a model of a swarm, and beside it on `plain` if there is one."""

    def __init__(
        self,
        remote: RemoteModel,
        plan: Plan,
        count: Count,
        say: Say,
        plain: PlainModel | None = None,
    ) -> None:
        self._remote = remote
        self._plan = plan
        self._count = count
        self._say = say
        self._plain = plain
        self._prompts = Prompts(remote.head.vocab_size, plan.prompt_len)
        self._num_done = 0

    async def run(self) -> Measured:
        """All rounds. Raises what the swarm raises when a route stays broken."""
        samples = Samples()
        async with Streams(self._remote, self._plan) as streams:
            for number in range(1, self._plan.most_sessions + 1):
                self._tell(f"Prompt {number} of {self._plan.most_sessions}")
                await streams.fill()
            await self._round(streams, Samples(), "Warming up")
            for number in range(1, self._plan.num_rounds + 1):
                await self._round(streams, samples, f"Round {number} of {self._plan.num_rounds}")
            counted = await self._bytes(streams)
            route = streams.first.session.route
            return Measured(samples, route, counted, streams.num_recoveries)

    async def _round(self, streams: Streams, samples: Samples, what: str) -> None:
        self._tell(f"{what}: first token, prompt, decode")
        samples.first_token.append(await streams.first_token())
        samples.prefill.append(await streams.prefill())
        samples.steps += await streams.decode_alone()
        if self._plain is not None:
            self._tell(f"{what}: plain transformers")
            ids = self._prompts.draw()
            prefill, decode = await asyncio.to_thread(self._plain.measure, ids, self._plan)
            samples.plain_prefill.append(prefill)
            samples.plain_decode += decode
        for number in self._plan.sessions:
            self._tell(f"{what}: {number} sessions")
            samples.rates[number].append(await streams.decode_together(number))

    async def _bytes(self, streams: Streams) -> tuple[float, ...]:
        """Bytes per token of each member of the route, over one more run of decode steps."""
        self._tell("Counting bytes")
        await streams.first.rewind()
        before = await self._count()
        await streams.first.decode(self._plan.num_tokens)
        after = await self._count()
        each = zip(before, after, strict=True)
        return tuple((late - early) / self._plan.num_tokens for early, late in each)

    def _tell(self, what: str) -> None:
        parts = 1 + (self._plain is not None) + len(self._plan.sessions)
        total = self._plan.most_sessions + (self._plan.num_rounds + 1) * parts + 1
        self._say(what, self._num_done / total)
        self._num_done += 1

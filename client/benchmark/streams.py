"""Sessions that decode side by side, timed step by step.

They go through `Session.step` themselves, one token at a time: whatever else a client does to be
fast (guessing tokens ahead) has no part in it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import torch

from ..chunks import RowInput
from ..model import RemoteModel
from ..session import Session
from .plan import Plan
from .samples import StepTime


class Prompts:
    """Random prompts, each another one: nothing that a peer remembers of earlier ones may help."""

    def __init__(self, vocab_size: int, length: int) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self._low, self._high = vocab_size // 4, max(vocab_size * 3 // 4, vocab_size // 4 + 1)
        self._length = length

    def draw(self) -> torch.Tensor:
        """Token ids `[length]`; which ones makes no difference to the time they take."""
        shape = (self._length,)
        return torch.randint(self._low, self._high, shape, generator=self._generator)


class Stream:
    """One session: a prompt, and tokens after it, again and again."""

    def __init__(self, remote: RemoteModel, session: Session) -> None:
        self.session = session
        self._remote = remote
        self.token = torch.zeros(1, dtype=torch.long)
        """The newest token, `[1]`: the likeliest, always."""
        self._prompt_len = 0

    async def prefill(self, ids: torch.Tensor) -> float:
        """Seconds from a prompt's ids to the token after it; forgets what was there before."""
        started = time.perf_counter()
        self.token, _ = await self._step(ids, 0)
        self._prompt_len = len(ids)
        return time.perf_counter() - started

    async def rewind(self) -> None:
        """Back to the end of the prompt, with one token after it, so that the next is a plain step.

        The step that rolls a session back makes every hop forget first.
        """
        self.token, _ = await self._step(self.token, self._prompt_len)

    async def decode(self, num_tokens: int) -> list[StepTime]:
        """The times of so many tokens after the prompt and the one of `rewind`."""
        times = []
        first = self._prompt_len + 1
        for position in range(first, first + num_tokens):
            self.token, taken = await self._step(self.token, position)
            times.append(taken)
        return times

    async def _step(self, ids: torch.Tensor, position: int) -> tuple[torch.Tensor, StepTime]:
        remote, session = self._remote, self.session
        started = time.perf_counter()
        hidden = remote.head.embed(ids)
        embedded = time.perf_counter()
        (last,) = await session.step([RowInput(0, position, hidden)])
        returned = time.perf_counter()
        token = (await remote.readout.logits(last)).argmax(-1)
        ended = time.perf_counter()
        taken = StepTime(
            whole=ended - started,
            client=ended - returned + embedded - started,
            queue=tuple(hop.queue / 1e6 for hop in session.last_times),
            compute=tuple(hop.compute / 1e6 for hop in session.last_times),
        )
        return token, taken


class Streams:
    """As many open streams as a plan needs at most; `async with` closes them."""

    def __init__(self, remote: RemoteModel, plan: Plan) -> None:
        self._remote = remote
        self._plan = plan
        self._prompts = Prompts(remote.head.vocab_size, plan.prompt_len)
        self._stack = AsyncExitStack()
        self._streams: list[Stream] = []

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    @property
    def first(self) -> Stream:
        """The stream that is measured alone."""
        return self._streams[0]

    @property
    def num_recoveries(self) -> int:
        """How often a route had to be mended."""
        return sum(stream.session.num_recoveries for stream in self._streams)

    async def fill(self) -> None:
        """Opens one more stream and gives it a prompt."""
        session = await self._stack.enter_async_context(self._remote.session())
        stream = Stream(self._remote, session)
        await stream.prefill(self._prompts.draw())
        self._streams.append(stream)

    async def first_token(self) -> float:
        """Seconds from nothing, not even an open session, to the token after a prompt."""
        ids = self._prompts.draw()
        started = time.perf_counter()
        async with self._remote.session() as session:
            await Stream(self._remote, session).prefill(ids)
            return time.perf_counter() - started

    async def prefill(self) -> float:
        """Seconds of a prompt in a session that is open."""
        return await self.first.prefill(self._prompts.draw())

    async def decode_alone(self) -> list[StepTime]:
        """The steps of one stream."""
        await self.first.rewind()
        return await self.first.decode(self._plan.num_tokens)

    async def decode_together(self, number: int) -> float:
        """Tokens per second of the first `number` streams, which start at the same moment."""
        chosen = self._streams[:number]
        start = asyncio.Barrier(number)
        async with asyncio.TaskGroup() as tasks:
            runs = [tasks.create_task(self._one_of_many(stream, start)) for stream in chosen]
        return _rate([run.result() for run in runs], self._plan.num_tokens)

    async def _one_of_many(self, stream: Stream, start: asyncio.Barrier) -> tuple[float, float]:
        await stream.rewind()
        async with start:
            started = time.perf_counter()
        await stream.decode(self._plan.num_tokens)
        return started, time.perf_counter()


def _rate(spans: Sequence[tuple[float, float]], num_tokens: int) -> float:
    """Tokens per second from the first start to the last end."""
    starts, ends = zip(*spans, strict=True)
    return len(spans) * num_tokens / float(max(ends) - min(starts))

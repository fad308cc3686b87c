"""Several prompts in one request: as many asks, whose answers are told as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from swarm.background import background, first

from ..answer import Answer, Answerer, Caller, Work
from ..ask import Ask
from ..events import Event, Usage
from ..refusals import Reason, Refusal

_ABREAST = 8
"""Asks of one request that wait or run at a time; the others come after them, in order."""

_AHEAD = 16
"""Events that may wait for one who reads slowly."""

_RETRY = 1.0
"""Seconds after which all prompts are likely to be answered by the same."""


@asynccontextmanager
async def answering(
    answerer: Answerer, asks: Sequence[Ask], caller: Caller
) -> AsyncIterator[Answer]:
    """An answer to all asks, at least one, as `Answerer.answering` gives it to one.

    Choices are numbered through: those of each ask follow those of the one before. The block is
    entered when the first answer begins; a refusal of any ask is one of all.
    """
    if len(asks) == 1:
        async with answerer.answering(asks[0], caller) as answer:
            yield answer
        return
    several = _Several(answerer, caller)
    async with background() as tasks:
        tasks.create_task(several.run(asks))
        yield await several.begin()


class _Several:
    """Makes all answers. Is the `Work` of the one that they are told as.

    Each ask is made by a task that holds one turn at most, and gives it back without waiting for
    another's: requests with several prompts cannot block each other.
    """

    def __init__(self, answerer: Answerer, caller: Caller) -> None:
        self._answerer = answerer
        self._caller = caller
        self._events: asyncio.Queue[Event | Refusal | None] = asyncio.Queue(_AHEAD)
        self._abreast = asyncio.Semaphore(_ABREAST)
        self._begun: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._works: list[Work] = []

    async def begin(self) -> Answer:
        """Waits for the first answer; raises the `Refusal` that comes in its place."""
        return await self._begun

    async def events(self) -> AsyncIterator[Event]:
        """See `Work.events`."""
        while (event := await self._events.get()) is not None:
            if isinstance(event, Refusal):
                raise event
            yield event

    @property
    def usage(self) -> Usage:
        """See `Work.usage`."""
        return sum((work.usage for work in self._works), Usage())

    async def run(self, asks: Sequence[Ask]) -> None:
        """Makes all answers; ends with None in the queue, or with the first refusal."""
        num_before = 0
        try:
            async with asyncio.TaskGroup() as tasks:
                for ask in asks:
                    await self._abreast.acquire()
                    tasks.create_task(self._make(ask, num_before))
                    num_before += ask.num_choices
        except* Refusal as refusals:
            refusal = first(refusals)
            assert isinstance(refusal, Refusal)
            await self._events.put(refusal)
        else:
            await self._events.put(None)

    async def _make(self, ask: Ask, num_before: int) -> None:
        try:
            async with self._answerer.answering(ask, self._caller) as answer:
                self._works.append(answer.work)
                if not self._begun.done():
                    self._begun.set_result(replace(answer, work=self))
                elif answer.source is not self._begun.result().source:
                    # The headers that say who answers may have been sent.
                    text = "the route was lost, or came back, between two prompts of the request"
                    raise Refusal(Reason.NO_ROUTE, text, retry_after=_RETRY)
                async for event in answer.work.events():
                    await self._events.put(replace(event, choice=num_before + event.choice))
        except Refusal as refusal:
            # At once: until the others are cancelled, one of them could still begin.
            if not self._begun.done():
                self._begun.set_exception(refusal)
            raise
        finally:
            self._abreast.release()

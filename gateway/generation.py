"""The choices of one answer, made side by side by the swarm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from swarm.background import background
from swarm.client import RemoteModel, Reply, SamplingConfig, SpeculationConfig
from swarm.errors import SwarmError

from .events import Ended, Event, Usage
from .preparation import Prepared
from .refusals import translate

_AHEAD = 16
"""Events that may wait for one who reads slowly; then the model waits, too."""


class Generation:
    """The choices of one answer. Made by `Generation.running`."""

    def __init__(
        self,
        model: RemoteModel,
        prepared: Prepared,
        num_choices: int,
        speculation: SpeculationConfig | None = None,
    ) -> None:
        self._model = model
        self._prepared = prepared
        self._speculation = speculation
        self.replies = [Reply(list(prepared.ids)) for _ in range(num_choices)]
        self._events: asyncio.Queue[Event | SwarmError | None] = asyncio.Queue(_AHEAD)
        self._first: Event | None = None

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        model: RemoteModel,
        prepared: Prepared,
        num_choices: int,
        speculation: SpeculationConfig | None = None,
    ) -> AsyncIterator[Generation]:
        """Choices that are being made until the block is left."""
        generation = cls(model, prepared, num_choices, speculation)
        async with background() as tasks:
            tasks.create_task(generation._run())
            yield generation

    async def begin(self) -> None:
        """Waits for the first event; raises the `Refusal` that comes in its place."""
        self._first = await self._next()

    async def events(self) -> AsyncIterator[Event]:
        """All events, in the order in which they come. Raises `Refusal`."""
        event = self._first
        while event is not None:
            yield event
            event = await self._next()

    def break_off(self, error: SwarmError) -> None:
        """What comes next is this error, before all that nobody has taken yet."""
        while not self._events.empty():
            self._events.get_nowait()
        self._events.put_nowait(error)

    @property
    def usage(self) -> Usage:
        """What has been used up by now."""
        return Usage(
            len(self._prepared.ids),
            max(reply.num_cached for reply in self.replies),
            sum(len(reply.ids) for reply in self.replies),
        )

    async def _next(self) -> Event | None:
        event = await self._events.get()
        if isinstance(event, SwarmError):
            raise translate(event) from event
        return event

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for choice, reply in enumerate(self.replies):
                    tasks.create_task(self._write(choice, reply))
        except* SwarmError as errors:
            await self._events.put(_first(errors))
        else:
            await self._events.put(None)

    async def _write(self, choice: int, reply: Reply) -> None:
        reading = self._prepared.reading(choice)
        sampling = _seeded(self._prepared.sampling, choice)
        written = self._model.pieces(reply, sampling, self._speculation)
        async with aclosing(written) as pieces:
            async for piece in pieces:
                for event in reading.push(piece):
                    await self._events.put(event)
                    if isinstance(event, Ended):
                        return
        for event in reading.end(reply.finish, reply.stopped_by):
            await self._events.put(event)


def _seeded(sampling: SamplingConfig, choice: int) -> SamplingConfig:
    """Choices with a seed differ from each other, and are the same each time."""
    return sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + choice)


def _first(errors: BaseExceptionGroup[SwarmError]) -> SwarmError:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, SwarmError)
    return error

"""The choices of one answer, made side by side by the swarm."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from swarm.background import background, first
from swarm.client import Finish, RemoteModel, Reply, SamplingConfig, SpeculationConfig
from swarm.errors import SwarmError

from .events import Ended, Ending, Event, Said, Usage
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
        speculation: SpeculationConfig | None = None,
    ) -> None:
        self._model = model
        self._prepared = prepared
        self._speculation = speculation
        self._prompt = Reply(list(prepared.ids))
        self.replies = [Reply(list(prepared.ids)) for _ in range(prepared.num_replies)]
        self._events: asyncio.Queue[Event | SwarmError | None] = asyncio.Queue(_AHEAD)
        self._first: Event | None = None
        ranked = prepared.num_replies > prepared.num_choices
        self._kept: dict[int, list[Event]] | None = defaultdict(list) if ranked else None

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        model: RemoteModel,
        prepared: Prepared,
        speculation: SpeculationConfig | None = None,
    ) -> AsyncIterator[Generation]:
        """Choices that are being made until the block is left."""
        generation = cls(model, prepared, speculation)
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
            self._num_cached,
            sum(len(reply.ids) for reply in self.replies),
        )

    @property
    def _num_cached(self) -> int:
        if self._prompt.prompt_scores is not None:
            return 0  # All of it was computed; what the replies then found kept is of this request.
        return self.replies[0].num_cached  # The others find kept what the first has computed.

    async def _next(self) -> Event | None:
        event = await self._events.get()
        if isinstance(event, SwarmError):
            raise translate(event) from event
        return event

    async def _run(self) -> None:
        try:
            echo = await self._echo()
            if echo is not None:
                for choice in range(len(self.replies)):
                    await self._put(replace(echo, choice=choice))
            await self._write()
            await self._tell_likeliest()
        except* SwarmError as errors:
            error = first(errors)
            assert isinstance(error, SwarmError)
            await self._events.put(error)
        else:
            await self._events.put(None)

    async def _echo(self) -> Said | None:
        """The prompt; where logprobs are asked for it is scored, once for all choices."""
        if not self._prepared.echo:
            return None
        num_top = self._prepared.sampling.logprobs
        if num_top is not None:
            scoring = SamplingConfig(max_new_tokens=0, prompt_logprobs=num_top)
            async with aclosing(self._model.pieces(self._prompt, scoring)) as pieces:
                async for _ in pieces:
                    raise AssertionError("there is no reply")
        piece = await self._model.echo(self._prompt)
        return Said(0, piece.text, piece.tokens)

    async def _write(self) -> None:
        if self._prepared.silent:
            for choice in range(len(self.replies)):
                await self._put(Ended(choice, Ending.LENGTH))
            return
        readings = [self._prepared.reading(choice) for choice in range(len(self.replies))]
        sampling = self._prepared.sampling
        if self._kept is not None and sampling.logprobs is None:
            sampling = replace(sampling, logprobs=0)  # Which are the likeliest goes by them.
        over: set[int] = set()
        written = self._model.choices(self.replies, sampling, self._speculation)
        async with aclosing(written) as pieces:
            async for choice, piece in pieces:
                reading, reply = readings[choice], self.replies[choice]
                if choice in over:
                    continue
                if piece is not None:
                    events = reading.push(piece)
                else:
                    events = reading.end(reply.finish, reply.stopped_by)
                for event in events:
                    await self._put(event)
                    if isinstance(event, Ended):
                        over.add(choice)
                        reply.finish = reply.finish or Finish.STOP  # Nothing more is wanted of it.

    async def _put(self, event: Event) -> None:
        """Tells an event, or keeps it until it is known which replies are told."""
        if self._kept is None:
            await self._events.put(event)
        else:
            self._kept[event.choice].append(event)

    async def _tell_likeliest(self) -> None:
        """What was kept of the likeliest replies, which are numbered anew."""
        if self._kept is None:
            return
        for choice, likely in enumerate(likeliest(self.replies)[: self._prepared.num_choices]):
            for event in self._kept[likely]:
                await self._events.put(replace(event, choice=choice))


def likeliest(replies: Sequence[Reply]) -> list[int]:
    """The replies' numbers, those with the highest mean logprob per token first."""

    def mean(number: int) -> float:
        scores = replies[number].scores.values()
        return sum(score.logprob for score in scores) / max(1, len(scores))

    return sorted(range(len(replies)), key=mean, reverse=True)

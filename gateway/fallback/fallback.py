"""Makes answers by asking somebody else: an endpoint that speaks OpenAI's API."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from urllib.parse import urlsplit

from ..answer import Answer, Caller, ModelCard, Source
from ..ask import Ask, Prompt
from ..events import Event, Usage
from ..refusals import Reason, Refusal
from .chunks import Interpreter
from .config import FallbackConfig
from .question import question, unable
from .upstream import Upstream

logger = logging.getLogger(__name__)

_RETRY = 2.0


class Fallback:
    """An answerer outside the group. Made by `Fallback.opened`."""

    def __init__(self, config: FallbackConfig, upstream: Upstream) -> None:
        self.config = config
        self._upstream = upstream
        self._num_running = 0
        self._running: set[_Work] = set()
        self._refusal: Refusal | None = None

    @classmethod
    @asynccontextmanager
    async def opened(cls, config: FallbackConfig) -> AsyncIterator[Fallback]:
        """Ready to be asked until the block is left. Says so: prompts may leave the group."""
        logger.warning(
            "fallback is on: prompts LEAVE THE GROUP host=%s when=%s",
            urlsplit(config.url).netloc,
            "no route, queue full" if config.when_busy else "no route",
        )
        if config.is_open_to_readers:
            logger.warning("fallback over http: whoever is on the way reads prompts and key")
        async with Upstream.opened(config) as upstream:
            yield cls(config, upstream)

    @asynccontextmanager
    async def answering(self, ask: Ask, caller: Caller) -> AsyncIterator[Answer]:
        """See `Answerer.answering`."""
        if self._refusal is not None:
            raise self._refusal
        if ask.num_choices > (most := self.config.most_choices):
            text = f"{ask.num_choices} choices are more than {most}"
            raise Refusal(Reason.INVALID, text, param="n")
        asked = question(ask, self.config.model or ask.model)
        if self._num_running >= self.config.most_running:
            text = "the swarm cannot answer now, and its fallback answers as many as it may"
            raise Refusal(Reason.BUSY, text, retry_after=_RETRY)
        self._num_running += 1
        try:
            interpreter = Interpreter(ask.num_choices, ask.sampling.stop)
            async with (
                self._upstream.asking(asked) as data,
                aclosing(_read(data, interpreter)) as events,
            ):
                work = _Work(events, interpreter)
                self._running.add(work)
                try:
                    await work.begin()
                    yield Answer(ask.model, Source.FALLBACK, work)
                finally:
                    self._running.remove(work)
        finally:
            self._num_running -= 1

    def stop(self, refusal: Refusal) -> None:
        """Ends all answers with this; nothing new begins."""
        self._refusal = refusal
        for work in self._running:
            work.break_off(refusal)

    async def models(self) -> tuple[ModelCard, ...]:
        """None of its own: it stands in for the swarm's."""
        return ()

    async def count(self, model: str, prompt: Prompt) -> int:
        """See `Answerer.count`."""
        raise unable("counting tokens")


class _Work:
    """See `Work`."""

    def __init__(self, events: AsyncIterator[Event], interpreter: Interpreter) -> None:
        self._events = events
        self._interpreter = interpreter
        self._first: Event | None = None
        self._reading: asyncio.Timeout | None = None
        self._refusal: Refusal | None = None

    async def begin(self) -> None:
        """Waits for the first event; raises the `Refusal` that comes in its place."""
        self._first = await self._next()

    async def events(self) -> AsyncIterator[Event]:
        """See `Work.events`."""
        event = self._first
        while event is not None:
            yield event
            event = await self._next()

    def break_off(self, refusal: Refusal) -> None:
        """This comes instead of what is still to come."""
        self._refusal = refusal
        if self._reading is not None:
            self._reading.reschedule(asyncio.get_running_loop().time())

    async def _next(self) -> Event | None:
        if self._refusal is not None:
            raise self._refusal
        try:
            async with asyncio.timeout(None) as self._reading:
                return await anext(self._events, None)
        except TimeoutError:
            assert self._refusal is not None, "whoever is silent is refused"
            raise self._refusal from None
        finally:
            self._reading = None

    @property
    def usage(self) -> Usage:
        """See `Work.usage`; what the fallback says."""
        return self._interpreter.usage


async def _read(
    data: AsyncGenerator[bytes, None], interpreter: Interpreter
) -> AsyncGenerator[Event, None]:
    async with aclosing(data):
        async for part in data:
            for event in interpreter.push(part):
                yield event
    interpreter.end()

"""Asks the swarm, and somebody outside the group where the swarm cannot begin to answer."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from .answer import Answer, Answerer, Caller, ModelCard
from .ask import Ask, Prompt
from .fallback import Fallback
from .refusals import Reason, Refusal

logger = logging.getLogger(__name__)


class Hybrid:
    """The swarm's answers, and a fallback's for its models while they have no route.

    An answer that the swarm has begun is never handed over: it recovers, or breaks off.
    """

    def __init__(self, swarm: Answerer, fallback: Fallback) -> None:
        self._swarm = swarm
        self._fallback = fallback
        self._reasons = {Reason.NO_ROUTE}
        if fallback.config.when_busy:
            self._reasons.add(Reason.BUSY)

    @asynccontextmanager
    async def answering(self, ask: Ask, caller: Caller) -> AsyncIterator[Answer]:
        """See `Answerer.answering`."""
        async with AsyncExitStack() as stack:
            answerer = self._fallback if await self._is_gone(ask.model) else self._swarm
            try:
                answer = await stack.enter_async_context(answerer.answering(ask, caller))
            except Refusal as refusal:
                if answerer is self._fallback or refusal.reason not in self._reasons:
                    raise
                logger.info("fallback asked why=%s", refusal.reason)
                answer = await stack.enter_async_context(self._fallback.answering(ask, caller))
            yield answer

    async def models(self) -> tuple[ModelCard, ...]:
        """See `Answerer.models`: the swarm's, and whether they have a route there."""
        return await self._swarm.models()

    async def count(self, model: str, prompt: Prompt) -> int:
        """See `Answerer.count`. It takes no route."""
        return await self._swarm.count(model, prompt)

    async def _is_gone(self, model: str) -> bool:
        """Whether the swarm is known not to be able to answer: nobody waits to find that out."""
        cards = {card.name: card for card in await self._swarm.models()}
        return model in cards and not cards[model].has_route

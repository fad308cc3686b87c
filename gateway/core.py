"""Makes answers with the swarm's models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from swarm.client import RemoteModel
from swarm.errors import SwarmError

from .answer import Answer, Caller, ModelCard, Source
from .ask import Ask, Prompt
from .generation import Generation
from .preparation import Prepared, prepare, prompt_ids
from .refusals import Reason, Refusal, translate


class Core:
    """Answers with models that are open; each is asked by its name."""

    def __init__(self, models: Iterable[RemoteModel]) -> None:
        self._models = {model.checkpoint.name: model for model in models}
        self._created = int(time.time())

    @asynccontextmanager
    async def answering(self, ask: Ask, caller: Caller) -> AsyncIterator[Answer]:
        """See `Answerer.answering`."""
        model = self._model(ask.model)
        prepared = await _prepared(model, ask)
        async with Generation.running(model, prepared, ask.num_choices) as generation:
            await generation.begin()
            yield Answer(ask.model, Source.SWARM, generation, replies=generation.replies)

    async def models(self) -> tuple[ModelCard, ...]:
        """See `Answerer.models`."""
        return tuple(
            ModelCard(name, self._created, model.key.context_length, has_route=True)
            for name, model in self._models.items()
        )

    async def count(self, model: str, prompt: Prompt) -> int:
        """See `Answerer.count`."""
        try:
            return len(await asyncio.to_thread(prompt_ids, self._model(model), prompt))
        except SwarmError as error:
            raise translate(error) from error

    def _model(self, name: str) -> RemoteModel:
        try:
            return self._models[name]
        except KeyError:
            known = ", ".join(self._models)
            raise Refusal(
                Reason.UNKNOWN_MODEL,
                f"the model {name!r} does not exist; there are: {known}",
                param="model",
            ) from None


async def _prepared(model: RemoteModel, ask: Ask) -> Prepared:
    try:
        return await asyncio.to_thread(prepare, model, ask)
    except SwarmError as error:
        raise translate(error) from error

"""Makes answers with the swarm's models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from swarm.background import background
from swarm.client import RemoteModel, SpeculationConfig
from swarm.errors import SwarmError
from swarm.quoting import quoted

from .answer import Answer, Caller, ModelCard, Source
from .ask import Ask, Prompt
from .config import GatewayConfig
from .desk import Desk
from .generation import Generation
from .preparation import Prepared, prepare, prompt_ids
from .refusals import Reason, Refusal, translate
from .turnstile import Turnstile
from .watch import Watch

_COUNTING = "counting"
"""In whose turn tokens are counted, whoever asks: it is done beside answers, not before them."""


class Core:
    """Answers with models that are open; each is asked by its name."""

    def __init__(
        self,
        models: Mapping[str, RemoteModel],
        config: GatewayConfig,
        speculation: SpeculationConfig | None = None,
    ) -> None:
        self._models: dict[str, RemoteModel] = {}
        self._watches: dict[str, Watch] = {}
        self._created: dict[str, int] = {}
        self._config = config
        self._speculation = speculation
        for name, model in models.items():
            self.add(name, model)
        self._running: set[Generation] = set()
        self._desk = Desk(config)
        self.turnstile = Turnstile(config)

    def add(self, name: str, model: RemoteModel) -> None:
        """Answers with this model, too, from now on; it may have other names already."""
        names = [other for other, same in self._models.items() if same is model]
        watch = self._watches[names[0]] if names else Watch(model, self._config.wait)
        self._models[name], self._watches[name] = model, watch
        self._created[name] = int(time.time())

    @asynccontextmanager
    async def answering(self, ask: Ask, caller: Caller) -> AsyncIterator[Answer]:
        """See `Answerer.answering`."""
        model = self._model(ask.model)
        places = self._places(ask)
        try:
            # Reading a long prompt costs something, which nobody pays to be refused afterwards.
            self.turnstile.check(caller.name, places)
            prepared = await self._desk.read(caller.name, partial(prepare, model, ask))
            async with self._turn(ask.model, caller, places) as queued:
                async with self._generation(model, prepared) as generation:
                    await generation.begin()
                    replies = generation.replies
                    yield Answer(ask.model, Source.SWARM, generation, queued, replies)
        except SwarmError as error:
            raise translate(error) from error

    async def models(self) -> tuple[ModelCard, ...]:
        """See `Answerer.models`."""
        cards = []
        for name, model in list(self._models.items()):  # Others may come meanwhile.
            missing = await self._watches[name].missing()
            length = model.key.context_length
            cards.append(ModelCard(name, self._created[name], length, not missing, missing))
        return tuple(cards)

    async def count(self, model: str, prompt: Prompt) -> int:
        """See `Answerer.count`."""
        try:
            reading = partial(prompt_ids, self._model(model), prompt)
            return len(await self._desk.read(_COUNTING, reading))
        except SwarmError as error:
            raise translate(error) from error

    def stop(self, refusal: Refusal) -> None:
        """Ends all that waits and runs with this; nothing new begins."""
        self._desk.close(refusal)
        self.turnstile.close(refusal)
        for generation in self._running:
            generation.break_off(refusal)

    def _model(self, name: str) -> RemoteModel:
        try:
            return self._models[name]
        except KeyError:
            known = ", ".join(self._models)
            text = f"the model {quoted(name)} does not exist; there are: {known}"
            raise Refusal(Reason.UNKNOWN_MODEL, text, param="model") from None

    def _places(self, ask: Ask) -> int:
        """How many answers are made at once."""
        places = max(ask.num_choices, ask.best_of or 0)
        if places > (most := min(self._config.most_choices, self._config.most_running)):
            param = "best_of" if places > ask.num_choices else "n"
            text = f"{places} choices are more than the {most} that this gateway makes"
            raise Refusal(Reason.INVALID, text, param=param)
        return places

    @asynccontextmanager
    async def _turn(self, name: str, caller: Caller, places: int) -> AsyncIterator[float]:
        """A turn of this caller, and the seconds for which it was waited.

        Nobody waits longer for a model that cannot be asked.
        """
        loop = asyncio.get_running_loop()
        came = loop.time()
        watch = self._watches[name]
        await watch.ready()
        turn = self.turnstile.turn(caller.name, places)
        async with AsyncExitStack() as stack:
            async with background() as tasks:
                tasks.create_task(watch.guard())
                await stack.enter_async_context(turn)
            yield loop.time() - came

    @asynccontextmanager
    async def _generation(
        self, model: RemoteModel, prepared: Prepared
    ) -> AsyncIterator[Generation]:
        running = Generation.running(model, prepared, self._speculation)
        async with running as generation:
            self._running.add(generation)
            try:
                yield generation
            finally:
                self._running.remove(generation)

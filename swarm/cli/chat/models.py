"""The models that a conversation may be with."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from swarm.overview import Overview, ServedModel

from .. import _options
from .._progress import progress
from ..runner import interruptible

if TYPE_CHECKING:
    from swarm.client import ModelOptions, RemoteModel, Swarm


class Models:
    """Lists and opens them; what was seen last is remembered for completion."""

    def __init__(self, swarm: Swarm, options: ModelOptions) -> None:
        self._swarm = swarm
        self._options = options
        self.names: tuple[str, ...] = ()

    async def offered(self) -> tuple[ServedModel, ...]:
        """What the group's peers announce now, by name."""
        models = Overview.of(await self._swarm.announcements()).models
        self.names = tuple(dict.fromkeys(model.name for model in models))
        return models

    async def open(self, name: str, revision: str | None = None) -> RemoteModel | None:
        """A model that can be talked to, with bars for what takes time; None if Ctrl-C gave it up.

        Raises `ConfigError` for one that cannot be opened, `RequestError` for one without a chat
        template.
        """
        halt = threading.Event()
        options = replace(self._options, revision=revision, progress=progress(halt))
        model = None
        async with interruptible() as scope:
            try:
                model = await self._swarm.model(_options.existing_model(name), options)
                await asyncio.to_thread(_ready, model)
            except BaseException:
                # A thread cannot be cancelled; it looks.
                halt.set()
                raise
        return None if scope.expired() else model


def _ready(model: RemoteModel) -> None:
    """Reads what an answer needs besides: seconds now rather than after the first question."""
    _ = model.template.source, model.eos_ids

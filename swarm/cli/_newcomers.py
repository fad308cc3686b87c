"""Models that a group begins to serve while a gateway runs already."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING

import typer

from swarm.errors import SwarmError

from . import _options
from ._offers import MOST

if TYPE_CHECKING:
    from swarm.client import RemoteModel, Swarm

_EVERY = 15.0
"""Seconds between two looks at what the group serves."""

_AGAIN = 600.0
"""Seconds until one that did not open is tried again: it may have been the network."""


class Newcomers:
    """Opens models that have a repo id, once all of their blocks are served; never those `known`.

    A model that somebody has begun to serve and others have not would have the gateway be without a
    route, which it had. Members announce what they like: there is a most of models in all.
    """

    def __init__(
        self,
        swarm: Swarm,
        known: Collection[str],
        opened: Callable[[str], Awaitable[RemoteModel]],
    ) -> None:
        self._swarm = swarm
        self._known = set(known)
        self._opened = opened
        self._failed: dict[str, float] = {}

    async def run(self, add: Callable[[str, RemoteModel], None]) -> None:
        """Tells `add` of each that has opened, by its name; does not end."""
        while True:
            await asyncio.sleep(_EVERY)
            for name in await self._fresh():
                if len(self._known) >= MOST:
                    return
                await self._open(name, add)

    async def _fresh(self) -> list[str]:
        from swarm.checkpoint.hub import is_repo_id

        try:
            overview = await self._swarm.overview()
        except SwarmError:
            return []  # It is looked for again soon.
        names = {model.name for model in overview.models if model.complete}
        tried = asyncio.get_running_loop().time() - _AGAIN
        recent = {name for name, when in self._failed.items() if when > tried}
        return sorted(filter(is_repo_id, names - self._known - recent))

    async def _open(self, name: str, add: Callable[[str, RemoteModel], None]) -> None:
        typer.echo(f"The group now serves {_options.plain(name)}, too. Opening it …", err=True)
        try:
            model = await self._opened(name)
        except SwarmError as error:
            self._failed[name] = asyncio.get_running_loop().time()
            typer.echo(f"Not served: {_options.plain(str(error))}", err=True)
        else:
            self._known.add(name)
            add(name, model)
            typer.echo(f"serving {_options.plain(name)}, too", err=True)

"""Connections of strangers who are too many: p2pd keeps all, or ends anybody's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress

from swarm.errors import Unreachable

from .daemon import Daemon
from .gate import Gate

logger = logging.getLogger(__name__)

_LOOK = 2.0
"""Seconds between two looks at who is connected."""


class Strangers:
    """Those who are connected to `daemon`, and whom neither `gate` nor anybody else knows."""

    def __init__(self, daemon: Daemon, gate: Gate) -> None:
        self._daemon = daemon
        self._gate = gate
        self._vouchers: list[Callable[[], Collection[str]]] = []
        self._since: dict[str, float] = {}
        self.num_disconnected = 0

    def vouch(self, members: Callable[[], Collection[str]]) -> None:
        """Those whom `members` names are none, though they may have no stream of ours."""
        self._vouchers.append(members)

    async def keep_few(self) -> None:
        """Disconnects some now and then, until the daemon ends."""
        while not self._daemon.ended:
            await asyncio.sleep(_LOOK)
            with suppress(Unreachable):
                await self._look()

    async def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        self._since = {peer: self._since.get(peer, now) for peer in await self._daemon.peers()}
        known = {peer for members in self._vouchers for peer in members()}
        unknown = {peer: since for peer, since in self._since.items() if peer not in known}
        surplus = self._gate.surplus(unknown)
        for peer in surplus:
            await self._daemon.disconnect(peer)
        self.num_disconnected += len(surplus)
        if surplus:
            logger.info("strangers disconnected number=%d", len(surplus))

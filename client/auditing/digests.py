"""Peers that announce other weights than they should have: this client asks them nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from swarm.auditing.digests import contested, dissenters
from swarm.checkpoint import Checkpoint
from swarm.directory import Announcement
from swarm.errors import ConfigError

logger = logging.getLogger(__name__)


class Digests:
    """What announcements say of blocks, compared with each other and with our own copy.

    A client that has all of a model's weights (a GGUF file, a folder) looks itself where peers
    disagree.
    """

    def __init__(self) -> None:
        self._checkpoints: dict[str, Checkpoint] = {}
        self._known: dict[str, dict[int, bytes]] = {}
        self._wrong: dict[str, tuple[int, ...]] = {}

    @property
    def wrong(self) -> frozenset[str]:
        """Peers with other weights than they should have."""
        return frozenset(self._wrong)

    def vouch(self, checkpoint: Checkpoint) -> None:
        """This copy of a model is asked where peers disagree, if all of it is here."""
        if checkpoint.whole:
            self._checkpoints[checkpoint.fingerprint] = checkpoint

    async def compare(self, entries: Sequence[Announcement]) -> None:
        """Takes in what peers announce now."""
        wrong: dict[str, tuple[int, ...]] = {}
        for model in {entry.model for entry in entries}:
            of_model = [entry for entry in entries if entry.model == model and entry.serving]
            await self._look(model, contested(of_model))
            wrong |= dissenters(of_model, self._known.get(model))
        for peer in wrong.keys() - self._wrong.keys():
            logger.warning("peer has other weights peer=%s blocks=%s", peer, wrong[peer])
        self._wrong = wrong

    async def _look(self, model: str, blocks: frozenset[int]) -> None:
        """Reads our own copy of blocks that peers do not agree on."""
        known, checkpoint = self._known.setdefault(model, {}), self._checkpoints.get(model)
        if checkpoint is None:
            return
        for block in sorted(blocks - known.keys()):
            try:
                (known[block],) = await asyncio.to_thread(checkpoint.digests, block, block + 1)
            except ConfigError as error:
                logger.warning("own copy not read why=%s", error)
                return

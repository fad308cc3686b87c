"""Moving to other blocks while a peer serves, to close gaps; `placement` says where to."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from swarm.errors import SwarmError

from . import placement

if TYPE_CHECKING:
    from .service import Peer

logger = logging.getLogger(__name__)


async def keep_useful(peer: Peer) -> None:
    """Has a peer move where that helps the swarm, until it is cancelled."""
    fingerprint, num_blocks = peer.model
    while True:
        await asyncio.sleep(peer.config.move_interval)
        if peer.hosting is None:
            continue
        try:
            found = await peer.member.directory.find(fingerprint)
        except SwarmError as error:
            logger.warning("swarm not looked at why=%s", error)
            continue
        span = placement.move(peer.member.peer_id, num_blocks, found)
        if span is not None and span != peer.span:
            await peer.move(span)

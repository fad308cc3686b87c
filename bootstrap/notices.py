"""Notices: what an authority puts up for the group, and when.

Who was revoked is told at once, whichever process has written it into the ledger; the rest again
and again, since what is in the directory expires.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import msgspec

from swarm.directory import LIFETIME, Directory, Shelf
from swarm.errors import MembershipError, SwarmError
from swarm.membership.membership import Membership
from swarm.membership.revocation import Revocation
from swarm.transport import Transport
from swarm.wire.enrolment import Station

from .authority import Authority

logger = logging.getLogger(__name__)

_LIFETIME = 2 * LIFETIME
_INTERVAL = _LIFETIME / 4
"""Seconds between two times that the same is published."""

_LOOK_INTERVAL = 0.5
"""Seconds between two looks into the ledger, which other processes write, too."""


class Notices:
    """What one authority tells all: where it is, and whom it has thrown out."""

    def __init__(
        self,
        authority: Authority,
        membership: Membership,
        transport: Transport,
        directory: Directory,
    ) -> None:
        self._authority = authority
        self._membership = membership
        self._trust = membership.trust
        self._transport = transport
        self._directory = directory
        self._changed = asyncio.Event()
        self._seen = -1
        self._heard: tuple[Revocation, ...] = ()
        self._trust.watch(self._changed.set)

    def look(self) -> None:
        """Has the ledger looked at without waiting."""
        self._changed.set()

    async def run(self) -> None:
        """Keeps everything up, until it is cancelled.

        Raises `MembershipError` once this authority has been thrown out itself.
        """
        clock = asyncio.get_running_loop().time
        due = 0.0
        while True:
            try:
                if await self.learn() or clock() >= due:
                    await self.publish()
                    due = clock() + _INTERVAL
            except MembershipError:
                raise
            except SwarmError as error:
                logger.warning("nothing published why=%s", error)
            except Exception:
                logger.exception("nothing published")
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_INTERVAL):
                    await self._changed.wait()
            self._changed.clear()

    async def learn(self) -> bool:
        """Takes the news of the ledger and of other authorities; returns whether there is any.

        Raises `MembershipError` if that is about ourselves.
        """
        authority = self._authority
        revoked = self._trust.revoked
        if revoked != self._heard:
            self._trust.check_standing(self._membership.standing)
            await asyncio.to_thread(authority.hear, revoked)
            self._heard = revoked
        change = await asyncio.to_thread(lambda: authority.change)
        if change == self._seen:
            return False
        signed = await asyncio.to_thread(authority.revocations)
        is_news = self._trust.learn(signed)
        self._seen = change
        return is_news

    async def publish(self) -> None:
        """Puts up where we are, and whom we have thrown out."""
        authority, transport = self._authority, self._transport
        station = Station(authority.peer_id, transport.addresses)
        await asyncio.to_thread(authority.meet, station)
        record = msgspec.msgpack.encode(station)
        await self._directory.publish(Shelf.AUTHORITIES, record, _LIFETIME)
        signed = await asyncio.to_thread(authority.revocations)
        await self._directory.publish(Shelf.REVOCATIONS, signed, _LIFETIME)

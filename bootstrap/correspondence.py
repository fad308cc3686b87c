"""Correspondence: authorities tell one another whom they have let in and thrown out.

Each asks the others it knows for what has changed since it last asked; nobody depends on any of
them. So each can renew, list and revoke every member, and losing one of them loses nothing. Only an
invite is redeemed by the one that has written it, which alone counts its uses.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import msgspec

from swarm.background import together
from swarm.directory import Directory, Shelf
from swarm.errors import Lapse, MembershipError, Misbehaved, PeerError, SwarmError
from swarm.membership.certificate import Role
from swarm.membership.enrolment import ask
from swarm.membership.membership import Membership
from swarm.transport import Transport
from swarm.wire.enrolment import Decline, Declined, Station, Sync, Synced

from .authority import Authority

logger = logging.getLogger(__name__)

INTERVAL = 15.0
"""Seconds between two rounds."""

_ANEW = 240
"""Rounds after which everything is asked for again: whatever was missed is missed for an hour."""

_PATIENCE = 10.0
_MAX_PAGES = 1000

_decoder = msgspec.msgpack.Decoder(Station)


class Correspondence:
    """What one authority hears from the others. `run` goes on for as long as it is one."""

    def __init__(
        self,
        authority: Authority,
        membership: Membership,
        transport: Transport,
        directory: Directory,
    ) -> None:
        self._authority = authority
        self._membership = membership
        self._transport = transport
        self._directory = directory
        self._positions: dict[str, int] = {}
        self.num_told = 0
        self.num_silent = 0
        """How often others have told us what is new, and how often one has not."""

    async def run(self) -> None:
        """Asks the others again and again, until it is cancelled.

        Raises `MembershipError` if one that stands above this authority says that it was removed.
        """
        rounds = 0
        while True:
            try:
                await self.round()
            except MembershipError:
                raise
            except SwarmError as error:
                logger.warning("other bootstraps not asked why=%s", error)
            except Exception:
                logger.exception("other bootstraps not asked")
            rounds += 1
            if rounds % _ANEW == 0:
                self._positions.clear()
            await asyncio.sleep(INTERVAL)

    async def round(self) -> None:
        """Asks every other authority once; those that do not answer are left out.

        Raises like `run`.
        """
        await self._read()
        stations = await asyncio.to_thread(self._authority.stations)
        others = [each for each in stations if each.peer != self._authority.peer_id]
        await together(self._try(station) for station in others)

    async def pull(self, station: Station) -> None:
        """Takes what has changed at another authority.

        Raises `PeerError` if it does not tell us, and like `run`.
        """
        for _ in range(_MAX_PAGES):
            position = self._positions.get(station.peer, 0)
            addresses = tuple(self._transport.addresses)
            question = Sync(self._membership.credential, position, addresses)
            answer = await ask(self._transport, station, question)
            if isinstance(answer, Declined):
                above = self._membership.standing.issuers
                if answer.why is Decline.REVOKED and station.peer in above:
                    # Who was away meanwhile finds nobody who would pass on a list to it.
                    raise MembershipError(Lapse.REVOKED, answer.message or "we were removed")
                raise Misbehaved(station.peer, f"tells us nothing: {answer.message}")
            if not isinstance(answer, Synced):
                raise Misbehaved(station.peer, f"answered by {type(answer).__name__}")
            self._check(station, answer)
            await asyncio.to_thread(self._authority.merge, answer.credential, answer.members)
            self._positions[station.peer] = answer.change
            if not answer.more or answer.change <= position:
                return

    def _check(self, station: Station, answer: Synced) -> None:
        try:
            source = self._membership.trust.check(answer.credential, station.peer)
        except MembershipError as error:
            raise Misbehaved(station.peer, str(error)) from error
        if not source.may(Role.AUTHORITY) or source.member != source.peer:
            raise Misbehaved(station.peer, f"{source.name} is no authority")

    async def _try(self, station: Station) -> None:
        try:
            await self.pull(station)
            self.num_told += 1
        except PeerError as error:
            self.num_silent += 1
            logger.debug("bootstrap not asked peer=%s why=%s", station.peer, error)

    async def _read(self) -> None:
        """What others have published: where they are, and whom they have thrown out."""
        try:
            async with asyncio.timeout(_PATIENCE):
                stations = await self._directory.read(Shelf.AUTHORITIES)
                lists = await self._directory.read(Shelf.REVOCATIONS)
        except (PeerError, TimeoutError) as error:
            logger.debug("directory not read why=%s", error)
            return
        for signed in lists.values():
            with suppress(MembershipError):
                self._membership.trust.learn(signed)
        for peer, record in stations.items():
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                station = _decoder.decode(record)
                if station.peer == peer != self._authority.peer_id and station.addresses:
                    await asyncio.to_thread(self._authority.meet, station)

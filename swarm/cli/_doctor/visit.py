"""A visit to a group, step by step: each check takes it one step further.

It is made by a program of this machine, as those that only ask are: beside a peer that runs, and
without leaving anything behind but the membership that every command keeps.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from swarm import acquaintances, identity, state
from swarm.errors import ConfigError, PeerError, SwarmError, Unreachable
from swarm.invite import Bootstrap, Invite
from swarm.member import of_machine, places, relays
from swarm.membership.certificate import Role, Standing, examine
from swarm.membership.enrolment import ask, prove
from swarm.membership.membership import Membership
from swarm.membership.papers import Cabinet, Papers
from swarm.membership.registration import Applicant, Registration
from swarm.membership.trust import Trust
from swarm.transport import ports
from swarm.transport.control import Place
from swarm.transport.relay_config import RelayConfig
from swarm.transport.relayed import RelayedConfig, RelayedTransport
from swarm.wire.enrolment import Answer, Enrol, Renew, Station

from .check import Skip

if TYPE_CHECKING:
    from swarm.directory.dht import DhtDirectory
    from swarm.transport.libp2p import Libp2pTransport


@dataclass(frozen=True)
class VisitConfig:
    """How to visit: as a peer of `folder` would (default: as this machine), listening at `port`."""

    folder: Path | None = None
    host: str = "0.0.0.0"
    port: int = 0
    map_port: bool = True
    state_folder: Path = field(default_factory=state.default_folder)
    name: str = ""


@dataclass(frozen=True)
class Meeting:
    """One bootstrap of the invite: the seconds that connecting took, or why that failed."""

    peer: str
    seconds: float = 0.0
    failure: str = ""


@dataclass(frozen=True)
class Reply:
    """What an authority said, and when: by our clock, `early` and `late`, in between."""

    answer: Answer
    early: float
    late: float


@dataclass(frozen=True)
class Acquainted:
    """The group as a member sees it."""

    membership: Membership
    transport: RelayedTransport
    directory: DhtDirectory


class Visit:
    """One visit; an `async with` ends it. Every step may be asked for again, and is made once.

    A step raises `Skip` where one before it has failed, and what is wrong where it fails itself.
    """

    def __init__(
        self, invite: Invite, config: VisitConfig, clock: Callable[[], float] = time.time
    ) -> None:
        self.invite = invite
        self.config = config
        self.clock = clock
        self._stack = AsyncExitStack()
        self._carrier: Libp2pTransport | None = None
        self._meetings: list[Meeting] = []
        self._registration: Registration | None = None
        self._acquainted: Acquainted | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def heard(self) -> list[Bootstrap]:
        """The invite's bootstraps that have been connected; raises `Skip` if there are none."""
        met = {meeting.peer for meeting in self._meetings if not meeting.failure}
        found = [each for each in self.invite.bootstraps if each.peer in met]
        if not found:
            raise Skip("no bootstrap answers")
        return found

    @property
    def carrier(self) -> Libp2pTransport:
        """Our access to the network; raises `Skip` before it is there."""
        if self._carrier is None:
            raise Skip("libp2p did not start")
        return self._carrier

    @property
    def acquainted(self) -> Acquainted:
        """The group; raises `Skip` if we did not get in."""
        if self._acquainted is None:
            raise Skip("this machine did not get into the group")
        return self._acquainted

    def subject(self) -> identity.Identity:
        """In whose name we come."""
        return self._own()[0]

    def papers(self) -> Papers | None:
        """What this machine has kept of its membership; raises `ConfigError` if it is damaged."""
        return self._own()[1].load()

    def standing(self, credential: bytes) -> Standing:
        """What a credential says, whatever time it is."""
        return examine(credential, self.invite.group, identity.verifies)

    async def meet(self) -> list[Meeting]:
        """Connects to every bootstrap of the invite."""
        from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport

        config = self.config
        listening = Libp2pConfig(None, config.host, self._port(), map_port=config.map_port)
        self._carrier = await self._stack.enter_async_context(Libp2pTransport.start(listening))
        self._meetings = list(await asyncio.gather(*map(self._meet, self.invite.bootstraps)))
        return self._meetings

    async def ask(self) -> Reply:
        """Has a bootstrap make us a certificate: for our old one, or for the invite.

        Who has used an invite before may use it again, and this machine keeps what it gets: the
        invite is used once, as by every other command.
        """
        papers, subject, trouble = self.papers(), self.subject(), None
        for bootstrap in self.heard:
            station = Station(bootstrap.peer, bootstrap.addresses)
            proof = prove(self.carrier, subject, self.invite.group, station)
            if papers is not None:
                question: Renew | Enrol = Renew(subject.peer_id, proof, papers.credential)
            elif bootstrap.peer == self.invite.bootstraps[0].peer:
                ticket = self.invite.ticket
                question = Enrol(subject.peer_id, proof, ticket, self.config.name)
            else:
                continue
            early = self.clock()
            try:
                answer = await ask(self.carrier, station, question)
            except PeerError as error:
                trouble = error
            else:
                return Reply(answer, early, self.clock())
        raise trouble or Unreachable("", "the bootstrap that has written the invite is not heard")

    async def belong(self) -> Membership:
        """Becomes a member, as a program of this machine, as every command does."""
        subject, cabinet = self._own()
        trust = Trust(self.invite.group, identity.verifies, clock=self.clock)
        applicant = Applicant(subject, self.carrier.signer, Role.CLIENT, self.config.name, cabinet)
        self._registration = await Registration.obtain(self.carrier, self.invite, applicant, trust)
        return self._registration.membership

    async def settle(self) -> Acquainted:
        """Finds out how we are reached, and joins the directory without keeping records there."""
        from swarm.directory.dht import DhtConfig, DhtDirectory

        if self._registration is None:
            raise Skip("this machine did not get into the group")
        membership = self._registration.membership
        stations = self._registration.stations
        entries = [*self.invite.addresses, *(place for each in stations for place in each.places)]
        path = acquaintances.path_for(self.invite.group, self.config.state_folder)
        known = [Place(each.peer, each.multiaddresses) for each in acquaintances.load(path)]
        transport = await self._stack.enter_async_context(
            RelayedTransport.start(
                self.carrier,
                membership,
                places(entries),
                RelayedConfig(relay=RelayConfig(serve=False)),
                remembered=known,
            )
        )
        met = [address for place in known for address in place.addresses]
        directory = await DhtDirectory.join(
            self.carrier, membership, entries, met, DhtConfig(asks=True)
        )
        self._stack.push_async_callback(directory.aclose)
        transport.follow(partial(relays, directory))
        self._acquainted = Acquainted(membership, transport, directory)
        return self._acquainted

    def _own(self) -> tuple[identity.Identity, Cabinet]:
        return of_machine(self.invite.group, self.config.state_folder, self.config.folder)

    def _port(self) -> int:
        """The port that was asked for, or any if that is taken: another check tells of it."""
        try:
            ports.check(ipaddress.ip_address(self.config.host), self.config.port)
        except ConfigError:
            return 0
        return self.config.port

    async def _meet(self, bootstrap: Bootstrap) -> Meeting:
        begun = time.perf_counter()
        try:
            await self.carrier.connect(bootstrap.peer, bootstrap.addresses)
        except SwarmError as error:
            return Meeting(bootstrap.peer, failure=str(error))
        return Meeting(bootstrap.peer, time.perf_counter() - begun)

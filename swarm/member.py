"""Being a member: a transport and a directory of one group, and who we are in it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.errors import ConfigError, SwarmError, Unreachable

from . import acquaintances, identity, state
from .acquaintances import Acquaintance
from .background import background
from .directory import REFRESH, Directory
from .group import Group
from .invite import Invite
from .membership.certificate import Role
from .membership.membership import Membership
from .membership.papers import Cabinet
from .membership.registration import Applicant, Registration
from .membership.trust import Trust
from .transport import Transport
from .transport.control import Place
from .transport.reach import Reach
from .transport.relay_config import RelayConfig
from .transport.relayed import RelayedConfig, RelayedTransport

if TYPE_CHECKING:
    from .transport.libp2p import Libp2pConfig, Libp2pTransport

logger = logging.getLogger(__name__)

IDENTITY = "identity"
"""File of a folder that holds its key."""

_MACHINE_FOLDERS = ("client", "peer")
"""Below the state folder: where programs that only ask look for this machine's membership."""

_REWRITE_INTERVAL = 60.0
"""Seconds after which the time of the last meeting is written again."""


@dataclass(frozen=True)
class Member:
    """One member's access to its group, over libp2p or over the in-memory twins.

    `secret` is 32 bytes that nobody else knows: the same ones after a restart if the identity is.
    """

    transport: Transport
    directory: Directory
    membership: Membership
    secret: bytes = field(default_factory=partial(secrets.token_bytes, 32), repr=False)

    @property
    def group(self) -> Group:
        """The group."""
        return self.membership.group

    @property
    def peer_id(self) -> str:
        """Our own id."""
        return self.transport.peer_id


@dataclass(frozen=True)
class JoinConfig:
    """How to join a group.

    `folder` keeps this member's identity and papers and is locked while it runs. Without one, a
    member that only `asks` does so in the name of this machine, beside other programs of it; any
    other is somebody new each time, and uses the invite each time. `name` is what it would like to
    be called, `role` what it must be allowed to be (by default a peer, or a client if it only
    asks). It listens at `host` and `port` (0: a free one), and also tells others
    the addresses in `announce`. With `map_port` the router is asked to forward the port. A member
    that only `asks` keeps no records for others, and nobody needs to reach it: its router is left
    alone. One that can be dialled relays for those that cannot, within `relay`'s limits. Members
    met, and what this machine is in each group, are remembered below `state_folder` (by default
    where this system keeps state). All that it sends stays below `upload` bytes per second (0: no
    limit).
    """

    folder: Path | None = None
    host: str = "0.0.0.0"
    port: int = 0
    announce: tuple[str, ...] = ()
    map_port: bool = True
    asks: bool = False
    name: str = ""
    role: Role | None = None
    state_folder: Path | None = None
    relay: RelayConfig = field(default_factory=RelayConfig)
    upload: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port {self.port} is not between 0 and 65535")


@asynccontextmanager
async def join(invite: Invite, config: JoinConfig | None = None) -> AsyncIterator[Member]:
    """Joins the invite's group for the length of the block.

    Raises `ConfigError` on unusable settings or invites, `MembershipError` if this machine was
    thrown out, and `Unreachable` if nobody of the group answers. If our libp2p daemon ends, the
    block is cancelled and `Unreachable` (of ourselves) comes out; if we are thrown out meanwhile,
    `MembershipError`.
    """
    # Loaded here, so that whoever only needs a `Member` over the twins starts without libp2p.
    from .transport.libp2p import Libp2pTransport

    config = config or JoinConfig()
    root = config.state_folder or state.default_folder()
    path = acquaintances.path_for(invite.group, root)
    known = acquaintances.load(path)
    with nullcontext() if config.folder is None else state.lock(config.folder):
        async with Libp2pTransport.start(_libp2p(config)) as carrier:
            subject, cabinet = _subject(config, invite.group, carrier.signer, root)
            role = config.role or (Role.CLIENT if config.asks else Role.PEER)
            applicant = Applicant(subject, carrier.signer, role, config.name, cabinet)
            trust = Trust(invite.group, identity.verifies)
            registration = await Registration.obtain(carrier, invite, applicant, trust)
            stations = registration.stations
            entries = (*invite.addresses, *(place for each in stations for place in each.places))
            async with _among(carrier, registration, entries, known, config) as (others, directory):
                secret = subject.derive(b"homeswarm member secret")
                member = Member(others, directory, registration.membership, secret)
                async with background() as tasks:
                    tasks.create_task(registration.keep(directory))
                    tasks.create_task(keep_remembering(member, path))
                    tasks.create_task(carrier.wait_failed())
                    yield member


@asynccontextmanager
async def _among(
    carrier: Libp2pTransport,
    registration: Registration,
    entries: Sequence[str],
    known: Sequence[Acquaintance],
    config: JoinConfig,
) -> AsyncIterator[tuple[Transport, Directory]]:
    """What members reach and find one another by, for the length of the block."""
    from .directory.dht import DhtConfig, DhtDirectory

    membership = registration.membership
    remembered = [Place(each.peer, each.multiaddresses) for each in known]
    relayed = RelayedConfig(listens=not config.asks, relay=config.relay)
    async with RelayedTransport.start(
        carrier, membership, places(entries), relayed, remembered=remembered
    ) as transport:
        # Nobody could ask one for records that nobody can dial.
        asks = config.asks or transport.reach is Reach.RELAYED
        met = [address for place in remembered for address in place.addresses]
        try:
            directory = await DhtDirectory.join(
                carrier, membership, entries, met, DhtConfig(asks=asks)
            )
        except Unreachable:
            # Those who know that we were thrown out do not talk to us.
            await registration.verify()
            raise
        transport.follow(partial(relays, directory))
        try:
            yield transport, directory
        finally:
            await directory.aclose()


def _libp2p(config: JoinConfig) -> Libp2pConfig:
    from .transport.libp2p import Libp2pConfig

    return Libp2pConfig(
        config.folder and config.folder / IDENTITY,
        config.host,
        config.port,
        config.announce,
        map_port=config.map_port and not config.asks,
        upload=config.upload,
    )


def _subject(
    config: JoinConfig, group: Group, process: identity.Identity, root: Path
) -> tuple[identity.Identity, Cabinet | None]:
    """Who joins: the key of this program itself, or that of the machine in whose name it asks."""
    if config.folder is not None:
        return process, Cabinet(config.folder, group)
    if not config.asks:
        return process, None
    return of_machine(group, root)


def of_machine(
    group: Group, root: Path, folder: Path | None = None
) -> tuple[identity.Identity, Cabinet]:
    """Key and papers in whose name programs of this machine ask: those below `root`, or `folder`'s.

    Raises `ConfigError` where they cannot be read or made.
    """
    if folder is None:
        # A machine that serves may also ask, without an invite for that.
        folders = [root / name for name in _MACHINE_FOLDERS]
        known = [each for each in folders if Cabinet(each, group).load() is not None]
        folder = (known or folders)[0]
    state.make_folder(folder)
    return identity.load_or_create(folder / IDENTITY), Cabinet(folder, group)


def places(addresses: Sequence[str]) -> tuple[Place, ...]:
    """Multiaddresses with `/p2p/` ids, by member."""
    by_peer: dict[str, tuple[str, ...]] = {}
    for address in addresses:
        peer = address.rpartition("/p2p/")[2]
        by_peer[peer] = (*by_peer.get(peer, ()), address)
    return tuple(Place(*entry) for entry in by_peer.items())


async def relays(directory: Directory) -> list[Place]:
    """The members that say that they can be dialled; those may relay for others."""
    found = await directory.find()
    return [Place(each.peer, each.addresses) for each in found if each.reach is Reach.DIRECT]


async def keep_remembering(member: Member, path: Path) -> None:
    """Writes down the members that announce themselves, until it is cancelled.

    News is written within seconds: whoever restarts without knowing anybody waits for others to
    dial, and libp2p dials an address that was dead less and less often.
    """
    written: set[tuple[str, tuple[str, ...]]] = set()
    write_at, told = 0.0, ""
    while True:
        try:
            found = await member.directory.find()
            places = {(each.peer, each.addresses) for each in found if each.peer != member.peer_id}
            now = time.time()
            if not places <= written or (places and now >= write_at):
                met = [Acquaintance(peer, addresses, now) for peer, addresses in places]
                # Other processes of this user write the same file.
                acquaintances.save(path, acquaintances.remember(acquaintances.load(path), met))
                written, write_at = places, now + _REWRITE_INTERVAL
        except SwarmError as error:
            # A folder that cannot be written stays so: once is enough.
            if str(error) != told:
                told = str(error)
                logger.warning("members not remembered why=%s", error)
        except Exception:
            logger.exception("members not remembered")
        await asyncio.sleep(REFRESH)

"""Being a member: a transport and a directory of one group, and who we are in it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from swarm.errors import ConfigError, SwarmError

from . import acquaintances, state
from .acquaintances import Acquaintance
from .background import background
from .directory import REFRESH, Directory
from .group import Group
from .invite import Invite
from .transport import Transport
from .transport.control import Place
from .transport.reach import Reach
from .transport.relay import RelayConfig
from .transport.relayed import RelayedConfig, RelayedTransport

logger = logging.getLogger(__name__)

_REWRITE_INTERVAL = 60.0
"""Seconds after which the time of the last meeting is written again."""


@dataclass(frozen=True)
class Member:
    """One member's access to its group, over libp2p or over the in-memory twins.

    `secret` is 32 bytes that nobody else knows: the same ones after a restart if the identity is.
    """

    transport: Transport
    directory: Directory
    group: Group
    secret: bytes = field(default_factory=partial(secrets.token_bytes, 32), repr=False)

    @property
    def peer_id(self) -> str:
        """Our own id."""
        return self.transport.peer_id


@dataclass(frozen=True)
class JoinConfig:
    """How to join a group.

    `folder` keeps this member's identity and is locked while it runs; without one, the member is
    somebody new each time. It listens at `host` and `port` (0: a free one), and also tells others
    the addresses in `announce`. With `map_port` the router is asked to forward the port. A member
    that only `asks` keeps no records for others, and nobody needs to reach it: its router is left
    alone. One that can be dialled relays for those that cannot, within `relay`'s limits. Members
    met are remembered below `state_folder` (by default where this system keeps state).
    """

    folder: Path | None = None
    host: str = "0.0.0.0"
    port: int = 0
    announce: tuple[str, ...] = ()
    map_port: bool = True
    asks: bool = False
    state_folder: Path | None = None
    relay: RelayConfig = field(default_factory=RelayConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port {self.port} is not between 0 and 65535")


@asynccontextmanager
async def join(invite: Invite, config: JoinConfig | None = None) -> AsyncIterator[Member]:
    """Joins the invite's group for the length of the block.

    Raises `ConfigError` on unusable settings and `Unreachable` if nobody of the group answers. If
    our libp2p daemon ends, the block is cancelled and `Unreachable` (of ourselves) comes out.
    """
    # Loaded here, so that whoever only needs a `Member` over the twins starts without libp2p.
    from .directory.dht import DhtConfig, DhtDirectory
    from .transport.libp2p import Libp2pConfig, Libp2pTransport

    config = config or JoinConfig()
    group = invite.group
    path = acquaintances.path_for(group, config.state_folder)
    known = acquaintances.load(path)
    with ExitStack() as stack:
        identity = None
        if config.folder is not None:
            stack.enter_context(state.lock(config.folder))
            identity = config.folder / "identity"
        map_port = config.map_port and not config.asks
        libp2p = Libp2pConfig(
            identity, config.host, config.port, config.announce, map_port=map_port
        )
        async with (
            Libp2pTransport.start(libp2p) as carrier,
            RelayedTransport.start(
                carrier,
                group,
                places(invite.addresses),
                RelayedConfig(listens=not config.asks, relay=config.relay),
                remembered=[Place(each.peer, each.multiaddresses) for each in known],
            ) as transport,
        ):
            # Nobody could ask one for records that nobody can dial.
            asks = config.asks or transport.reach is Reach.RELAYED
            directory = await DhtDirectory.join(
                carrier,
                group,
                invite.addresses,
                [place for each in known for place in each.multiaddresses],
                DhtConfig(asks=asks),
            )
            transport.follow(partial(relays, directory))
            secret = carrier.signer.derive(b"homeswarm member secret")
            member = Member(transport, directory, group, secret)
            try:
                async with background() as tasks:
                    tasks.create_task(keep_remembering(member, path))
                    tasks.create_task(carrier.wait_failed())
                    yield member
            finally:
                await directory.aclose()


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

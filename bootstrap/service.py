"""The bootstrap: where a group is met, kept running."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from swarm import acquaintances, identity, state
from swarm.background import background
from swarm.errors import ConfigError, Unreachable
from swarm.group import Group
from swarm.invite import Invite
from swarm.member import Member, keep_remembering
from swarm.transport.relayed import RelayedConfig, RelayedTransport

from . import group_file
from .config import BootstrapConfig

logger = logging.getLogger(__name__)

_PORT_FILE = "port"
_MEMBERS_FILE = "members.json"
_MAX_ADDRESSES = 16
_SOUND_RUN = 60.0
_MAX_RESTARTS = 3


@dataclass(frozen=True)
class Bootstrap:
    """A running bootstrap: its place in the group, and the invite that leads to it."""

    member: Member
    invite: Invite


async def serve(config: BootstrapConfig, on_ready: Callable[[Invite], None]) -> None:
    """Runs a bootstrap until it is cancelled; calls `on_ready` once with the invite.

    Its libp2p daemon is started again if it ends. Raises `ConfigError` on a folder or port that is
    in use or damaged, and `Unreachable` if the daemon does not stay up.
    """
    clock = asyncio.get_running_loop().time
    with state.lock(config.folder):
        announced, restarts = False, 0
        while True:
            started = clock()
            try:
                async with start(config) as bootstrap:
                    if not announced:
                        on_ready(bootstrap.invite)
                        announced = True
                    await asyncio.Future()
            except Unreachable as error:
                restarts = 0 if clock() - started > _SOUND_RUN else restarts + 1
                if restarts > _MAX_RESTARTS:
                    raise
                logger.warning("bootstrap restarts why=%s", error)


@asynccontextmanager
async def start(config: BootstrapConfig) -> AsyncIterator[Bootstrap]:
    """A bootstrap for the length of the block; the caller holds the folder's lock.

    If its libp2p daemon ends, the block is cancelled and `Unreachable` (of ourselves) comes out.
    """
    from swarm.directory.dht import DhtConfig, DhtDirectory
    from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport

    folder = config.folder
    group = group_file.load_or_create(folder, config.name)
    me = _load_identity(folder)
    port = config.port or _stored_port(folder)
    libp2p = Libp2pConfig(me.path, config.host, port, config.announce, map_port=config.map_port)
    # Whether others reach it is its owner's care: whom it relays for has reached it.
    relayed = RelayedConfig(listens=False, always_relays=True, relay=config.relay)
    async with (
        Libp2pTransport.start(libp2p) as carrier,
        RelayedTransport.start(carrier, group, config=relayed) as transport,
    ):
        if not port:
            _store_port(folder, carrier.port)
        known = acquaintances.load(folder / _MEMBERS_FILE)
        places = [place for each in known for place in each.multiaddresses]
        directory = await DhtDirectory.join(
            carrier, group, (), places, DhtConfig(may_be_first=True)
        )
        member = Member(transport, directory, group)
        try:
            async with background() as tasks:
                tasks.create_task(keep_remembering(member, folder / _MEMBERS_FILE))
                tasks.create_task(carrier.wait_failed())
                logger.info("bootstrap ready peer=%s group=%s", transport.peer_id, group.id)
                yield Bootstrap(member, _invite(group, transport.addresses))
        finally:
            await directory.aclose()


def _load_identity(folder: Path) -> identity.Identity:
    path = folder / group_file.IDENTITY_FILE
    known = identity.load(path)
    if known is None and (folder / _PORT_FILE).exists():
        logger.warning("identity lost, a new one is made: invites from before lead nowhere")
    return known or identity.create(path)


def _invite(group: Group, addresses: tuple[str, ...]) -> Invite:
    if not addresses:
        raise ConfigError("this machine has no network address; check its connection")
    kept = addresses
    if len(addresses) > _MAX_ADDRESSES:
        kept = (*addresses[: _MAX_ADDRESSES - 1], addresses[-1])
    return Invite(group.secret, kept, group.name)


def _stored_port(folder: Path) -> int:
    content = state.read(folder / _PORT_FILE)
    if content is None:
        return 0
    try:
        port = int(content)
    except ValueError:
        port = -1
    if not 0 < port < 65536:
        raise ConfigError(f"{folder / _PORT_FILE} is damaged; write the port of your invites there")
    return port


def _store_port(folder: Path, port: int) -> None:
    state.replace(folder / _PORT_FILE, f"{port}\n".encode())

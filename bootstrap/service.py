"""The bootstrap: where a group is met, kept running."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from swarm import acquaintances, identity, state
from swarm.background import background
from swarm.errors import ConfigError, Unreachable
from swarm.group import Group
from swarm.invite import Invite
from swarm.member import Member, keep_remembering
from swarm.membership.enrolment import enrol
from swarm.membership.membership import Membership
from swarm.membership.trust import Trust
from swarm.transport.relayed import RelayedConfig, RelayedTransport
from swarm.wire.enrolment import Station

from . import office
from .authority import Authority
from .config import BootstrapConfig
from .correspondence import Correspondence
from .desk import Desk
from .metrics import Behind, BootstrapMetrics
from .notices import Notices
from .office import Office
from .page import Page

if TYPE_CHECKING:
    from swarm.transport.libp2p import Libp2pTransport

logger = logging.getLogger(__name__)

_PORT_FILE = "port"
_MEMBERS_FILE = "members.json"
_SOUND_RUN = 60.0
_MAX_RESTARTS = 3


@dataclass(frozen=True)
class Bootstrap:
    """A running bootstrap: its place in the group, and the invite that leads to it."""

    member: Member
    invite: Invite
    authority: Authority
    metrics: BootstrapMetrics


async def serve(
    config: BootstrapConfig,
    on_ready: Callable[[Invite], None],
    on_page: Callable[[Page], None] = lambda page: None,
) -> None:
    """Runs a bootstrap until it is cancelled; calls `on_ready` once with the invite.

    Before that it calls `on_page`, if it shows one.
    Its libp2p daemon is started again if it ends. Raises `ConfigError` on a folder or port that is
    in use or damaged, and `Unreachable` if the daemon does not stay up.
    """
    with state.lock(config.folder):
        if config.page is None:
            await _keep_running(config, on_ready, None)
            return
        async with Page.shown(config.page, config.folder) as page:
            on_page(page)
            await _keep_running(config, on_ready, page)


async def _keep_running(
    config: BootstrapConfig, on_ready: Callable[[Invite], None], page: Page | None
) -> None:
    clock = asyncio.get_running_loop().time
    announced, restarts = False, 0
    while True:
        started = clock()
        try:
            async with start(config) as bootstrap:
                if not announced:
                    on_ready(bootstrap.invite)
                    announced = True
                directory, metrics = bootstrap.member.directory, bootstrap.metrics
                shown = page.beside(bootstrap.authority, directory, metrics) if page else None
                with shown or nullcontext():
                    await asyncio.Future()
        except Unreachable as error:
            restarts = 0 if clock() - started > _SOUND_RUN else restarts + 1
            if restarts > _MAX_RESTARTS:
                raise
            logger.warning("bootstrap restarts why=%s", error)


@asynccontextmanager
async def start(config: BootstrapConfig) -> AsyncIterator[Bootstrap]:
    """A bootstrap for the length of the block; the caller holds the folder's lock.

    If its libp2p daemon ends, the block is cancelled and `Unreachable` (of ourselves) comes out; if
    another bootstrap throws it out, `MembershipError`.
    """
    from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport

    folder = config.folder
    applicant = None
    if config.join is not None:
        applicant = office.applicant(folder, config.join.group)
    seat = office.found(folder, config.name, time.time) if applicant is None else None
    key = folder / office.IDENTITY_FILE
    port = config.port or _stored_port(folder)
    libp2p = Libp2pConfig(key, config.host, port, config.announce, map_port=config.map_port)
    # The ledger is closed when nobody can ask any more.
    with ExitStack() as stack:
        async with Libp2pTransport.start(libp2p) as carrier:
            if not port:
                _store_port(folder, carrier.port)
            if seat is None:
                seat = await _deputize(config, carrier)
            ledger = office.open_ledger(folder, seat.group, time.time)
            authority = stack.enter_context(Authority(seat, ledger, config.terms))
            async with _running(config, carrier, authority) as (member, metrics):
                logger.info("bootstrap ready peer=%s group=%s", member.peer_id, member.group.id)
                yield Bootstrap(member, authority.first_invite(), authority, metrics)


@asynccontextmanager
async def _running(
    config: BootstrapConfig, carrier: Libp2pTransport, authority: Authority
) -> AsyncIterator[tuple[Member, BootstrapMetrics]]:
    """The desk, the relay and the directory of an authority, for the length of the block."""
    from swarm.directory.dht import DhtConfig, DhtDirectory

    trust = Trust(authority.group, identity.verifies)
    membership = Membership(trust, authority.credential, authority.me.sign)
    authority.enter()
    _meet_all(authority, config, carrier)
    trust.learn(authority.revocations())
    # Whether others reach it is its owner's care: whom it relays for has reached it.
    relayed = RelayedConfig(listens=False, always_relays=True, relay=config.relay)
    async with RelayedTransport.start(carrier, membership, config=relayed) as transport:
        known = config.folder / _MEMBERS_FILE
        places = [place for each in acquaintances.load(known) for place in each.multiaddresses]
        entries = [place for each in authority.stations()[1:] for place in each.places]
        directory = await DhtDirectory.join(
            carrier, membership, entries, places, DhtConfig(may_be_first=True)
        )
        member = Member(transport, directory, membership)
        notices = Notices(authority, membership, carrier, directory)
        correspondence = Correspondence(authority, membership, carrier, directory)
        try:
            if len(authority.members()) == 1:
                # A new ledger knows nobody who was removed: it is told before it is asked.
                await correspondence.round()
            desk = Desk(authority, trust, on_change=notices.look)
            await desk.serve(carrier)
            behind = Behind(authority, directory, desk, correspondence, carrier, transport)
            async with background() as tasks:
                tasks.create_task(keep_remembering(member, known))
                tasks.create_task(notices.run())
                tasks.create_task(correspondence.run())
                tasks.create_task(carrier.wait_failed())
                yield member, BootstrapMetrics(behind)
        finally:
            await directory.aclose()


async def _deputize(config: BootstrapConfig, carrier: Libp2pTransport) -> Office:
    """Redeems the invite by which this bootstrap becomes one of a group that exists."""
    invite = config.join
    assert invite is not None
    trust = Trust(invite.group, identity.verifies)
    papers = await enrol(carrier, carrier.signer, invite, trust, office.NAME)
    group = Group(invite.group.key, papers.group_name)
    return office.deputize(config.folder, group, papers.credential)


def _meet_all(authority: Authority, config: BootstrapConfig, carrier: Libp2pTransport) -> None:
    if not carrier.addresses:
        raise ConfigError("this machine has no network address; check its connection")
    authority.meet(Station(carrier.peer_id, carrier.addresses))
    known = {station.peer for station in authority.stations()}
    for each in config.join.bootstraps if config.join else ():
        if each.peer not in known:
            authority.meet(Station(each.peer, each.addresses))


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

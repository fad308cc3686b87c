from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarm import acquaintances
from swarm.bootstrap.config import BootstrapConfig
from swarm.bootstrap.service import Bootstrap
from swarm.bootstrap.service import start as start_bootstrap
from swarm.directory import Announcement, State
from swarm.directory.memory import Registry
from swarm.errors import ConfigError, Unreachable
from swarm.group import Group
from swarm.invite import Invite
from swarm.member import JoinConfig, Member, join, keep_remembering
from swarm.transport.libp2p import Libp2pTransport
from swarm.transport.memory import Network
from swarm.transport.relayed import RelayedTransport


@pytest.fixture
async def bootstrap(tmp_path: Path) -> AsyncIterator[Bootstrap]:
    folder = tmp_path / "bootstrap"
    folder.mkdir()
    async with asyncio.timeout(30):
        async with start_bootstrap(BootstrapConfig(folder, host="127.0.0.1")) as bootstrap:
            yield bootstrap


def announcement(peer: str, addresses: tuple[str, ...]) -> Announcement:
    return Announcement(peer, "n", "m", "m", 8, 0, 4, State.SERVING, addresses=addresses)


async def test_a_member_can_live_in_memory(tmp_path: Path) -> None:
    network, registry, group = Network(), Registry(), Group.create()
    members = [
        Member(network.transport(peer), registry.directory(peer), group) for peer in ("a", "b")
    ]
    assert [member.peer_id for member in members] == ["a", "b"]
    for member in members:
        addresses = member.transport.addresses
        await member.directory.announce(announcement(member.peer_id, addresses))
    path = acquaintances.path_for(group, tmp_path)
    remembering = asyncio.create_task(keep_remembering(members[0], path))
    while not acquaintances.load(path):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    remembering.cancel()
    await asyncio.gather(remembering, return_exceptions=True)
    (known,) = acquaintances.load(path)
    assert (known.peer, known.addresses) == ("b", members[1].transport.addresses)


async def test_joining_twice_from_one_folder(bootstrap: Bootstrap, tmp_path: Path) -> None:
    config = JoinConfig(folder=tmp_path / "me", host="127.0.0.1", state_folder=tmp_path)
    async with join(bootstrap.invite, config) as member:
        with pytest.raises(ConfigError, match="in use by process"):
            async with join(bootstrap.invite, config):
                pass
    async with join(bootstrap.invite, config) as again:
        assert again.peer_id == member.peer_id


async def test_without_a_folder_one_is_somebody_new(bootstrap: Bootstrap, tmp_path: Path) -> None:
    config = JoinConfig(host="127.0.0.1", state_folder=tmp_path)
    async with join(bootstrap.invite, config) as one, join(bootstrap.invite, config) as other:
        assert one.peer_id != other.peer_id


async def test_errors_of_the_block_come_out_as_they_are(
    bootstrap: Bootstrap, tmp_path: Path
) -> None:
    config = JoinConfig(host="127.0.0.1", state_folder=tmp_path)
    with pytest.raises(ZeroDivisionError):
        async with join(bootstrap.invite, config):
            raise ZeroDivisionError


async def test_the_death_of_our_daemon_ends_the_block(
    bootstrap: Bootstrap, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = JoinConfig(host="127.0.0.1", state_folder=tmp_path)
    with pytest.raises(Unreachable, match="our own"):
        async with join(bootstrap.invite, config) as member:
            assert isinstance(member.transport, RelayedTransport)
            assert isinstance(member.transport.carrier, Libp2pTransport)
            member.transport.carrier.daemon.p2p._child.kill()
            await asyncio.Future()
    caplog.clear()


async def test_a_bootstrap_that_is_away_is_named(bootstrap: Bootstrap, tmp_path: Path) -> None:
    address = "/ip4/127.0.0.1/tcp/1/p2p/" + bootstrap.member.peer_id
    invite = Invite(bootstrap.invite.secret, (address,))
    with pytest.raises(Unreachable, match="nobody of the group answered"):
        async with join(invite, JoinConfig(host="127.0.0.1", state_folder=tmp_path)):
            pass


async def test_an_invite_of_another_group(bootstrap: Bootstrap, tmp_path: Path) -> None:
    invite = Invite(b"x" * 32, bootstrap.invite.addresses)
    with pytest.raises(Unreachable, match="another group"):
        async with join(invite, JoinConfig(host="127.0.0.1", state_folder=tmp_path)):
            pass


def test_settings_that_cannot_work() -> None:
    with pytest.raises(ConfigError):
        JoinConfig(port=-1)

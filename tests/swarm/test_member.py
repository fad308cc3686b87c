"""Joining over libp2p, at a tiny authority that is also the group's first node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from swarm import acquaintances, identity
from swarm.directory import Announcement, Shelf, State
from swarm.directory.memory import Registry
from swarm.errors import ConfigError, Lapse, MembershipError, Unreachable
from swarm.identity import Identity
from swarm.invite import Bootstrap
from swarm.member import JoinConfig, Member, join, keep_remembering
from swarm.membership import registration
from swarm.membership.certificate import Role
from swarm.membership.founder import Founder
from swarm.membership.papers import Cabinet
from swarm.transport.libp2p import Libp2pTransport
from swarm.transport.memory import Network
from swarm.transport.relayed import RelayedTransport


def announcement(peer: str, addresses: tuple[str, ...]) -> Announcement:
    return Announcement(peer, "n", "m", "m", 8, 0, 4, State.SERVING, addresses=addresses)


async def test_a_member_can_live_in_memory(tmp_path: Path) -> None:
    network, registry = Network(), Registry()
    founder = Founder(network.signer("group"), network.signer("authority"))
    members = [
        Member(
            network.transport(peer), registry.directory(peer), founder.admit(network.signer(peer))
        )
        for peer in ("a", "b")
    ]
    assert [member.peer_id for member in members] == ["a", "b"]
    assert {member.group for member in members} == {founder.group}
    for member in members:
        addresses = member.transport.addresses
        await member.directory.announce(announcement(member.peer_id, addresses))
    path = acquaintances.path_for(founder.group, tmp_path)
    remembering = asyncio.create_task(keep_remembering(members[0], path))
    while not acquaintances.load(path):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    remembering.cancel()
    await asyncio.gather(remembering, return_exceptions=True)
    (known,) = acquaintances.load(path)
    assert (known.peer, known.addresses) == ("b", members[1].transport.addresses)


async def test_joining_twice_from_one_folder(home: Any) -> None:
    config, invite = home.config(folder=home.folder / "me"), home.invite(uses=1)
    async with join(invite, config) as member:
        with pytest.raises(ConfigError, match="in use by process"):
            async with join(invite, config):
                pass
        standing = member.membership.standing
        assert standing.peer == standing.member == member.peer_id
    async with join(invite, config) as again:
        assert again.peer_id == member.peer_id
        assert again.secret == member.secret
    assert home.office.kinds == ["Enrol"], "the second time it has its papers"


async def test_without_a_folder_one_is_somebody_new(home: Any) -> None:
    invite = home.invite(uses=2)
    async with join(invite, home.config()) as one, join(invite, home.config()) as other:
        assert one.peer_id != other.peer_id
        assert one.membership.standing.member != other.membership.standing.member
    with pytest.raises(ConfigError, match="used up"):
        async with join(invite, home.config()):
            pass


async def test_programs_that_ask_are_their_machine(home: Any) -> None:
    invite = home.invite(Role.CLIENT, uses=1)
    config = home.config(asks=True)
    async with join(invite, config) as one, join(invite, config) as other:
        assert one.peer_id != other.peer_id
        assert one.membership.standing.member == other.membership.standing.member
        assert one.membership.standing.roles == {Role.CLIENT}
        # They find what others announce, and announce nothing.
        await home.directory.announce(announcement(home.carrier.peer_id, home.carrier.addresses))
        (found,) = await other.directory.find()
        assert found.peer == home.carrier.peer_id
    assert home.office.kinds == ["Enrol"]


async def test_a_machine_that_serves_may_also_ask(home: Any) -> None:
    """Without an invite for that: its programs ask in the peer's name."""
    invite = home.invite(uses=1)
    peer_folder = home.folder / "state" / "peer"
    async with join(invite, home.config(folder=peer_folder)) as peer:
        async with join(invite, home.config(asks=True)) as client:
            assert client.membership.standing.member == peer.peer_id
            assert not client.membership.standing.may(Role.PEER)
    assert home.office.kinds == ["Enrol"]


async def test_a_client_that_wants_to_serve_is_told_what_it_needs(home: Any) -> None:
    with pytest.raises(ConfigError, match="--role peer"):
        async with join(home.invite(Role.CLIENT), home.config(folder=home.folder / "me")):
            pass


async def test_errors_of_the_block_come_out_as_they_are(home: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        async with join(home.invite(), home.config()):
            raise ZeroDivisionError


async def test_the_death_of_our_daemon_ends_the_block(
    home: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Unreachable, match="our own"):
        async with join(home.invite(), home.config()) as member:
            assert isinstance(member.transport, RelayedTransport)
            assert isinstance(member.transport.carrier, Libp2pTransport)
            member.transport.carrier.daemon.p2p._child.kill()
            await asyncio.Future()
    caplog.clear()


@pytest.mark.parametrize("how", ["directory", "link"])
async def test_being_thrown_out_ends_the_block(
    home: Any, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "_LOOK_INTERVAL", 0.2 if how == "directory" else 30.0)
    with pytest.raises(MembershipError, match="removed") as caught:
        async with join(home.invite(), home.config()) as member:
            signed = home.office.expel(member.peer_id)
            if how == "directory":
                await home.directory.publish(Shelf.REVOCATIONS, signed)
            else:
                member.membership.trust.learn(signed)
            await asyncio.Future()
    assert caught.value.lapse is Lapse.REVOKED


async def test_who_was_thrown_out_while_it_was_away(home: Any) -> None:
    """Its papers would still hold: that nobody talks to it any more is why it asks."""
    config, invite = home.config(folder=home.folder / "me"), home.invite()
    async with join(invite, config) as member:
        pass
    home.membership.trust.learn(home.office.expel(member.peer_id))
    with pytest.raises(MembershipError, match="removed"):
        async with join(invite, config):
            pass
    assert home.office.kinds == ["Enrol", "Renew"]


async def test_a_bootstrap_that_is_away_is_named(home: Any) -> None:
    there = identity.public_key(home.carrier.peer_id)
    assert there is not None
    invite = msgspec.structs.replace(
        home.invite(), bootstraps=(Bootstrap(there, ("/ip4/127.0.0.1/tcp/1",)),)
    )
    with pytest.raises(Unreachable):
        async with join(invite, home.config()):
            pass
    # With papers it needs nobody to be let in, but somebody to meet.
    config = home.config(folder=home.folder / "me")
    async with join(home.invite(), config) as member:
        pass
    cabinet = Cabinet(home.folder / "me", member.group)
    papers = cabinet.load()
    assert papers is not None
    cabinet.save(msgspec.structs.replace(papers, stations=()))
    with pytest.raises(Unreachable, match="nobody of the group answered"):
        async with join(invite, config):
            pass


async def test_an_invite_of_another_group(home: Any, key_of: Callable[[str], Identity]) -> None:
    other = identity.public_key(key_of("another group").peer_id)
    assert other is not None
    invite = msgspec.structs.replace(home.invite(), key=other)
    with pytest.raises(ConfigError, match="another group"):
        async with join(invite, home.config(folder=home.folder / "me")):
            pass
    assert not list((home.folder / "me").rglob("membership"))


async def test_bootstraps_are_found_again_by_what_members_remember(home: Any) -> None:
    """An invite from before the bootstrap has moved: the papers say where it is now."""
    there = identity.public_key(home.carrier.peer_id)
    assert there is not None
    config = home.config(folder=home.folder / "me")
    async with join(home.invite(), config):
        pass
    moved = msgspec.structs.replace(
        home.invite(), bootstraps=(Bootstrap(there, ("/ip4/127.0.0.1/tcp/1",)),)
    )
    async with join(moved, config) as member:
        assert member.membership.standing.may(Role.PEER)


def test_settings_that_cannot_work() -> None:
    with pytest.raises(ConfigError):
        JoinConfig(port=-1)

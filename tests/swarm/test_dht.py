from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from swarm import identity
from swarm.directory import LIFETIME, Announcement, State, encode_announcement
from swarm.directory.dht import DhtConfig, DhtDirectory
from swarm.directory.records import MAX_LIFETIME, directory_key, open_record, seal_record
from swarm.errors import ConfigError, LocalProtocolError, RecordError, Unreachable
from swarm.group import Group
from swarm.transport.daemon import load
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport

GROUP = Group(b"g" * 32)
FIRST = DhtConfig(may_be_first=True)
NOBODY = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGbGzVJbdkrp69QaXR8rbyCArfC5z1rwYXoxZiTUVDn7k"


def announcement(peer: str, addresses: tuple[str, ...] = ()) -> Announcement:
    return Announcement(
        peer, "name", "model", "a model", 8, 0, 4, State.SERVING, addresses=addresses
    )


class Swarm:
    """Members in one process, each with a daemon of its own."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def transport(self, **settings: Any) -> Libp2pTransport:
        transport = await Libp2pTransport.create(Libp2pConfig(host="127.0.0.1", **settings))
        self._stack.push_async_callback(transport.aclose)
        return transport

    async def join(
        self,
        transport: Libp2pTransport,
        entries: tuple[str, ...],
        config: DhtConfig | None = None,
        group: Group = GROUP,
    ) -> DhtDirectory:
        directory = await DhtDirectory.join(transport, group, entries, (), config)
        self._stack.push_async_callback(directory.aclose)
        return directory


@pytest.fixture
async def swarm() -> AsyncIterator[Swarm]:
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        yield Swarm(stack)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110
        await asyncio.sleep(0.05)


def sealed(peer: str = "p", lifetime: float = LIFETIME, owner: str | None = None) -> Any:
    expiry = time.time() + lifetime
    return seal_record(
        GROUP, owner or peer, encode_announcement(announcement(peer)), expiry
    ), expiry


def test_a_record_opens_for_its_peer_and_expiry() -> None:
    record, expiry = sealed()
    assert open_record(GROUP, "p", record, expiry) == announcement("p")
    assert open_record(GROUP, "p", seal_record(GROUP, "p", b"", expiry), expiry) is None


# Made in the test: expiry is a time, and collecting all tests may take longer than a record lives.
@pytest.mark.parametrize(
    ("make", "peer", "group"),
    [
        pytest.param(sealed, "q", GROUP, id="somebody else's sub-key"),
        pytest.param(lambda: sealed(owner="q"), "q", GROUP, id="in another's name"),
        pytest.param(sealed, "p", Group(b"h" * 32), id="another group"),
        pytest.param(lambda: sealed(lifetime=2 * MAX_LIFETIME), "p", GROUP, id="too long a life"),
        pytest.param(sealed, 5, GROUP, id="no id"),
        pytest.param(lambda: ("text", sealed()[1]), "p", GROUP, id="no bytes"),
        pytest.param(lambda: (b"", sealed()[1]), "p", GROUP, id="empty"),
    ],
)
def test_records_that_no_correct_member_stores(
    make: Callable[[], Any], peer: object, group: Group
) -> None:
    with pytest.raises(RecordError):
        open_record(group, peer, *make())


def test_a_record_cannot_be_given_a_longer_life() -> None:
    record, expiry = sealed()
    with pytest.raises(RecordError, match="another expiry"):
        open_record(GROUP, "p", record, expiry + 1)


async def test_the_first_member_finds_itself(swarm: Swarm) -> None:
    transport = await swarm.transport()
    directory = await swarm.join(transport, (), FIRST)
    entry = announcement(transport.peer_id)
    assert await directory.find() == ()
    await directory.announce(entry)
    assert await directory.find() == (entry,)


async def test_a_name_and_a_lifetime_that_are_not_ours(swarm: Swarm) -> None:
    transport = await swarm.transport()
    directory = await swarm.join(transport, (), FIRST)
    with pytest.raises(LocalProtocolError):
        await directory.announce(announcement("somebody"))
    with pytest.raises(LocalProtocolError):
        await directory.announce(announcement(transport.peer_id), MAX_LIFETIME + 1)


async def test_nobody_there_is_said_with_the_address(swarm: Swarm) -> None:
    transport = await swarm.transport(patience=0.5)
    with pytest.raises(Unreachable, match=r"nobody of the group answered at /ip4/127.0.0.1/tcp/1/"):
        await swarm.join(transport, (NOBODY,))
    with pytest.raises(ConfigError, match="no address"):
        await swarm.join(transport, ())


async def test_one_living_entry_is_enough(swarm: Swarm) -> None:
    boot, near = await swarm.transport(), await swarm.transport()
    await swarm.join(boot, (), FIRST)
    directory = await swarm.join(near, (NOBODY, *boot.addresses))
    assert directory.num_neighbours == 1


async def test_another_group_is_refused(swarm: Swarm) -> None:
    boot, near = await swarm.transport(), await swarm.transport()
    there = await swarm.join(boot, (), FIRST)
    await there.announce(announcement(boot.peer_id))
    with pytest.raises(Unreachable, match="another group"):
        await swarm.join(near, boot.addresses, group=Group.create())
    assert there.num_neighbours == 0


async def test_a_stranger_can_neither_read_nor_write(swarm: Swarm) -> None:
    boot, stranger = await swarm.transport(), await swarm.transport()
    there = await swarm.join(boot, (), FIRST)
    entry = announcement(boot.peer_id)
    await there.announce(entry)
    await stranger.connect(boot.peer_id, boot.addresses)
    node = await load("hivemind.dht.node").DHTNode.create(
        stranger.daemon.p2p, initial_peers=list(boot.addresses), ensure_bootstrap_success=False
    )
    key = directory_key(GROUP)
    peer_id = load("hivemind.p2p").PeerID.from_base58(boot.peer_id)
    key_id = load("hivemind.dht.routing").DHTID.generate(source=key)
    record = b"\xc4\x01x"
    assert await node.protocol.call_find(peer_id, [key_id]) is None
    for subkey in (stranger.peer_id, boot.peer_id, None):
        stored = await node.protocol.call_store(
            peer_id, [key_id], [record], time.time() + 30, subkeys=[subkey]
        )
        assert stored is None
    await node.shutdown()
    assert await there.find() == (entry,)
    assert there.num_neighbours == 0


async def test_a_member_cannot_store_what_is_no_announcement(swarm: Swarm) -> None:
    boot, near = await swarm.transport(), await swarm.transport()
    there = await swarm.join(boot, (), FIRST)
    here = await swarm.join(near, boot.addresses)
    node, expiry = here._node, time.time() + 10
    node.protocol.record_validator = None
    node_id = there._node.node_id
    load_dump = load("hivemind.utils.serializer").MSGPackSerializer.dumps
    key = load("hivemind.dht.routing").DHTID.generate(source=directory_key(GROUP))
    other = load("hivemind.dht.routing").DHTID.generate(source="another key")
    peer_id = node.protocol.routing_table[node_id]
    mine = load_dump(
        seal_record(GROUP, near.peer_id, encode_announcement(announcement(near.peer_id)), expiry)
    )
    cases = [
        (key, near.peer_id, load_dump(b"unsealed"), expiry, False),
        (key, boot.peer_id, mine, expiry, False),
        (key, near.peer_id, mine, expiry + 1, False),
        (key, None, mine, expiry, False),
        (key, 7, mine, expiry, False),
        (key, near.peer_id, b"\xc1", expiry, False),
        (other, near.peer_id, mine, expiry, False),
        (key, near.peer_id, mine, expiry, True),
    ]
    for key_id, subkey, value, end, accepted in cases:
        answer = await node.protocol.call_store(peer_id, [key_id], [value], end, subkeys=[subkey])
        assert answer == [accepted], (subkey, value)
    assert [entry.peer for entry in await there.find()] == [near.peer_id]


async def test_a_record_that_is_replayed_is_refused(swarm: Swarm) -> None:
    boot, near = await swarm.transport(), await swarm.transport()
    await swarm.join(boot, (), FIRST)
    here = await swarm.join(near, boot.addresses)
    protocol = here._node.protocol
    (peer_id,) = protocol.routing_table.peer_id_to_uid
    stub = protocol._stub_type(near.daemon.p2p, peer_id, None)
    request = load("hivemind.proto.dht_pb2").PingRequest(peer=protocol.node_info)
    await protocol.authorizer.sign_request(request, None)
    assert (await stub.rpc_ping(request, timeout=2)).peer.node_id
    with pytest.raises(Exception, match="NoneType"):
        await stub.rpc_ping(request, timeout=2)


async def test_a_clock_that_is_wrong_is_named(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot, near = await swarm.transport(), await swarm.transport()
    await swarm.join(boot, (), FIRST)
    late = time.time
    protocol = load("hivemind.dht.protocol")
    monkeypatch.setattr(protocol, "get_dht_time", lambda: late() + 30)
    with pytest.raises(ConfigError, match="clock differs by 30 seconds"):
        await swarm.join(near, boot.addresses)


async def test_who_only_asks_is_nobodys_neighbour(swarm: Swarm) -> None:
    boot, near = await swarm.transport(), await swarm.transport()
    there = await swarm.join(boot, (), FIRST)
    await there.announce(announcement(boot.peer_id))
    here = await swarm.join(near, boot.addresses, DhtConfig(asks=True))
    assert [entry.peer for entry in await here.find()] == [boot.peer_id]
    assert there.num_neighbours == 0


async def test_find_after_our_daemon_has_ended(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    boot, near = await swarm.transport(), await swarm.transport()
    await swarm.join(boot, (), FIRST)
    here = await swarm.join(near, boot.addresses)
    near.daemon.p2p._child.kill()
    await near.daemon.wait_ended()
    async with asyncio.timeout(10):
        with pytest.raises(Unreachable):
            await here.find()
    caplog.clear()


async def test_the_swarm_outlives_its_bootstrap_and_welcomes_it_back(
    swarm: Swarm, tmp_path: Path
) -> None:
    quick = DhtConfig(rejoin=0.5)
    key = identity.create(tmp_path / "identity").path
    boot = await swarm.transport(identity=key)
    entries, port = boot.addresses, boot.port
    boot_directory = await swarm.join(boot, (), FIRST)
    members = []
    for _ in range(3):
        transport = await swarm.transport()
        members.append((transport, await swarm.join(transport, entries, quick)))
    everybody = {transport.peer_id for transport, _ in members}

    async def announce() -> None:
        for transport, directory in members:
            await directory.announce(announcement(transport.peer_id, transport.addresses))

    await announce()
    await boot_directory.aclose()
    await boot.aclose()
    # They find one another without it, though none was told of another by anybody else.
    await announce()
    for _, directory in members:
        assert {entry.peer for entry in await directory.find()} == everybody

    # It comes back knowing nobody; a newcomer who knows only it finds all the others.
    again = await swarm.transport(identity=key, port=port)
    assert again.addresses == entries
    returned = await swarm.join(again, (), FIRST)

    async def knows_all() -> bool:
        return returned.num_neighbours == 3

    await until(knows_all)
    newcomer = await swarm.transport()
    found = await swarm.join(newcomer, entries, DhtConfig(asks=True))

    async def sees_all() -> bool:
        return {entry.peer for entry in await found.find()} == everybody

    await until(sees_all)

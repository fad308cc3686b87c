from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from swarm import identity
from swarm.directory import LIFETIME, Announcement, Shelf, State, encode_announcement
from swarm.directory.dht import DhtConfig, DhtDirectory
from swarm.directory.records import (
    ANNOUNCEMENTS,
    MAX_LIFETIME,
    directory_key,
    open_announcement,
    open_record,
    sign_record,
)
from swarm.errors import ConfigError, LocalProtocolError, RecordError, Unreachable
from swarm.identity import Identity
from swarm.membership.certificate import Role
from swarm.membership.founder import Founder
from swarm.membership.membership import Membership, certify_process
from swarm.membership.revocation import Revocation, RevocationList, sign_list
from swarm.transport.daemon import load
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport

HANGING = 60.0
"""Seconds: what takes longer hangs, however busy the machine is."""

FIRST = DhtConfig(may_be_first=True)
NOBODY = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGbGzVJbdkrp69QaXR8rbyCArfC5z1rwYXoxZiTUVDn7k"


def announcement(peer: str, addresses: tuple[str, ...] = ()) -> Announcement:
    return Announcement(
        peer, "name", "model", "a model", 8, 0, 4, State.SERVING, addresses=addresses
    )


class Swarm:
    """Members in one process, each with a daemon of its own."""

    def __init__(self, stack: AsyncExitStack, founder: Founder) -> None:
        self._stack = stack
        self.founder = founder

    async def transport(self, **settings: Any) -> Libp2pTransport:
        transport = await Libp2pTransport.create(Libp2pConfig(host="127.0.0.1", **settings))
        self._stack.push_async_callback(transport.aclose)
        return transport

    async def join(
        self,
        transport: Libp2pTransport,
        entries: tuple[str, ...],
        config: DhtConfig | None = None,
        membership: Membership | None = None,
    ) -> DhtDirectory:
        membership = membership or self.founder.admit(transport.signer)
        directory = await DhtDirectory.join(transport, membership, entries, (), config)
        self._stack.push_async_callback(directory.aclose)
        return directory


@pytest.fixture
def make_key(tmp_path: Path) -> Callable[[str], Identity]:
    return lambda name: identity.create(tmp_path / name)


@pytest.fixture
def founder(make_key: Callable[[str], Identity]) -> Founder:
    return Founder(make_key("group"), make_key("authority"))


@pytest.fixture
def other_founder(make_key: Callable[[str], Identity]) -> Founder:
    return Founder(make_key("other group"), make_key("other authority"))


@pytest.fixture
async def swarm(founder: Founder) -> AsyncIterator[Swarm]:
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        yield Swarm(stack, founder)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110
        await asyncio.sleep(0.05)


@dataclass
class Scene:
    """Two members and somebody of another group, for records that are no longer in a DHT."""

    ours: Membership
    theirs: Membership
    foreign: Membership

    def announced(self, by: Membership | None = None, peer: str = "", **changes: Any) -> Any:
        """A record of an announcement, and its expiry."""
        by = by or self.ours
        body = encode_announcement(announcement(peer or by.standing.peer))
        return self.signed(by, body, **changes)

    def signed(
        self, by: Membership, body: bytes, shelf: str = ANNOUNCEMENTS, lifetime: float = LIFETIME
    ) -> Any:
        expiry = time.time() + lifetime
        return sign_record(by, shelf, body, expiry), expiry

    @property
    def me(self) -> str:
        return self.ours.standing.member


@pytest.fixture
def scene(founder: Founder, other_founder: Founder, make_key: Callable[[str], Identity]) -> Scene:
    return Scene(
        founder.admit(make_key("ours")),
        founder.admit(make_key("theirs")),
        other_founder.admit(make_key("foreign")),
    )


def test_a_record_opens_for_its_member_and_expiry(scene: Scene) -> None:
    trust = scene.theirs.trust
    record, expiry = scene.announced()
    assert open_announcement(trust, scene.me, record, expiry) == announcement(scene.me)
    withdrawn, expiry = scene.signed(scene.ours, b"")
    assert open_announcement(trust, scene.me, withdrawn, expiry) is None
    author, body = open_record(trust, ANNOUNCEMENTS, scene.me, withdrawn, expiry)
    assert (author.peer, body) == (scene.me, b"")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("somebody else's sub-key", "in the place of"),
        ("in another's name", "announces"),
        ("another group", "not from a member"),
        ("too long a life", "too long"),
        ("a longer life", "not as it was signed"),
        ("another shelf", "not as it was signed"),
        ("changed", "not as it was signed"),
        ("no id", "right type"),
        ("no bytes", "right type"),
        ("empty", "not from a member"),
        ("too large", "bytes"),
        ("signed by nobody", "not as it was signed"),
        ("signed by another member", "not as it was signed"),
        ("by one who may only ask", "may not write here"),
        ("no announcement", "not understood"),
    ],
)
def test_records_that_no_correct_member_stores(
    wrong: str, said: str, scene: Scene, founder: Founder, make_key: Callable[[str], Identity]
) -> None:
    member: object = scene.me
    record, expiry = scene.announced()
    # Made in the test: expiry is a time, and collecting tests may take longer than a record lives.
    match wrong:
        case "somebody else's sub-key":
            member = scene.theirs.standing.member
        case "in another's name":
            record, expiry = scene.announced(peer=scene.theirs.standing.peer)
        case "another group":
            member = scene.foreign.standing.member
            record, expiry = scene.announced(scene.foreign)
        case "too long a life":
            record, expiry = scene.announced(lifetime=2 * MAX_LIFETIME)
        case "a longer life":
            expiry += 1
        case "another shelf":
            body = encode_announcement(announcement(scene.me))
            record, expiry = scene.signed(scene.ours, body, Shelf.REPORTS)
        case "changed":
            record = record.replace(b"a model", b"b model")
        case "no id":
            member = 5
        case "no bytes":
            record = "text"
        case "empty":
            record = b""
        case "too large":
            record, expiry = scene.signed(scene.ours, bytes(32 * 1024))
        case "signed by nobody":
            body, _, credential = msgspec.msgpack.decode(record)
            record = msgspec.msgpack.encode((body, b"", credential))
        case "signed by another member":
            body, _, credential = msgspec.msgpack.decode(record)
            _, signature, _ = msgspec.msgpack.decode(scene.announced(scene.theirs)[0])
            record = msgspec.msgpack.encode((body, signature, credential))
        case "by one who may only ask":
            client = founder.admit(make_key("client"), Role.CLIENT)
            member = client.standing.member
            record, expiry = scene.announced(client)
        case "no announcement":
            record, expiry = scene.signed(scene.ours, b"\xc1")
    with pytest.raises(RecordError, match=said):
        open_announcement(scene.theirs.trust, member, record, expiry)


@pytest.mark.parametrize("shelf", [Shelf.REVOCATIONS, Shelf.AUTHORITIES])
def test_only_authorities_write_what_authorities_say(
    scene: Scene, founder: Founder, shelf: Shelf
) -> None:
    record, expiry = scene.signed(scene.ours, b"what a peer says", shelf)
    with pytest.raises(RecordError, match="may not write here"):
        open_record(scene.theirs.trust, shelf, scene.me, record, expiry)
    authority = founder.membership
    record, expiry = scene.signed(authority, b"what an authority says", shelf)
    peer = authority.standing.peer
    _, body = open_record(scene.theirs.trust, shelf, peer, record, expiry)
    assert body == b"what an authority says"


def test_a_report_is_not_an_announcement(scene: Scene) -> None:
    """A record that is moved to another shelf is worth nothing there."""
    record, expiry = scene.announced()
    with pytest.raises(RecordError, match="not as it was signed"):
        open_record(scene.theirs.trust, Shelf.REPORTS, scene.me, record, expiry)


def test_a_members_programs_share_its_place(
    scene: Scene, make_key: Callable[[str], Identity]
) -> None:
    """However many keys a member makes for programs, it has one record on each shelf."""
    process = make_key("process")
    program = Membership(
        scene.ours.trust, certify_process(scene.ours, process.peer_id), process.sign
    )
    record, expiry = scene.signed(program, b"a report", Shelf.REPORTS)
    trust = scene.theirs.trust
    author, _ = open_record(trust, Shelf.REPORTS, scene.me, record, expiry)
    assert (author.peer, author.member) == (process.peer_id, scene.me)
    with pytest.raises(RecordError, match="in the place of"):
        open_record(trust, Shelf.REPORTS, process.peer_id, record, expiry)
    record, expiry = scene.announced(program)
    with pytest.raises(RecordError, match="may not write here"):
        open_announcement(trust, scene.me, record, expiry)


def test_what_somebody_has_said_is_worth_nothing_once_it_is_thrown_out(
    scene: Scene, founder: Founder
) -> None:
    record, expiry = scene.announced()
    trust = scene.theirs.trust
    assert open_announcement(trust, scene.me, record, expiry)
    trust.learn(founder.revoke(scene.me))
    with pytest.raises(RecordError, match="removed from the group"):
        open_announcement(trust, scene.me, record, expiry)


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


async def test_another_group_is_refused(swarm: Swarm, other_founder: Founder) -> None:
    boot, near = await swarm.transport(), await swarm.transport()
    there = await swarm.join(boot, (), FIRST)
    await there.announce(announcement(boot.peer_id))
    with pytest.raises(Unreachable, match="another group"):
        await swarm.join(near, boot.addresses, membership=other_founder.admit(near.signer))
    assert there.num_neighbours == 0


async def test_two_groups_stay_apart_whatever_addresses_are_mixed_up(
    swarm: Swarm, other_founder: Founder
) -> None:
    """Each member knows a bootstrap of the other group too, and remembers members of it."""
    here, there, near, far = [await swarm.transport() for _ in range(4)]
    quick = DhtConfig(rejoin=0.2)
    first = await swarm.join(here, (), FIRST)
    other = await swarm.join(there, (), FIRST, other_founder.admit(there.signer))
    both = (*there.addresses, *here.addresses)
    ours = await swarm.join(near, both, quick)
    theirs = await swarm.join(far, both, quick, other_founder.admit(far.signer))
    for directory, transport in ((first, here), (other, there), (ours, near), (theirs, far)):
        await directory.announce(announcement(transport.peer_id, transport.addresses))
        await directory.publish(Shelf.REPORTS, b"a report")
    await asyncio.sleep(1)  # Greetings are tried again and again meanwhile.
    for directories, transports in (((first, ours), (here, near)), ((other, theirs), (there, far))):
        members = {transport.peer_id for transport in transports}
        for directory in directories:

            async def knows_its_own(here: Any = directory, members: Any = members) -> bool:
                found = {entry.peer for entry in await here.find()}
                read = set(await here.read(Shelf.REPORTS))
                assert found | read <= members and here.num_neighbours <= 1
                # Who does not answer in time is forgotten until the next greeting.
                return found == read == members and here.num_neighbours == 1

            await until(knows_its_own)


async def test_a_stranger_can_neither_read_nor_write(swarm: Swarm) -> None:
    boot, stranger = await swarm.transport(), await swarm.transport()
    there = await swarm.join(boot, (), FIRST)
    entry = announcement(boot.peer_id)
    await there.announce(entry)
    await stranger.connect(boot.peer_id, boot.addresses)
    node = await load("hivemind.dht.node").DHTNode.create(
        stranger.daemon.p2p, initial_peers=list(boot.addresses), ensure_bootstrap_success=False
    )
    key = directory_key(swarm.founder.group)
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


@dataclass
class Fiddler:
    """A member whose node stores what it likes, at the node of another one."""

    node: Any
    target: Any

    @classmethod
    def at(cls, here: DhtDirectory, there: DhtDirectory) -> Fiddler:
        here._node.protocol.record_validator = None
        return cls(here._node, here._node.protocol.routing_table[there._node.node_id])

    async def store(
        self, key: str, subkey: object, record: bytes, expiry: float, *, raw: bool = False
    ) -> bool:
        dump = load("hivemind.utils.serializer").MSGPackSerializer.dumps
        key_id = load("hivemind.dht.routing").DHTID.generate(source=key)
        value = record if raw else dump(record)
        (stored,) = await self.node.protocol.call_store(
            self.target, [key_id], [value], expiry, subkeys=[subkey]
        )
        return bool(stored)


async def test_a_member_cannot_store_what_is_no_announcement(swarm: Swarm) -> None:
    boot, near = await swarm.transport(), await swarm.transport()
    there = await swarm.join(boot, (), FIRST)
    membership = swarm.founder.admit(near.signer)
    here = await swarm.join(near, boot.addresses, membership=membership)
    fiddler, key = Fiddler.at(here, there), directory_key(swarm.founder.group)
    expiry = time.time() + 10
    body = encode_announcement(announcement(near.peer_id))
    mine = sign_record(membership, ANNOUNCEMENTS, body, expiry)
    lists, reports = (
        directory_key(swarm.founder.group, shelf) for shelf in (Shelf.REVOCATIONS, Shelf.REPORTS)
    )
    revocations = sign_record(membership, Shelf.REVOCATIONS, body, expiry)
    for case in (
        (key, near.peer_id, b"unsigned", expiry),
        (key, boot.peer_id, mine, expiry),
        (key, near.peer_id, mine, expiry + 1),
        (key, near.peer_id, mine, expiry - 1),
        (key, None, mine, expiry),
        (key, 7, mine, expiry),
        ("another key", near.peer_id, mine, expiry),
        (reports, near.peer_id, mine, expiry),
        (lists, near.peer_id, revocations, expiry),
    ):
        assert not await fiddler.store(*case), case
    assert not await fiddler.store(key, near.peer_id, b"\xc1", expiry, raw=True)
    assert await there.find() == ()
    assert await fiddler.store(key, near.peer_id, mine, expiry)
    assert [entry.peer for entry in await there.find()] == [near.peer_id]


async def test_who_may_only_ask_cannot_announce_blocks(swarm: Swarm) -> None:
    boot, near = await swarm.transport(), await swarm.transport()
    there = await swarm.join(boot, (), FIRST)
    client = swarm.founder.admit(near.signer, Role.CLIENT)
    here = await swarm.join(near, boot.addresses, membership=client)
    here._node.protocol.record_validator = None
    await here.announce(announcement(near.peer_id))
    assert await there.find() == ()
    expiry = time.time() + 10
    record = sign_record(
        client, ANNOUNCEMENTS, encode_announcement(announcement(near.peer_id)), expiry
    )
    key = directory_key(swarm.founder.group)
    assert not await Fiddler.at(here, there).store(key, near.peer_id, record, expiry)
    # It may say whom it has caught.
    await here.publish(Shelf.REPORTS, b"caught")
    assert await there.read(Shelf.REPORTS) == {near.peer_id: b"caught"}


async def test_an_announcement_goes_with_the_member_that_is_thrown_out(swarm: Swarm) -> None:
    boot, near = await swarm.transport(), await swarm.transport()
    membership = swarm.founder.admit(boot.signer)
    there = await swarm.join(boot, (), FIRST, membership)
    here = await swarm.join(near, boot.addresses)
    await here.announce(announcement(near.peer_id))
    assert [entry.peer for entry in await there.find()] == [near.peer_id]
    membership.trust.learn(swarm.founder.revoke(near.peer_id))
    assert await there.find() == ()
    # Neither does it get anything any more: its requests are refused.
    await there.announce(announcement(boot.peer_id))
    here._found = None
    assert boot.peer_id not in [entry.peer for entry in await here.find()]
    await here.announce(announcement(near.peer_id))
    assert [entry.peer for entry in await there.find()] == [boot.peer_id]


async def test_who_is_refused_where_it_came_in_asks_what_is_the_matter(swarm: Swarm) -> None:
    """Nobody tells those who were thrown out anything, not even that."""
    boot, near = await swarm.transport(), await swarm.transport()
    knows = swarm.founder.admit(boot.signer)
    await swarm.join(boot, (), FIRST, knows)
    doubts, doubted = swarm.founder.admit(near.signer), asyncio.Event()
    doubts.watch(doubted.set)
    await swarm.join(near, boot.addresses, DhtConfig(rejoin=0.1), doubts)
    assert not doubted.is_set()
    knows.trust.learn(swarm.founder.revoke(near.peer_id))
    await doubted.wait()


async def test_the_shelves_hold_what_authorities_publish(
    swarm: Swarm, make_key: Callable[[str], Identity], tmp_path: Path
) -> None:
    authority = make_key("second authority")
    boot = await swarm.transport(identity=authority.path)
    near = await swarm.transport()
    office = swarm.founder.admit(boot.signer, Role.AUTHORITY)
    there = await swarm.join(boot, (), FIRST, office)
    membership = swarm.founder.admit(near.signer)
    here = await swarm.join(near, boot.addresses, membership=membership)
    gone = Revocation("somebody", "name", time.time(), time.time() + 1000)
    content = RevocationList(7, (gone,))
    signed = sign_list(content, swarm.founder.group, boot.signer.sign, office.credential)
    await there.publish(Shelf.REVOCATIONS, signed)
    assert await here.read(Shelf.REVOCATIONS) == {boot.peer_id: signed}
    assert membership.trust.learn(signed)
    assert membership.trust.revoked == (gone,)
    assert await here.read(Shelf.AUTHORITIES) == {}


async def test_the_newest_record_of_a_shelf_is_the_one_that_is_read(swarm: Swarm) -> None:
    boot, near = await swarm.transport(), await swarm.transport()
    there = await swarm.join(boot, (), FIRST)
    here = await swarm.join(near, boot.addresses)
    for content in (b"one", b"two", b"three"):
        await here.publish(Shelf.REPORTS, content)
        assert (await there.read(Shelf.REPORTS))[near.peer_id] == content
    # What was said before is shown again by somebody: it expires earlier, and changes nothing.
    expiry = time.time() + 5
    old = sign_record(here._membership, Shelf.REPORTS, b"one", expiry)
    key = directory_key(swarm.founder.group, Shelf.REPORTS)
    assert not await Fiddler.at(here, there).store(key, near.peer_id, old, expiry)
    assert (await there.read(Shelf.REPORTS))[near.peer_id] == b"three"


async def test_a_request_counts_once(swarm: Swarm) -> None:
    boot, near = await swarm.transport(), await swarm.transport()
    await swarm.join(boot, (), FIRST)
    here = await swarm.join(near, boot.addresses)
    protocol = here._node.protocol
    (peer_id,) = protocol.routing_table.peer_id_to_uid
    stub = protocol._stub_type(near.daemon.p2p, peer_id, None)
    request = load("hivemind.proto.dht_pb2").PingRequest(peer=protocol.node_info)
    await protocol.authorizer.sign_request(request, boot.peer_id)
    assert (await stub.rpc_ping(request, timeout=HANGING)).peer.node_id
    with pytest.raises(Exception, match="NoneType"):
        await stub.rpc_ping(request, timeout=HANGING)


async def test_one_request_is_about_few_keys(swarm: Swarm) -> None:
    """Thousands of forged records in one message would hold up a peer for seconds."""
    boot, near = await swarm.transport(), await swarm.transport()
    await swarm.join(boot, (), FIRST)
    here = await swarm.join(near, boot.addresses)
    protocol = here._node.protocol
    (peer_id,) = protocol.routing_table.peer_id_to_uid
    stub = protocol._stub_type(near.daemon.p2p, peer_id, None)
    key = load("hivemind.dht.routing").DHTID.generate().to_bytes()
    pb = load("hivemind.proto.dht_pb2")

    def requests(num_keys: int) -> list[tuple[Any, Any]]:
        keys, values = [key] * num_keys, [b"forged"] * num_keys
        about = {"in_cache": [False] * num_keys, "expiration_time": [time.time() + 9] * num_keys}
        store = pb.StoreRequest(keys=keys, subkeys=values, values=values, **about)
        find = pb.FindRequest(keys=keys, peer=protocol.node_info)
        return [(stub.rpc_store, store), (stub.rpc_find, find)]

    for call, request in requests(16):
        await protocol.authorizer.sign_request(request, boot.peer_id)
        await call(request, timeout=HANGING)
    for call, request in requests(17):
        await protocol.authorizer.sign_request(request, boot.peer_id)
        with pytest.raises(Exception, match="NoneType"):
            await call(request, timeout=HANGING)


async def test_whoever_gets_a_request_cannot_use_it_elsewhere(swarm: Swarm) -> None:
    """One that was thrown out is still asked by those who have not heard of it: it learns nothing
    from others with their questions."""
    boot, near, outsider = [await swarm.transport() for _ in range(3)]
    there = await swarm.join(boot, (), FIRST)
    here = await swarm.join(near, boot.addresses)
    await there.announce(announcement(boot.peer_id))
    await outsider.connect(boot.peer_id, boot.addresses)
    protocol = here._node.protocol
    (peer_id,) = protocol.routing_table.peer_id_to_uid
    stub = protocol._stub_type(outsider.daemon.p2p, peer_id, None)
    key = load("hivemind.dht.routing").DHTID.generate(source=directory_key(swarm.founder.group))
    pb = load("hivemind.proto.dht_pb2")
    for recipient, answered in ((outsider.peer_id, False), (boot.peer_id, True)):
        request = pb.FindRequest(keys=[key.to_bytes()], peer=protocol.node_info)
        await protocol.authorizer.sign_request(request, recipient)
        if answered:
            # What is refused is that it was for somebody else, and nothing else about it.
            assert (await stub.rpc_find(request, timeout=HANGING)).results
        else:
            with pytest.raises(Exception, match="NoneType"):
                await stub.rpc_find(request, timeout=HANGING)


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
    async with asyncio.timeout(HANGING):
        with pytest.raises(Unreachable):
            await here.find()
    caplog.clear()


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
async def test_leaving_while_our_daemon_dies_ends(
    swarm: Swarm, turns: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What hivemind asks of a daemon that is gone is answered by nobody."""
    boot, near = await swarm.transport(), await swarm.transport()
    await swarm.join(boot, (), FIRST)
    here = await swarm.join(near, boot.addresses)
    async with asyncio.timeout(HANGING):
        near.daemon.p2p._child.kill()
        for _ in range(turns):
            await asyncio.sleep(0)
        await here.aclose()
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

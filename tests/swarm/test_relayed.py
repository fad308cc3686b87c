"""Relaying over libp2p: everybody on this machine, behind walls that only tests can build."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from swarm.bootstrap.config import BootstrapConfig
from swarm.bootstrap.service import Bootstrap
from swarm.bootstrap.service import start as start_bootstrap
from swarm.directory import Announcement, State
from swarm.errors import Unreachable
from swarm.member import JoinConfig, Member, join, places
from swarm.transport import Buffer, Stream
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport
from swarm.transport.link import Link, connect
from swarm.transport.reach import Reach
from swarm.transport.relayed import RelayedTransport
from swarm.transport.sealed import SealedStream
from swarm.wire.messages import AnyMessage, Close

LOCAL = Libp2pConfig(host="127.0.0.1")


class Walled(Libp2pTransport):
    """Reaches nobody but those in `open_to` by itself."""

    open_to: frozenset[str] = frozenset()

    async def open(self, peer: str, protocol: str, addresses: Sequence[str] = ()) -> Stream:
        if peer not in self.open_to:
            raise Unreachable(peer, "is behind a router")
        return await super().open(peer, protocol, addresses)


@pytest.fixture
async def bootstrap(tmp_path: Path) -> AsyncIterator[Bootstrap]:
    folder = tmp_path / "bootstrap"
    folder.mkdir()
    async with asyncio.timeout(60):
        async with start_bootstrap(BootstrapConfig(folder, host="127.0.0.1")) as bootstrap:
            yield bootstrap


@pytest.fixture
def nobody_is_reached(bootstrap: Bootstrap, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bootstrap's connections do not come in at anybody's."""

    async def nowhere(*_: Any) -> tuple[str, ...]:
        return ()

    monkeypatch.setattr(relay_of(bootstrap).carrier, "dial_back", nowhere)


def relay_of(bootstrap: Bootstrap) -> RelayedTransport:
    transport = bootstrap.member.transport
    assert isinstance(transport, RelayedTransport)
    return transport


async def echo(stream: Stream) -> None:
    stream.admit()
    while True:
        await stream.send(*await stream.receive())


@pytest.fixture
async def pair(
    bootstrap: Bootstrap, nobody_is_reached: None
) -> AsyncIterator[tuple[RelayedTransport, RelayedTransport]]:
    """Two members that reach the bootstrap, and not each other."""
    entries = places(bootstrap.invite.addresses)
    async with AsyncExitStack() as stack:
        members = []
        for _ in range(2):
            carrier = await stack.enter_async_context(Walled.start(LOCAL))
            assert isinstance(carrier, Walled)
            carrier.open_to = frozenset({bootstrap.member.peer_id})
            members.append(
                await stack.enter_async_context(
                    RelayedTransport.start(carrier, bootstrap.member.group, entries)
                )
            )
        yield members[0], members[1]


async def test_frames_pass_both_ways(
    bootstrap: Bootstrap, pair: tuple[RelayedTransport, RelayedTransport]
) -> None:
    near, far = pair
    assert near.reach is far.reach is Reach.RELAYED
    assert far.addresses[-1].endswith(
        f"/p2p/{bootstrap.member.peer_id}/p2p-circuit/p2p/{far.peer_id}"
    )
    await far.serve("/echo", echo)
    stream = await near.open(far.peer_id, "/echo", far.addresses)
    assert isinstance(stream, SealedStream)
    assert stream.peer == far.peer_id
    stream.admit()
    assert relay_of(bootstrap).relay.num_circuits == 1
    for size in (0, 1200, 16_384, 65_536, 3_000_000):
        payload = bytes(range(256)) * (size // 256)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.send(b"header", payload))
            received = tasks.create_task(stream.receive())
        assert tuple(map(bytes, received.result())) == (b"header", payload)


async def test_members_link_and_notice_the_end(
    bootstrap: Bootstrap, pair: tuple[RelayedTransport, RelayedTransport]
) -> None:
    near, far = pair
    group = bootstrap.member.group
    got: asyncio.Queue[tuple[str, AnyMessage, int]] = asyncio.Queue()

    async def on_message(link: Link, message: AnyMessage, payload: Buffer) -> None:
        got.put_nowait((link.peer, message, len(payload)))

    async def handler(stream: Stream) -> None:
        await (await connect(stream, far.peer_id, group)).run(on_message)

    await far.serve("/link", handler)
    link = await connect(await near.open(far.peer_id, "/link", far.addresses), near.peer_id, group)
    running = asyncio.create_task(link.run(on_message))
    message = Close("a session of sixteen")
    link.post(message, bytes(1_000_000))
    assert await got.get() == (near.peer_id, message, 1_000_000)
    await far.carrier.aclose()
    with pytest.raises(Unreachable) as caught:
        await running
    assert caught.value.peer == far.peer_id
    while far.peer_id in relay_of(bootstrap).relay.reserved:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_whoever_does_not_read_makes_the_sender_wait(
    bootstrap: Bootstrap, pair: tuple[RelayedTransport, RelayedTransport]
) -> None:
    near, far = pair

    async def sleep(stream: Stream) -> None:
        await asyncio.Future()

    await far.serve("/sleep", sleep)
    stream = await near.open(far.peer_id, "/sleep", far.addresses)
    num_sent = 0

    async def pour() -> None:
        nonlocal num_sent
        while True:
            await stream.send(b"", bytes(1_000_000))
            num_sent += 1

    pouring = asyncio.create_task(pour())
    before = -1
    while before != num_sent:
        before = num_sent
        await asyncio.wait({pouring}, timeout=0.5)
    # What two hops of libp2p hold, and no more; the relay's process keeps a record.
    assert 0 < num_sent < 64
    assert not pouring.done()
    pouring.cancel()
    await asyncio.gather(pouring, return_exceptions=True)


def announcement(member: Member) -> Announcement:
    transport = member.transport
    return Announcement(
        member.peer_id,
        "name",
        "model",
        "a model",
        8,
        0,
        4,
        State.SERVING,
        addresses=transport.addresses,
        reach=transport.reach,
    )


def settings(folder: Path, *, asks: bool = False) -> JoinConfig:
    return JoinConfig(host="127.0.0.1", state_folder=folder, asks=asks)


async def test_a_member_that_can_be_dialled_relays(bootstrap: Bootstrap, tmp_path: Path) -> None:
    async with join(bootstrap.invite, settings(tmp_path)) as member:
        assert isinstance(member.transport, RelayedTransport)
        assert member.transport.reach is Reach.DIRECT
        assert member.transport.relay.willing
        assert member.transport.addresses == member.transport.carrier.addresses
    async with join(bootstrap.invite, settings(tmp_path, asks=True)) as client:
        assert client.transport.reach is Reach.UNKNOWN


async def test_hidden_members_join_and_find_each_other(
    bootstrap: Bootstrap, nobody_is_reached: None, tmp_path: Path
) -> None:
    async with (
        join(bootstrap.invite, settings(tmp_path / "one")) as one,
        join(bootstrap.invite, settings(tmp_path / "other", asks=True)) as other,
    ):
        await one.directory.announce(announcement(one))
        while not (found := await other.directory.find()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        (entry,) = found
        assert (entry.peer, entry.reach) == (one.peer_id, Reach.RELAYED)
        assert "/p2p-circuit/" in entry.addresses[-1]
        assert relay_of(bootstrap).relay.reserved == {one.peer_id}
        await one.transport.serve("/echo", echo)
        # Everything is on this machine, so the relay's way has to be asked for.
        through = [place for place in entry.addresses if "/p2p-circuit/" in place]
        assert isinstance(other.transport, RelayedTransport)
        relays = places(bootstrap.invite.addresses)
        stream = await other.transport._open_through(relays[0], one.peer_id, "/echo")
        assert through and stream.peer == one.peer_id

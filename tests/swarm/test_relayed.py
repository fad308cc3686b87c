"""Relaying over libp2p: everybody on this machine, behind walls that only tests can build."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from swarm.directory import Announcement, State
from swarm.errors import Unreachable
from swarm.member import JoinConfig, Member, join, places
from swarm.transport import Buffer, Stream
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport
from swarm.transport.link import Link, accept, connect
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
def nobody_is_reached(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bootstrap's connections do not come in at anybody's."""

    async def nowhere(*_: Any) -> tuple[str, ...]:
        return ()

    monkeypatch.setattr(home.carrier, "dial_back", nowhere)


async def echo(stream: Stream) -> None:
    stream.admit()
    while True:
        await stream.send(*await stream.receive())


@pytest.fixture
async def pair(
    home: Any, nobody_is_reached: None
) -> AsyncIterator[tuple[RelayedTransport, RelayedTransport]]:
    """Two members that reach the bootstrap, and not each other."""
    entries = places(home.invite().addresses)
    async with AsyncExitStack() as stack:
        members = []
        for _ in range(2):
            carrier = await stack.enter_async_context(Walled.start(LOCAL))
            assert isinstance(carrier, Walled)
            carrier.open_to = frozenset({home.peer_id})
            members.append(
                await stack.enter_async_context(
                    RelayedTransport.start(carrier, home.founder.admit(carrier.signer), entries)
                )
            )
        yield members[0], members[1]


async def test_frames_pass_both_ways(
    home: Any, pair: tuple[RelayedTransport, RelayedTransport]
) -> None:
    near, far = pair
    assert near.reach is far.reach is Reach.RELAYED
    assert far.addresses[-1].endswith(f"/p2p/{home.peer_id}/p2p-circuit/p2p/{far.peer_id}")
    await far.serve("/echo", echo)
    stream = await near.open(far.peer_id, "/echo", far.addresses)
    assert isinstance(stream, SealedStream)
    assert stream.peer == far.peer_id
    stream.admit()
    assert home.relay.relay.num_circuits == 1
    for size in (0, 1200, 16_384, 65_536, 3_000_000):
        payload = bytes(range(256)) * (size // 256)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.send(b"header", payload))
            received = tasks.create_task(stream.receive())
        assert tuple(map(bytes, received.result())) == (b"header", payload)


async def test_members_link_and_notice_the_end(
    home: Any, pair: tuple[RelayedTransport, RelayedTransport]
) -> None:
    near, far = pair
    got: asyncio.Queue[tuple[str, AnyMessage, int]] = asyncio.Queue()

    async def on_message(link: Link, message: AnyMessage, payload: Buffer) -> None:
        got.put_nowait((link.peer, message, len(payload)))

    async def handler(stream: Stream) -> None:
        await (await accept(stream, home.founder.admit(far.carrier.signer))).run(on_message)

    await far.serve("/link", handler)
    stream = await near.open(far.peer_id, "/link", far.addresses)
    link = await connect(stream, home.founder.admit(near.carrier.signer))
    running = asyncio.create_task(link.run(on_message))
    message = Close("a session of sixteen")
    link.post(message, bytes(1_000_000))
    assert await got.get() == (near.peer_id, message, 1_000_000)
    await far.carrier.aclose()
    with pytest.raises(Unreachable) as caught:
        await running
    assert caught.value.peer == far.peer_id
    while far.peer_id in home.relay.relay.reserved:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_whoever_does_not_read_makes_the_sender_wait(
    home: Any, pair: tuple[RelayedTransport, RelayedTransport]
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


async def test_a_member_that_can_be_dialled_relays(home: Any, tmp_path: Path) -> None:
    async with join(home.invite(), settings(tmp_path)) as member:
        assert isinstance(member.transport, RelayedTransport)
        assert member.transport.reach is Reach.DIRECT
        assert member.transport.relay.willing
        assert member.transport.addresses == member.transport.carrier.addresses
    async with join(home.invite(), settings(tmp_path, asks=True)) as client:
        assert client.transport.reach is Reach.UNKNOWN


async def test_hidden_members_join_and_find_each_other(
    home: Any, nobody_is_reached: None, tmp_path: Path
) -> None:
    async with (
        join(home.invite(), settings(tmp_path / "one")) as one,
        join(home.invite(), settings(tmp_path / "other", asks=True)) as other,
    ):
        await one.directory.announce(announcement(one))
        while not (found := await other.directory.find()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        (entry,) = found
        assert (entry.peer, entry.reach) == (one.peer_id, Reach.RELAYED)
        assert "/p2p-circuit/" in entry.addresses[-1]
        assert home.relay.relay.reserved == {one.peer_id}
        await one.transport.serve("/echo", echo)
        # Everything is on this machine, so the relay's way has to be asked for.
        through = [place for place in entry.addresses if "/p2p-circuit/" in place]
        assert isinstance(other.transport, RelayedTransport)
        relays = places(home.invite().addresses)
        stream = await other.transport._open_through(relays[0], one.peer_id, "/echo")
        assert through and stream.peer == one.peer_id

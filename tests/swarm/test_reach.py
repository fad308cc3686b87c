"""Whether others can dial us: asked over the twin, and by real connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from swarm import identity
from swarm.errors import ConfigError, Unreachable
from swarm.membership.founder import Founder
from swarm.membership.membership import Membership
from swarm.transport import Stream, dial_back
from swarm.transport.control import CONTROL, Door, Place
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport
from swarm.transport.link import LinkConfig
from swarm.transport.memory import Network
from swarm.transport.reach import Reach, judge
from swarm.transport.relayed import RelayedConfig, RelayedTransport

LOCAL = Libp2pConfig(host="127.0.0.1")
LINKS = LinkConfig(0.1, 0.6, 0.05, 0.2, handshake=2.0)


def test_one_who_cannot_reach_us_is_enough() -> None:
    assert judge([]) is Reach.UNKNOWN
    assert judge([()]) is judge([("x",), ()]) is Reach.RELAYED
    assert judge([("x",), ("y", "z")]) is Reach.DIRECT


class Town:
    """Public members that answer, on the twin."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack, self.network = stack, Network()
        self.places: list[Place] = []

    def admit(self, name: str) -> Membership:
        signer = self.network.signer
        return Founder(signer("group"), signer("authority")).admit(signer(name))

    async def join(self, name: str, **options: Any) -> RelayedTransport:
        carrier = self.network.transport(name)
        self.stack.push_async_callback(carrier.aclose)
        return await self.stack.enter_async_context(
            RelayedTransport.start(
                carrier,
                self.admit(name),
                self.places,
                RelayedConfig(**options),
                link_config=LINKS,
            )
        )

    async def public(self, name: str) -> RelayedTransport:
        member = await self.join(name, listens=False, always_relays=True)
        self.places.append(Place(name, (f"/memory/{name}",)))
        return member


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        yield Town(stack)


async def comes(member: RelayedTransport, reach: Reach) -> None:
    """Waits until a member is reached so."""
    while member.reach is not reach:  # noqa: ASYNC110
        await asyncio.sleep(0.1)


@pytest.mark.simulated_time
async def test_it_is_known_when_the_member_is_there(town: Town) -> None:
    await town.public("p")
    open_member = await town.join("open")
    town.network.hide("shut")
    shut = await town.join("shut")
    assert (open_member.reach, open_member.relays) == (Reach.DIRECT, ())
    assert (shut.reach, shut.relays) == (Reach.RELAYED, ("p",))
    assert open_member.relay.willing and not shut.relay.willing


@pytest.mark.simulated_time
async def test_a_network_that_changes_is_noticed(town: Town) -> None:
    await town.public("p")
    member = await town.join("m", look_interval=10.0)
    changes: list[tuple[Reach, int]] = []
    member.watch(lambda: changes.append((member.reach, len(member.addresses))))
    town.network.hide("m")
    await comes(member, Reach.RELAYED)
    while len(member.addresses) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    assert not member.relay.willing
    town.network.show("m")
    await comes(member, Reach.DIRECT)
    while member.relays:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    assert len(member.addresses) == 1
    assert member.relay.willing
    assert (Reach.RELAYED, 2) in changes and (Reach.DIRECT, 1) in changes


@pytest.mark.simulated_time
async def test_nobody_to_ask_and_then_somebody(town: Town) -> None:
    town.places.append(Place("later", ("/memory/later",)))
    member = await town.join("m")
    assert member.reach is Reach.UNKNOWN
    town.places.clear()
    await town.public("later")
    await comes(member, Reach.DIRECT)


@pytest.mark.simulated_time
async def test_one_that_does_not_answer_holds_nobody_up(town: Town) -> None:
    await town.public("frozen")
    await town.public("p")
    town.network.freeze("frozen")
    clock = asyncio.get_running_loop().time
    started = clock()
    member = await town.join("m")
    assert member.reach is Reach.DIRECT
    assert clock() - started <= 1.0
    town.network.thaw("frozen")


@pytest.mark.simulated_time
async def test_one_in_our_own_house_does_not_decide(town: Town) -> None:
    near, _ = await town.public("near"), await town.public("far")
    town.network.hide("m")

    async def reaches(peer: str, addresses: Any) -> tuple[str, ...]:
        return tuple(addresses)

    near.carrier.dial_back = reaches  # type: ignore[method-assign]
    member = await town.join("m")
    assert member.reach is Reach.RELAYED


@pytest.mark.simulated_time
async def test_one_that_only_asks_looks_at_nothing(town: Town) -> None:
    relay = await town.public("p")
    town.network.hide("m")
    member = await town.join("m", listens=False)
    await asyncio.sleep(100)
    assert (member.reach, member.relays, relay.relay.reserved) == (Reach.UNKNOWN, (), frozenset())


@pytest.mark.simulated_time
async def test_asking_again_too_soon_ends_the_link(town: Town) -> None:
    from swarm.wire.relaying import Probe

    relay = await town.public("p")
    blocked = asyncio.Event()

    async def stuck(*_: Any) -> tuple[str, ...]:
        await blocked.wait()
        return ()

    relay.carrier.dial_back = stuck  # type: ignore[method-assign]
    carrier = town.network.transport("m")
    with pytest.raises(Unreachable):
        async with Door(carrier, town.admit("m"), LINKS).control(town.places[0]) as control:
            control._link.post(Probe(()))
            control._link.post(Probe(()))
            await asyncio.Future()
    await carrier.aclose()


@pytest.mark.parametrize(
    "changes",
    [{"max_relays": 0}, {"head_start": -1}, {"patience": 0}, {"look_interval": 0}],
)
def test_settings_that_cannot_work(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RelayedConfig(**changes)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Libp2pTransport, Libp2pTransport]]:
    async with Libp2pTransport.start(LOCAL) as near, Libp2pTransport.start(LOCAL) as far:
        yield near, far


async def keep(stream: Stream) -> None:
    await stream.receive()


Libp2pPair = tuple[Libp2pTransport, Libp2pTransport]


async def test_a_new_connection_reaches_a_member_that_listens(pair: Libp2pPair) -> None:
    near, far = pair
    await far.serve(CONTROL, keep)
    await near.open(far.peer_id, CONTROL, far.addresses)
    assert await far.dial_back(near.peer_id, near.addresses) == near.addresses
    # Behind a router that forwards the port, a member does not know its address outside.
    unknown = f"/ip4/192.168.7.7/tcp/{near.port}/p2p/{near.peer_id}"
    assert await far.dial_back(near.peer_id, (unknown,)) == near.addresses
    by_name = (f"/dns4/localhost/tcp/{near.port}/p2p/{near.peer_id}",)
    assert by_name[0] in await far.dial_back(near.peer_id, by_name)


async def test_somebody_else_at_that_place_is_not_the_member(pair: Libp2pPair) -> None:
    near, far = pair
    await far.serve(CONTROL, keep)
    await near.open(far.peer_id, CONTROL, far.addresses)
    assert await far.dial_back(near.peer_id, far.addresses) == ()


async def test_one_that_is_not_connected_is_not_tried(pair: Libp2pPair) -> None:
    near, far = pair
    with pytest.raises(Unreachable, match="not connected"):
        await far.dial_back(near.peer_id, near.addresses)


@pytest.fixture
async def listener() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that is no libp2p, and what connections to it have brought."""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(100))
        writer.write(b"220 mail.example.org ESMTP ready and waiting, as ever\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], got


async def test_what_is_no_libp2p_is_not_the_member(
    listener: tuple[int, list[bytes]], tmp_path: Any
) -> None:
    port, got = listener
    peer = identity.create(tmp_path / "identity").peer_id
    place = f"/ip4/127.0.0.1/tcp/{port}"
    assert await dial_back.reached(peer, [place], [place]) == ()
    assert got


async def test_nobody_is_dialled_but_the_one_who_asks(
    listener: tuple[int, list[bytes]], tmp_path: Any
) -> None:
    port, got = listener
    peer = identity.create(tmp_path / "identity").peer_id
    # The asker comes from somewhere else: the listener is a third party.
    seen = ["/ip4/127.9.9.9/tcp/4001"]
    asked = [f"/ip4/127.0.0.1/tcp/{port}", f"/dns/localhost/tcp/{port}"]
    assert await dial_back.reached(peer, seen, asked) == ()
    assert not got


@pytest.mark.parametrize(
    "address",
    [
        "",
        "/",
        "/ip4",
        "/ip4/nonsense/tcp/1",
        "/ip4/127.0.0.1/tcp/0",
        "/ip4/127.0.0.1/tcp/99999",
        "/ip4/127.0.0.1/udp/1/quic",
        "/ip4/127.0.0.1/tcp/1/ws",
        "/dns/\0/tcp/1",
        "/dns/" + "x" * 300 + "/tcp/1",
    ],
)
async def test_addresses_that_are_none_are_passed_over(address: str) -> None:
    assert await dial_back.reached("peer", ["/ip4/127.9.9.9/tcp/1"], [address, address]) == ()


async def test_a_silent_place_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_back, "_PATIENCE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}"
        assert await dial_back.reached("peer", [place], [place]) == ()

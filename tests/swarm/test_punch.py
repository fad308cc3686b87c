"""Direct connections that a relay has arranged, over the twin: that they come about, and if not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from swarm.errors import ConfigError, Misbehaved, PeerError
from swarm.membership.founder import Founder
from swarm.transport import Stream, punch
from swarm.transport.control import Place
from swarm.transport.memory import MemoryTransport, Network
from swarm.transport.memory_stream import MemoryStream
from swarm.transport.reach import Reach
from swarm.transport.relayed import RelayedConfig, RelayedTransport
from swarm.transport.sealed import SealedStream
from swarm.wire.messages import encode
from swarm.wire.relaying import Connect, Knock

pytestmark = pytest.mark.simulated_time

ECHO = "/homeswarm/echo/1"
PATIENCE = RelayedConfig().punch_patience


class Town:
    """A relay, and members around it."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack = stack
        self.network = Network()
        self.members: dict[str, RelayedTransport] = {}

    async def member(self, name: str, **options: Any) -> RelayedTransport:
        carrier = self.network.transport(name)
        self.stack.push_async_callback(carrier.aclose)
        entries = [Place("relay", ("/memory/relay",))] if name != "relay" else []
        signer = self.network.signer
        membership = Founder(signer("group"), signer("authority")).admit(carrier.signer)
        started = RelayedTransport.start(carrier, membership, entries, RelayedConfig(**options))
        member = self.members[name] = await self.stack.enter_async_context(started)
        await member.serve(ECHO, echo)
        return member

    async def hidden(self, name: str, *, lets_in: bool = True, **options: Any) -> RelayedTransport:
        self.network.hide(name, lets_in=lets_in)
        return await self.member(name, **options)

    async def open(self, near: str, far: str) -> Stream:
        stream = await self.members[near].open(far, ECHO, self.members[far].addresses)
        stream.admit()
        await stream.send(b"header", b"payload")
        assert await stream.receive() == (b"header", b"payload")
        return stream

    @property
    def passing(self) -> int:
        return self.members["relay"].relay.num_circuits


async def echo(stream: Stream) -> None:
    stream.admit()
    while True:
        await stream.send(*await stream.receive())


async def settled(town: Town) -> None:
    """Circuits that were given up have ended."""
    async with asyncio.timeout(5):
        while town.passing:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def clock() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        town = Town(stack)
        await town.member("relay", listens=False, always_relays=True)
        yield town
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, left


async def test_two_hidden_members_connect(town: Town) -> None:
    for name in ("a", "b"):
        assert (await town.hidden(name)).reach is Reach.RELAYED
    before = clock()
    assert isinstance(await town.open("a", "b"), MemoryStream)
    assert clock() - before < 1
    await settled(town)
    # The connection serves both ways, and no relay is asked any more.
    before = clock()
    assert isinstance(await town.open("b", "a"), MemoryStream)
    assert clock() - before < 0.1


async def test_whoever_only_asks_connects_too(town: Town) -> None:
    await town.hidden("b")
    await town.hidden("client", listens=False)
    assert isinstance(await town.open("client", "b"), MemoryStream)


async def test_a_member_that_is_reachable_is_dialled(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own port would take the knock for a dial."""
    await town.hidden("b")
    assert (await town.member("public")).reach is Reach.DIRECT

    async def never(*_: Any) -> None:
        pytest.fail("knocked")

    monkeypatch.setattr(MemoryTransport, "let_in", never)
    assert isinstance(await town.open("public", "b"), MemoryStream)


async def test_a_relay_that_sees_nothing_of_use_carries_everything(town: Town) -> None:
    for name, lets_in in (("a", True), ("b", False)):
        await town.hidden(name, lets_in=lets_in)
    before = clock()
    assert isinstance(await town.open("a", "b"), SealedStream)
    assert clock() - before < 1
    # The other way round it is b that is told so.
    assert isinstance(await town.open("b", "a"), SealedStream)
    assert town.passing == 2


async def test_what_does_not_come_about_is_relayed(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        await town.hidden(name)

    async def in_vain(*_: Any) -> None:
        pass

    with monkeypatch.context() as patched:
        patched.setattr(MemoryTransport, "let_in", in_vain)
        before = clock()
        assert isinstance(await town.open("a", "b"), SealedStream)
        assert PATIENCE < clock() - before < PATIENCE + 1
    # It costs this once; later the router may be another one.
    before = clock()
    assert isinstance(await town.open("a", "b"), SealedStream)
    assert clock() - before < 1
    await asyncio.sleep(150)
    assert isinstance(await town.open("a", "b"), MemoryStream)


async def test_nobody_has_to_try(town: Town) -> None:
    await town.hidden("a", punch_patience=0)
    await town.hidden("b")
    assert isinstance(await town.open("a", "b"), SealedStream)
    assert isinstance(await town.open("b", "a"), SealedStream)
    with pytest.raises(ConfigError, match="punch_patience"):
        RelayedConfig(punch_patience=8.0)


async def test_both_at_once_connect_once(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        await town.hidden(name)
    dialled: list[str] = []
    connect = MemoryTransport.connect

    async def counted(self: MemoryTransport, peer: str, addresses: Sequence[str] = ()) -> None:
        dialled.append(peer)
        await connect(self, peer, addresses)

    monkeypatch.setattr(MemoryTransport, "connect", counted)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(town.open("a", "b"))
        tasks.create_task(town.open("b", "a"))
        tasks.create_task(town.open("a", "b"))
    assert len(dialled) == 1
    assert isinstance(await town.open("b", "a"), MemoryStream)


async def test_a_connection_that_has_died_is_made_up_for(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libp2p believes in it for most of a minute."""
    for name in ("a", "b"):
        await town.hidden(name)
    await (await town.open("a", "b")).aclose()
    open_ = MemoryTransport.open

    async def dead(
        self: MemoryTransport, peer: str, protocol: str, addresses: Sequence[str] = ()
    ) -> Stream:
        if (self.peer_id, peer) == ("a", "b"):
            await asyncio.sleep(60)
        return await open_(self, peer, protocol, addresses)

    monkeypatch.setattr(MemoryTransport, "open", dead)
    before = clock()
    assert isinstance(await town.open("a", "b"), SealedStream)
    assert clock() - before < 2 * PATIENCE


async def test_only_a_knock_opens_the_door(town: Town) -> None:
    await town.hidden("a")
    stream = _Said(encode(Connect("a")))
    async with asyncio.TaskGroup() as tasks:
        door = punch.Punch(town.members["a"].carrier, tasks, PATIENCE)
        with pytest.raises(Misbehaved, match="before it knocked"):
            await door.answer(stream, ["/memory/b"])
        with pytest.raises(PeerError, match="nowhere"):
            await door.answer(_Said(encode(Knock(False))), ["/ip4/192.168.1.7/tcp/4001"])


class _Said:
    """A stream on which one thing was said."""

    peer = "b"
    arrived_bytes = 0

    def __init__(self, header: bytes) -> None:
        self._header = header

    def admit(self, payload: int | None = None) -> None:
        pytest.fail("nothing long is said here")

    async def receive(self) -> tuple[bytes, bytes]:
        return self._header, b""

    async def send(self, header: bytes, payload: Any) -> None:
        pytest.fail("answered")

    def offer(self, header: bytes, payload: Any) -> bool:
        pytest.fail("answered")

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize(
    ("seen", "used"),
    [
        ("/ip4/8.0.1.2/tcp/4001", True),
        ("/ip6/2001:4860::1/tcp/4001", True),
        ("/ip4/127.0.0.1/tcp/4001", False),
        ("/ip4/192.168.1.7/tcp/4001", False),
        ("/ip4/100.64.0.7/tcp/4001", False),
        ("/ip4/nonsense/tcp/4001", False),
    ],
)
def test_places_that_mean_the_same_to_everybody(seen: str, used: bool) -> None:
    assert punch.places([seen]) == ((seen,) if used else ())


def test_who_can_be_dialled() -> None:
    public, private = ["/ip4/8.0.1.2/tcp/1"], ["/ip4/192.168.1.7/tcp/1", "/ip4/127.0.0.1/tcp/1"]
    assert punch.reachable(Reach.DIRECT, private)
    assert not punch.reachable(Reach.RELAYED, public)
    assert punch.reachable(Reach.UNKNOWN, [*private, *public])
    assert not punch.reachable(Reach.UNKNOWN, private)

"""Floods on the links of the twin, in simulated time: whoever sends them pays, nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from swarm.background import background
from swarm.errors import Misbehaved, PeerError, Silent, Unreachable
from swarm.membership.founder import Founder
from swarm.membership.membership import Membership
from swarm.transport import Buffer
from swarm.transport.conduct import ConductLimits
from swarm.transport.gate import GateLimits
from swarm.transport.link import Link, LinkConfig, connect
from swarm.transport.memory import MemoryTransport, Network
from swarm.transport.neighbours import PROTOCOL, Neighbours
from swarm.wire.linking import Hello, Ping
from swarm.wire.messages import AnyMessage, Close, Meet, encode

pytestmark = pytest.mark.simulated_time

SESSION = "s" * 16
KB = 1024
CONDUCT = ConductLimits(message_rate=100, message_burst=200, stall=10, least_rate=1000)
CONFIG = LinkConfig(handshake=2.0, backlog=400 * KB, backlogs=600 * KB, links=3, conduct=CONDUCT)
GATE = GateLimits(strangers=8, stranger_streams=3, member_streams=6, streams=16)


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Host:
    """A member that notes who sends it what, and whom it has lost."""

    transport: MemoryTransport
    membership: Membership
    tasks: asyncio.TaskGroup
    came: list[tuple[str, float]] = field(default_factory=list)
    lost: dict[str, PeerError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.neighbours = Neighbours(
            self.transport, self.membership, self.tasks, self._on_message, self._on_lost, CONFIG
        )

    async def _on_message(self, link: Link, message: AnyMessage, payload: Buffer) -> None:
        self.came.append((link.peer, now()))

    def _on_lost(self, link: Link, error: PeerError) -> None:
        self.lost[link.peer] = error

    def link_from(self, peer: str) -> Link:
        """The link that `peer` has opened."""
        return next(link for link in self.neighbours._links if link.peer == peer)


@dataclass
class Stuck:
    """A stream whose other side takes `rate` bytes per second of what we send."""

    stream: Any
    rate: float
    began: float = field(default_factory=now)
    given: int = 0

    @property
    def left_bytes(self) -> int:
        return min(self.given, int(self.rate * (now() - self.began)))

    def offer(self, header: bytes, payload: Buffer) -> bool:
        return False

    async def send(self, header: bytes, payload: Buffer) -> None:
        self.given += len(header) + len(payload)
        await asyncio.sleep(self.began + self.given / self.rate - now())
        await self.stream.send(header, payload)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@pytest.fixture
async def network() -> Network:
    return Network()


@pytest.fixture
async def host(network: Network) -> AsyncIterator[Host]:
    async with background() as tasks:
        transport = network.transport("host", GATE)
        host = Host(transport, membership(network, "host"), tasks)
        await host.transport.serve(PROTOCOL, host.neighbours.accept)
        yield host
        await host.neighbours.aclose()
        await host.transport.aclose()


def membership(network: Network, name: str) -> Membership:
    """Of one member of the group."""
    founder = Founder(network.signer("group"), network.signer("authority"))
    return founder.admit(network.signer(name))


async def ignore(*_: object) -> None:
    """Takes no notice."""


async def member(network: Network, host: Host, name: str, config: LinkConfig | None = None) -> Link:
    """A link of another member to the host."""
    transport = network.member(name) or network.transport(name)
    stream = await transport.open("host", PROTOCOL)
    link = await connect(stream, membership(network, name), config or CONFIG)
    host.tasks.create_task(ended(link))
    await asyncio.sleep(0.01)  # The host, too, has read the last word of the greeting.
    return link


async def ended(link: Link) -> None:
    with pytest.raises(PeerError):
        await link.run(ignore)


async def alive(link: Link) -> None:
    """Says that it lives, as long as it may."""
    with pytest.raises(Unreachable):
        while True:
            await link._stream.send(encode(Ping(0)), b"")
            await asyncio.sleep(0.3)


async def bystander(network: Network, host: Host, seconds: float) -> None:
    """Another member says something each tenth of a second; all of it comes at once."""
    link = await member(network, host, "bystander")
    begin = now()
    for number in range(int(10 * seconds)):
        await asyncio.sleep(begin + number / 10 - now())
        link.post(Close(SESSION))
    await asyncio.sleep(0.05)
    times = [at - begin for peer, at in host.came if peer == "bystander"]
    assert times == pytest.approx([number / 10 for number in range(int(10 * seconds))], abs=0.01)
    assert not link.closed and "bystander" not in host.lost


async def test_strangers_who_say_nothing_keep_nobody_out(network: Network, host: Host) -> None:
    """Each opens as many streams as it gets; members come in all the while."""
    streams = []
    for number in range(20):
        stranger = network.transport(f"stranger-{number}")
        for _ in range(5):
            try:
                streams.append(await stranger.open("host", PROTOCOL))
            except Unreachable:
                break
    assert host.transport.gate.num_strangers == 8
    assert host.transport.num_streams == 8, "those that had to go are closed"
    await bystander(network, host, 3)
    assert host.transport.gate.num_strangers == 0, "a greeting does not take for ever"


async def test_one_member_has_few_links(network: Network, host: Host) -> None:
    links = [await member(network, host, "hog") for _ in range(3)]
    with pytest.raises(PeerError):
        await (await member(network, host, "hog"))._stream.receive()
    assert not any(link.closed for link in links)
    await bystander(network, host, 1)


@pytest.mark.parametrize("message", [Meet(()), Ping(1)], ids=["requests", "heartbeats"])
async def test_who_floods_is_read_slowly(network: Network, host: Host, message: AnyMessage) -> None:
    hog = await member(network, host, "hog")
    handled = 0

    async def flood() -> None:
        nonlocal handled
        for _ in range(100):
            for _ in range(50):
                await hog._stream.send(encode(message), b"")
            await asyncio.sleep(0.02)

    flooding = host.tasks.create_task(flood())
    await bystander(network, host, 3)
    handled = host.link_from("hog").traffic.received_frames
    cost = 0.25 if isinstance(message, Ping) else 1
    assert 300 <= handled * cost <= 520, "a burst of 200, and then 100 a second"
    flooding.cancel()


async def test_who_pays_for_what_brings_nothing_is_read_later(network: Network, host: Host) -> None:
    hog = await member(network, host, "hog")
    host.link_from("hog").charge(350)
    began = now()
    for _ in range(2):
        hog.post(Close(SESSION))
    await bystander(network, host, 3)
    first, second = (at for peer, at in host.came if peer == "hog")
    assert first == pytest.approx(began, abs=0.1) and second == pytest.approx(began + 1.5, abs=0.2)


async def test_a_slow_reader_is_cut_off_and_a_slow_line_is_not(
    network: Network, host: Host
) -> None:
    # Who hears nothing for so long would go by itself.
    patient = LinkConfig(patience=1000.0)
    for name, rate in (("trickle", 50.0), ("slow", 4000.0)):
        far = await member(network, host, name, patient if name == "trickle" else CONFIG)
        link = host.link_from(name)
        if name == "trickle":
            host.tasks.create_task(alive(far))
        link._stream = Stuck(link._stream, rate)  # type: ignore[assignment]
        for _ in range(30):
            link.post(Close(SESSION), bytes(5000))
    await bystander(network, host, 15)
    assert isinstance(host.lost["trickle"], Silent) and "slow" not in host.lost
    assert "reads too slowly" in str(host.lost["trickle"])
    assert host.neighbours._backlogs.of(host.link_from("slow")) == host.neighbours._backlogs.held
    await asyncio.sleep(30)
    assert host.neighbours._backlogs.held == 0 and "slow" not in host.lost


async def test_too_much_for_all_ends_the_link_on_which_most_waits(
    network: Network, host: Host
) -> None:
    for name in ("hog", "modest", "late"):
        await member(network, host, name)
        link = host.link_from(name)
        link._stream = Stuck(link._stream, 2000.0)  # type: ignore[assignment]
    host.link_from("hog").post(Close(SESSION), bytes(350 * KB))
    host.link_from("modest").post(Close(SESSION), bytes(150 * KB))
    assert not host.lost
    host.link_from("late").post(Close(SESSION), bytes(120 * KB))
    await bystander(network, host, 2)
    assert list(host.lost) == ["hog"] and "reads too slowly" in str(host.lost["hog"])
    assert 0 < host.neighbours._backlogs.held < 300 * KB


async def test_too_much_for_one_ends_that_link(network: Network, host: Host) -> None:
    await member(network, host, "hog")
    link = host.link_from("hog")
    link._stream = Stuck(link._stream, 2000.0)  # type: ignore[assignment]
    for _ in range(3):
        link.post(Close(SESSION), bytes(150 * KB))
    with pytest.raises(Unreachable):
        link.post(Close(SESSION))
    await bystander(network, host, 1)
    assert isinstance(host.lost["hog"], Silent) and host.neighbours._backlogs.held == 0


async def test_who_has_much_to_send_can_wait_for_room(network: Network, host: Host) -> None:
    await member(network, host, "heir")
    link = host.link_from("heir")
    link._config = LinkConfig(backlog=1 << 30)
    link.backlogs._total = 1 << 30
    link._stream = Stuck(link._stream, 1e6)  # type: ignore[assignment]
    most = 0
    for _ in range(30):
        link.post(Close(SESSION), bytes(1 << 20))
        await link.room()
        most = max(most, link._outbox_bytes)
    assert now() > 20 and most <= 8 << 20
    link.post(Close(SESSION), bytes(9 << 20))
    waiting = asyncio.ensure_future(link.room())
    await asyncio.sleep(0.1)
    await link.aclose()
    await waiting


async def test_a_second_greeting_ends_the_link(network: Network, host: Host) -> None:
    hog = await member(network, host, "hog")
    await hog._stream.send(encode(Hello(b"")), b"")
    await bystander(network, host, 1)
    assert isinstance(host.lost["hog"], Misbehaved)


async def test_who_is_no_member_any_more_counts_as_a_stranger(network: Network, host: Host) -> None:
    former = await member(network, host, "former")
    assert host.transport.gate.knows("former")
    await former.aclose()
    other = Founder(network.signer("another group"), network.signer("another authority"))
    stream = await network.member("former").open("host", PROTOCOL)  # type: ignore[union-attr]
    with pytest.raises(PeerError):
        await connect(stream, other.admit(network.signer("former")), CONFIG)
    await asyncio.sleep(0.01)
    assert not host.transport.gate.knows("former")

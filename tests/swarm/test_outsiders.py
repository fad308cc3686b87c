"""Floods over real libp2p, by outsiders and by a member: those who are there notice nothing."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from swarm import identity
from swarm.background import background
from swarm.errors import PeerError, Silent, Unreachable
from swarm.membership.founder import Founder
from swarm.transport import Buffer, Stream
from swarm.transport.conduct import ConductLimits
from swarm.transport.gate import GateLimits
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport
from swarm.transport.link import Link, LinkConfig, connect
from swarm.transport.neighbours import PROTOCOL, Neighbours
from swarm.wire.frames import encode_prefix
from swarm.wire.linking import Hello, Ping
from swarm.wire.messages import AnyMessage, Close, Meet, encode

HANGING = 60.0
"""Seconds: what takes longer hangs, however busy the machine is."""

LOCAL = Libp2pConfig(host="127.0.0.1")
GATE = GateLimits(strangers=8, stranger_streams=4, member_streams=8, streams=32, idle_strangers=1)
CLOSE = Close("s" * 16)
PACE = 0.02
"""Seconds between two messages of a bystander, as of tokens."""

LATE = 1.0
"""Seconds that most of these may not be late: this machine is busy, and does the flooding too."""

PATIENT = LinkConfig(0.1, 30.0, 0.05, 0.4)
"""For those who live, on a machine where any process may stand still for seconds."""

WAKEFUL = LinkConfig(0.1, 0.6, 0.05, 0.4)
STRICT = LinkConfig(0.1, 30.0, 0.05, 0.4, conduct=ConductLimits(stall=2.0))
"""For those who are to be cut off: who is silent, and who is slow."""


class Host:
    """A member that answers each message with the same one."""

    def __init__(
        self,
        transport: Libp2pTransport,
        founder: Founder,
        tasks: asyncio.TaskGroup,
        config: LinkConfig,
    ) -> None:
        self.transport, self.founder = transport, founder
        self.lost: dict[str, PeerError] = {}
        self.neighbours = Neighbours(
            transport,
            founder.admit(transport.signer),
            tasks,
            self._answer,
            lambda link, error: self.lost.update({link.peer: error}),
            config,
        )

    async def _answer(self, link: Link, message: AnyMessage, payload: Buffer) -> None:
        if message == CLOSE:
            link.post(message)


@pytest.fixture
def founder(tmp_path: Path) -> Founder:
    """A group of real keys."""
    keys = (identity.create(tmp_path / name) for name in ("group", "authority"))
    return Founder(*keys)


@pytest.fixture
async def host(
    founder: Founder, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Host]:
    """Patient with its links, unless a test asks for something else."""
    monkeypatch.setattr("swarm.transport.strangers._LOOK", 0.1)
    config = Libp2pConfig(host="127.0.0.1", gate=GATE)
    async with Libp2pTransport.start(config) as transport, background() as tasks:
        host = Host(transport, founder, tasks, getattr(request, "param", PATIENT))
        await transport.serve(PROTOCOL, host.neighbours.accept)
        yield host
        await host.neighbours.aclose()


@pytest.fixture
async def member() -> AsyncIterator[Libp2pTransport]:
    async with Libp2pTransport.start(LOCAL) as transport:
        yield transport


@pytest.fixture
async def outsider() -> AsyncIterator[Libp2pTransport]:
    async with Libp2pTransport.start(LOCAL) as transport:
        yield transport


async def link_to(host: Host, transport: Libp2pTransport) -> Link:
    stream = await transport.open(host.transport.peer_id, PROTOCOL, host.transport.addresses)
    return await connect(stream, host.founder.admit(transport.signer), PATIENT)


async def lateness(host: Host, transport: Libp2pTransport, count: int = 60) -> list[float]:
    """Seconds that a member's messages take there and back, one each `PACE`."""
    link, clock = await link_to(host, transport), asyncio.get_running_loop().time
    answers: asyncio.Queue[float] = asyncio.Queue()

    async def note(*_: object) -> None:
        answers.put_nowait(clock())

    taken = []
    async with background() as tasks:
        tasks.create_task(link.run(note))
        for _ in range(count):
            sent = clock()
            link.post(CLOSE)
            taken.append(await asyncio.wait_for(answers.get(), HANGING) - sent)
            await asyncio.sleep(PACE)
    return taken


async def test_an_outsider_with_many_streams_changes_nothing_for_members(
    host: Host, member: Libp2pTransport, outsider: Libp2pTransport
) -> None:
    """It opens streams as fast as it can: silent ones, half a header, another's certificate."""
    num_files = psutil.Process().num_fds()
    theirs: list[asyncio.StreamWriter] = []
    begun = encode_prefix(100, 0) + b"half of a header"
    lie = encode(Hello(host.founder.certify(host.transport.peer_id)))
    sayings = [b"", begun, encode_prefix(len(lie), 0) + lie]
    num_opened = 0

    async def flood() -> None:
        nonlocal num_opened
        await outsider.connect(host.transport.peer_id, host.transport.addresses)
        while True:
            with suppress(Unreachable, OSError):
                _, writer = await outsider.daemon.open(host.transport.peer_id, PROTOCOL)
                writer.write(sayings[num_opened % 3])
                theirs.append(writer)
                num_opened += 1
            if len(theirs) > 40:
                theirs.pop(0).close()

    async with background() as tasks:
        tasks.create_task(flood())
        taken = await lateness(host, member)
        assert host.transport.gate.num_strangers <= GATE.stranger_streams
    assert num_opened > 40 and host.transport.gate.num_refused > 20
    assert statistics.median(taken) < LATE and not isinstance(host.lost.get(member.peer_id), Silent)
    for writer in theirs:
        writer.close()
    async with asyncio.timeout(HANGING):
        while psutil.Process().num_fds() > num_files + 8:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_strangers_who_only_connect_are_disconnected_and_members_are_not(
    host: Host, member: Libp2pTransport, outsider: Libp2pTransport
) -> None:
    link = await link_to(host, member)
    async with background() as tasks, asyncio.timeout(HANGING):
        running = tasks.create_task(link.run(host._answer))
        async with Libp2pTransport.start(LOCAL) as second, Libp2pTransport.start(LOCAL) as third:
            host.transport.strangers.vouch(lambda: [third.peer_id])
            for stranger in (third, outsider, second):
                await stranger.connect(host.transport.peer_id, host.transport.addresses)
            members, peers = {member.peer_id, third.peer_id}, host.transport.daemon.peers
            while len(connected := set(await peers())) > 3:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            assert members < connected, "one stranger may stay, and one had to go"
        assert not running.done() and not host.lost


async def test_a_member_that_floods_is_read_slowly_and_others_are_not(
    host: Host, member: Libp2pTransport, outsider: Libp2pTransport
) -> None:
    """It is of the group: all that keeps it from more is what it may ask for."""
    hostile = await link_to(host, outsider)
    frame = encode(Meet(()))
    num_sent = 0

    async def flood() -> None:
        nonlocal num_sent
        with suppress(PeerError):
            while True:
                await hostile._stream.send(frame, b"")
                num_sent += 1

    async with background() as tasks:
        clock = asyncio.get_running_loop().time
        begun = clock()
        flooding = tasks.create_task(flood())
        taken = await lateness(host, member)
        links = [link for link in host.neighbours._links if link.peer == outsider.peer_id]
        limits = PATIENT.conduct
        most = limits.message_burst + limits.message_rate * (clock() - begun) + 100
        assert all(link.traffic.received_frames < most for link in links)
        flooding.cancel()
        await hostile.aclose()
    assert num_sent > 10_000, "the rest waits at the sender"
    assert statistics.median(taken) < LATE


async def test_one_member_opens_so_many_streams_and_no_more(
    host: Host, member: Libp2pTransport, outsider: Libp2pTransport
) -> None:
    await link_to(host, outsider)
    streams: list[Stream] = []
    for _ in range(30):
        peer = host.transport.peer_id
        streams.append(await outsider.open(peer, PROTOCOL, host.transport.addresses))
    async with asyncio.timeout(HANGING):
        while host.transport.gate.num_refused < 23:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert host.transport.gate.num_refused == 23
    assert statistics.median(await lateness(host, member, 5)) < LATE


@pytest.mark.parametrize(
    ("host", "begun", "why"),
    [
        (WAKEFUL, encode_prefix(0, 0)[:5], "silent"),
        (WAKEFUL, encode_prefix(100, 0) + b"half of a header", "silent"),
        (STRICT, encode_prefix(1, 10_000_000) + b"h", "writes too slowly"),
    ],
    indirect=["host"],
    ids=["prefix", "header", "payload"],
)
async def test_a_member_that_never_ends_a_frame_is_cut_off(
    host: Host, member: Libp2pTransport, begun: bytes, why: str
) -> None:
    """Though something comes of it now and then."""
    link = await link_to(host, member)
    writer = link._stream._writer  # type: ignore[attr-defined]
    writer.write(begun)
    async with asyncio.timeout(HANGING):
        while member.peer_id not in host.lost:
            await asyncio.sleep(0.1)
            if len(begun) > 12:
                writer.write(b"x")
    error = host.lost[member.peer_id]
    assert isinstance(error, Silent) and why in str(error)


@pytest.mark.parametrize("host", [STRICT], indirect=True)
async def test_a_member_that_does_not_read_is_cut_off(host: Host, member: Libp2pTransport) -> None:
    """Though it says again and again that it lives."""
    link = await link_to(host, member)
    async with asyncio.timeout(HANGING):
        while not host.neighbours._links:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        (ours,) = host.neighbours._links
        for _ in range(40):
            ours.post(CLOSE, bytes(1 << 20))
        while member.peer_id not in host.lost:
            with suppress(Unreachable):
                await link._stream.send(encode(Ping(0)), b"")
            await asyncio.sleep(0.1)
    error = host.lost[member.peer_id]
    assert isinstance(error, Silent) and "reads too slowly" in str(error)
    assert host.neighbours._backlogs.held == 0

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from swarm.background import background
from swarm.errors import Misbehaved, PeerError, Unreachable
from swarm.membership.founder import Founder
from swarm.transport import Buffer
from swarm.transport.link import Link, LinkConfig
from swarm.transport.memory import Condition, MemoryTransport, Network
from swarm.transport.neighbours import PROTOCOL, Neighbours
from swarm.wire.messages import AnyMessage, Close

pytestmark = pytest.mark.simulated_time

CONFIG = LinkConfig(0.1, 0.5, 0.05, 0.3, handshake=1.0)
SESSION = "s" * 16


class Member:
    """A member that notes what its neighbours bring."""

    def __init__(self, network: Network, name: str, tasks: asyncio.TaskGroup, group: str) -> None:
        self.transport: MemoryTransport = network.transport(name)
        founder = Founder(network.signer(group), network.signer(f"{group}'s authority"))
        self.membership = founder.admit(self.transport.signer)
        self.messages: asyncio.Queue[tuple[str, AnyMessage, Buffer]] = asyncio.Queue()
        self.lost: asyncio.Queue[tuple[str, PeerError]] = asyncio.Queue()
        self.fault: Exception | None = None
        self.neighbours = Neighbours(
            self.transport, self.membership, tasks, self._on_message, self._on_lost, CONFIG
        )

    async def _on_message(self, link: Link, message: AnyMessage, payload: Buffer) -> None:
        if self.fault is not None:
            raise self.fault
        self.messages.put_nowait((link.peer, message, payload))

    def _on_lost(self, link: Link, error: PeerError) -> None:
        self.lost.put_nowait((link.peer, error))


Make = Callable[..., object]


@pytest.fixture
async def network() -> Network:
    return Network()


@pytest.fixture
async def make(network: Network) -> AsyncIterator[Make]:
    members: list[Member] = []
    async with background() as tasks:

        async def one(name: str, group: str = "group") -> Member:
            member = Member(network, name, tasks, group)
            await member.transport.serve(PROTOCOL, member.neighbours.accept)
            members.append(member)
            return member

        yield one
        for member in members:
            await member.neighbours.aclose()
            await member.transport.aclose()


async def test_a_link_is_opened_once_and_kept(make: Make) -> None:
    a, b = await make("a"), await make("b")
    assert a.neighbours.get("b") is None
    links = await asyncio.gather(*(a.neighbours.link("b") for _ in range(5)))
    assert len(set(links)) == 1 and a.neighbours.get("b") is links[0]
    assert await a.neighbours.link("b") is links[0]
    links[0].post(Close(SESSION), b"text")
    assert await b.messages.get() == ("a", Close(SESSION), b"text")
    # What somebody else has opened is not ours to send over.
    assert b.neighbours.get("a") is None


async def test_messages_come_back_over_the_same_link(make: Make) -> None:
    a, b = await make("a"), await make("b")
    answers: list[Link] = []
    original = b._on_message

    async def answer(link: Link, message: AnyMessage, payload: Buffer) -> None:
        answers.append(link)
        link.post(message, b"back")
        await original(link, message, payload)

    b.neighbours._on_message = answer
    (await a.neighbours.link("b")).post(Close(SESSION))
    assert await a.messages.get() == ("b", Close(SESSION), b"back")


async def test_links_that_we_open_take_nobody_the_right_to_his(make: Make) -> None:
    """Peers of one owner that all send to each other have twice as many between them."""
    a, b = await make("a"), await make("b")
    for one in (a, b):
        one.neighbours._config = replace(CONFIG, links=1)
    await a.neighbours.link("b")
    await b.neighbours.link("a")
    assert a.neighbours.num_links == b.neighbours.num_links == 2
    link = await a.neighbours.link("b")
    link.post(Close(SESSION))
    assert await b.messages.get() == ("a", Close(SESSION), b"")


async def test_a_place_is_free_again_when_a_link_has_ended(make: Make) -> None:
    a, b = await make("a"), await make("b")
    b.neighbours._config = replace(CONFIG, links=1)
    for _ in range(3):
        await (await a.neighbours.link("b")).aclose()
        await b.lost.get()
        await a.lost.get()
    assert not b.neighbours._accepted


async def test_who_is_not_there_is_unreachable_and_may_come_later(make: Make) -> None:
    a = await make("a")
    with pytest.raises(Unreachable):
        await a.neighbours.link("b")
    await make("b")
    assert (await a.neighbours.link("b")).peer == "b"


async def test_an_outsider_gets_no_link(make: Make) -> None:
    a, b = await make("a"), await make("b", "another group")
    for one, other in ((a, "b"), (b, "a")):
        with pytest.raises(PeerError):
            await one.neighbours.link(other)
        assert one.neighbours.get(other) is None and one.neighbours.traffic == (0, 0)


async def test_both_sides_learn_that_a_link_has_ended(make: Make, network: Network) -> None:
    a, b = await make("a"), await make("b")
    await a.neighbours.link("b")
    network.disconnect("a", "b")
    for one, other in ((a, "b"), (b, "a")):
        peer, error = await one.lost.get()
        assert peer == other and isinstance(error, Unreachable)
    assert a.neighbours.get("b") is None
    assert (await a.neighbours.link("b")).peer == "b"


async def test_a_frozen_neighbour_is_lost_in_time(make: Make, network: Network) -> None:
    a, _ = await make("a"), await make("b")
    await a.neighbours.link("b")
    network.freeze("b")
    started = asyncio.get_running_loop().time()
    peer, error = await a.lost.get()
    assert peer == "b" and "silent" in str(error)
    assert asyncio.get_running_loop().time() - started < 1.0
    network.thaw("b")


async def test_close_ends_a_link_at_once(make: Make) -> None:
    a, b = await make("a"), await make("b")
    link = await a.neighbours.link("b")
    a.neighbours.close("b", "thought dead")
    assert a.neighbours.get("b") is None
    with pytest.raises(Unreachable):
        await a.lost.get()
        link.post(Close(SESSION))
    assert (await b.lost.get())[0] == "a"
    a.neighbours.close("b", "twice")
    assert await a.neighbours.link("b") is not link


async def test_who_loses_patience_takes_the_link_from_nobody(make: Make, network: Network) -> None:
    a, _ = await make("a"), await make("b")
    network.freeze("b")
    impatient = asyncio.create_task(a.neighbours.link("b"))
    patient = asyncio.create_task(a.neighbours.link("b"))
    await asyncio.sleep(0.01)
    impatient.cancel()
    network.thaw("b")
    assert (await patient).peer == "b"
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_a_bug_in_a_handler_ends_one_link_and_is_logged(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    a, b, c = await make("a"), await make("b"), await make("c")
    to_b = await a.neighbours.link("b")
    from_c = await c.neighbours.link("a")
    b.fault = ZeroDivisionError("a bug")
    to_b.post(Close(SESSION))
    assert (await a.lost.get())[0] == "b"
    assert "message handler failed" in caplog.text
    caplog.clear()
    from_c.post(Close(SESSION), b"still here")
    assert await a.messages.get() == ("c", Close(SESSION), b"still here")


async def test_traffic_counts_links_that_have_ended(make: Make) -> None:
    a, b = await make("a"), await make("b")
    (await a.neighbours.link("b")).post(Close(SESSION), b"x" * 1000)
    await b.messages.get()
    a.neighbours.close("b", "done")
    await a.lost.get()
    await b.lost.get()
    assert a.neighbours.traffic[0] > 1000
    assert b.neighbours.traffic == (a.neighbours.traffic[1], a.neighbours.traffic[0])


async def test_misbehaviour_is_told_as_such(make: Make) -> None:
    a, b = await make("a"), await make("b")
    link = await a.neighbours.link("b")
    await link._stream.send(b"\xc1 no message", b"")
    peer, error = await b.lost.get()
    assert peer == "a" and isinstance(error, Misbehaved)


async def test_the_best_link_says_what_our_line_can_do(network: Network, make: Make) -> None:
    here, near, far = [await make(name) for name in ("here", "near", "far")]
    assert here.neighbours.upload_rate == 0.0
    for other, rate in ((near, 1e6), (far, 1e5)):
        network.between(here.transport.peer_id, other.transport.peer_id, Condition(rate=rate))
        link = await here.neighbours.link(other.transport.peer_id)
        await link.measured.wait()
        link.post(Close(SESSION), bytes(100_000))
        await other.messages.get()
        await asyncio.sleep(0.1)
    assert here.neighbours.upload_rate == pytest.approx(1e6, rel=0.05)
    rates: list[float] = []
    for name in ("near", "far"):
        here.neighbours.close(name, "test")
        await here.lost.get()
        rates.append(here.neighbours.upload_rate)
    assert rates == [pytest.approx(1e5, rel=0.05)] * 2, "without links, what was known last"

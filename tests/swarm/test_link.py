from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from swarm.background import background
from swarm.errors import (
    ConfigError,
    Lapse,
    Misbehaved,
    NotAMember,
    PeerError,
    RemoteProtocolError,
    Unreachable,
)
from swarm.membership.founder import Founder
from swarm.membership.membership import Membership
from swarm.transport import Buffer, Stream
from swarm.transport.link import Link, LinkConfig, accept, connect
from swarm.transport.memory import Condition, MemoryTransport, Network
from swarm.wire.linking import Hello, Ping, Pong
from swarm.wire.messages import AnyMessage, Close, encode

pytestmark = pytest.mark.simulated_time

QUICK = LinkConfig(0.02, 0.15, 0.01, 0.05, handshake=0.15)
SESSION = "s" * 16


class Side:
    """One end of a link, with what it received."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.inbox: asyncio.Queue[tuple[AnyMessage, Buffer]] = asyncio.Queue()

    async def keep(self, _: Link, message: AnyMessage, payload: Buffer) -> None:
        self.inbox.put_nowait((message, payload))

    async def run(self) -> PeerError:
        """Runs the link to its end."""
        with pytest.raises(PeerError) as caught:
            await self.link.run(self.keep)
        return caught.value


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    network = Network()
    yield network
    for peer in ("a", "b"):
        await network.kill(peer)


def founder(network: Network, group: str = "group") -> Founder:
    """Whoever founds a group of this name in this network founds the same one."""
    return Founder(network.signer(group), network.signer(f"{group}'s authority"))


def member(network: Network, name: str, group: str = "group") -> Membership:
    return founder(network, group).admit(network.signer(name))


async def linked(network: Network, config: LinkConfig = QUICK) -> tuple[Side, Side]:
    """A link's end at "a" and its end at "b"."""
    a, b = network.transport("a"), network.transport("b")
    accepted: asyncio.Queue[Link] = asyncio.Queue()
    ended = asyncio.Event()

    async def handler(stream: Stream) -> None:
        accepted.put_nowait(await accept(stream, member(network, "b"), config))
        await ended.wait()

    await b.serve("/link", handler)
    near = await connect(await a.open("b", "/link"), member(network, "a"), config)
    return Side(near), Side(await accepted.get())


async def answering(
    network: Network, answer: Callable[[Stream], Awaitable[None]]
) -> tuple[MemoryTransport, Stream]:
    """A stream from "a" to a "b" that answers in its own way."""
    a, b = network.transport("a"), network.transport("b")
    await b.serve("/link", answer)
    return a, await a.open("b", "/link")


async def test_messages_arrive_in_order_both_ways(network: Network) -> None:
    near, far = await linked(network)
    async with background() as tasks:
        tasks.create_task(near.run())
        tasks.create_task(far.run())
        for number in range(100):
            near.link.post(Close(SESSION), b"%d" % number)
        assert [(await far.inbox.get())[1] for _ in range(100)] == [b"%d" % n for n in range(100)]
        far.link.post(Close(SESSION), b"back")
        assert await near.inbox.get() == (Close(SESSION), b"back")
        assert near.link.traffic.sent_frames >= 102
        assert near.link.traffic.sent_bytes > 100


async def test_large_and_small_messages_keep_their_order(network: Network) -> None:
    near, far = await linked(network)
    async with background() as tasks:
        tasks.create_task(near.run())
        tasks.create_task(far.run())
        sizes = [0, 200_000, 1, 70_000, 2, 3]
        for size in sizes:
            near.link.post(Close(SESSION), bytes(size))
        assert [len((await far.inbox.get())[1]) for _ in sizes] == sizes


@pytest.mark.parametrize("stranger", ["a", "b"])
async def test_another_group_is_refused_from_both_sides(network: Network, stranger: str) -> None:
    groups = {"a": "group", "b": "group", stranger: "another group"}
    refused: asyncio.Queue[PeerError] = asyncio.Queue()

    async def answer(stream: Stream) -> None:
        with pytest.raises(PeerError) as caught:
            await accept(stream, member(network, "b", groups["b"]), QUICK)
        refused.put_nowait(caught.value)

    _, stream = await answering(network, answer)
    with pytest.raises(Unreachable):
        await connect(stream, member(network, "a", groups["a"]), QUICK)
    error = await refused.get()
    assert isinstance(error, NotAMember)
    assert error.lapse is Lapse.FOREIGN
    with pytest.raises(Unreachable):
        await stream.send(b"", b"")


async def test_who_answers_from_another_group_is_refused(network: Network) -> None:
    """One that is not put off by a foreign greeting gets no further."""

    async def answer(stream: Stream) -> None:
        await stream.receive()
        foreign = member(network, "b", "another group")
        await stream.send(encode(Hello(foreign.credential)), b"")
        await stream.receive()

    _, stream = await answering(network, answer)
    with pytest.raises(NotAMember, match="another group"):
        await connect(stream, member(network, "a"), QUICK)


async def test_a_stolen_credential_is_worth_nothing(network: Network) -> None:
    """Whoever overhears a credential cannot use it: the stream proves another peer id."""

    async def answer(stream: Stream) -> None:
        await stream.receive()
        await stream.send(encode(Hello(member(network, "c").credential)), b"")
        await stream.receive()

    _, stream = await answering(network, answer)
    with pytest.raises(NotAMember, match="somebody else's") as caught:
        await connect(stream, member(network, "a"), QUICK)
    assert caught.value.lapse is Lapse.FORGED


async def test_a_stolen_credential_opens_no_link(network: Network) -> None:
    refused: asyncio.Queue[PeerError] = asyncio.Queue()

    async def answer(stream: Stream) -> None:
        with pytest.raises(NotAMember, match="somebody else's") as caught:
            await accept(stream, member(network, "b"), QUICK)
        refused.put_nowait(caught.value)

    _, stream = await answering(network, answer)
    await stream.send(encode(Hello(member(network, "c").credential)), b"")
    await refused.get()
    with pytest.raises(Unreachable):
        await stream.receive()


async def test_our_own_credential_sent_back_is_refused(network: Network) -> None:
    async def answer(stream: Stream) -> None:
        header, _payload = await stream.receive()
        await stream.send(header, b"")
        await stream.receive()

    _, stream = await answering(network, answer)
    with pytest.raises(NotAMember, match="somebody else's"):
        await connect(stream, member(network, "a"), QUICK)


@pytest.mark.parametrize("header", [b"", b"\xff" * 30, encode(Ping(1)), encode(Close(SESSION))])
async def test_who_does_not_greet_is_refused(network: Network, header: bytes) -> None:
    async def answer(stream: Stream) -> None:
        await stream.send(header, b"")
        await stream.receive()
        await stream.receive()

    _, stream = await answering(network, answer)
    with pytest.raises(Misbehaved):
        await connect(stream, member(network, "a"), QUICK)


async def test_who_never_greets_costs_the_handshake_time(network: Network) -> None:
    async def answer(stream: Stream) -> None:
        while True:
            await stream.receive()

    _, stream = await answering(network, answer)
    with pytest.raises(Unreachable, match="greeting"):
        await connect(stream, member(network, "a"), QUICK)


async def test_greeting_twice_is_misbehaviour(network: Network) -> None:
    near, far = await linked(network)
    far.link.post(Hello(member(network, "b").credential))
    error = await near.run()
    assert isinstance(error, Misbehaved)
    assert near.link.closed


async def test_what_the_owner_finds_wrong_is_blamed_on_the_sender(network: Network) -> None:
    near, far = await linked(network)
    far.link.post(Close(SESSION))

    async def refuse(*_: object) -> None:
        raise RemoteProtocolError("no such thing")

    with pytest.raises(Misbehaved, match="no such thing"):
        await near.link.run(refuse)


async def test_our_own_fault_is_not_blamed_on_the_peer(network: Network) -> None:
    near, far = await linked(network)
    far.link.post(Close(SESSION))

    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        await near.link.run(broken)
    assert caught.group_contains(ZeroDivisionError)


async def test_a_frozen_peer_is_noticed_after_patience(network: Network) -> None:
    near, far = await linked(network)
    async with background() as tasks:
        tasks.create_task(far.run())
        ending = tasks.create_task(near.run())
        await near.link.measured.wait()
        network.freeze("b")
        clock = asyncio.get_running_loop().time
        started = clock()
        error = await ending
        assert isinstance(error, Unreachable)
        assert "silent" in str(error)
        assert QUICK.patience / 2 < clock() - started < 10 * QUICK.patience
        network.thaw("b")


async def test_a_message_that_takes_longer_than_patience_is_no_silence(network: Network) -> None:
    near, far = await linked(network)
    network.default = Condition(rate=1e6)
    async with background() as tasks:
        tasks.create_task(near.run())
        tasks.create_task(far.run())
        size = int(10 * QUICK.patience * 1e6)
        near.link.post(Close(SESSION), bytes(size))
        assert len((await far.inbox.get())[1]) == size


async def test_who_freezes_in_the_middle_of_a_message_is_silent(network: Network) -> None:
    near, far = await linked(network)
    network.default = Condition(rate=1e6)
    async with background() as tasks:
        tasks.create_task(near.run())
        ending = tasks.create_task(far.run())
        near.link.post(Close(SESSION), bytes(int(10 * QUICK.patience * 1e6)))
        await asyncio.sleep(2 * QUICK.patience)
        network.freeze("a")
        started = asyncio.get_running_loop().time()
        assert "silent" in str(await ending)
        assert asyncio.get_running_loop().time() - started < 2 * QUICK.patience
        network.thaw("a")


WATCHFUL = LinkConfig(0.5, 3.0, 0.2, 0.8, handshake=5.0)


async def silence_noticed_after(network: Network, near: Side, far: Side, warm: float) -> float:
    """Seconds from a freeze of the far side until the near side, which attends, gives up."""
    clock = asyncio.get_running_loop().time
    async with background() as tasks:
        tasks.create_task(far.run())
        ending = tasks.create_task(near.run())
        await asyncio.sleep(warm)
        network.freeze("b")
        frozen = clock()
        near.link.attend(30)
        assert "silent" in str(await ending)
        taken = clock() - frozen
        network.thaw("b")
        return taken


async def test_silence_is_noticed_soon_while_somebody_waits(network: Network) -> None:
    near, far = await linked(network, WATCHFUL)
    assert await silence_noticed_after(network, near, far, warm=7.1) <= 1.0


async def test_a_line_that_varies_is_given_more_time(network: Network) -> None:
    """A slow link is not a dead one: the patience follows what was measured."""
    network.default = Condition(delay=0.05, jitter=0.6)
    near, far = await linked(network, WATCHFUL)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60), background() as tasks:
            tasks.create_task(far.run())
            tasks.create_task(near.run())
            while True:
                near.link.attend(5)
                await asyncio.sleep(1)


async def test_silence_on_a_line_that_varies_is_noticed_too(network: Network) -> None:
    network.default = Condition(delay=0.05, jitter=0.6)
    near, far = await linked(network, WATCHFUL)
    taken = await silence_noticed_after(network, near, far, warm=20)
    assert WATCHFUL.alert_patience < taken < WATCHFUL.patience + 1


async def test_who_is_sent_something_long_does_not_wait_to_be_asked(network: Network) -> None:
    """Our question would come after what we send, and the answer after our patience."""
    near, far = await linked(network, WATCHFUL)
    async with background() as tasks:
        tasks.create_task(far.run())
        tasks.create_task(near.run())
        await asyncio.sleep(7)
        network.default = Condition(delay=0.05, jitter=0.4, rate=2.5e6)
        near.link.attend(20)
        for _ in range(60):
            near.link.post(Close(SESSION), bytes(500_000))
        while far.inbox.qsize() < 60:
            await asyncio.sleep(0.1)
            assert not near.link.closed


async def test_attention_ends(network: Network) -> None:
    near, far = await linked(network, WATCHFUL)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(20), background() as tasks:
            tasks.create_task(far.run())
            tasks.create_task(near.run())
            near.link.attend(2)
            await asyncio.sleep(10)
            network.freeze("b")
            await asyncio.sleep(2)
            network.thaw("b")
            await asyncio.Future()


async def test_beginning_to_wait_for_an_idle_peer_is_no_alarm(network: Network) -> None:
    """What a side says puts off its next heartbeat: both may be silent for two intervals."""
    near, far = await linked(network, WATCHFUL)
    asked = asyncio.Event()

    async def answer() -> None:
        while True:
            message, _ = await far.link._next()
            if isinstance(message, Ping):
                asked.set()
                far.link.post(Pong(message.number))
            else:
                far.link.post(message)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(20), background() as tasks:
            tasks.create_task(answer())
            tasks.create_task(near.run())
            for _ in range(4):
                asked.clear()
                await asked.wait()
            await asyncio.sleep(0.02)
            near.link.post(Close(SESSION))
            await asyncio.sleep(0.92)
            assert near.link.silence > WATCHFUL.alert_patience
            near.link.attend(5)
            await asyncio.Future()


async def test_a_round_trip_longer_than_patience_is_no_silence_at_the_beginning(
    network: Network,
) -> None:
    """Who accepts a link hears for a round trip nothing after its own greeting."""
    slow = LinkConfig(0.5, 3.0, 0.4, 2.0, handshake=10.0)
    network.default = Condition(delay=2.0)
    near, far = await linked(network, slow)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60), background() as tasks:
            tasks.create_task(near.run())
            tasks.create_task(far.run())
            await asyncio.Future()


async def test_who_is_never_heard_of_after_its_greeting_is_given_up(network: Network) -> None:
    _, far = await linked(network, LinkConfig(0.5, 3.0, 0.4, 2.0, handshake=10.0))
    started = asyncio.get_running_loop().time()
    network.freeze("a")
    assert "silent" in str(await far.run())
    assert asyncio.get_running_loop().time() - started <= 10.6
    network.thaw("a")


async def test_an_idle_link_stays(network: Network) -> None:
    near, far = await linked(network)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3 * QUICK.patience), background() as tasks:
            tasks.create_task(near.run())
            tasks.create_task(far.run())
            await asyncio.Future()
    assert near.link.traffic.received_frames > 5


async def test_a_broken_stream_ends_the_link_and_later_posts_raise(network: Network) -> None:
    near, _far = await linked(network)
    network.disconnect("a", "b")
    assert isinstance(await near.run(), Unreachable)
    with pytest.raises(Unreachable):
        near.link.post(Close(SESSION))
    await near.link.aclose()


async def test_round_trips_are_measured(network: Network) -> None:
    network.default = Condition(delay=0.01)
    near, far = await linked(network)
    async with background() as tasks:
        tasks.create_task(near.run())
        tasks.create_task(far.run())
        await near.link.measured.wait()
        assert near.link.round_trip is not None
        assert near.link.round_trip >= 0.02


async def test_loss_and_duplicates_do_not_end_the_link(network: Network) -> None:
    near, far = await linked(network)
    network.default = Condition(loss=0.3, duplicate=0.3)
    async with background() as tasks:
        tasks.create_task(near.run())
        tasks.create_task(far.run())
        for number in range(200):
            near.link.post(Close(SESSION), b"%03d" % number)
        network.default = Condition()
        near.link.post(Close(SESSION), b"end")
        got = []
        while not got or got[-1] != b"end":
            got.append(bytes((await far.inbox.get())[1]))
    assert got == sorted(got)
    assert len(set(got)) < 200 and len(set(got)) < len(got)


@pytest.mark.parametrize(("interval", "patience"), [(0, 1), (1, 1), (2, 1)])
def test_heartbeats_that_cannot_work(interval: float, patience: float) -> None:
    with pytest.raises(ConfigError):
        LinkConfig(interval=interval, patience=patience)
    with pytest.raises(ConfigError):
        LinkConfig(alert_interval=interval, alert_patience=patience)


@pytest.mark.parametrize("rate", [20_000.0, 2_000_000.0])
async def test_large_messages_tell_how_fast_the_line_is(network: Network, rate: float) -> None:
    network.default = Condition(delay=0.01, rate=rate)
    near, far = await linked(network, LinkConfig(0.5, 60.0, 0.4, 50.0, handshake=2.0))
    async with background() as tasks:
        tasks.create_task(near.run())
        tasks.create_task(far.run())
        await near.link.measured.wait()
        near.link.post(Close(SESSION), bytes(1000))
        await far.inbox.get()
        assert near.link.upload_rate == 0.0, "over so little nobody can tell"
        near.link.post(Close(SESSION), bytes(200_000))
        await far.inbox.get()
        await asyncio.sleep(0.1)
        assert near.link.upload_rate == pytest.approx(rate, rel=0.05)
        assert far.link.upload_rate == 0.0


async def test_the_best_of_lately_is_what_a_line_can_do(network: Network) -> None:
    near, far = await linked(network, LinkConfig(0.5, 60.0, 0.4, 50.0, handshake=2.0))
    async with background() as tasks:
        tasks.create_task(near.run())
        tasks.create_task(far.run())
        await near.link.measured.wait()
        seen = []
        for rate in (1e6, 1e5, 1e6):
            network.default = Condition(rate=rate)
            near.link.post(Close(SESSION), bytes(100_000))
            await far.inbox.get()
            await asyncio.sleep(0.1)
            seen.append(near.link.upload_rate)
    assert seen == [pytest.approx(each, rel=0.05) for each in (1e6, 0.91e6, 1e6)]

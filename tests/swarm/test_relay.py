"""Members that nobody can dial, over the twin: relays, their limits, and their deaths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from swarm.background import background
from swarm.errors import Busy, ConfigError, Unreachable
from swarm.membership.founder import Founder
from swarm.membership.membership import Membership, certify_process
from swarm.transport import Stream, circuits
from swarm.transport.control import CIRCUIT, CONTROL, VISIT, Place
from swarm.transport.link import LinkConfig, accept, connect
from swarm.transport.memory import Condition, MemoryTransport, Network
from swarm.transport.memory_stream import MemoryStream
from swarm.transport.reach import Reach
from swarm.transport.relay import Bucket
from swarm.transport.relay_config import RelayConfig
from swarm.transport.relayed import RelayedConfig, RelayedTransport
from swarm.transport.sealed import RECORD_LEN
from swarm.wire.linking import Hello
from swarm.wire.messages import encode
from swarm.wire.relaying import Connect, Reserve, Visit

pytestmark = pytest.mark.simulated_time

ECHO = "/homeswarm/echo/1"
LINKS = LinkConfig(0.1, 0.6, 0.05, 0.2, handshake=2.0)


def now() -> float:
    """Certificates are as old as the simulated time."""
    return 1e9 + asyncio.get_running_loop().time()


async def echo(stream: Stream) -> None:
    stream.admit()
    while True:
        await stream.send(*await stream.receive())


@dataclass
class Town:
    """Members of one group; those in `public` are found by everybody."""

    stack: AsyncExitStack
    network: Network = field(default_factory=Network)
    public: list[str] = field(default_factory=list)
    members: dict[str, RelayedTransport] = field(default_factory=dict)

    def founder(self, group: str = "group") -> Founder:
        """Whoever founds a group of this name here founds the same one."""
        signer = self.network.signer
        return Founder(signer(group), signer(f"{group}'s authority"), clock=now)

    def admit(self, name: str, group: str = "group") -> Membership:
        return self.founder(group).admit(self.network.signer(name))

    async def member(
        self,
        name: str,
        *,
        hidden: bool = False,
        membership: Membership | None = None,
        **options: Any,
    ) -> RelayedTransport:
        carrier = self.network.transport(name)
        membership = membership or self.admit(name)
        self.stack.push_async_callback(carrier.aclose)
        if hidden:
            self.network.hide(name)
        member = await self.stack.enter_async_context(
            RelayedTransport.start(
                carrier,
                membership,
                await self.places(),
                RelayedConfig(**options),
                link_config=LINKS,
            )
        )
        member.follow(self.places)
        await member.serve(ECHO, echo)
        self.members[name] = member
        return member

    async def relay(self, name: str, **limits: Any) -> RelayedTransport:
        relay = RelayConfig(**limits)
        member = await self.member(name, listens=False, always_relays=True, relay=relay)
        self.public.append(name)
        return member

    def carrier(self, name: str) -> MemoryTransport:
        carrier = self.network.member(name)
        assert carrier is not None
        return carrier

    async def places(self) -> list[Place]:
        return [Place(name, (f"/memory/{name}",)) for name in self.public]

    async def open(self, near: str, far: str, protocol: str = ECHO) -> Stream:
        addresses = self.members[far].addresses
        stream = await self.members[near].open(far, protocol, addresses)
        stream.admit()
        return stream

    def passing(self, name: str = "relay") -> int:
        return self.members[name].relay.num_circuits


async def until(holds: Any, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def echoes(stream: Stream, payload: bytes = b"payload") -> bool:
    await stream.send(b"header", payload)
    header, received = await stream.receive()
    return (bytes(header), bytes(received)) == (b"header", payload)


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        town = Town(stack)
        yield town
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, left
    for member in town.members.values():
        assert (member.relay.num_circuits, member.relay.reserved) == (0, frozenset())
        assert not member.relay._circuits


@pytest.fixture
async def pair(town: Town) -> Town:
    """A relay, and two members that cannot be dialled."""
    await town.relay("relay")
    for name in ("a", "b"):
        await town.member(name, hidden=True)
    return town


@pytest.mark.parametrize("size", [0, 1000, 1_000_000])
async def test_two_hidden_members_meet(pair: Town, size: int) -> None:
    stream = await pair.open("a", "b")
    assert pair.passing() == 1
    assert stream.peer == "b"
    assert await echoes(stream, bytes(size))


async def test_the_far_end_knows_who_comes(pair: Town) -> None:
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def handler(stream: Stream) -> None:
        seen.put_nowait(stream.peer)

    await pair.members["b"].serve("/who", handler)
    await pair.open("a", "b", "/who")
    assert await seen.get() == "a"


async def test_a_hidden_member_announces_where_it_is_found(pair: Town) -> None:
    assert pair.members["a"].reach is Reach.RELAYED
    assert pair.members["a"].addresses == (
        "/memory/a",
        "/memory/relay/p2p/relay/p2p-circuit/p2p/a",
    )
    assert pair.members["relay"].relay.reserved == {"a", "b"}


async def test_a_dead_end_costs_the_head_start(pair: Town) -> None:
    clock = asyncio.get_running_loop().time
    started = clock()
    await pair.open("a", "b")
    assert clock() - started == pytest.approx(0.3)


async def test_what_can_be_dialled_is_dialled(pair: Town) -> None:
    await pair.member("c")
    assert pair.members["c"].reach is Reach.DIRECT
    assert await echoes(await pair.open("a", "c"))
    assert pair.passing() == 0
    # It has a connection to `a` now, over which it opens streams itself.
    assert await echoes(await pair.open("c", "a"))
    assert pair.passing() == 0


async def test_the_relay_itself_needs_no_relay(pair: Town) -> None:
    assert await echoes(await pair.open("relay", "a"))
    assert await echoes(await pair.open("a", "relay"))
    assert pair.passing() == 0


async def test_one_that_only_asks_gets_there_too(pair: Town) -> None:
    client = await pair.member("client", hidden=True, listens=False)
    assert (client.reach, client.relays) == (Reach.UNKNOWN, ())
    assert await echoes(await pair.open("client", "b"))
    assert pair.members["relay"].relay.reserved == {"a", "b"}


async def test_a_link_works_through_a_relay(pair: Town) -> None:
    greeted: asyncio.Queue[str] = asyncio.Queue()

    async def handler(stream: Stream) -> None:
        link = await accept(stream, pair.admit("b"), LINKS)
        greeted.put_nowait(link.peer)

        async def ignore(*_: Any) -> None:
            pass

        await link.run(ignore)

    await pair.members["b"].serve("/link", handler)
    link = await connect(await pair.open("a", "b", "/link"), pair.admit("a"), LINKS)
    assert (link.peer, await greeted.get()) == ("b", "a")
    with pytest.raises(Unreachable, match="silent"):
        async with background() as tasks:

            async def ignore(*_: Any) -> None:
                pass

            tasks.create_task(link.run(ignore))
            await link.measured.wait()
            pair.network.freeze("b")
            await asyncio.Future()
    pair.network.thaw("b")


async def test_an_outsider_gets_nothing(pair: Town) -> None:
    foreign = pair.admit("outsider", "another group")
    outsider = await pair.member("outsider", hidden=True, membership=foreign)
    assert (outsider.reach, outsider.relays) == (Reach.UNKNOWN, ())
    with pytest.raises(Unreachable):
        await outsider.open("b", ECHO, pair.members["b"].addresses)
    assert pair.passing() == 0


@pytest.mark.parametrize("out", ["a", "b"])
async def test_circuits_of_a_member_that_is_thrown_out_end(pair: Town, out: str) -> None:
    for name in ("c", "d"):
        await pair.member(name, hidden=True)
    stream, spared = await pair.open("a", "b"), await pair.open("c", "d")
    assert await echoes(stream)
    clock = asyncio.get_running_loop().time
    started = clock()
    relay = pair.members["relay"]
    relay._door.membership.trust.learn(pair.founder().revoke(out))
    with pytest.raises(Unreachable):
        await stream.receive()
    # Whether or not that one hangs up.
    await until(lambda: pair.passing() == 1)
    assert clock() - started < 6.0
    await until(lambda: relay.relay.reserved == {"a", "b", "c", "d"} - {out})
    assert await echoes(spared)
    # It gets neither a place nor a circuit again, and nobody reaches it here.
    await asyncio.sleep(30)
    assert pair.members[out].relays == ()
    with pytest.raises(Unreachable):
        await pair.open(out, "c")
    with pytest.raises(Unreachable):
        await pair.open("c", out)
    assert pair.passing() <= 1


async def test_a_relay_that_is_thrown_out_carries_nothing_any_more(pair: Town) -> None:
    """However much it would like to go on: who is reached through it hangs up."""
    stream = await pair.open("a", "b")
    await pair.relay("second")
    pair.members["b"]._door.membership.trust.learn(pair.founder().revoke("relay"))
    async with asyncio.timeout(3):
        with pytest.raises(Unreachable):
            await stream.receive()
    await until(lambda: pair.members["b"].relays == ("second",))
    assert not any("/p2p/relay/" in address for address in pair.members["b"].addresses)
    await until(lambda: "second" in pair.members["a"].relays)
    assert await echoes(await pair.open("a", "b"))
    assert pair.passing("second") == 1


async def test_a_circuit_lasts_as_long_as_its_ends_certificates(pair: Town) -> None:
    brief = pair.founder().admit(pair.network.signer("c"), lifetime=20)
    await pair.member("c", hidden=True, membership=brief)
    stream, spared = await pair.open("c", "b"), await pair.open("a", "b")
    started = asyncio.get_running_loop().time()
    with pytest.raises(Unreachable):
        async with asyncio.timeout(60):
            while await echoes(stream) and await echoes(spared):  # noqa: ASYNC110
                await asyncio.sleep(1)
    assert 19 <= asyncio.get_running_loop().time() - started <= 26
    assert await echoes(spared)
    assert pair.members["relay"].relay.reserved == {"a", "b"}


async def test_a_place_outlives_a_certificate_that_is_renewed(pair: Town) -> None:
    brief = pair.founder().admit(pair.network.signer("c"), lifetime=20)
    await pair.member("c", hidden=True, membership=brief)
    await asyncio.sleep(10)
    brief.adopt(pair.founder().certify("c"))
    stream = await pair.open("a", "c")
    for _ in range(10):
        await asyncio.sleep(5)
        assert await echoes(stream)
    assert pair.members["relay"].relay.reserved == {"a", "b", "c"}


async def test_who_knocks_at_a_relay_learns_nothing(pair: Town) -> None:
    stranger = pair.network.transport("stranger")
    seen: list[bytes] = []

    def look(sender: str, receiver: str, header: bytes, payload: Any) -> bool:
        if (sender, receiver) == ("relay", "stranger"):
            seen.append(header)
        return False

    pair.network.drop = look
    stolen = encode(Hello(pair.admit("a").credential))
    for protocol in (CONTROL, CIRCUIT):
        for frames in (
            [],
            [encode(Connect("b"))],
            [encode(Reserve())],
            [stolen, encode(Connect("b"))],
        ):
            stream = await stranger.open("relay", protocol)
            with pytest.raises(Unreachable):
                for frame in frames:
                    await stream.send(frame, b"")
                await stream.receive()
    assert seen == []
    assert pair.passing() == 0
    assert pair.members["relay"].relay.reserved == {"a", "b"}
    await stranger.aclose()


async def test_only_our_relays_bring_visitors(pair: Town) -> None:
    stranger = pair.network.transport("stranger")
    held = await stranger.open("relay", CIRCUIT)
    pair.network.show("b")
    stream = await stranger.open("b", VISIT)
    await stream.send(encode(Visit("a")), b"")
    with pytest.raises(Unreachable):
        async with asyncio.timeout(1):
            await stream.receive()
    await held.aclose()
    await stranger.aclose()


async def test_a_relay_cannot_pretend_that_somebody_visits(pair: Town) -> None:
    stream = await pair.network.member("relay").open("b", VISIT)
    await stream.send(encode(Visit("a")), b"")
    await stream.send(bytes(32), b"")
    with pytest.raises(Unreachable):
        await stream.receive()


async def test_one_that_is_not_here_is_named(pair: Town) -> None:
    addresses = circuits.through(Place("relay", ("/memory/relay",)), "nobody")
    with pytest.raises(Unreachable, match="no place here") as caught:
        await pair.members["a"].open("nobody", ECHO, addresses)
    assert caught.value.peer == "nobody"


async def test_a_protocol_that_is_not_served(pair: Town) -> None:
    with pytest.raises(Unreachable, match="does not serve"):
        await pair.open("a", "b", "/other")
    await until(lambda: not pair.passing())


async def test_one_that_does_not_relay(town: Town) -> None:
    await town.relay("relay", serve=False)
    member = await town.member("a", hidden=True)
    assert (member.reach, member.relays) == (Reach.RELAYED, ())


async def test_a_full_relay_refuses_and_another_is_found(town: Town) -> None:
    await town.relay("small", max_reservations=1)
    await town.member("a", hidden=True)
    await town.relay("large")
    b = await town.member("b", hidden=True)
    await until(lambda: b.relays == ("large",))
    assert town.members["small"].relay.reserved == {"a"}
    await until(lambda: town.members["a"].relays == ("small", "large"))


@pytest.mark.parametrize("limits", [{"member_circuits": 2}, {"max_circuits": 2}])
async def test_circuits_are_limited_and_come_back(town: Town, limits: dict[str, int]) -> None:
    await town.relay("relay", **limits)
    for name in ("a", "b"):
        await town.member(name, hidden=True)
    streams = [await town.open("a", "b") for _ in range(2)]
    with pytest.raises(Busy, match="2 streams") as caught:
        await town.open("a", "b")
    assert caught.value.peer == "b"
    await streams[0].aclose()
    await until(lambda: town.passing() == 1)
    assert await echoes(await town.open("a", "b"))


async def test_a_member_at_its_limit_does_not_keep_out_others(town: Town) -> None:
    await town.relay("relay", member_circuits=2)
    for name in ("a", "b", "c", "d"):
        await town.member(name, hidden=True)
    for _ in range(2):
        await town.open("a", "b")
    assert await echoes(await town.open("c", "d"))


async def test_a_members_programs_share_what_it_may_take(town: Town) -> None:
    """Else it would take all by making keys for programs, as it may."""
    await town.relay("relay", member_circuits=2, rate=1e6, burst=100_000)
    for name in ("b", "c"):
        await town.member(name, hidden=True)
    machine = town.admit("machine")
    for name in ("p", "q", "r"):
        credential = certify_process(machine, name, now)
        sign = town.network.signer(name).sign
        program = Membership(town.founder().trust(), credential, sign)
        await town.member(name, hidden=True, listens=False, membership=program)
    streams = [await town.open("p", "b"), await town.open("q", "c")]
    with pytest.raises(Busy, match="2 streams"):
        await town.open("r", "c")
    assert await echoes(await town.open("b", "c"))
    clock = asyncio.get_running_loop().time
    started = clock()
    await asyncio.gather(*(echoes(stream, bytes(500_000)) for stream in streams))
    # There they go at 1 MB/s together, and back each at that, less what goes without a pause.
    assert clock() - started == pytest.approx(1.3, abs=0.1)


async def test_control_links_are_limited_by_member(pair: Town) -> None:
    member = pair.members["a"]
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(member._door.control(Place("relay")))
        with pytest.raises(Unreachable):
            async with member._door.control(Place("relay")):
                await asyncio.Future()
    assert (await pair.members["b"]._door.carrier.open("relay", CIRCUIT)).peer == "relay"
    async with member._door.control(Place("relay")) as control:
        assert await control.probe(("/memory/a",)) == ()


async def test_bytes_are_limited_by_member(town: Town) -> None:
    await town.relay("relay", rate=1e6, burst=100_000)
    for name in ("a", "b", "c", "d"):
        await town.member(name, hidden=True)
    clock = asyncio.get_running_loop().time
    greedy, modest = await town.open("a", "b"), await town.open("c", "d")
    started = clock()

    async def ask_much() -> float:
        await echoes(greedy, bytes(2_000_000))
        return clock() - started

    asking = asyncio.create_task(ask_much())
    await asyncio.sleep(0.5)
    before = clock()
    assert await echoes(modest)
    assert clock() == before
    # There and then back, at 1 MB/s each, less what goes without a pause.
    assert 3.7 <= await asking < 4.0


async def test_a_bucket_gives_what_it_promises() -> None:
    clock = asyncio.get_running_loop().time
    bucket, started = Bucket(1000.0, 500), clock()
    for _ in range(5):
        await bucket.take(500)
    assert clock() - started == pytest.approx(2.0)
    assert not bucket.full
    await asyncio.sleep(0.5)
    assert bucket.full
    unlimited = Bucket(0.0, 1)
    await unlimited.take(10**9)
    assert clock() - started == pytest.approx(2.5)


async def test_a_new_circuit_is_no_new_allowance(town: Town) -> None:
    await town.relay("relay", rate=1e5, burst=100_000)
    for name in ("a", "b"):
        await town.member(name, hidden=True)
    clock, started = asyncio.get_running_loop().time, asyncio.get_running_loop().time()
    for _ in range(3):
        stream = await town.open("a", "b")
        assert await echoes(stream, bytes(100_000))
        await stream.aclose()
        await until(lambda: not town.passing())
    assert clock() - started > 1.9


async def test_a_record_that_is_too_large_ends_the_circuit(pair: Town) -> None:
    stream = await pair.open("a", "b")
    below: Any = stream._stream  # type: ignore[attr-defined]
    passed: list[int] = []

    def look(sender: str, receiver: str, header: bytes, payload: Any) -> bool:
        if (sender, receiver) == ("relay", "b"):
            passed.append(len(payload))
        return False

    pair.network.drop = look
    await below.send(b"", bytes(RECORD_LEN + 1))
    with pytest.raises(Unreachable):
        await stream.receive()
    assert RECORD_LEN + 1 not in passed
    await until(lambda: not pair.passing())


async def test_an_idle_circuit_ends(town: Town) -> None:
    await town.relay("relay", idle=3.0)
    for name in ("a", "b"):
        await town.member(name, hidden=True)
    stream = await town.open("a", "b")
    for _ in range(4):
        await asyncio.sleep(2)
        assert await echoes(stream)
    with pytest.raises(Unreachable):
        await stream.receive()
    assert town.passing() == 0


async def test_the_end_of_one_side_reaches_the_other(pair: Town) -> None:
    stream = await pair.open("a", "b")
    await pair.network.kill("b")
    with pytest.raises(Unreachable) as caught:
        await stream.receive()
    assert caught.value.peer == "b"
    await until(lambda: pair.members["relay"].relay.reserved == {"a"})
    with pytest.raises(Unreachable):
        await pair.open("a", "b")


@pytest.mark.parametrize("end", ["kill", "freeze"])
async def test_another_relay_takes_over(pair: Town, end: str) -> None:
    stream = await pair.open("a", "b")
    await pair.relay("second")
    await until(lambda: all(len(pair.members[name].relays) == 2 for name in ("a", "b")))
    if end == "kill":
        await pair.network.kill("relay")
        with pytest.raises(Unreachable):
            await stream.receive()
    else:
        pair.network.freeze("relay")
        receiving = asyncio.create_task(stream.receive())
        done, _ = await asyncio.wait({receiving}, timeout=5)
        assert not done
        receiving.cancel()
    # Old announcements still name the dead one first.
    assert await echoes(await pair.open("a", "b"))
    assert pair.passing("second") == 1
    await until(lambda: all(pair.members[name].relays == ("second",) for name in ("a", "b")))
    assert "/memory/relay/" not in " ".join(pair.members["a"].addresses)
    pair.network.thaw("relay")


async def test_only_changes_are_told(pair: Town) -> None:
    changes: list[tuple[str, ...]] = []
    member = pair.members["a"]
    member.watch(lambda: changes.append(member.relays))
    await pair.network.kill("relay")
    await asyncio.sleep(60)
    assert changes == [()]


async def test_the_end_of_a_control_link_spares_the_connection(pair: Town) -> None:
    stream = await pair.open("a", "relay")
    await pair.members["relay"].relay._reserved["a"].aclose()
    await until(lambda: pair.members["a"].relays == ())
    await until(lambda: pair.members["a"].relays == ("relay",))
    # Long enough that a link which nobody closed would be found silent.
    await asyncio.sleep(5)
    assert await echoes(stream)
    assert pair.members["a"].relays == ("relay",)


async def test_a_control_link_that_asks_nothing_ends_too(pair: Town) -> None:
    relay = pair.members["relay"].relay
    async with pair.members["a"]._door.control(Place("relay")):
        pass
    await asyncio.sleep(0.01)
    assert relay._controls == {"a": 1, "b": 1}


async def test_a_connection_that_is_dead_is_ended(pair: Town) -> None:
    stream = await pair.open("a", "relay")
    pair.network.freeze("relay")
    await until(lambda: pair.members["a"].relays == ())
    await asyncio.sleep(3)
    pair.network.thaw("relay")
    with pytest.raises(Unreachable):
        await stream.receive()
    await until(lambda: pair.members["a"].relays == ("relay",))


def muffle(town: Town, name: str) -> list[MemoryStream]:
    """What this member has open to the relay is from another network: nothing comes any more."""
    open_ = [s for s in town.carrier(name).streams_to("relay") if not s.closed]
    for stream in open_:
        stream._outgoing.put = lambda header, payload: None  # type: ignore[method-assign]
    return open_


async def test_a_new_place_has_the_old_one_doubted(pair: Town) -> None:
    """Silence alone would be noticed after 0.6 s, and visits go over what is dead until then."""
    clock = asyncio.get_running_loop().time
    await asyncio.sleep(1)
    old, moved = muffle(pair, "a"), clock()
    with pytest.raises(Unreachable):
        async with pair.members["a"]._door.control(Place("relay")) as control:
            await control.reserve()
            await asyncio.Future()
    assert clock() - moved < 0.45 and all(stream.closed for stream in old)
    await until(lambda: pair.members["relay"].relay.reserved == {"a", "b"})
    await until(lambda: pair.members["a"].relays == ("relay",))
    assert await echoes(await pair.open("b", "a"))


async def test_a_place_that_is_asked_for_again_by_one_that_lives_costs_nothing(pair: Town) -> None:
    stream = await pair.open("a", "relay")
    async with pair.members["a"]._door.control(Place("relay")) as control:
        await control.reserve()
        await asyncio.sleep(5)
    assert await echoes(stream)


@pytest.mark.parametrize("num_connections", [1, 2])
async def test_one_that_comes_by_another_connection_loses_the_silent_one(
    pair: Town, monkeypatch: pytest.MonkeyPatch, num_connections: int
) -> None:
    """It was silent for so long that its place was gone; with but one connection it was slow."""

    async def seen(peer: str) -> tuple[str, ...]:
        return ("/memory/old", "/memory/new")[:num_connections]

    relay = pair.members["relay"]
    monkeypatch.setattr(relay.carrier, "seen", seen)
    muffle(pair, "a")
    stream = await pair.open("a", "relay")
    await until(lambda: "a" not in relay.relay.reserved)
    await until(lambda: "a" in relay.relay.reserved)
    await asyncio.sleep(5)
    if num_connections == 1:
        assert await echoes(stream)
    else:
        with pytest.raises(Unreachable):
            await stream.receive()
    assert relay.relay.reserved == {"a", "b"} and not relay.relay._silent
    assert pair.members["a"].relays == ("relay",)


async def test_a_lost_place_is_asked_for_again_while_the_directory_thinks(pair: Town) -> None:
    clock, member = asyncio.get_running_loop().time, pair.members["a"]

    async def places() -> list[Place]:
        await asyncio.sleep(0.9)
        return await pair.places()

    member.follow(places)
    await asyncio.sleep(2.5)
    lost = clock()
    await pair.members["relay"].relay._reserved["a"].aclose()
    await until(lambda: member.relays == ())
    await until(lambda: member.relays == ("relay",))
    assert clock() - lost < 1.2


async def test_a_relay_that_comes_back_is_used_again(pair: Town) -> None:
    pair.network.disconnect("a", "relay")
    await until(lambda: pair.members["a"].relays == ())
    await until(lambda: pair.members["a"].relays == ("relay",))
    assert await echoes(await pair.open("b", "a"))


async def test_relays_that_nobody_announces_any_more_are_tried_again(pair: Town) -> None:
    await pair.relay("second")
    member = pair.members["a"]
    await until(lambda: len(member.relays) == 2)
    # The network is away, and with it the directory; the entry point does not come back.
    pair.public.clear()
    await pair.network.kill("relay")
    pair.network.disconnect("a", "second")
    await until(lambda: not member.relays)
    await until(lambda: member.relays == ("second",))


async def test_peers_that_can_be_dialled_relay_too(town: Town) -> None:
    await town.relay("bootstrap", serve=False)
    await town.member("peer")
    town.public.append("peer")
    assert town.members["peer"].relay.willing
    for name in ("a", "b"):
        assert (await town.member(name, hidden=True)).reach is Reach.RELAYED
    await until(lambda: all(town.members[name].relays == ("peer",) for name in ("a", "b")))
    assert await echoes(await town.open("a", "b"))
    assert town.passing("peer") == 1


async def test_a_slow_line_is_not_taken_for_death(pair: Town) -> None:
    pair.network.between("b", "relay", Condition(delay=0.2, rate=200_000))
    longest: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def handler(stream: Stream) -> None:
        stream.admit()
        receiving, arrived, silence, longest_silence = None, -1, 0.0, 0.0
        async with asyncio.TaskGroup() as tasks:
            receiving = tasks.create_task(stream.receive())
            while not receiving.done():
                silence = silence + 0.1 if stream.arrived_bytes == arrived else 0.0
                arrived, longest_silence = stream.arrived_bytes, max(longest_silence, silence)
                await asyncio.sleep(0.1)
        assert len(receiving.result()[1]) == 1_000_000
        longest.set_result(longest_silence)

    await pair.members["b"].serve("/sink", handler)
    stream = await pair.open("a", "b", "/sink")
    await stream.send(b"h", bytes(1_000_000))
    assert await longest < LINKS.patience


@pytest.mark.parametrize(
    "changes",
    [
        {"max_reservations": 0},
        {"max_circuits": 0},
        {"member_circuits": 0},
        {"rate": -1.0},
        {"burst": 0},
        {"idle": 0.0},
        {"patience": 0.0},
    ],
)
def test_limits_that_cannot_work(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RelayConfig(**changes)


def test_addresses_through_relays_are_told_from_direct_ones() -> None:
    relay = Place("R", ("/ip4/1.2.3.4/tcp/1", "/ip4/127.0.0.1/tcp/1", "/dns/x.org/tcp/2/p2p/R"))
    through = circuits.through(relay, "M")
    assert through == (
        "/ip4/1.2.3.4/tcp/1/p2p/R/p2p-circuit/p2p/M",
        "/dns/x.org/tcp/2/p2p/R/p2p-circuit/p2p/M",
    )
    direct, relays = circuits.split("M", ("/ip4/9.9.9.9/tcp/3/p2p/M", *through))
    assert direct == ("/ip4/9.9.9.9/tcp/3/p2p/M",)
    assert relays == (Place("R", ("/ip4/1.2.3.4/tcp/1/p2p/R", "/dns/x.org/tcp/2/p2p/R")),)
    # Somebody else's address leads to somebody else.
    assert circuits.split("X", through) == ((), ())
    local = Place("R", ("/ip4/127.0.0.1/tcp/1",))
    assert circuits.through(local, "M") == ("/ip4/127.0.0.1/tcp/1/p2p/R/p2p-circuit/p2p/M",)

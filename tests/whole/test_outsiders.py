"""X11: what those get who do not belong to a group, or no longer, or not for this: nothing.

The twin's directory is open to everybody here, so that all that is left to stop them are links.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import msgspec
import pytest

from swarm.client.config import SessionConfig
from swarm.errors import NotAMember, SwarmError, Unreachable
from swarm.membership.certificate import Role
from swarm.membership.founder import Founder
from swarm.transport.link import connect
from swarm.transport.neighbours import PROTOCOL
from swarm.wire.linking import Denied, Hello
from swarm.wire.messages import Open, Step, decode, encode

pytestmark = pytest.mark.simulated_time

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]
NUM_TOKENS = 24
BRIEF = SessionConfig(route_patience=3.0)


def now():
    return 1e9 + asyncio.get_running_loop().time()


@pytest.fixture
async def world(world):
    """A world whose certificates are as old as its simulated time."""
    world.founder = found(world, "group")
    return world


def found(world, group):
    """The group of this name, which is the same one each time."""
    signer = world.network.signer
    return Founder(signer(group), signer(f"{group}'s authority"), clock=now)


@pytest.fixture
async def three(world):
    """Peers for blocks 0:1, 1:3 and 3:4."""
    await world.chain(0, 1, 3, 4)
    return world


def let_be(world, name, membership):
    """Whoever is started under this name has this membership."""
    usual = world.member

    def member(who, **options):
        if who == name:
            options["membership"] = membership
        return usual(who, **options)

    world.member = member


def trust_of(world, name):
    return world.peers[name].member.membership.trust


def at(count, act):
    """Calls `act` exactly when token `count` is there."""

    async def on_token(number):
        if number == count:
            await act()

    return on_token


def sessions(world):
    return {name: len(peer.hosting.handler._sessions) for name, peer in world.peers.items()}


async def refused(asked):
    with pytest.raises(SwarmError) as caught:
        await asked.greedy(PROMPT, NUM_TOKENS)
    assert asked.reply.ids == []
    return caught.value


# Outsiders


async def test_an_outsider_that_knows_all_addresses_gets_nothing(three, asker):
    """It reads the directory, as nobody can outside this test, and dials everybody in it."""
    let_be(three, "outsider", found(three, "another group").admit(three.network.signer("outsider")))
    watch = three.watch()
    outsider = await three.client("outsider", config=BRIEF)
    await refused(asker(outsider))
    told = [frame for frame in watch.frames if frame.receiver == "outsider"]
    asked = [frame for frame in watch.frames if frame.sender == "outsider"]
    assert told == [], "not one byte"
    assert {type(frame.message) for frame in asked} == {Hello}
    assert set(sessions(three).values()) == {0}
    # Nobody else notices.
    model = await three.client()
    assert await asker(model).greedy(PROMPT, NUM_TOKENS) == three.tiny.greedy(PROMPT, NUM_TOKENS)


async def test_an_outsider_that_offers_blocks_is_asked_for_none(three, asker):
    """However good its offer, nothing of a prompt goes to it."""
    foreign = found(three, "another group").admit(three.network.signer("peer-x"))
    let_be(three, "peer-x", foreign)
    await three.peer("peer-x", (0, 4))
    watch = three.watch()
    asked = asker(await three.client())
    assert await asked.greedy(PROMPT, NUM_TOKENS) == three.tiny.greedy(PROMPT, NUM_TOKENS)
    got = {type(frame.message) for frame in watch.frames if frame.receiver == "peer-x"}
    assert got == {Hello}, "it was tried, since a route over it is shorter"
    assert "peer-x" not in {hop.peer for hop in asked.reply.route}


async def test_a_stolen_announcement_leads_nowhere(three, asker):
    """Somebody puts its own id and address into what a peer has said of itself, and answers with
    the credential that this peer has shown it."""
    thief = three.network.transport("thief")
    three.stack.push_async_callback(thief.aclose)
    stolen = three.peers["peer-1"].member.membership.credential
    heard = []

    async def pretend(stream):
        header, _ = await stream.receive()
        heard.append(decode(header))
        await stream.send(encode(Hello(stolen)), b"")
        stream.admit()
        while True:
            heard.append(decode((await stream.receive())[0]))

    await thief.serve(PROTOCOL, pretend)
    original = next(each for each in await three.directories["peer-1"].find() if each.start == 1)
    changed = msgspec.structs.replace(
        original, peer="thief", addresses=thief.addresses, decode_seconds=0.0, queue_seconds=0.0
    )
    await three.registry.directory("thief").announce(changed)
    asked = asker(await three.client())
    assert await asked.greedy(PROMPT, NUM_TOKENS) == three.tiny.greedy(PROMPT, NUM_TOKENS)
    assert {hop.peer for hop in asked.reply.route} == {"peer-0", "peer-1", "peer-2"}
    assert {type(message) for message in heard} == {Hello}


async def test_a_captured_stream_is_worth_nothing(three, asker):
    """All that a client has sent to a peer, sent again while its session lives and afterwards."""
    captured, told = [], []

    def capture(sender, receiver, header, payload):
        if (sender, receiver) == ("client", "peer-0"):
            captured.append((bytes(header), bytes(payload)))
        if receiver == "thief":
            told.append(header)
        return False

    three.network.drop = capture
    thief = three.network.transport("thief")
    three.stack.push_async_callback(thief.aclose)

    async def replay():
        stream = await thief.open("peer-0", PROTOCOL)
        with suppress(Unreachable):
            for frame in list(captured):
                await stream.send(*frame)
        with pytest.raises(Unreachable):
            await stream.receive()

    model = await three.client()
    reply = await asker(model).greedy(PROMPT, NUM_TOKENS, at(5, replay))
    assert reply == three.tiny.greedy(PROMPT, NUM_TOKENS)
    kinds = {type(decode(header)) for header, _ in captured}
    assert {Hello, Open, Step} <= kinds
    await replay()
    assert told == []
    assert set(sessions(three).values()) == {0}


async def test_two_groups_in_one_network_use_nobody_of_the_other(make_world, tiny, asker):
    """They even share a directory, by mistake."""
    here, there = make_world(tiny), make_world(tiny)
    here.founder = found(here, "here")
    there.network, there.registry = here.network, here.registry
    there.founder = found(there, "there")
    # Each has what the other lacks, and both serve the rest.
    for world, name, spans in ((here, "here", [(0, 2), (2, 4)]), (there, "there", [(0, 2)])):
        for number, span in enumerate(spans):
            await world.peer(f"{name}-{number}", span)
    asked = asker(await here.client("here-client"))
    assert await asked.greedy(PROMPT, NUM_TOKENS) == tiny.greedy(PROMPT, NUM_TOKENS)
    assert {hop.peer for hop in asked.reply.route} == {"here-0", "here-1"}
    watch = here.watch()
    await refused(asker(await there.client("there-client", config=BRIEF)))
    for frame in watch.frames:
        if not isinstance(frame.message, Hello):
            assert frame.sender.partition("-")[0] == frame.receiver.partition("-")[0], frame


# Those who were members


async def test_a_peer_that_is_thrown_out_in_the_middle_of_a_reply(three, asker):
    """The reply goes on elsewhere, with the same tokens. Only one member has heard of it at first:
    the others hear of it from that one."""
    await three.peer("spare", (1, 3), silent=True)
    model = await three.client()

    async def revoke():
        await three.show()
        trust_of(three, "peer-2").learn(three.founder.revoke("peer-1"))
        await asyncio.sleep(2)

    asked = asker(model)
    reply = await asked.greedy(PROMPT, NUM_TOKENS, at(8, revoke))
    assert reply == three.tiny.greedy(PROMPT, NUM_TOKENS)
    assert {hop.peer for hop in asked.reply.route} == {"peer-0", "spare", "peer-2"}
    assert asked.reply.num_recoveries >= 1
    assert sessions(three)["peer-1"] == 0
    # Nobody asks it again, though it still says that it serves.
    watch = three.watch()
    again = asker(model)
    assert await again.greedy(PROMPT, NUM_TOKENS) == three.tiny.greedy(PROMPT, NUM_TOKENS)
    assert not [
        frame
        for frame in watch.frames
        if isinstance(frame.message, Step | Open) and "peer-1" in (frame.sender, frame.receiver)
    ]


async def test_a_peer_whose_certificate_ends_in_the_middle_of_a_reply(world, asker):
    brief = world.founder.admit(world.network.signer("peer-1"), lifetime=30)
    let_be(world, "peer-1", brief)
    await world.chain(0, 1, 3, 4)
    await world.peer("spare", (1, 3), silent=True)

    async def expire():
        await world.show()
        await asyncio.sleep(31)

    asked = asker(await world.client())
    reply = await asked.greedy(PROMPT, NUM_TOKENS, at(8, expire))
    assert reply == world.tiny.greedy(PROMPT, NUM_TOKENS)
    assert {hop.peer for hop in asked.reply.route} == {"peer-0", "spare", "peer-2"}


async def test_a_relay_that_is_thrown_out_in_the_middle_of_a_reply(world, asker):
    for name in ("relay", "second"):
        await world.relay(name)
    for number, span in enumerate([(0, 2), (2, 4)]):
        await world.peer(f"peer-{number}", span, hidden=True)
    await world.until(lambda: len(world.peers["peer-1"].member.transport.relays) == 2, 60)
    model = await world.client(hidden=True)

    async def revoke():
        trust_of(world, "peer-0").learn(world.founder.revoke("relay"))
        await asyncio.sleep(5)

    asked = asker(model)
    reply = await asked.greedy(PROMPT, NUM_TOKENS, at(8, revoke))
    assert reply == world.tiny.greedy(PROMPT, NUM_TOKENS)
    assert world.relays["relay"].relay.num_circuits == 0
    assert world.relays["relay"].relay.reserved == frozenset()


async def test_a_certificate_that_is_renewed_in_the_middle_of_a_reply_interrupts_nothing(
    world, asker
):
    brief = world.founder.admit(world.network.signer("peer-1"), lifetime=30)
    let_be(world, "peer-1", brief)
    await world.chain(0, 1, 3, 4)

    async def renew():
        await asyncio.sleep(20)
        brief.adopt(world.founder.certify("peer-1", lifetime=1000))
        await asyncio.sleep(20)

    asked = asker(await world.client())
    reply = await asked.greedy(PROMPT, NUM_TOKENS, at(8, renew))
    assert reply == world.tiny.greedy(PROMPT, NUM_TOKENS)
    assert asked.reply.num_recoveries == 0


@pytest.mark.parametrize("who", ["peer-0", "peer-1", "peer-2"])
async def test_a_client_that_is_thrown_out_leaves_nothing_behind(three, asker, who):
    """Its sessions end at all peers within a second, whichever of them hears of it."""
    asked = asker(await three.client("former", config=BRIEF))
    other = asker(await three.client())
    taken = []

    async def revoke():
        assert set(sessions(three).values()) == {1}
        started = now()
        trust_of(three, who).learn(three.founder.revoke("former"))
        await three.until(lambda: set(sessions(three).values()) == {0}, 2.0)
        taken.append(now() - started)

    with pytest.raises(SwarmError):
        await asked.greedy(PROMPT, NUM_TOKENS, at(8, revoke))
    assert taken[0] < 1.0
    assert len(asked.reply.ids) < NUM_TOKENS
    # It is told why, and gets nothing more.
    watch = three.watch()
    await refused(asker(asked.model))
    told = {type(frame.message) for frame in watch.frames if frame.receiver == "former"}
    assert told <= {Denied}
    assert await other.greedy(PROMPT, NUM_TOKENS) == three.tiny.greedy(PROMPT, NUM_TOKENS)


async def test_a_client_whose_certificate_has_ended_gets_nothing(three, asker):
    brief = three.founder.admit(three.network.signer("client"), Role.CLIENT, lifetime=30)
    let_be(three, "client", brief)
    asked = asker(await three.client(config=BRIEF))
    assert await asked.greedy(PROMPT, NUM_TOKENS) == three.tiny.greedy(PROMPT, NUM_TOKENS)
    await asyncio.sleep(31)
    await refused(asker(asked.model))
    # As soon as it has a new one it goes on.
    brief.adopt(three.founder.certify("client", Role.CLIENT))
    again = asker(asked.model)
    assert await again.greedy(PROMPT, NUM_TOKENS) == three.tiny.greedy(PROMPT, NUM_TOKENS)


# Members that are not what they say


async def test_who_may_only_ask_is_asked_for_no_blocks(three, asker):
    client = three.founder.admit(three.network.signer("peer-x"), Role.CLIENT)
    let_be(three, "peer-x", client)
    await three.peer("peer-x", (0, 4))
    watch = three.watch()
    asked = asker(await three.client())
    assert await asked.greedy(PROMPT, NUM_TOKENS) == three.tiny.greedy(PROMPT, NUM_TOKENS)
    assert "peer-x" not in {hop.peer for hop in asked.reply.route}
    got = {type(frame.message) for frame in watch.frames if frame.receiver == "peer-x"}
    assert not got & {Open, Step}


async def test_no_peer_sends_on_to_who_may_only_ask(world, asker):
    """Neither does a hop: whom a client names as the next one must be a peer too."""
    client = world.founder.admit(world.network.signer("peer-1"), Role.CLIENT)
    let_be(world, "peer-1", client)
    await world.chain(0, 2, 4)
    with pytest.raises(NotAMember, match="may not serve blocks"):
        await world.peers["peer-0"]._neighbours.link("peer-1")


async def test_a_member_that_asks_as_somebody_else_is_not_let_in(three):
    """A member in good standing shows another one's credential on its own connection."""
    member = three.member("member")
    victim = three.founder.admit(three.network.signer("victim"))
    impostor = replace(member, membership=victim)
    stream = await impostor.transport.open("peer-0", PROTOCOL)
    with pytest.raises(Unreachable):
        await connect(stream, impostor.membership)

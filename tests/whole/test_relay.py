"""X10: peers and clients that nobody can dial, behind relays; the tokens are transformers' own."""

from __future__ import annotations

import asyncio

import pytest

from swarm.errors import Unreachable
from swarm.transport.neighbours import PROTOCOL
from swarm.transport.reach import Reach
from swarm.transport.relay_config import RelayConfig
from swarm.wire.messages import SessionMessage, decode
from swarm.wire.relaying import RelayMessage

pytestmark = pytest.mark.simulated_time

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]
NUM_TOKENS = 16


@pytest.fixture
async def homes(world):
    """A relay, and blocks 0:2 and 2:4 on two peers that nobody can dial."""
    await world.relay("relay")
    for number, span in enumerate([(0, 2), (2, 4)]):
        await world.peer(f"peer-{number}", span, hidden=True)
    return world


def at(count, act):
    """Calls `act` exactly when output `count` has arrived."""

    async def on_token(number):
        if number == count:
            await act()

    return on_token


async def test_hidden_peers_answer_a_hidden_client(homes, asker):
    asked = asker(await homes.client(hidden=True))
    assert await asked.greedy(PROMPT, NUM_TOKENS) == homes.tiny.greedy(PROMPT, NUM_TOKENS)
    assert asked.reply.num_recoveries == 0
    assert {hop.peer for hop in asked.reply.route} == {"peer-0", "peer-1"}


async def test_hidden_and_public_peers_in_one_route(world, asker):
    relay = await world.relay("relay")
    await world.peer("peer-0", (0, 1), hidden=True)
    await world.peer("public", (1, 2))
    await world.peer("peer-1", (2, 4), hidden=True)
    asked = asker(await world.client())
    assert await asked.greedy(PROMPT, NUM_TOKENS) == world.tiny.greedy(PROMPT, NUM_TOKENS)
    # The client and the public one need it towards hidden ones, nobody towards the public one.
    assert relay.relay._circuits == {"client": 2, "peer-0": 1, "peer-1": 2, "public": 1}


async def test_announcements_say_how_a_peer_is_reached(homes):
    await homes.peer("open", (0, 4))
    found = {entry.peer: entry for entry in await homes.registry.directory("x").find()}
    assert found["peer-0"].reach is found["peer-1"].reach is Reach.RELAYED
    assert found["open"].reach is Reach.DIRECT
    assert found["peer-1"].addresses[-1].endswith("/p2p/relay/p2p-circuit/p2p/peer-1")


async def test_nothing_reaches_a_hidden_peer_without_the_relay(homes):
    stranger = homes.member("stranger").transport
    with pytest.raises(Unreachable):
        await stranger.open("peer-0", PROTOCOL, ("/memory/peer-0",))


async def test_the_relay_reads_no_message(homes, asker):
    read, passed = [], []

    def look(sender, receiver, header, payload):
        if "relay" in (sender, receiver):
            passed.append(len(payload))
            try:
                read.append(decode(header))
            except Exception:
                return False
        return False

    homes.network.drop = look
    asked = asker(await homes.client(hidden=True))
    await asked.greedy(PROMPT, NUM_TOKENS)
    # The activations went through it, and all that it could read is what it was asked itself.
    assert sum(size > 64 * 4 for size in passed) >= NUM_TOKENS
    assert any(isinstance(message, RelayMessage) for message in read)
    assert not any(isinstance(message, SessionMessage) for message in read)


async def has_relays(world, count):
    """Waits until every hidden peer has announced that it is behind `count` relays."""
    directory = world.registry.directory("x")
    async with asyncio.timeout(30):
        while True:
            found = [entry for entry in await directory.find() if entry.reach is Reach.RELAYED]
            if all(str(entry.addresses).count("p2p-circuit") == count for entry in found):
                return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("end", ["kill", "freeze"])
@pytest.mark.parametrize("count", [1, 8])
async def test_a_relay_dies_and_another_takes_over(homes, asker, count, end):
    second = await homes.relay("second")
    await has_relays(homes, 2)

    async def act():
        assert homes.relays["relay"].relay.num_circuits
        if end == "kill":
            await homes.network.kill("relay")
        else:
            homes.network.freeze("relay")

    asked = asker(await homes.client(hidden=True))
    ids = await asked.greedy(PROMPT, NUM_TOKENS, at(count, act))
    assert ids == homes.tiny.greedy(PROMPT, NUM_TOKENS)
    assert asked.reply.num_recoveries >= 1
    assert second.relay.num_circuits or second.relay.reserved
    homes.network.thaw("relay")


async def test_a_relay_dies_and_one_that_joins_later_takes_over(homes, asker):
    async def act():
        await homes.network.kill("relay")
        del homes.relays["relay"]
        await homes.relay("later")

    asked = asker(await homes.client(hidden=True))
    ids = await asked.greedy(PROMPT, NUM_TOKENS, at(5, act))
    assert ids == homes.tiny.greedy(PROMPT, NUM_TOKENS)


@pytest.mark.parametrize("victim", ["peer-0", "peer-1"])
@pytest.mark.parametrize("end", ["kill", "freeze"])
async def test_a_hidden_peer_vanishes_and_a_spare_takes_over(homes, asker, victim, end):
    span = {"peer-0": (0, 2), "peer-1": (2, 4)}[victim]
    await homes.peer("spare", span, hidden=True, silent=True)

    async def act():
        await homes.show()
        if end == "kill":
            await homes.kill(victim)
        else:
            homes.network.freeze(victim)

    asked = asker(await homes.client(hidden=True))
    ids = await asked.greedy(PROMPT, NUM_TOKENS, at(6, act))
    assert ids == homes.tiny.greedy(PROMPT, NUM_TOKENS)
    assert "spare" in {hop.peer for hop in asked.reply.route}
    homes.network.thaw(victim)


async def test_many_clients_share_a_relay_that_slows_them_down(world, asker):
    relay = await world.relay("relay", RelayConfig(rate=100_000, burst=10_000))
    for number, span in enumerate([(0, 2), (2, 4)]):
        await world.peer(f"peer-{number}", span, hidden=True)
    askers = [asker(await world.client(f"client-{i}", hidden=True)) for i in range(3)]
    answers = await asyncio.gather(*(each.greedy(PROMPT, NUM_TOKENS) for each in askers))
    assert answers == 3 * [world.tiny.greedy(PROMPT, NUM_TOKENS)]
    assert all(each.reply.num_recoveries == 0 for each in askers)
    assert relay.relay.num_circuits == 3 * 2 + 1

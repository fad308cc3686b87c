"""X5, X6: activations go from peer to peer, and what is lost, late or doubled does no harm."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
import torch

from swarm.client import RowInput
from swarm.client.config import SessionConfig
from swarm.errors import StepTimeout
from swarm.transport.memory import Condition
from swarm.wire.linking import Hello, Ping, Pong
from swarm.wire.messages import Failed, Output, RowRange, Step, Want

pytestmark = pytest.mark.simulated_time

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]
NUM_TOKENS = 16
EDGES = [("client", "peer-0"), ("peer-0", "peer-1"), ("peer-1", "peer-2"), ("peer-2", "client")]
QUICK = SessionConfig(chunk_len=4, step_patience=0.5, hold_patience=0.5)


@pytest.fixture
async def three(world):
    """Peers for blocks 0:1, 1:3 and 3:4."""
    await world.chain(0, 1, 3, 4)
    return world


async def test_x5_only_the_ends_cross_the_client(three, asker):
    model = await three.client()
    watch = three.watch()
    ids = await asker(model).greedy(PROMPT, NUM_TOKENS)
    assert ids == three.tiny.greedy(PROMPT, NUM_TOKENS)
    steps = watch.count(Step)
    assert steps == Counter({edge: NUM_TOKENS for edge in EDGES[:3]})
    assert watch.count(Output) == Counter({EDGES[3]: NUM_TOKENS})
    sizes = Counter()
    for frame in watch.frames:
        if isinstance(frame.message, Step | Output):
            sizes[frame.sender, frame.receiver] += frame.size
    # Of the prompt only the last position comes back.
    num_sent, num_back = len(PROMPT) + NUM_TOKENS - 1, NUM_TOKENS
    for edge, positions in zip(EDGES, (num_sent, num_sent, num_sent, num_back), strict=True):
        payload = positions * 64 * 4
        assert payload < sizes[edge] < payload + NUM_TOKENS * 200, edge
    sent, received = three.swarms["client"].traffic
    assert sizes["client", "peer-0"] < sent < sizes["client", "peer-0"] + 5000
    assert sizes["peer-2", "client"] < received < sizes["peer-2", "client"] + 5000


async def test_x5_a_step_is_one_message_per_hop_while_nothing_happens(three, asker):
    """No chatter: besides heartbeats, decoding costs one message per edge and token."""
    model = await three.client()
    counts = []

    async def on_token(number):
        if number == 1:
            watch = three.watch()
            counts.append(watch)

    await asker(model).greedy(PROMPT, NUM_TOKENS, on_token)
    kinds = Counter(type(frame.message).__name__ for frame in counts[0].frames)
    for name in ("Ping", "Pong", "Close"):
        kinds.pop(name, None)
    assert kinds == {"Step": 3 * (NUM_TOKENS - 1), "Output": NUM_TOKENS - 1}


@pytest.mark.parametrize("edge", EDGES, ids="-".join)
@pytest.mark.parametrize("number", [0, 1, 2, 8, 17], ids=lambda n: f"message-{n}")
async def test_x6_lost(three, asker, edge, number):
    """Three chunks of prompt, then decode: the message with this number never arrives."""
    model = await three.client(config=QUICK)
    watch = three.watch()

    def lose(frame):
        kind = Output if edge[1] == "client" else Step
        return (
            (frame.sender, frame.receiver) == edge
            and isinstance(frame.message, kind)
            and watch.count(kind)[edge] == number + 1
        )

    watch.drops = lose
    asked = asker(model)
    assert await asked.greedy(PROMPT, NUM_TOKENS) == three.tiny.greedy(PROMPT, NUM_TOKENS)
    assert asked.reply.num_recoveries == 1
    # All three live: the route stays, and nobody is avoided.
    assert [hop.peer for hop in asked.reply.route] == ["peer-0", "peer-1", "peer-2"]
    assert not asked.model._access.router._avoided()


async def test_x6_lost_one_of_several_chunks_is_noticed_by_the_next(three, asker):
    """A gap in `seq` is reported at once, without waiting for anybody's patience."""
    model = await three.client(config=SessionConfig(chunk_len=4, step_patience=1000))
    watch = three.watch()
    edge = EDGES[1]
    watch.drops = lambda frame: (
        (frame.sender, frame.receiver) == edge and watch.count(Step)[edge] == 1
        if isinstance(frame.message, Step)
        else False
    )
    assert await asker(model).greedy(PROMPT, NUM_TOKENS) == three.tiny.greedy(PROMPT, NUM_TOKENS)
    assert watch.count(Failed)["peer-1", "client"] >= 1
    assert asyncio.get_running_loop().time() < 10


async def test_x6_an_old_output_that_comes_while_a_route_is_sought_is_not_the_new_ones_first(
    three, monkeypatch
):
    """Counted as such, the real first one would be dropped, and the step wait for its patience."""
    model = await three.client(config=SessionConfig(step_patience=1000))
    sought, late = model._access.router.route, []

    async def route(*args):
        found = await sought(*args)
        if (hops := session._chain.hops) and not late:
            name, epoch, nothing = session._chain.name, session._chain.epoch, Want.NOTHING
            late.append(Output(name, epoch, 0, 0, (RowRange(0, 0, 0),), nothing))
            session.on_message(hops[-1].link, late[0], b"")
        return found

    monkeypatch.setattr(model._access.router, "route", route)
    async with model.session() as session:
        await session.step([RowInput(0, 0, torch.randn(3, 64))])
        await three.spare((1, 3))
        await three.kill("peer-1")
        await session.step([RowInput(0, 3, torch.randn(1, 64))])
    assert late and asyncio.get_running_loop().time() < 30


@pytest.mark.parametrize("edge", EDGES, ids="-".join)
@pytest.mark.parametrize("count", [1, 7])
async def test_x6_late(three, asker, edge, count):
    """Everything on one edge comes so late that it has been sent again meanwhile."""
    # Later than `step_patience`, sooner than a link counts as dead.
    model = await three.client(config=SessionConfig(step_patience=0.3, hold_patience=2))

    async def on_token(number):
        if number == count:
            three.network.between(*edge, Condition(delay=0.4))
        elif number == count + 2:
            three.network.between(*edge, Condition())

    asked = asker(model)
    ids = await asked.greedy(PROMPT, NUM_TOKENS, on_token)
    assert ids == three.tiny.greedy(PROMPT, NUM_TOKENS)
    assert asked.reply.num_recoveries >= 1


@pytest.mark.parametrize("edge", EDGES, ids="-".join)
async def test_x6_doubled(three, asker, edge):
    model = await three.client(config=QUICK)

    async def on_token(number):
        if number == 1:
            three.network.between(*edge, Condition(duplicate=1.0))

    asked = asker(model)
    ids = await asked.greedy(PROMPT, NUM_TOKENS, on_token)
    assert ids == three.tiny.greedy(PROMPT, NUM_TOKENS)
    assert asked.reply.num_recoveries == 0


@pytest.mark.parametrize("seed", range(8))
async def test_x6_any_message_of_a_session_may_be_lost(three, asker, seed):
    """Holds, wires and their answers too, while a peer dies."""
    await three.spare((0, 4), (1, 2))
    model = await three.client(config=QUICK)
    draw = random.Random(seed)
    watch = three.watch()

    async def on_token(number):
        if number == 1:
            watch.drops = lambda frame: (
                not isinstance(frame.message, Hello | Ping | Pong) and draw.random() < 0.04
            )
        if number == 8:
            await three.kill("peer-1")

    asked = asker(model)
    ids = await asked.greedy(PROMPT, 24, on_token)
    assert ids == three.tiny.greedy(PROMPT, 24)
    assert asked.reply.num_recoveries >= 1
    # A lost `Close` costs a peer its memory until the client's link ends.
    await three.kill("client")


async def test_x6_an_edge_that_always_loses_ends_in_a_clear_error(three, asker):
    """Two peers that live, and never get anything from one another: bounded in time."""
    model = await three.client(config=QUICK)
    watch = three.watch()
    watch.drops = lambda frame: (
        (frame.sender, frame.receiver) == EDGES[1] and isinstance(frame.message, Step)
    )
    with pytest.raises(StepTimeout, match="no output"):
        await asker(model).greedy(PROMPT, NUM_TOKENS)
    assert asyncio.get_running_loop().time() < 30

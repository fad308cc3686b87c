"""X10: peers that leave on purpose. Their sessions go on elsewhere before they are gone."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from swarm.client.config import SessionConfig
from swarm.errors import NoRouteError
from swarm.peer.handler import HandlerConfig
from swarm.transport.memory import Condition
from swarm.wire.messages import Copy, Open, Output, Step

pytestmark = pytest.mark.simulated_time

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]
LONG = [(7 * i) % 299 + 1 for i in range(200)]
NUM_TOKENS = 24


@pytest.fixture
async def three(world):
    """Peers for blocks 0:1, 1:3 and 3:4."""
    await world.chain(0, 1, 3, 4)
    return world


class Leaver:
    """Lets peers leave when a token has come, and waits for it at the end."""

    def __init__(self, world, count, *names, pause=0.05):
        self.world, self.count, self.names, self.pause = world, count, names, pause
        self.tasks = []
        self.moments = []

    async def __call__(self, number):
        self.moments.append(asyncio.get_running_loop().time())
        if number == self.count:
            await self.world.show()
            for name in self.names:
                self.tasks.append(asyncio.ensure_future(self.world.leave(name)))
        # Tokens come without any delay in this world: the handover gets time between them.
        await asyncio.sleep(self.pause)

    async def gone(self):
        await asyncio.gather(*self.tasks)


@pytest.mark.parametrize("names", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)], ids=str)
async def test_x10_leaving_costs_no_recovery(three, asker, names):
    await three.spare((0, 4))
    asked = asker(await three.client())
    leaver = Leaver(three, 5, *(f"peer-{i}" for i in names))
    assert await asked.greedy(PROMPT, NUM_TOKENS, leaver) == three.tiny.greedy(PROMPT, NUM_TOKENS)
    await leaver.gone()
    assert asked.reply.num_recoveries == 0
    assert not {hop.peer for hop in asked.reply.route} & set(leaver.names)
    assert not asked.model._access.router._avoided()


async def test_x10_several_take_over_from_one(three, asker):
    await three.spare((1, 2), (2, 3))
    asked = asker(await three.client())
    leaver = Leaver(three, 5, "peer-1")
    assert await asked.greedy(LONG, NUM_TOKENS, leaver) == three.tiny.greedy(LONG, NUM_TOKENS)
    await leaver.gone()
    assert asked.reply.num_recoveries == 0 and len(asked.reply.route) == 4


async def test_x10_the_history_goes_from_peer_to_peer_while_the_old_one_serves(three, asker):
    await three.spare((1, 3))
    asked = asker(await three.client())
    watch = three.watch()
    leaver = Leaver(three, 5, "peer-1")
    assert await asked.greedy(LONG, NUM_TOKENS, leaver) == three.tiny.greedy(LONG, NUM_TOKENS)
    await leaver.gone()
    assert watch.count(Copy) == {("client", "peer-0"): 1}
    steps = [frame for frame in watch.frames if isinstance(frame.message, Step | Output)]
    opened = next(i for i, f in enumerate(watch.frames) if isinstance(f.message, Open) and i > 50)
    replayed = [f for f in steps if f.receiver == "spare-1:3" and f.message.refill]
    sent = sum(span.count for frame in replayed for span in frame.message.rows)
    assert len(LONG) <= sent < len(LONG) + NUM_TOKENS
    # What it lacks in the end is little: the rest was there before it took over.
    assert all(sum(s.count for s in f.message.rows) <= 8 for f in replayed[1:])
    # One step for each token, as without the leaving: the client's line carries nothing else.
    from_client = [f for f in watch.frames[opened:] if f.sender == "client" and f in steps]
    assert all(sum(s.count for s in f.message.rows) == 1 for f in from_client)
    engine = three.peers["spare-1:3"].hosting._engine
    assert engine.num_positions == len(LONG) + NUM_TOKENS - 1


@pytest.mark.parametrize("how", ["leave", "kill"])
async def test_x10_users_see_no_gap_beyond_one_step(three, asker, how):
    """With 20 ms between machines, replaying a long prompt takes long; leaving hides it."""
    await three.spare((1, 3))
    three.network.default = Condition(delay=0.02, rate=100_000.0)
    asked = asker(await three.client())
    leaver = Leaver(three, 5, *(["peer-1"] if how == "leave" else []))

    async def on_token(number):
        await leaver(number)
        if how == "kill" and number == 5:
            await three.kill("peer-1")

    assert await asked.greedy(LONG, NUM_TOKENS, on_token) == three.tiny.greedy(LONG, NUM_TOKENS)
    await leaver.gone()
    gaps = [after - before for before, after in pairwise(leaver.moments)]
    usual = sorted(gaps)[len(gaps) // 2]
    if how == "leave":
        # Two round trips to wire the chain anew, beside the step's own way.
        assert max(gaps) < usual + 4 * 0.02 + 0.2
    else:
        assert max(gaps) > usual + 0.4


async def test_x10_an_idle_session_is_handed_over_too(three, asker):
    await three.spare((1, 3))
    model = await three.client()
    ask = asker(model)
    async with model.session() as session:
        await ask.logits(session, PROMPT, 0)
        await three.show()
        await three.leave("peer-1")
        assert [hop.peer for hop in session.route] == ["peer-0", "spare-1:3", "peer-2"]
        logits = await ask.logits(session, [30], len(PROMPT))
        assert int(logits[-1].argmax()) == int(three.tiny.logits([*PROMPT, 30])[-1].argmax())
        assert session.num_recoveries == 0 and session.num_handovers == 1


async def test_x10_nobody_to_take_over(three, asker):
    """The peer serves as long as it may; then the session waits for somebody to join."""
    asked = asker(await three.client(config=SessionConfig(route_patience=60)))
    three.peers["peer-1"].config = three.patient("peer-1", 2.0)
    leaver = Leaver(three, 5, "peer-1", pause=0.2)

    async def joins():
        await asyncio.sleep(20)
        await three.peer("late", (0, 4))

    joining = asyncio.ensure_future(joins())
    assert await asked.greedy(PROMPT, NUM_TOKENS, leaver) == three.tiny.greedy(PROMPT, NUM_TOKENS)
    await asyncio.gather(joining, leaver.gone())
    assert asked.reply.num_recoveries >= 1


async def test_x10_the_heir_dies_while_it_is_filled(three, asker):
    await three.spare((1, 3))
    await three.peer("other", (0, 4), silent=True)
    asked = asker(await three.client())
    watch = three.watch()
    killing = []

    def look(frame):
        if isinstance(frame.message, Copy) and not killing:
            route = asked.model._access.router
            assert route is not None
            killing.append(asyncio.ensure_future(three.kill("spare-1:3")))
        return False

    watch.drops = look
    leaver = Leaver(three, 5, "peer-1")
    assert await asked.greedy(PROMPT, 40, leaver) == three.tiny.greedy(PROMPT, 40)
    await asyncio.gather(*killing, leaver.gone())
    assert killing and asked.reply.num_recoveries == 0


async def test_x10_histories_that_were_dropped_cannot_be_copied(world, asker):
    """The chain is then mended from further back, once the heirs have waited in vain."""
    small = HandlerConfig(history_bytes=0)
    for index, blocks in enumerate([(0, 1), (1, 3), (3, 4)]):
        await world.peer(f"peer-{index}", blocks, handler_config=small)
    await world.spare((1, 3))
    asked = asker(await world.client(config=SessionConfig(step_patience=0.5)))
    leaver = Leaver(world, 5, "peer-1")
    assert await asked.greedy(PROMPT, 100, leaver) == world.tiny.greedy(PROMPT, 100)
    await leaver.gone()
    assert "peer-1" not in {hop.peer for hop in asked.reply.route}


async def test_x10_a_session_that_ends_meanwhile_leaves_nothing(three, asker):
    await three.spare((1, 3))
    three.network.default = Condition(delay=0.05)
    model = await three.client()
    ask = asker(model)
    async with model.session() as session:
        await ask.logits(session, PROMPT, 0)
        await three.show()
        leaving = asyncio.ensure_future(three.leave("peer-1"))
        await asyncio.sleep(0.12)
        assert session._succession._task is not None
    await leaving


async def test_x10_a_move_hands_over_too(world, asker):
    await world.chain(0, 1, 3, 4)
    await world.peer("wide", (0, 4), silent=True)
    asked = asker(await world.client())
    moves = []

    async def on_token(number):
        if number == 5:
            await world.show()
            moves.append(asyncio.ensure_future(world.peers["peer-1"].move((0, 2))))
        await asyncio.sleep(0.01)

    assert await asked.greedy(PROMPT, NUM_TOKENS, on_token) == world.tiny.greedy(PROMPT, NUM_TOKENS)
    await asyncio.gather(*moves)
    assert asked.reply.num_recoveries == 0 and world.peers["peer-1"].span == (0, 2)


async def test_x4_what_is_missing_is_named_and_the_reply_can_be_resumed(three, asker):
    told = []
    model = await three.client(config=SessionConfig(route_patience=3), on_wait=told.append)
    ask = asker(model)

    async def on_token(number):
        if number == 5:
            await three.kill("peer-1")

    with pytest.raises(NoRouteError) as caught:
        await ask.greedy(PROMPT, NUM_TOKENS, on_token)
    assert caught.value.missing == ((1, 3),)
    assert len(ask.reply.ids) == 5
    assert isinstance(told[0], NoRouteError) and told[-1] is None
    await three.peer("late", (1, 3))
    assert await ask.resume(NUM_TOKENS) == three.tiny.greedy(PROMPT, NUM_TOKENS)


async def test_leaving_in_the_middle_of_a_move_is_leaving(world, asker):
    """Nobody takes over: the move gives up the blocks while the leaving still waits."""
    peer = await world.peer("mover", (0, 4))
    model = await world.client()
    async with model.session() as session:
        await asker(model).logits(session, PROMPT, 0)
        moving = asyncio.ensure_future(peer.move((0, 2)))
        await asyncio.sleep(5)
        await peer.leave()
        await moving
        found = await world.directories["client"].find()
        assert not [entry for entry in found if entry.peer == "mover"]
        assert peer.hosting is None
    await peer.aclose()

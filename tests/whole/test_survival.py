"""X1, X3, X4, X10: whatever dies, freezes or leaves, the tokens are transformers' own."""

from __future__ import annotations

import asyncio

import pytest
import torch

from swarm.client import RowInput
from swarm.client.chain import OpenHop
from swarm.client.config import SessionConfig
from swarm.client.standbys import INTERVAL
from swarm.errors import (
    LocalProtocolError,
    NoRouteError,
    PeerError,
    RequestError,
    SessionLost,
    Unreachable,
)
from swarm.transport.memory import MemoryTransport
from swarm.wire.messages import Close, Code, Failed, Hold, Open, Output, RowRange, Step, Want

pytestmark = pytest.mark.simulated_time

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]
LONG = [(7 * i) % 299 + 1 for i in range(40)]
NUM_TOKENS = 16
PEERS = ["peer-0", "peer-1", "peer-2"]
EDGES = [("client", "peer-0"), ("peer-0", "peer-1"), ("peer-1", "peer-2"), ("peer-2", "client")]


@pytest.fixture
async def three(world):
    """Peers for blocks 0:1, 1:3 and 3:4."""
    await world.chain(0, 1, 3, 4)
    return world


def at(count, act):
    """Calls `act` exactly when output `count` has arrived."""

    async def on_token(number):
        if number == count:
            await act()

    return on_token


@pytest.mark.parametrize("victim", PEERS)
@pytest.mark.parametrize("count", [1, 2, 9])
async def test_x1_killed_after_token(three, asker, victim, count):
    await three.spare((0, 4))
    asked = asker(await three.client())
    ids = await asked.greedy(PROMPT, NUM_TOKENS, at(count, lambda: three.kill(victim)))
    assert ids == three.tiny.greedy(PROMPT, NUM_TOKENS)
    assert asked.reply.num_recoveries >= 1
    assert victim not in {hop.peer for hop in asked.reply.route}


@pytest.mark.parametrize("victims", [(0, 1), (1, 2), (0, 2), (0, 1, 2)])
async def test_x1_several_killed_at_once(three, asker, victims):
    await three.spare((0, 4))

    async def act():
        await asyncio.gather(*(three.kill(PEERS[victim]) for victim in victims))

    asked = asker(await three.client())
    assert await asked.greedy(PROMPT, NUM_TOKENS, at(5, act)) == three.tiny.greedy(
        PROMPT, NUM_TOKENS
    )


@pytest.mark.parametrize("edge", EDGES, ids="-".join)
@pytest.mark.parametrize("number", [0, 4, 11], ids=["first chunk", "in prefill", "in decode"])
async def test_x1_killed_while_a_step_is_on_the_way(three, asker, edge, number):
    """Message `number` of an edge leaves, and its sender or receiver (not the client) dies."""
    await three.spare((0, 4))
    model = await three.client(config=SessionConfig(chunk_len=5))
    watch = three.watch()
    victim = edge[0] if edge[1] == "client" else edge[1]
    kills = []

    def look(frame):
        if (frame.sender, frame.receiver) == edge and isinstance(frame.message, Step | Output):
            if watch.count(type(frame.message))[edge] == number + 1 and not kills:
                kills.append(asyncio.ensure_future(three.kill(victim)))
        return False

    watch.drops = look
    assert await asker(model).greedy(LONG, NUM_TOKENS) == three.tiny.greedy(LONG, NUM_TOKENS)
    assert len(kills) == 1
    await kills[0]


@pytest.mark.parametrize(
    "spares",
    [[(1, 3)], [(0, 2), (2, 4)], [(1, 2), (2, 3)], [(0, 2), (2, 3)], [(1, 4)]],
    ids=str,
)
async def test_x3_the_replacement_has_other_borders(three, asker, spares):
    await three.spare(*spares)
    asked = asker(await three.client())
    ids = await asked.greedy(PROMPT, NUM_TOKENS, at(4, lambda: three.kill("peer-1")))
    assert ids == three.tiny.greedy(PROMPT, NUM_TOKENS)
    assert (asked.reply.route[0].peer, asked.reply.route[-1].peer) == ("peer-0", "peer-2")


async def test_x1_what_survives_computes_nothing_twice(three, asker):
    await three.spare((1, 3))
    model = await three.client()
    ids = await asker(model).greedy(LONG, NUM_TOKENS, at(6, lambda: three.kill("peer-1")))
    assert ids == three.tiny.greedy(LONG, NUM_TOKENS)
    for name in ("peer-0", "peer-2", "spare-1:3"):
        engine = three.peers[name].hosting._engine
        assert engine.num_positions == len(LONG) + NUM_TOKENS - 1, name


async def test_x1_one_dies_after_the_other(world, asker):
    for number in range(6):
        await world.peer(f"wide-{number}", (0, 4))
    asked = asker(await world.client())

    async def on_token(number):
        if number % 3 == 0 and len(world.peers) > 1:
            await world.kill(asked.reply.route[0].peer)

    ids = await asked.greedy(PROMPT, 20, on_token)
    assert ids == world.tiny.greedy(PROMPT, 20)
    assert asked.reply.num_recoveries == 5


async def test_x1_the_replacement_dies_while_it_opens(three, asker):
    """The death that is noticed in the middle of mending another one."""
    await three.spare((1, 3))
    await three.peer("other", (0, 4), silent=True)
    model = await three.client()
    watch = three.watch()
    killing = []

    def look(frame):
        if isinstance(frame.message, Open) and frame.receiver == "spare-1:3":
            killing.append(asyncio.ensure_future(three.kill("spare-1:3")))
        return False

    watch.drops = look
    ids = await asker(model).greedy(PROMPT, NUM_TOKENS, at(4, lambda: three.kill("peer-1")))
    assert ids == three.tiny.greedy(PROMPT, NUM_TOKENS)
    await asyncio.gather(*killing)


async def test_x1_killed_after_a_roll_back(three, asker):
    """The replacement gets the newest continuation, not the one that was given up."""
    await three.spare((0, 4))
    model = await three.client()
    asked = asker(model)
    async with model.session() as session:
        await asked.logits(session, LONG, 0)
        await asked.logits(session, PROMPT, 20)
        await three.kill("peer-1")
        logits = await asked.logits(session, [5, 6, 7], 25)
    expected = three.tiny.logits([*LONG[:20], *PROMPT[:5], 5, 6, 7])[-3:]
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=0)


async def test_x1_killed_with_several_rows_of_a_reordered_session(three):
    await three.spare((0, 2), (1, 4))
    model = await three.client()
    texts = [LONG[:9], PROMPT, LONG[5:8]]
    embed = model.head.embed
    async with model.session(num_rows=3) as session:
        await session.step([RowInput(i, 0, embed(torch.tensor(t))) for i, t in enumerate(texts)])
        texts = [texts[i] for i in (1, 1, 0)]
        for token, victim in ((30, "peer-1"), (31, "peer-2"), (32, "peer-0")):
            rows = [
                RowInput(i, len(text), embed(torch.tensor([token + i])))
                for i, text in enumerate(texts)
            ]
            order = [1, 1, 0] if token == 30 else [2, 0, 1]
            if token != 30:
                texts = [texts[i] for i in order]
                rows = [
                    RowInput(i, len(text), embed(torch.tensor([token + i])))
                    for i, text in enumerate(texts)
                ]
            outputs = await session.step(rows, reorder=order)
            texts = [[*text, token + i] for i, text in enumerate(texts)]
            for text, output in zip(texts, outputs, strict=True):
                expected = three.tiny.logits(text)[-1]
                logits = model.head.logits(output)[0]
                torch.testing.assert_close(logits, expected, atol=1e-3, rtol=0)
            await three.kill(victim)


async def test_x1_all_histories_were_dropped(world, asker):
    """Peers that may keep no history: the client itself fills the replacement anew."""
    from swarm.peer.handler import HandlerConfig

    small = HandlerConfig(history_bytes=0)
    for index, blocks in enumerate([(0, 1), (1, 3), (3, 4)]):
        await world.peer(f"peer-{index}", blocks, handler_config=small)
    await world.peer("spare", (0, 4), handler_config=small, silent=True)
    asked = asker(await world.client())

    async def on_token(number):
        if number in (5, 9):
            await world.kill({5: "peer-2", 9: "peer-1"}[number])

    ids = await asked.greedy(PROMPT, NUM_TOKENS, on_token)
    assert ids == world.tiny.greedy(PROMPT, NUM_TOKENS)
    assert asked.reply.num_recoveries == 2


@pytest.mark.parametrize("victim", PEERS)
@pytest.mark.parametrize("count", [1, 6])
async def test_a_frozen_peer_is_replaced(three, asker, victim, count):
    await three.spare((0, 4))
    model = await three.client()

    async def freeze():
        await three.show()
        three.network.freeze(victim)

    started = asyncio.get_running_loop().time()
    ids = await asker(model).greedy(PROMPT, NUM_TOKENS, at(count, freeze))
    assert ids == three.tiny.greedy(PROMPT, NUM_TOKENS)
    assert asyncio.get_running_loop().time() - started < 5.0
    three.network.thaw(victim)


async def test_a_session_is_mended_without_asking_the_directory(three, asker):
    """A frozen peer is part of the directory as well, which then answers late."""
    await three.spare((0, 4))
    model = await three.client()

    async def freeze():
        await three.show()
        await asyncio.sleep(3.5 * INTERVAL)  # What it knows is old by then.
        three.registry.delay = 60.0
        three.network.freeze("peer-1")

    async with asyncio.timeout(5 * INTERVAL):
        ids = await asker(model).greedy(PROMPT, NUM_TOKENS, at(6, freeze))
    assert ids == three.tiny.greedy(PROMPT, NUM_TOKENS)
    three.registry.delay = 0.0
    three.network.thaw("peer-1")


async def test_a_disconnected_pair_of_neighbours_goes_on(three, asker):
    """Two hops that live lose their link; one of them is replaced, or the link is."""
    await three.spare((0, 4))
    model = await three.client()

    async def cut():
        await three.show()
        three.network.disconnect("peer-0", "peer-1")

    ids = await asker(model).greedy(PROMPT, NUM_TOKENS, at(5, cut))
    assert ids == three.tiny.greedy(PROMPT, NUM_TOKENS)


async def test_a_pair_that_cannot_connect_for_seconds_is_waited_for(three, asker, monkeypatch):
    """Two that dialled each other at once may not dial again for 5 s: attempts are no use then."""
    open_, clock = MemoryTransport.open, asyncio.get_running_loop().time
    until = clock() + 6

    async def refuse(transport, peer, *place):
        if (transport.peer_id, peer) == ("peer-0", "peer-1") and clock() < until:
            raise Unreachable(peer, "dial backoff")
        return await open_(transport, peer, *place)

    monkeypatch.setattr(MemoryTransport, "open", refuse)
    ids = await asker(await three.client()).greedy(PROMPT, NUM_TOKENS)
    assert ids == three.tiny.greedy(PROMPT, NUM_TOKENS)
    assert until <= clock() < until + 2


@pytest.mark.parametrize("name", PEERS)
async def test_x10_a_peer_leaves_in_the_middle_of_a_reply(three, asker, name):
    await three.spare((0, 4))
    asked = asker(await three.client())

    async def leave():
        await three.show()
        await three.peers[name].leave()

    ids = await asked.greedy(PROMPT, NUM_TOKENS, at(5, leave))
    assert ids == three.tiny.greedy(PROMPT, NUM_TOKENS)
    assert name not in {hop.peer for hop in asked.reply.route}
    # It has not been punished, only left.
    assert not asked.model._access.router._avoided()


async def test_x4_a_replacement_joins_later(three, asker):
    model = await three.client(config=SessionConfig(route_patience=30))
    asked = asyncio.create_task(
        asker(model).greedy(PROMPT, NUM_TOKENS, at(5, lambda: three.kill("peer-1")))
    )
    await three.until(lambda: "peer-1" not in three.peers)
    await asyncio.sleep(10)
    assert not asked.done()
    await three.peer("new", (1, 3))
    assert await asked == three.tiny.greedy(PROMPT, NUM_TOKENS)


async def test_x4_nobody_joins_and_the_missing_blocks_are_named(three, asker):
    model = await three.client(config=SessionConfig(route_patience=4))
    asked = asker(model)
    loop = asyncio.get_running_loop()
    async with model.session() as session:
        await asked.logits(session, PROMPT, 0)
        await three.kill("peer-1")
        started = loop.time()
        with pytest.raises(NoRouteError) as caught:
            await asked.logits(session, [30], 11)
        assert caught.value.missing == ((1, 3),)
        assert 4 <= loop.time() - started < 6
        # The session is not lost: it goes on when somebody has come.
        await three.peer("new", (1, 3))
        logits = await asked.logits(session, [30], 11)
    expected = three.tiny.logits([*PROMPT, 30])[-1:]
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=0)


async def test_a_reorder_that_failed_is_not_forgotten(three):
    """A hop that never saw a reorder may keep nothing, even if a roll-back follows it."""
    model = await three.client(config=SessionConfig(route_patience=1))
    embed = model.head.embed
    texts = [LONG[:10], LONG[20:30]]
    async with model.session(num_rows=2) as session:
        await session.step([RowInput(i, 0, embed(torch.tensor(t))) for i, t in enumerate(texts)])
        await three.kill("peer-0")
        new = [RowInput(i, 10, embed(torch.tensor([7]))) for i in range(2)]
        with pytest.raises(NoRouteError):
            await session.step(new, reorder=[1, 0])
        await three.peer("new", (0, 1))
        outputs = await session.step([RowInput(i, 8, embed(torch.tensor([9]))) for i in range(2)])
    for text, output in zip(reversed(texts), outputs, strict=True):
        expected = three.tiny.logits([*text[:8], 9])[-1]
        torch.testing.assert_close(model.head.logits(output)[0], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("count", [1, 5])
async def test_a_client_that_vanishes_leaves_nothing_behind(three, asker, count):
    model = await three.client()
    asked = asyncio.create_task(
        asker(model).greedy(PROMPT, NUM_TOKENS, at(count, lambda: three.kill("client")))
    )
    with pytest.raises((PeerError, NoRouteError)):
        await asked
    await three.settle()


async def test_a_step_that_is_cancelled_can_be_repeated(three, asker):
    model = await three.client()
    asked = asker(model)
    async with model.session() as session:
        await asked.logits(session, PROMPT, 0)
        three.network.freeze("peer-1")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asked.logits(session, [30, 31], 11)
        three.network.thaw("peer-1")
        logits = await asked.logits(session, [40, 41], 11)
        more = await asked.logits(session, [42], 13)
    expected = three.tiny.logits([*PROMPT, 40, 41, 42])[-3:]
    torch.testing.assert_close(torch.cat([logits, more]), expected, atol=1e-3, rtol=0)


async def test_a_session_that_stood_idle_for_long_goes_on(three, asker):
    await three.spare((0, 4))
    model = await three.client()
    async with model.session() as session:
        hidden = torch.randn(12, 64)
        (all_at_once,) = await session.step([RowInput(0, 0, hidden)], Want.ALL)
        await three.kill("peer-1")
        await asyncio.sleep(120)
        (again,) = await session.step([RowInput(0, 6, hidden[6:])], Want.ALL)
    torch.testing.assert_close(again, all_at_once[6:], atol=1e-3, rtol=0)


@pytest.mark.parametrize("edge", EDGES[1:], ids="-".join)
@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_roll_back_of_several_rows_that_was_cut_short(three, edge, number):
    """A hop that has seen only the first chunk of it keeps nothing of what the other rows were."""
    await three.spare((0, 4))
    model = await three.client(config=SessionConfig(chunk_len=6))
    old, new = torch.randn(2, 14, 64), torch.randn(2, 8, 64)
    kills = []

    def look(frame):
        if (frame.sender, frame.receiver) == edge and isinstance(frame.message, Step | Output):
            if watch.count(type(frame.message))[edge] == number + 1 and not kills:
                kills.append(asyncio.ensure_future(three.kill(edge[0])))
        return bool(kills) and edge == (frame.sender, frame.receiver)

    async with model.session(num_rows=2) as session:
        await session.step([RowInput(row, 0, old[row]) for row in (0, 1)], Want.ALL)
        watch = three.watch()
        watch.drops = look
        outputs = await session.step([RowInput(row, 4, new[row]) for row in (0, 1)], Want.ALL)
        await kills[0]
    async with model.session(num_rows=2) as session:
        whole = [RowInput(row, 0, torch.cat([old[row][:4], new[row]])) for row in (0, 1)]
        expected = await session.step(whole, Want.ALL)
    for row in (0, 1):
        torch.testing.assert_close(outputs[row], expected[row][4:], atol=1e-3, rtol=0)


async def test_a_peer_that_leaves_with_two_hops_of_a_session_is_not_waited_for(world):
    """What it says of one of them answers for both: its silence about the other is no fault."""
    await world.peer("both", (0, 4))
    model = await world.client()
    async with model.session() as session:
        await session.step([RowInput(0, 0, torch.randn(5, 64))])
        (hop,) = session._chain.hops
        other = OpenHop(hop.hop, hop.link)
        session._chain.hops.append(other)
        other._asked = asyncio.get_running_loop().create_future()
        failed = Failed(hop.session, session._chain.epoch, Code.LEAVING, "this peer is leaving")
        session.on_message(hop.link, failed, b"")
        assert isinstance(other._asked.exception(), SessionLost)


async def test_a_peer_that_loads_says_so_to_sessions_of_before(world):
    """A hold that crossed its farewell would else end in blame and a dropped link."""
    peer = await world.peer("moving", (0, 4))
    model = await world.client(config=SessionConfig(route_patience=0.1))
    watch = world.watch()
    async with model.session() as session:
        await session.step([RowInput(0, 0, torch.randn(5, 64))])
        hosting, peer._hosting = peer._hosting, None
        (hop,) = session._chain.hops
        for message in (
            Hold(hop.session, 2, 0, (0,)),
            Step(hop.session, 1, 1, 0, (), Want.ALL),
        ):
            watch.frames.clear()
            hop.link.post(message)
            await world.until(lambda: watch.count(Failed)["moving", "client"] == 1)
        peer._hosting = hosting
        hop.link.post(Close(hop.session))


@pytest.mark.parametrize("num_rows", [0, 257])
async def test_more_rows_than_a_message_holds_are_the_callers_error(three, num_rows):
    """Peers would take it for nonsense, hang up, and be blamed for it."""
    model = await three.client()
    with pytest.raises(RequestError, match=f"{num_rows} rows"):
        model.session(num_rows=num_rows)


@pytest.mark.parametrize("frozen", [*PEERS, None])
async def test_closing_ends_a_step_under_way_and_leaves_nothing(three, frozen):
    """Were it to go on, it would open hops anew that nobody closes."""
    model = await three.client()
    session = model.session()
    if frozen is not None:
        await session.step([RowInput(0, 0, torch.randn(5, 64))])
        three.network.freeze(frozen)
    step = asyncio.create_task(session.step([RowInput(0, 0, torch.randn(5, 64))]))
    await asyncio.sleep(0)
    session.close()
    if frozen is not None:
        three.network.thaw(frozen)
    with pytest.raises(LocalProtocolError, match="closed"):
        async with asyncio.timeout(5):
            await step
    await three.settle()


@pytest.mark.parametrize("rows", [RowRange(1, 0, 1), RowRange(0, 5, 1), RowRange(0, 3, 10**6)])
async def test_outputs_that_nobody_asked_for_are_the_last_hops_fault(world, rows):
    """They are of rows that the session does not have, or of positions that were never sent."""
    await world.peer("liar", (0, 4))
    model = await world.client()
    async with model.session() as session:
        world.peers["liar"].hosting._engine.submit = lambda *_: None
        step = asyncio.ensure_future(session.step([RowInput(0, 0, torch.randn(5, 64))]))
        await world.until(lambda: session._chain.wired)
        (hop,) = session._chain.hops
        forged = Output(session._chain.name, session._chain.epoch, 0, 0, (rows,), Want.NOTHING)
        session.on_message(hop.link, forged, b"")
        assert model._access.router._avoided() == {"liar"} and not session._chain.hops
        step.cancel()
        await asyncio.wait([step])


async def test_a_hop_that_is_lost_when_patience_ends_is_replaced(world):
    """Both in one turn of the event loop: there is then no last hop to be named."""
    await world.peer("silent", (0, 4))
    model = await world.client(config=SessionConfig(step_patience=0.5, max_silences=0))
    world.peers["silent"].hosting._engine.submit = lambda *_: None
    async with model.session() as session:
        attend, loop = session._chain.attend, asyncio.get_running_loop()

        def lose(link):
            session.on_lost(link, SessionLost("silent", "gone"))

        def attended(patience):
            attend(patience)
            loop.call_later(patience, lose, session._chain.hops[0].link)

        session._chain.attend = attended
        step = asyncio.ensure_future(session.step([RowInput(0, 0, torch.randn(5, 64))]))
        await asyncio.wait([step], timeout=3)
        assert not step.done() and session.num_recoveries > 0
        step.cancel()
        await asyncio.wait([step])


async def test_a_hop_that_accuses_one_it_cannot_know_is_blamed_itself(world):
    await world.chain(0, 1, 2, 3, 4)
    model = await world.client()
    router = model._access.router
    async with model.session() as session:
        await session.step([RowInput(0, 0, torch.randn(3, 64))])
        first = session._chain.hops[0]
        accused = Failed(first.session, session._chain.epoch, Code.BAD_STEP, "bad", "peer-3")
        session.on_message(first.link, accused, b"")
        assert router._avoided() == {"peer-0"}
        # Of a neighbour that is gone already, it is believed.
        last = session._chain.hops[-1]
        session._chain.lose(session._chain.on("peer-2")[0])
        accused = Failed(last.session, session._chain.epoch, Code.BAD_STEP, "bad", "peer-2")
        session.on_message(last.link, accused, b"")
        assert router._avoided() == {"peer-0", "peer-2"}

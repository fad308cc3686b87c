"""What may go wrong while hops get ready to take over."""

from __future__ import annotations

import asyncio
import gc

import pytest
import torch

from swarm.client import RowInput
from swarm.client.handover import Handover
from swarm.errors import PeerError
from swarm.transport.memory import Condition
from swarm.wire.messages import Copy, Leaving, Wire

pytestmark = pytest.mark.simulated_time

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]


@pytest.fixture
async def three(world):
    """Peers for blocks 0:1, 1:3 and 3:4."""
    await world.chain(0, 1, 3, 4)
    return world


def handover(session) -> Handover:
    access = session._access
    for hop in session._chain.on("peer-1"):
        hop.leaving = True
    return Handover(session._chain, session._key, access.router, access.exchange, access.config)


async def prepare(session, started) -> None:
    try:
        await started.prepare(session._progress, session._feed)
    finally:
        started.give_up()


async def test_a_heir_whose_answer_is_no_longer_wanted_is_not_blamed(three):
    """One heir refuses at once; the other's answer would come a moment later."""
    await three.peer("full", (1, 2))
    await three.peer("far", (2, 3))
    model = await three.client()
    async with model.session() as session:
        await session.step([RowInput(0, 0, torch.randn(5, 64))])
        three.peers["full"].hosting.handler.stop_accepting()
        three.network.between("client", "far", Condition(delay=0.02))
        started = handover(session)
        with pytest.raises(Exception, match="leaving"):
            await prepare(session, started)
        link = model._access.router.open_link("far")
        await asyncio.sleep(10)
        assert not model._access.router._avoided() and not link.closed
        assert three.peers["far"].hosting.handler.num_sessions == 0
        for hop in session._chain.hops:
            hop.leaving = False


async def test_a_chain_that_is_mended_while_heirs_are_sought_harms_nobody(three):
    """What the heirs then answer is of another epoch than when they were sought."""
    await three.peer("heir", (1, 3))
    model = await three.client()
    async with model.session() as session:
        await session.step([RowInput(0, 0, torch.randn(5, 64))])
        started, router = handover(session), model._access.router
        find = router.route

        async def slow(*args):
            route = await find(*args)
            session._chain.epoch += 1
            return route

        router.route = slow
        await prepare(session, started)
        del router.route
        await asyncio.sleep(10)
        assert not router._avoided() and router.open_link("heir") is not None
        assert not started.adopt()
        session._chain.wired = False
        for hop in session._chain.hops:
            hop.leaving = False


async def test_a_heir_that_fails_while_others_open_leaves_no_error_behind(three):
    """What is asked for twice is raised once: the event loop would complain of the other."""
    await three.peer("dying", (1, 2))
    await three.peer("far", (2, 3))
    model = await three.client()
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with model.session() as session:
        await session.step([RowInput(0, 0, torch.randn(5, 64))])
        three.network.between("client", "far", Condition(delay=0.1))
        preparing = asyncio.ensure_future(prepare(session, handover(session)))
        await three.until(lambda: three.peers["dying"].hosting.handler.num_sessions)
        await three.kill("dying")
        await asyncio.wait([preparing])
        assert isinstance(preparing.exception(), PeerError)
        for hop in session._chain.hops:
            hop.leaving = False
        del preparing
    await three.until(lambda: gc.collect() == 0)
    assert not complaints


async def test_a_roll_back_that_the_copy_has_not_seen_reaches_the_heir(three, asker):
    """It waits at the hop that copies, for its turn or for memory; the heir has the text before."""
    await three.spare((1, 3))
    model = await three.client()
    ask = asker(model)
    async with model.session() as session:
        await ask.logits(session, PROMPT, 0)
        engine, parked = three.peers["peer-0"].hosting._engine, []
        submit = engine.submit
        engine.submit = lambda *arrival: parked.append(arrival)
        watch = three.watch()
        step = asyncio.ensure_future(ask.logits(session, [30, 31], 4))
        await three.until(lambda: parked)
        await three.show()
        leaving = asyncio.ensure_future(three.leave("peer-1"))
        await three.until(lambda: watch.count(Copy))
        spare = three.peers["spare-1:3"].hosting
        await three.until(lambda: spare._engine.num_positions == len(PROMPT))
        del engine.submit
        for arrival in parked:
            submit(*arrival)
        await step
        await leaving
        assert session.num_handovers == 1 and session.num_recoveries == 0
        logits = await ask.logits(session, [32], 6)
        expected = three.tiny.logits([*PROMPT[:4], 30, 31, 32])
        torch.testing.assert_close(logits[-1], expected[-1], atol=1e-3, rtol=0)


async def test_a_heir_that_leaves_itself_is_handed_over_too(three, asker):
    await three.peer("brief", (1, 3), silent=True)
    model = await three.client()
    ask = asker(model)
    async with model.session() as session:
        await ask.logits(session, PROMPT, 0)
        watch = three.watch()
        leaving = []

        def look(frame):
            if isinstance(frame.message, Wire) and frame.receiver == "brief" and not leaving:
                leaving.append(asyncio.ensure_future(three.leave("brief")))
            return False

        await three.show()
        watch.drops = look
        gone = asyncio.ensure_future(three.leave("peer-1"))
        await three.until(lambda: watch.count(Leaving)["brief", "client"])
        await three.peer("last", (1, 3))
        await gone
        await leaving[0]
        assert [hop.peer for hop in session.route] == ["peer-0", "last", "peer-2"]
        assert session.num_recoveries == 0

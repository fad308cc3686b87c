"""Whether the ways that a step is said to have spent its time on are those that it went."""

from __future__ import annotations

import asyncio

import pytest
import torch

from swarm.client import RowInput
from swarm.client.timing import Timing
from swarm.transport.memory import Condition

pytestmark = pytest.mark.simulated_time

DELAYS = {("client", "first"): 0.010, ("first", "second"): 0.040, ("second", "client"): 0.025}


async def test_each_trip_is_told_as_long_as_it_was(world):
    """Computing takes no time here: a step's time is that of its three trips."""
    for ends, delay in DELAYS.items():
        world.network.between(*ends, Condition(delay=delay))
    await world.peer("first", (0, 2), brief=60.0)
    await world.peer("second", (2, 4), brief=60.0)
    model = await world.client()
    clock = asyncio.get_running_loop().time
    timing = Timing()
    async with model.session() as session:
        await session.step([RowInput(0, 0, model.head.embed(torch.tensor([1, 2, 3])))])
        await asyncio.sleep(30)  # Heartbeats between the peers.
        for position in range(3, 8):
            hidden = model.head.embed(torch.tensor([7]))
            started = clock()
            await session.step([RowInput(0, position, hidden)])
            timing.add(session.passage, clock() - started)
    first, second = timing.hops.values()
    assert [first.name, second.name] == ["first", "second"]
    ways = [first.wire / 5, second.wire / 5, timing.back / 5]
    assert ways == pytest.approx(list(DELAYS.values()), rel=0.1)

"""A real peer under floods, by an outsider and by a member, while somebody is being answered."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from itertools import pairwise
from statistics import median

from swarm.background import background
from swarm.client import ModelOptions, Reply, SamplingConfig, Swarm
from swarm.errors import PeerError
from swarm.member import JoinConfig
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport
from swarm.transport.neighbours import PROTOCOL
from swarm.wire.messages import DType, Meet, Open, RowRange, Step, Want, encode

PROMPT = "The three most important things about a swarm are"
COUNT = 24
SESSION = "hostile-session!"


def machine(processes, name: str) -> JoinConfig:
    """Where somebody asks from: each machine is a member of its own, with limits of its own."""
    folder = processes.folder / name
    return JoinConfig(asks=True, host="127.0.0.1", map_port=False, state_folder=folder)


async def reply(model) -> tuple[Reply, float]:
    """A greedy reply, and the median of the seconds between its tokens."""
    answer, times = Reply(model.encode(PROMPT, raw=True)), []
    async with model.session() as session:
        sampling = SamplingConfig(max_new_tokens=COUNT, ignore_eos=True)
        async for _ in model._tokens(session, answer, sampling):
            times.append(time.perf_counter())
    return answer, median(after - before for before, after in pairwise(times))


async def outside(transport: Libp2pTransport, peer: str, addresses: tuple[str, ...]) -> None:
    """Opens streams and says nothing on them."""
    while True:
        with suppress(PeerError):
            await transport.open(peer, PROTOCOL, addresses)
        await asyncio.sleep(0.005)


async def inside(swarm: Swarm, peer: str, addresses: tuple[str, ...], model: str) -> None:
    """Opens sessions for ever, asks for links to nobody, and sends what is no number."""
    link = await swarm._neighbours.link(peer, addresses)
    rows = (RowRange(0, 0, 1),)
    poison = b"\xff" * 4 * 576
    number = 0
    with suppress(PeerError):
        while True:
            name, number = f"{SESSION}{number}", number + 1
            ask = Open(name, 1, model, 0, 30, 1, 0, 9e3, DType.FLOAT32)
            step = Step(name, 1, 0, 0, rows, Want.ALL)
            for message, payload in ((ask, b""), (step, poison), (Meet(()), b"")):
                await link._stream.send(encode(message), payload)
            await asyncio.sleep(0.001)


async def test_floods_cost_a_bystander_neither_tokens_nor_pace(processes, greedy):
    processes.bootstrap()
    processes.peers(one="0:30")
    async with (
        Swarm.join(processes.invite, machine(processes, "bystander")) as swarm,
        Swarm.join(processes.invite, machine(processes, "hostile")) as hostile,
        Libp2pTransport.start(Libp2pConfig(host="127.0.0.1")) as outsider,
        background() as tasks,
    ):
        model = await swarm.model(str(processes.model), ModelOptions(dtype="float32"))
        (entry,) = await swarm.announcements()
        quiet, usual = await reply(model)
        tasks.create_task(outside(outsider, entry.peer, entry.addresses))
        tasks.create_task(inside(hostile, entry.peer, entry.addresses, entry.model))
        flooded, pace = await reply(model)
        expected = greedy(quiet.prompt_ids, COUNT)
        assert quiet.ids == flooded.ids == expected
        assert (flooded.num_recoveries, processes.running["one"].poll()) == (0, None)
        # Those who flood use this machine's processors too, as others may: what is queued up would
        # take every token seconds, if it were served first.
        assert pace < 5 * usual + 0.5, (usual, pace)
    log = (processes.folder / "one.log").read_text()
    assert "ERROR" not in log and "Traceback" not in log, log[-2000:]

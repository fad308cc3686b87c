"""What a peer takes of its machine, measured from outside while it works."""

from __future__ import annotations

import asyncio
import json

from swarm.cli._footprint import footprint
from swarm.client import ModelOptions, SamplingConfig, Swarm
from swarm.member import JoinConfig

LIMIT = 1000
HERE = ["--host", "127.0.0.1", "--no-map-port"]
PLACE = JoinConfig(asks=True, host="127.0.0.1", map_port=False)


def start(processes, *options):
    processes.bootstrap()
    place = ["--dir", str(processes.folder / "peer"), "--name", "peer", "--threads", "1", *HERE]
    model = ["--join", processes.invite, "--model", str(processes.model)]
    processes.start("peer", "peer", *model, *place, *options)
    return processes.line("peer")


async def test_everything_that_a_peer_takes_stays_below_its_limit(processes):
    """Loading, prompts of several sessions at once, answers: the highest that it ever was."""
    said = json.loads(
        start(processes, "--max-memory", f"{LIMIT}MB", "--quantize", "int8", "--json")
    )
    assert said["blocks"] == [0, 30] and said["state"] == "serving"
    async with Swarm.join(processes.invite, PLACE) as swarm:
        model = await swarm.model(str(processes.model), ModelOptions())
        text = "The quick brown fox jumps over the lazy dog. " * 25

        async def ask(number):
            sampling = SamplingConfig(max_new_tokens=4, ignore_eos=True)
            async for _ in model.stream(f"{number} {text}", sampling=sampling, raw=True):
                pass

        await asyncio.gather(*(ask(number) for number in range(4)))
    memory = footprint("peer", processes.running["peer"].pid)
    assert memory.peak_mb is not None
    assert memory.peak_mb + memory.daemon_mb <= LIMIT, memory
    assert memory.peak_mb > LIMIT / 3, "measured something else"
    screen = (processes.folder / "peer.log").read_text()
    assert "memory 1.0 GB in all" in screen and max(map(len, screen.splitlines())) <= 140

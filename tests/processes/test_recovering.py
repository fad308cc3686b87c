"""Peers to which something happens from outside: daemons that die, long sleeps, restarts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import psutil

from swarm.client import ModelOptions, SamplingConfig, Swarm
from swarm.directory import LIFETIME
from swarm.member import JoinConfig

HERE = ["--host", "127.0.0.1", "--no-map-port"]
PLACE = JoinConfig(asks=True, host="127.0.0.1", map_port=False)
PROMPT = "The three most important things about a swarm are"
NUM_TOKENS = 64

PAUSER = """
import asyncio, sys
from pathlib import Path
from swarm.checkpoint import open_checkpoint
from swarm.invite import Invite
from swarm.member import JoinConfig, join
from swarm.peer.busyness import BusyConfig, Busyness
from swarm.peer.config import PeerConfig
from swarm.peer.pausing import Pauses
from swarm.peer.service import serving

class Others:
    share = 0.0
    def look(self):
        return self.share

async def main(invite, model, folder):
    place = JoinConfig(Path(folder), host="127.0.0.1", map_port=False)
    config = PeerConfig(
        blocks=(15, 30), dtype="float32", threads=1, kv_memory=64 << 20, pause_interval=0.1
    )
    others = Others()
    pauses = Pauses(others=[others], busyness=Busyness(BusyConfig(span=0.1, calm=0.1)))
    async with join(Invite.decode(invite), place) as member:
        with open_checkpoint(model) as checkpoint:
            async with serving(member, checkpoint, config, pauses=pauses) as peer:
                def say():
                    print("paused" if peer.paused else "serving", member.peer_id, flush=True)
                peer.watch(say)
                say()
                while line := await asyncio.to_thread(sys.stdin.readline):
                    others.share = float(line)

asyncio.run(main(*sys.argv[1:]))
"""
"""A peer on a machine of which others use as much as its standard input says."""


def start(processes, name, *options):
    place = ["--dir", str(processes.folder / name), "--name", name, "--threads", "1", *HERE]
    model = ["--join", processes.invite, "--model", str(processes.model)]
    processes.start(name, "peer", *model, *place, "--json", *options)


def said(processes, name):
    return json.loads(processes.line(name))


def daemon(processes, name):
    (child,) = psutil.Process(processes.running[name].pid).children()
    return child


class Asking:
    """A reply whose reader goes on only while it is let."""

    def __init__(self, model, reply):
        self.reply, self.going = reply, asyncio.Event()
        self._model = model

    @property
    def last_hop(self):
        return self.reply.route[-1].peer

    async def read(self):
        sampling = SamplingConfig(max_new_tokens=NUM_TOKENS, ignore_eos=True)
        async for _ in self._model.reply(self.reply, sampling):
            await self.going.wait()
            await asyncio.sleep(0.1)  # Time for something to happen between two words.

    async def until(self, num_tokens):
        self.going.set()
        while len(self.reply.ids) < num_tokens:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        self.going.clear()


@asynccontextmanager
async def asking(processes):
    """A reply that has begun; it has ended when the block has."""
    async with Swarm.join(processes.invite, PLACE) as swarm:
        model = await swarm.model(str(processes.model), ModelOptions(dtype="float32"))
        asked = Asking(model, await model.prepare(PROMPT, raw=True))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asked.read())
            await asked.until(6)
            yield asked
            asked.going.set()


def test_a_peer_outlives_its_daemon_with_its_blocks(processes):
    """Under a tight limit, too, where what it holds would not fit beside itself."""
    processes.bootstrap()
    start(processes, "peer", "--max-memory", "900MB", "--quantize", "int8")
    before = said(processes, "peer")
    peer = psutil.Process(processes.running["peer"].pid)
    child, started = daemon(processes, "peer"), sum(peer.cpu_times()[:2])
    child.kill()
    after = said(processes, "peer")
    worked = sum(peer.cpu_times()[:2]) - started
    assert worked < started / 3, "loaded again"
    for what in ("state", "peer", "blocks", "positions"):
        assert after[what] == before[what]
    assert daemon(processes, "peer").pid != child.pid
    status = processes.command("status", "--join", processes.invite, "--json")
    (model,) = json.loads(status.stdout)["models"]
    assert [(each["name"], each["state"]) for each in model["peers"]] == [("peer", "serving")]


def states(processes):
    status = processes.command("status", "--join", processes.invite, "--json")
    return {
        peer["name"]: peer["state"]
        for model in json.loads(status.stdout)["models"]
        for peer in model["peers"]
    }


async def test_an_answer_goes_on_while_a_peer_sleeps_which_then_serves_again(processes, greedy):
    """Longer than its announcement lives: others have forgotten it when it wakes up."""
    processes.bootstrap()
    lines = processes.peers(first="0:15", second="15:30", third="15:30")
    names = {line.split()[-1]: name for name, line in lines.items()}
    async with asking(processes) as asked:
        sleeper = names[asked.last_hop]
        machine = [psutil.Process(processes.running[sleeper].pid)]
        machine += machine[0].children()
        for process in machine:
            process.suspend()
        slept = time.monotonic()
    assert asked.reply.ids == greedy(asked.reply.prompt_ids, NUM_TOKENS)
    assert names[asked.last_hop] != sleeper
    await asyncio.sleep(LIFETIME + 1 - (time.monotonic() - slept))
    assert sleeper not in states(processes)
    for process in machine:
        process.resume()
    deadline = time.monotonic() + 60
    while states(processes).get(sleeper) != "serving":
        assert time.monotonic() < deadline


async def test_an_answer_outlives_a_pause_and_the_death_of_who_took_over(processes, greedy):
    """Who has paused meanwhile and come back takes its words over again."""
    processes.bootstrap()
    processes.peers(first="0:15")
    arguments = [processes.invite, str(processes.model), str(processes.folder / "pauser")]
    pauser = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PAUSER, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=processes.environment,
    )

    async def told(what=b""):
        pauser.stdin.write(what)
        return (await pauser.stdout.readline()).decode().split()

    try:
        _, peer = await told()
        async with asking(processes) as asked:
            assert asked.last_hop == peer
            processes.peer("spare", "15:30")
            await asyncio.to_thread(processes.line, "spare")
            asked.going.set()
            process = psutil.Process(pauser.pid)
            serving = process.memory_info().rss
            assert await told(b"1\n") == ["paused", peer]
            # 15 blocks of SmolLM2 in float32 take 212 MB, and a part of the KV memory's 64 MB more.
            assert serving - process.memory_info().rss > 150e6
            worked, began = sum(process.cpu_times()[:2]), time.monotonic()
            await asked.until(len(asked.reply.ids) + 2)
            assert asked.last_hop != peer
            worked = sum(process.cpu_times()[:2]) - worked
            assert worked < 0.2 * (time.monotonic() - began) + 0.1, "works in its pause"
            assert await told(b"0\n") == ["serving", peer]
            processes.kill("spare")
        assert asked.last_hop == peer
        assert asked.reply.ids == greedy(asked.reply.prompt_ids, NUM_TOKENS)
    finally:
        pauser.stdin.close()
        await pauser.wait()

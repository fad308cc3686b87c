"""What a peer takes of its machine, measured from outside while it works, pauses and comes back."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time

import psutil

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


def used(processes):
    """(seconds of CPU, resident bytes) of the peer's own process."""
    process = psutil.Process(processes.running["peer"].pid)
    times = process.cpu_times()
    return times.user + times.system, process.memory_info().rss


def test_a_peer_pauses_beside_a_busy_program_and_takes_nothing_meanwhile(processes):
    """Its CPU time is next to none, and its weights are given back."""
    line = start(processes, "--pause-when-busy", "--kv-memory", "64MB", "--dtype", "float32")
    if line.startswith("serving"):
        _, serving = used(processes)
        burn = "import time\nwhile time.process_time() < 60: pass"
        workers = [
            subprocess.Popen([sys.executable, "-c", burn]) for _ in range(psutil.cpu_count())
        ]
        try:
            assert processes.line("peer").startswith("paused")
            before, paused = used(processes)
            time.sleep(3)  # What is measured is that nothing happens.
            after, _ = used(processes)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        assert after - before < 0.3
        # 30 blocks of SmolLM2 in float32 take 425 MB.
        assert serving - paused > 300e6, (serving, paused)
    status = processes.command("status", "--join", processes.invite, "--json")
    assert status.returncode == 0, status.stderr

"""`--max-upload`, measured where the cable is: what crosses it, whoever has sent it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

RATE = 250_000
SECONDS = 8

SINK = """
import asyncio
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport

async def main():
    async with Libp2pTransport.start(Libp2pConfig(map_port=False)) as transport:
        async def swallow(stream):
            stream.admit()
            while True:
                await stream.receive()

        async def echo(stream):
            stream.admit()
            while True:
                await stream.send(*await stream.receive())

        await transport.serve("/sink", swallow)
        await transport.serve("/echo", echo)
        print(transport.peer_id, transport.addresses[0], flush=True)
        await asyncio.Future()

asyncio.run(main())
"""

SOURCE = """
import asyncio, json, sys, time
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport

rate, seconds, peer, address = float(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:]

async def flood(transport):
    stream = await transport.open(peer, "/sink", [address])
    while True:
        await stream.send(b"history", bytes(300_000))

async def beat(transport, size, trips):
    stream = await transport.open(peer, "/echo", [address])
    stream.admit()
    while True:
        begun = time.perf_counter()
        if not stream.offer(b"beat", bytes(size)):
            await stream.send(b"beat", bytes(size))
        await stream.receive()
        trips.append(time.perf_counter() - begun)
        await asyncio.sleep(0.1)

async def main():
    trips = {"heartbeat": [], "token": []}
    async with Libp2pTransport.start(Libp2pConfig(map_port=False, upload=rate)) as transport:
        await transport.connect(peer, [address])
        print("connected", flush=True)
        sys.stdin.readline()
        tasks = [asyncio.ensure_future(flood(transport)) for _ in range(3)]
        tasks.append(asyncio.ensure_future(beat(transport, 0, trips["heartbeat"])))
        tasks.append(asyncio.ensure_future(beat(transport, 8000, trips["token"])))
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        print(json.dumps(trips), flush=True)
        sys.stdin.readline()

asyncio.run(main())
"""


def sent(host):
    counter = Path("/sys/class/net/eth0/statistics/tx_bytes")
    return int(host.run(["cat", str(counter)]).stdout)


def test_all_that_crosses_the_cable_stays_below_the_limit(internet):
    """Three histories at once, tokens and heartbeats beside them, and what libp2p adds."""
    home, office = internet.host("home"), internet.host("office")
    sink = office.popen([sys.executable, "-c", SINK])
    peer, address = sink.line().split()
    source = home.popen([sys.executable, "-c", SOURCE, str(RATE), str(SECONDS), peer, address])
    assert source.line() == "connected"
    before, begun = sent(home), time.monotonic()
    source.say("go")
    trips = json.loads(source.line())
    crossed, passed = sent(home) - before, time.monotonic() - begun
    # What was on its way within the machine when the clock began and ended is a burst more.
    assert crossed <= RATE * (passed + 0.1), (crossed, passed)
    # The source may have stood still for half of its time.
    assert crossed >= 0.3 * RATE * SECONDS, "the limit is used, too"
    usual = {name: sorted(each)[len(each) // 2] for name, each in trips.items()}
    # Behind the histories that wait they would take more than three seconds.
    assert len(trips["heartbeat"]) >= 5 and max(usual.values()) < 1.5, usual
    source.say("end")

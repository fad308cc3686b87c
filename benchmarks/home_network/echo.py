"""Says back every frame that it gets over libp2p: what a round trip costs without a model.

    python -m home_network.echo

Prints its peer id and its addresses, one line of JSON, and runs until it is ended.
"""

from __future__ import annotations

import asyncio
import json
import sys

from swarm.cli.runner import run_async
from swarm.transport import Stream
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport

PROTOCOL = "/homeswarm/echo/1"


async def _echo(stream: Stream) -> None:
    stream.admit()
    while True:
        await stream.send(*await stream.receive())


async def _run() -> None:
    async with Libp2pTransport.start(Libp2pConfig(map_port=False)) as transport:
        await transport.serve(PROTOCOL, _echo)
        sys.stdout.write(json.dumps([transport.peer_id, transport.addresses]) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    run_async(_run())

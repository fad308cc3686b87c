"""A whole swarm in the box: a bootstrap, peers that share the blocks, and a client."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from . import asker
from .box import Box
from .namespaces import Host, Program

_HERE = Path(__file__).parents[1]
_SWARM = [sys.executable, "-m", "swarm.cli"]


@dataclass(frozen=True)
class Village:
    """A swarm that runs. Made by `settle`."""

    box: Box
    peers: tuple[Host, ...]
    _client: Program
    _echo: tuple[str, list[str]]

    def measure(self, **what: Any) -> Measured:
        """Has the client measure over the network as it is now: the other fields of `Task`."""
        task = asker.Task(echo=self._echo, **what)
        self._client.say(msgspec.json.encode(task).decode())
        return msgspec.json.decode(self._client.line(timeout=600.0), type=asker.Measured)


Measured = asker.Measured


@contextmanager
def settle(
    box: Box, model: str, num_blocks: int, num_peers: int, options: Sequence[str] = ()
) -> Iterator[Village]:
    """Starts everybody, on the network as it is, and waits until all serve."""
    os.environ["PYTHONPATH"] = str(_HERE)
    meeting = box.host("bootstrap")
    invite = meeting.popen(
        [*_SWARM, "bootstrap", "--dir", str(meeting.folder / "bootstrap"), "--no-map-port"]
    ).line()
    borders = [num_blocks * part // num_peers for part in range(num_peers + 1)]
    peers = []
    for number, (start, end) in enumerate(pairwise(borders), 1):
        host = box.host(f"peer-{number}")
        command = [*_SWARM, "-v", "peer", "--join", invite, "--model", model, "--name", host.name]
        command += ["--blocks", f"{start}:{end}", "--threads", "1", "--kv-memory", "256MB"]
        host.popen([*command, "--no-map-port", *options])
        peers.append(host)
    echo = meeting.popen([sys.executable, "-m", f"{__package__}.echo"])
    for host in peers:
        host.programs[0].line()
    client = box.host("client")
    command = [sys.executable, "-m", f"{__package__}.asker"]
    asking = client.popen([*command, invite, model, str(client.folder)])
    asking.line()
    peer_id, addresses = json.loads(echo.line())
    yield Village(box, tuple(peers), asking, (peer_id, addresses))

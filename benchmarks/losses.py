"""The peers of a benchmark, the ways in which one is lost, and how it comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import psutil

from swarm.cli._processes import Process, Processes
from swarm.client import Swarm
from swarm.errors import SwarmError

SERVING_LIMIT = 120.0


class Kind(StrEnum):
    """What is done to a peer."""

    NONE = "none"
    KILL = "kill"
    FREEZE = "freeze"
    LEAVE = "leave"


@dataclass
class Peer:
    """One peer's process, started again after each loss with the same identity."""

    name: str
    arguments: list[str]
    process: Process | None = None
    peer_id: str = ""
    since: float = 0.0
    """Wall-clock time from which on an announcement is of what it is now."""
    num_starts: int = 0

    async def start(self, processes: Processes) -> None:
        """Starts it; returns when it serves."""
        self.num_starts, self.since = self.num_starts + 1, time.time()
        # Each start has a log of its own.
        self.process = await processes.start(f"{self.name}-{self.num_starts}", self.arguments)
        self.peer_id = (await self.process.line()).split()[-1]

    def send(self, number: int) -> None:
        """A signal to the peer's own process."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def freeze(self) -> None:
        """Stops it and its p2pd at once, as a closed lid does."""
        self._send_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """The lid is open again."""
        self._send_all(signal.SIGCONT)
        self.since = time.time()

    def _send_all(self, number: int) -> None:
        assert self.process is not None
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.process.pid)
            for member in [process, *process.children(recursive=True)]:
                member.send_signal(number)


class Group:
    """All peers; `lose` and `restore` are what is done to them."""

    def __init__(self, processes: Processes, peers: Sequence[Peer]) -> None:
        self._processes = processes
        self._peers = {peer.name: peer for peer in peers}
        self._frozen: set[str] = set()

    async def start(self) -> None:
        """Starts all peers."""
        await asyncio.gather(*(peer.start(self._processes) for peer in self._peers.values()))

    def find(self, peer_id: str) -> Peer:
        """The peer with this libp2p id."""
        return next(peer for peer in self._peers.values() if peer.peer_id == peer_id)

    def lose(self, kind: Kind, peer: Peer) -> None:
        """Does it, now."""
        if kind is Kind.FREEZE:
            self._frozen.add(peer.name)
            peer.freeze()
        elif kind is not Kind.NONE:
            peer.send(signal.SIGKILL if kind is Kind.KILL else signal.SIGTERM)

    async def restore(self, kind: Kind, peer: Peer) -> None:
        """Brings a lost peer back; raises `SwarmError` if it left badly."""
        if kind is Kind.FREEZE:
            self.thaw()
        elif kind is not Kind.NONE:
            assert peer.process is not None
            code = await peer.process.ended()
            await peer.start(self._processes)
            if kind is Kind.LEAVE and code:
                raise SwarmError(f"{peer.name} left with code {code}")

    def thaw(self) -> None:
        """Lets everybody go on."""
        for name in self._frozen:
            self._peers[name].thaw()
        self._frozen.clear()

    async def serve(self, swarm: Swarm) -> None:
        """Returns when all are announced as serving, since they were last brought back."""
        async with asyncio.timeout(SERVING_LIMIT):
            while True:
                found = {entry.name: entry for entry in await swarm.announcements()}
                if all(
                    (entry := found.get(peer.name)) and entry.serving and entry.time > peer.since
                    for peer in self._peers.values()
                ):
                    return
                await asyncio.sleep(0.25)

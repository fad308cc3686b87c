"""A stream in the twin of the network: two pipes, in which frames take their time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from swarm.errors import Misbehaved, Unreachable

from . import Buffer

if TYPE_CHECKING:
    from .memory import Network


class Pipe:
    """One direction of a stream: frames that are due at a time, in order."""

    def __init__(self, network: Network, sender: str, receiver: str) -> None:
        self._network = network
        self._ends = (sender, receiver)
        self._frames: deque[tuple[float, float, bytes, bytes]] = deque()
        self._delivered_bytes = 0
        self.put_bytes = 0
        self._arrived = asyncio.Event()
        self._free_at = 0.0
        self._last_due = 0.0
        self.broken: str | None = None

    def put(self, header: bytes, payload: Buffer) -> None:
        """A frame leaves; it arrives, or not, as the network's condition says."""
        self.put_bytes += len(header) + len(payload)
        network, condition = self._network, self._network.condition(*self._ends)
        if network.drop is not None and network.drop(*self._ends, header, payload):
            return
        if network.random.random() < condition.loss:
            return
        first = last = asyncio.get_running_loop().time()
        if condition.rate:
            first = max(self._free_at, first)
            last = self._free_at = first + (len(header) + len(payload)) / condition.rate
        due = last + condition.delay + network.random.random() * condition.jitter
        due = self._last_due = max(due, self._last_due)
        copies = 2 if network.random.random() < condition.duplicate else 1
        frame = (first + condition.delay, due, bytes(header), bytes(payload))
        self._frames.extend([frame] * copies)
        self._arrived.set()

    async def get(self) -> tuple[bytes, bytes]:
        """The next frame that has arrived; raises `Unreachable` behind the last one."""
        loop = asyncio.get_running_loop()
        while True:
            await self._network.unfrozen(*self._ends)
            if self._frames:
                _, due, header, payload = self._frames[0]
                if due <= loop.time():
                    self._frames.popleft()
                    self._delivered_bytes += len(header) + len(payload)
                    return header, payload
                await asyncio.sleep(due - loop.time())
            elif self.broken is not None:
                raise Unreachable(self._ends[0], self.broken)
            else:
                self._arrived.clear()
                await self._arrived.wait()

    @property
    def arrived_bytes(self) -> int:
        """Bytes of the frames that were read, and of the one that is arriving."""
        if not self._frames or self._network.is_frozen(*self._ends):
            return self._delivered_bytes
        begin, due, header, payload = self._frames[0]
        passed = (asyncio.get_running_loop().time() - begin) / max(due - begin, 1e-9)
        part = min(1.0, max(0.0, passed))
        return self._delivered_bytes + int(part * (len(header) + len(payload)))

    def break_(self, why: str) -> None:
        """Nothing more arrives than what is on its way."""
        self.broken = self.broken or why
        self._arrived.set()


class MemoryStream:
    """A `Stream` over two pipes. `on_admit` is called when who is at its far end is let in."""

    def __init__(
        self, peer: str, outgoing: Pipe, incoming: Pipe, on_admit: Callable[[], None]
    ) -> None:
        self._peer = peer
        self._on_admit = on_admit
        self._outgoing, self._incoming = outgoing, incoming
        self._payload_limit: float = 0

    @property
    def peer(self) -> str:
        """Id of the member on the other side."""
        return self._peer

    @property
    def arrived_bytes(self) -> int:
        """See `Stream.arrived_bytes`."""
        return self._incoming.arrived_bytes

    @property
    def left_bytes(self) -> int:
        """See `Stream.left_bytes`."""
        return self._outgoing.put_bytes

    @property
    def closed(self) -> bool:
        """Whether the stream has ended, from either side."""
        return self._outgoing.broken is not None

    def admit(self, payload: int | None = None) -> None:
        """Lets frames with a payload through, or with so many bytes of it."""
        self._payload_limit = float("inf") if payload is None else payload
        self._on_admit()

    async def send(self, header: bytes, payload: Buffer) -> None:
        """Puts a frame on its way."""
        if self._outgoing.broken is not None:
            raise Unreachable(self._peer, self._outgoing.broken)
        self._outgoing.put(header, payload)

    def offer(self, header: bytes, payload: Buffer) -> bool:
        """Puts a frame on its way; there is always room."""
        if self._outgoing.broken is not None:
            raise Unreachable(self._peer, self._outgoing.broken)
        self._outgoing.put(header, payload)
        return True

    async def receive(self) -> tuple[bytes, Buffer]:
        """The next frame that has arrived."""
        header, payload = await self._incoming.get()
        if len(payload) > self._payload_limit:
            raise Misbehaved(self._peer, f"payload of {len(payload)} bytes, more than admitted")
        return header, payload

    async def aclose(self) -> None:
        """Closes both directions."""
        self.break_both("the stream was closed")

    def break_both(self, why: str) -> None:
        """Ends both directions; frames on their way are still read."""
        self._outgoing.break_(why)
        self._incoming.break_(why)

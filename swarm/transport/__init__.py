"""The first seam: how members reach one another.

A `Transport` knows our own peer id and opens `Stream`s to others; a stream carries whole frames in
order. There are two of each: `swarm.transport.libp2p` for the world, and `swarm.transport.memory`,
which simulates a network with delay, loss, frozen and dead machines inside one process.

Nobody uses streams directly: a `swarm.transport.link.Link` adds the handshake, heartbeats and
messages, the same way over both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

Buffer = bytes | bytearray | memoryview


class Stream(Protocol):
    """An ordered pipe of frames to one peer, whose id the transport has proved."""

    @property
    def peer(self) -> str:
        """Id of the peer on the other side."""

    @property
    def arrived_bytes(self) -> int:
        """Bytes that have arrived so far, those of a frame that is not yet complete included."""

    def admit(self) -> None:
        """Lifts the limit for strangers: until this, a frame that carries a payload is refused."""

    async def send(self, header: bytes, payload: Buffer) -> None:
        """Sends one frame; waits while the other side is slower than we are.

        Raises `Unreachable` once the stream is closed or broken.
        """

    def offer(self, header: bytes, payload: Buffer) -> bool:
        """Sends one frame if that needs no waiting and nobody waits in `send`.

        Returns whether it did; raises `Unreachable` like `send`.
        """

    async def receive(self) -> tuple[bytes, Buffer]:
        """The next frame's header and payload.

        Raises `Unreachable` at the end of the stream and `Misbehaved` on bytes that are no frame.
        """

    async def aclose(self) -> None:
        """Closes both directions; may be called again."""


StreamHandler = Callable[[Stream], Awaitable[None]]


class Transport(Protocol):
    """One member's access to the network."""

    @property
    def peer_id(self) -> str:
        """Our own id, as others see it."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Multiaddresses (with `/p2p/` id) at which others may reach us."""

    @property
    def num_streams(self) -> int:
        """Streams that are open, whoever opened them."""

    async def open(self, peer: str, protocol: str, addresses: Sequence[str] = ()) -> Stream:
        """Opens a stream to `peer`, at `addresses` or where it is known to be.

        Raises `Unreachable` if it is not there or does not serve the protocol.
        """

    async def serve(self, protocol: str, handler: StreamHandler) -> None:
        """Runs `handler` for each stream that others open; closes the stream when it returns."""

    async def aclose(self) -> None:
        """Closes every stream and leaves the network; may be called again."""

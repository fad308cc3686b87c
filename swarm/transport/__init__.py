"""The first seam: how members reach one another.

A `Transport` knows our own peer id and opens `Stream`s to others; a stream carries whole frames in
order. There are two of each: `swarm.transport.libp2p` for the world, and `swarm.transport.memory`,
which simulates a network with delay, loss, frozen and dead machines inside one process.

Nobody uses streams directly: a `swarm.transport.link.Link` adds the handshake, heartbeats and
messages, the same way over both. Between the two lies `swarm.transport.relayed`, through which
members reach those that nobody can dial.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from .reach import Reach

Buffer = bytes | bytearray | memoryview


class Stream(Protocol):
    """An ordered pipe of frames to one peer, whose id the transport has proved."""

    @property
    def peer(self) -> str:
        """Id of the peer on the other side."""

    @property
    def arrived_bytes(self) -> int:
        """Bytes that have arrived so far, those of a frame that is not yet complete included."""

    @property
    def left_bytes(self) -> int:
        """Bytes that have left so far, those of a frame that is being sent included."""

    def admit(self, payload: int | None = None) -> None:
        """Lifts the limit for strangers: until this, a frame that carries a payload is refused.

        With `payload`, frames with up to so many bytes of it are let through, not all.
        """

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

    @property
    def reach(self) -> Reach:
        """Whether others reach us directly, as far as is known."""

    def watch(self, on_change: Callable[[], None]) -> None:
        """Calls `on_change` from now on when `addresses` or `reach` have changed."""

    async def open(self, peer: str, protocol: str, addresses: Sequence[str] = ()) -> Stream:
        """Opens a stream to `peer`, at `addresses` or where it is known to be.

        Raises `Unreachable` if it is not there or does not serve the protocol.
        """

    async def serve(self, protocol: str, handler: StreamHandler) -> None:
        """Runs `handler` for each stream that others open; closes the stream when it returns."""

    async def aclose(self) -> None:
        """Closes every stream and leaves the network; may be called again."""


class Signer(Protocol):
    """Signs as one peer, and checks what others have signed as themselves."""

    @property
    def peer_id(self) -> str:
        """Whose signatures these are."""

    def sign(self, message: bytes) -> bytes:
        """Our signature."""

    def verifies(self, message: bytes, signature: bytes, peer: str) -> bool:
        """Whether `peer` has signed this message."""


class Carrier(Transport, Protocol):
    """A transport on which a relayed one can be built: it has keys, and can try who is dialled."""

    @property
    def signer(self) -> Signer:
        """The key that is our peer id."""

    async def connect(self, peer: str, addresses: Sequence[str] = ()) -> None:
        """Makes sure that there is a connection to `peer`; raises `Unreachable`."""

    async def hang_up(self, peer: str) -> None:
        """Ends our connection to `peer`, with its streams, so that the next one is new."""

    async def dial_back(self, peer: str, addresses: Sequence[str]) -> tuple[str, ...]:
        """Where a new connection reaches `peer`, which is connected to us.

        Only what we see it come from is tried, whatever it says: nobody can have us knock at third
        parties' doors. Raises `Unreachable` if it is not connected.
        """

    async def seen(self, peer: str) -> tuple[str, ...]:
        """Where `peer`, which is connected to us, comes from; raises `Unreachable` if it is not."""

    async def let_in(self, peer: str, places: Sequence[str]) -> None:
        """Has our router let `peer` dial us from these places, for some seconds from now on."""

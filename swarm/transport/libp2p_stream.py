"""A libp2p stream: frames over the unix socket on which our daemon passes its bytes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from swarm.errors import Misbehaved, RemoteProtocolError, Unreachable

from ..wire.frames import PREFIX_LEN, FrameLimits, decode_prefix, encode_prefix
from . import Buffer
from .uplink import Lane, Uplink, lane

_SMALL = 64 * 1024
"""Frames up to this size are copied into one write; of larger ones nothing is copied."""

_CLOSE_TIMEOUT = 1.0


class Libp2pStream:
    """A `Stream` of libp2p. `on_admit` is called when who is at its far end is let in.

    With an `uplink` it sends no faster than that allows.
    """

    def __init__(
        self,
        peer: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limits: FrameLimits,
        on_admit: Callable[[], None],
        uplink: Uplink | None = None,
    ) -> None:
        self._peer = peer
        self._on_admit = on_admit
        self._uplink = uplink
        self._turn = asyncio.Lock()
        self._reader, self._writer = reader, writer
        self._limits = limits
        self._accepted = replace(limits, payload=0)
        self._waiting = 0
        self._closing: asyncio.Task[None] | None = None
        self._arrived_bytes = self._written_bytes = 0
        # With a mark of 0, `drain` returns when the system has every byte, and a caller may reuse
        # its buffer.
        writer.transport.set_write_buffer_limits(high=0)

    @property
    def peer(self) -> str:
        """Id of the member on the other side."""
        return self._peer

    @property
    def arrived_bytes(self) -> int:
        """See `Stream.arrived_bytes`."""
        return self._arrived_bytes

    @property
    def left_bytes(self) -> int:
        """See `Stream.left_bytes`: what our daemon has taken."""
        return self._written_bytes - self._writer.transport.get_write_buffer_size()

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._writer.is_closing()

    def admit(self, payload: int | None = None) -> None:
        """Accepts payloads from now on: anybody can open a stream, and memory is for members."""
        limits = self._limits
        lower = limits.payload if payload is None else min(payload, limits.payload)
        self._accepted = replace(limits, payload=lower)
        self._on_admit()

    async def send(self, header: bytes, payload: Buffer) -> None:
        """Sends one frame. A frame is written without a pause, so senders never interleave."""
        if self.offer(header, payload):
            return
        prefix = self._prefix(header, payload)
        self._waiting += 1
        try:
            if self._uplink is not None:
                await self._send_slowly(self._uplink, prefix + header, payload)
            elif _size(payload) <= _SMALL:
                self._write(b"".join((prefix, header, payload)))
            else:
                self._write(prefix + header)
                self._write(payload)
            await self._writer.drain()
        except OSError as error:
            raise Unreachable(self._peer, "the connection broke") from error
        finally:
            self._waiting -= 1

    async def _send_slowly(self, uplink: Uplink, head: bytes, payload: Buffer) -> None:
        """Sends a frame in pieces as the uplink takes them, and nobody else's between them."""
        size = len(head) + _size(payload)
        of = max(lane(size), Lane.BRIEF)
        async with self._turn:
            try:
                for data in (head, payload):
                    view = memoryview(data).cast("B")
                    for start in range(0, len(view), uplink.piece_len):
                        piece = view[start : start + uplink.piece_len]
                        await uplink.take(len(piece), of)
                        if self.closed:
                            raise Unreachable(self._peer, "the stream is closed")
                        self._write(piece)
                        await self._writer.drain()
            except asyncio.CancelledError:
                # Half a frame makes no sense to the other side, nor does whatever would follow.
                self._writer.close()
                raise

    def offer(self, header: bytes, payload: Buffer) -> bool:
        """Sends a small frame at once if the other side keeps up."""
        prefix = self._prefix(header, payload)
        if self._waiting or _size(payload) > _SMALL:
            return False
        if self._writer.transport.get_write_buffer_size() > _SMALL:
            return False
        size = len(prefix) + len(header) + _size(payload)
        if self._uplink is not None and not self._uplink.admits(size):
            return False
        self._write(b"".join((prefix, header, payload)))
        return True

    def _write(self, data: Buffer) -> None:
        self._writer.write(data)
        self._written_bytes += _size(data)

    async def receive(self) -> tuple[bytes, Buffer]:
        """The next frame; its lengths are checked before any memory is taken for it."""
        try:
            prefix = await self._read(PREFIX_LEN)
            header_len, payload_len = decode_prefix(prefix, self._accepted)
            header = await self._read(header_len)
            payload = await self._read_long(payload_len)
        except (OSError, EOFError) as error:
            raise Unreachable(self._peer, "the connection ended") from error
        except RemoteProtocolError as error:
            raise Misbehaved(self._peer, str(error)) from error
        return header, payload

    async def _read(self, length: int) -> bytes:
        data = await self._reader.readexactly(length)
        self._arrived_bytes += length
        return data

    async def _read_long(self, length: int) -> Buffer:
        if length <= _SMALL:
            return await self._read(length)
        # In pieces as they come: over a slow line this takes longer than a peer may be silent.
        data = bytearray()
        while len(data) < length:
            piece = await self._reader.read(length - len(data))
            if not piece:
                raise EOFError
            data += piece
            self._arrived_bytes += len(piece)
        return data

    def _prefix(self, header: bytes, payload: Buffer) -> bytes:
        if self.closed:
            raise Unreachable(self._peer, "the stream is closed")
        return encode_prefix(len(header), _size(payload), self._limits)

    async def aclose(self) -> None:
        """Closes both directions; what was sent still leaves, if the other side takes it."""
        # Once: who stops waiting for a writer takes its end from all who wait after it.
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._writer.wait_closed()
        except TimeoutError:
            self._writer.transport.abort()
        except OSError:
            pass


def _size(payload: Buffer) -> int:
    return payload.nbytes if isinstance(payload, memoryview) else len(payload)

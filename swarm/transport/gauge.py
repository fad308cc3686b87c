"""How fast a line carries bytes, both ways: a measurement between two members.

Numbers of zeros would tell more of a compressing line than of one that carries activations, so
noise is sent. Nobody's line is to suffer from it: a measurement is small, a member may ask for a
few, one after the other, and one of all is answered at a time.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from swarm.errors import Busy, ConfigError, Misbehaved, RemoteProtocolError, Unreachable

from ..membership.membership import Membership
from ..wire.gauging import (
    MAX_BYTES,
    Chunk,
    GaugeMessage,
    Measure,
    Measured,
    Unmeasured,
    decode,
    encode,
)
from . import Stream, Transport
from .link import LinkConfig, accept, connect
from .quota import Allowances

PROTOCOL = "/homeswarm/gauge/1"

_CHUNK_BYTES = 32 * 1024
_FIRST_BYTES = 128 * 1024
"""A slow line is not asked for more than this."""
_FAST = 0.25
"""Seconds for the first measurement below which a larger one tells more."""
_PATIENCE = 20.0
_RATE = MAX_BYTES / 60
_BURST = 4.0 * MAX_BYTES


@dataclass(frozen=True)
class Speed:
    """Bytes per second towards us and away from us, and how many were moved in all to know."""

    down: float
    up: float
    moved: int


class Gauge:
    """Answers those who measure the line to us."""

    def __init__(self, membership: Membership, link_config: LinkConfig | None = None) -> None:
        self._membership = membership
        self._link_config = link_config
        self._allowances: Allowances[str] = Allowances(_RATE, _BURST)
        self._busy = False

    async def accept(self, stream: Stream) -> None:
        """Serves one measurement; ends by itself, whatever the other side does."""
        try:
            async with asyncio.timeout(_PATIENCE):
                link = await accept(stream, self._membership, self._link_config)
                asked = await _receive(stream)
                if not isinstance(asked, Measure):
                    raise Misbehaved(stream.peer, "measures without saying how much")
                if self._busy or not self._allows(link.account, asked.size):
                    await stream.send(encode(Unmeasured("measures another line now")), b"")
                    return
                self._busy = True
                try:
                    await _send(stream, asked.size)
                    await _take(stream, asked.size)
                    await stream.send(encode(Measured()), b"")
                finally:
                    self._busy = False
                # Until the other side has read that, the stream is left open.
                await stream.receive()
        except TimeoutError as error:
            raise Unreachable(stream.peer, "measured for too long") from error

    def _allows(self, account: str, size: int) -> bool:
        return self._allowances.spend(account, 2 * size, asyncio.get_running_loop().time())


async def measure(
    transport: Transport,
    membership: Membership,
    peer: str,
    addresses: tuple[str, ...] = (),
    limit: int = MAX_BYTES,
) -> Speed:
    """How fast the line to a member is, moving at most `limit` bytes each way, or a few more.

    Raises `Busy` if it does not measure now, other `PeerError`s if it is not there or does not know
    how, which older versions do not.
    """
    if not 1 <= limit <= MAX_BYTES:
        raise ConfigError(f"a measurement moves between 1 and {MAX_BYTES} bytes")
    small = min(_FIRST_BYTES, limit // 8) or limit
    first = await _once(transport, membership, peer, addresses, small)
    if first.moved / 2 / min(first.down, first.up) > _FAST:
        return first
    second = await _once(transport, membership, peer, addresses, limit - small)
    return Speed(second.down, second.up, first.moved + second.moved)


async def _once(
    transport: Transport,
    membership: Membership,
    peer: str,
    addresses: tuple[str, ...],
    size: int,
) -> Speed:
    clock = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(_PATIENCE):
            stream = await transport.open(peer, PROTOCOL, addresses)
            try:
                await connect(stream, membership)
                await stream.send(encode(Measure(size)), b"")
                await _next_chunk(stream)
                begun = clock()
                taken = await _take(stream, size - min(size, _CHUNK_BYTES))
                came = clock()
                await _send(stream, size)
                answer = await _receive(stream)
                if not isinstance(answer, Measured):
                    raise Misbehaved(peer, "does not end the measurement")
                done = clock()
            finally:
                await stream.aclose()
    except TimeoutError as error:
        raise Unreachable(peer, "took too long to measure") from error
    # Of the first chunk, only the end is known; a measurement of one chunk tells nothing of it.
    down = (taken or size) / max(came - begun, 1e-4)
    return Speed(down, size / max(done - came, 1e-4), 2 * size)


async def _send(stream: Stream, size: int) -> None:
    noise, header = os.urandom(min(size, _CHUNK_BYTES)), encode(Chunk())
    while size > 0:
        await stream.send(header, noise[:size])
        size -= len(noise)


async def _take(stream: Stream, size: int) -> int:
    taken = 0
    while taken < size:
        taken += await _next_chunk(stream)
    return taken


async def _next_chunk(stream: Stream) -> int:
    header, payload = await stream.receive()
    message = _decoded(stream.peer, bytes(header))
    if isinstance(message, Unmeasured):
        raise Busy(stream.peer, message.message)
    if not isinstance(message, Chunk) or not 0 < len(payload) <= _CHUNK_BYTES:
        raise Misbehaved(stream.peer, "sends something else than what is measured")
    return len(payload)


async def _receive(stream: Stream) -> GaugeMessage:
    header, _ = await stream.receive()
    return _decoded(stream.peer, bytes(header))


def _decoded(peer: str, header: bytes) -> GaugeMessage:
    try:
        return decode(header)
    except RemoteProtocolError as error:
        raise Misbehaved(peer, str(error)) from error

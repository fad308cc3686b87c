"""What p2pd reads and writes: messages behind their length, ids and addresses in binary.

The format is that of go-libp2p-daemon's control socket (its `specs/CONTROL.md`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from swarm.errors import Unreachable

from .light_hivemind import load

logger = logging.getLogger(__name__)

_MAX_REPLY = 1024 * 1024


def peer_bytes(peer: str) -> bytes:
    """A peer's id in binary; raises `Unreachable` if it is none."""
    try:
        raw: bytes = load("hivemind.p2p").PeerID.from_base58(peer).to_bytes()
    except ValueError as error:
        raise Unreachable(peer, "is no valid peer id") from error
    return raw


def address_bytes(peer: str, addresses: Sequence[str]) -> list[bytes]:
    """Addresses of this peer as libp2p wants them: binary, without the id.

    Other members' announcements bring us here, so what is no address is passed over.
    """
    multiaddr = load("hivemind.utils.multiaddr").Multiaddr
    raw = []
    for address in addresses:
        place, _, owner = address.partition("/p2p/")
        if owner not in ("", peer):
            continue
        try:
            raw.append(multiaddr(place).to_bytes())
        except (ValueError, LookupError, TypeError) as error:
            logger.debug("address ignored peer=%s address=%r why=%s", peer, address, error)
    return raw


def delimited(message: bytes) -> bytes:
    """A message as it is written: behind its length as a varint."""
    length, head = len(message), bytearray()
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + message


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """The next message; raises `EOFError` (so does the end of the connection) if it is too long."""
    length, shift = 0, 0
    while True:
        (byte,) = await reader.readexactly(1)
        length |= (byte & 0x7F) << shift
        if length > _MAX_REPLY:
            raise EOFError("the libp2p daemon sent no message")
        if byte < 0x80:
            return await reader.readexactly(length)
        shift += 7


def plain(message: str) -> str:
    """p2pd's reason in one line."""
    lines = [line.strip(" *") for line in message.splitlines() if line.strip()]
    return "; ".join(lines)[:300] or "refused"

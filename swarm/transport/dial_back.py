"""Dialling back: does a new connection reach a member where it says that it listens?

A TCP connection, libp2p's choice of protocols, and as much of its Noise handshake as tells who
answers: behind one router, another member may have the port that was asked about.
Sources: https://github.com/multiformats/multistream-select,
https://github.com/libp2p/specs/blob/master/noise/README.md,
https://noiseprotocol.org/noise.html (pattern XX, section 7.5; processing, section 5)
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import socket
from collections.abc import Sequence
from contextlib import suppress

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from .. import identity

logger = logging.getLogger(__name__)

_PATIENCE = 3.0
_MAX_TRIES = 8
_MULTISTREAM = b"\x13/multistream/1.0.0\n"
_NOISE = b"\x07/noise\n"
_PATTERN = b"Noise_XX_25519_ChaChaPoly_SHA256"
_KEY_LEN = 32
_TAG_LEN = 16
_IDENTITY_KEY = bytes([0x0A, 0x24, 0x08, 0x01, 0x12, 0x20])
"""Protobuf of the handshake's payload: field 1 has 36 bytes, an Ed25519 public key of 32."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


async def reached(peer: str, seen: Sequence[str], addresses: Sequence[str]) -> tuple[str, ...]:
    """The multiaddresses, with `/p2p/` id, at which `peer` answers a new connection.

    `seen` are those that it is connected from. Only their IP addresses are tried, at the TCP ports
    that `addresses` name: nobody can have us knock at third parties' doors.
    """
    places = list(dict.fromkeys(await _places(seen, addresses)))[:_MAX_TRIES]
    answers = await asyncio.gather(*(_answers(peer, ip, port) for _, ip, port in places))
    found = (place for (place, _, _), answer in zip(places, answers, strict=True) if answer)
    return tuple(dict.fromkeys(f"{place}/p2p/{peer}" for place in found))


async def _places(
    seen: Sequence[str], addresses: Sequence[str]
) -> list[tuple[str, IPAddress, int]]:
    """What to try: the address as others should write it, and where that is."""
    come_from = [ip for kind, ip, _ in map(_parse, seen) if kind and isinstance(ip, IPAddress)]
    named = [(place.partition("/p2p/")[0], *_parse(place)) for place in addresses]
    named = [entry for entry in named if entry[1]]
    found = await asyncio.gather(*(_resolve(host, port) for _, _, host, port in named))
    ports = {(kind, port) for _, kind, _, port in named}
    places = [
        (place, ip, port)
        for (place, _, _, port), ips in zip(named, found, strict=True)
        for ip in ips
        if ip in come_from
    ]
    # A router may forward the port without the member knowing its own address outside.
    tried = {(ip, port) for _, ip, port in places}
    for ip in come_from:
        for kind, port in sorted(ports):
            if kind in (f"ip{ip.version}", "dns") and (ip, port) not in tried:
                places.append((f"/ip{ip.version}/{ip}/tcp/{port}", ip, port))
    return places


def _parse(address: str) -> tuple[str, IPAddress | str, int]:
    """Kind (`ip4`, `ip6`, `dns`; empty where it is no place of TCP), host and port."""
    parts = address.split("/")
    if len(parts) < 5 or parts[3] != "tcp" or not parts[4].isdecimal():
        return "", "", 0
    kind, host, port = parts[1], parts[2], int(parts[4])
    if not 0 < port < 65536 or (len(parts) > 5 and parts[5] != "p2p"):
        return "", "", 0
    if kind in ("ip4", "ip6"):
        try:
            return kind, ipaddress.ip_address(host), port
        except ValueError:
            return "", "", 0
    return ("dns", host, port) if kind.startswith("dns") else ("", "", 0)


async def _resolve(host: IPAddress | str, port: int) -> list[IPAddress]:
    if not isinstance(host, str):
        return [host]
    try:
        async with asyncio.timeout(_PATIENCE):
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
    except (OSError, UnicodeError):
        return []
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


async def _answers(peer: str, ip: IPAddress, port: int) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection(str(ip), port)
            try:
                return await _identify(reader, writer) == identity.public_key(peer)
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, EOFError, ValueError, InvalidTag) as error:
        logger.debug("not reached peer=%s ip=%s port=%d why=%r", peer, ip, port, error)
        return False


async def _identify(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The Ed25519 key of who answers, or `ValueError` where that is no libp2p.

    The signature over the Noise key is not checked: whoever could lie here gains only that a
    member is thought reachable which is not.
    """
    writer.write(_MULTISTREAM + _NOISE)
    if await reader.readexactly(len(_MULTISTREAM + _NOISE)) != _MULTISTREAM + _NOISE:
        raise ValueError("does not speak Noise")
    noise = _Noise()
    message = noise.begin()
    writer.write(len(message).to_bytes(2, "big") + message)
    length = int.from_bytes(await reader.readexactly(2), "big")
    payload = noise.read(await reader.readexactly(length))
    if not payload.startswith(_IDENTITY_KEY):
        raise ValueError("its key is not of our kind")
    return payload[len(_IDENTITY_KEY) :][:_KEY_LEN]


class _Noise:
    """The first two of XX's three messages, as the one who begins; the prologue is empty."""

    def __init__(self) -> None:
        self._hash = self._chaining = _PATTERN
        self._key = b""
        self._ephemeral = X25519PrivateKey.generate()
        self._mix_hash(b"")

    def begin(self) -> bytes:
        """`-> e`"""
        public = self._ephemeral.public_key().public_bytes_raw()
        self._mix_hash(public)
        self._mix_hash(b"")
        return public

    def read(self, message: bytes) -> bytes:
        """`<- e, ee, s, es`: the payload."""
        if len(message) < 2 * (_KEY_LEN + _TAG_LEN):
            raise ValueError("the handshake is cut short")
        theirs, sealed_key = message[:_KEY_LEN], message[_KEY_LEN:][: _KEY_LEN + _TAG_LEN]
        self._mix_hash(theirs)
        self._mix_key(theirs)
        self._mix_key(self._open(sealed_key))
        return self._open(message[2 * _KEY_LEN + _TAG_LEN :])

    def _mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def _mix_key(self, theirs: bytes) -> None:
        secret = self._ephemeral.exchange(X25519PublicKey.from_public_bytes(theirs))
        extracted = hmac.digest(self._chaining, secret, "sha256")
        self._chaining = hmac.digest(extracted, b"\x01", "sha256")
        self._key = hmac.digest(extracted, self._chaining + b"\x02", "sha256")

    def _open(self, sealed: bytes) -> bytes:
        # Each key opens one message here, so the counter is always 0.
        opened = ChaCha20Poly1305(self._key).decrypt(bytes(12), sealed, self._hash)
        self._mix_hash(sealed)
        return opened

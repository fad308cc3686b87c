"""A stream that only its two ends can read, whoever passes it on.

Both ends make a key for this stream alone, exchange the public halves, and sign both of them
together with both peer ids, as in the signed Diffie-Hellman of ISO/IEC 9798-3 (H. Krawczyk, "SIGMA:
the 'SIGn-and-MAc' Approach to Authenticated Diffie-Hellman and Its Use in the IKE Protocols",
CRYPTO 2003); each direction then has a key and a counter, as in Noise
(https://noiseprotocol.org/noise.html, section 5.1).

    caller -> callee   ephemeral key
    callee -> caller   ephemeral key, signature
    caller -> callee   sealed: signature, the protocol that is wanted
    callee -> caller   sealed: that it is served, or why not

A frame travels as one or more records of limited size, so that whoever passes them on needs little
memory and a long frame shows signs of life. A record is a frame of the stream below: its header is
sealed together with the length of its payload, its payload by itself. What is altered, left out,
repeated or put elsewhere fits no counter and ends the stream.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from swarm.errors import Busy, LocalProtocolError, Misbehaved, Unreachable

from ..wire.frames import DEFAULT_LIMITS, FrameLimits
from . import Buffer, Signer, Stream

RECORD_LEN = 64 * 1024
"""Largest payload of a record, in bytes."""

_LABEL = b"homeswarm sealed stream 1"
_KEY_LEN = 32
_SIGNATURE_LEN = 64
_TAG_LEN = 16
_PIECE_LEN = RECORD_LEN - _TAG_LEN
_LENGTHS = struct.Struct(">II")
"""Of the frame's whole payload, and of the piece in this record."""

_SERVED = b"served"


class _Direction:
    """One direction's key, and how many records it has sealed or opened."""

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._count = 0

    def seal(self, head: bytes, piece: Buffer) -> tuple[bytes, bytes]:
        """The next record; `advance` once it is on its way."""
        header = self._cipher.encrypt(self._nonce(0), head, None)
        payload = self._cipher.encrypt(self._nonce(1), piece, None) if len(piece) else b""
        return header, payload

    def open_head(self, header: bytes) -> bytes:
        """What `seal` was given first; raises `InvalidTag`."""
        return self._cipher.decrypt(self._nonce(0), header, None)

    def open_piece(self, payload: Buffer) -> bytes:
        """What `seal` was given second; raises `InvalidTag`."""
        return self._cipher.decrypt(self._nonce(1), payload, None) if len(payload) else b""

    def advance(self) -> None:
        """Goes on to the next record."""
        self._count += 1

    def _nonce(self, part: int) -> bytes:
        return (2 * self._count + part).to_bytes(12, "big")


class SealedStream:
    """A `Stream` to `peer` through another one. Made by `call` and `answer`."""

    def __init__(
        self,
        stream: Stream,
        peer: str,
        outgoing: _Direction,
        incoming: _Direction,
        limits: FrameLimits = DEFAULT_LIMITS,
    ) -> None:
        self._stream, self._peer = stream, peer
        self._outgoing, self._incoming = outgoing, incoming
        self._limits = limits
        self._payload_limit = 0
        self._sending = asyncio.Lock()
        self._torn = False

    @property
    def peer(self) -> str:
        """Id of the member at the far end, which it has proved; not of who passes this on."""
        return self._peer

    @property
    def arrived_bytes(self) -> int:
        """See `Stream.arrived_bytes`."""
        return self._stream.arrived_bytes

    @property
    def left_bytes(self) -> int:
        """See `Stream.left_bytes`."""
        return self._stream.left_bytes

    def admit(self, payload: int | None = None) -> None:
        """See `Stream.admit`."""
        limit = self._limits.payload
        self._payload_limit = limit if payload is None else min(payload, limit)
        self._stream.admit(RECORD_LEN)

    async def send(self, header: bytes, payload: Buffer) -> None:
        """Sends one frame; senders take turns."""
        self._check_size(header, payload)
        async with self._sending:
            self._check_open()
            # A frame of which only a part has left cannot be taken back.
            self._torn = True
            for head, piece in self._pieces(header, payload):
                record = self._outgoing.seal(head, piece)
                self._outgoing.advance()
                with self._blamed():
                    await self._stream.send(*record)
            self._torn = False

    def offer(self, header: bytes, payload: Buffer) -> bool:
        """Sends a frame of one record at once if the stream below takes it."""
        if self._sending.locked() or _size(payload) > _PIECE_LEN:
            return False
        self._check_size(header, payload)
        self._check_open()
        ((head, piece),) = self._pieces(header, payload)
        record = self._outgoing.seal(head, piece)
        with self._blamed():
            sent = self._stream.offer(*record)
        if sent:
            # A record that was not taken has been seen by nobody: its number is free again.
            self._outgoing.advance()
        return sent

    async def receive(self) -> tuple[bytes, Buffer]:
        """The next frame; `Misbehaved` where it is not what the far end has sent."""
        header, payload_len, piece = await self._next()
        if payload_len > self._payload_limit:
            raise Misbehaved(self._peer, f"payload of {payload_len} bytes, more than admitted")
        if len(piece) == payload_len:
            return header, piece
        payload = bytearray(piece)
        while len(payload) < payload_len:
            more, whole_len, piece = await self._next()
            if more or whole_len != payload_len or not 0 < len(piece) <= payload_len - len(payload):
                raise Misbehaved(self._peer, "the pieces of a frame do not fit")
            payload += piece
        return header, payload

    async def aclose(self) -> None:
        """Closes the stream below."""
        await self._stream.aclose()

    def _check_open(self) -> None:
        if self._torn:
            raise Unreachable(self._peer, "the stream was left in the middle of a frame")

    def _check_size(self, header: bytes, payload: Buffer) -> None:
        size, overhead = _size(payload), _LENGTHS.size + _TAG_LEN
        if len(header) + overhead > self._limits.header or size > self._limits.payload:
            raise LocalProtocolError(f"frame of {len(header)}+{size} bytes exceeds {self._limits}")

    def _pieces(self, header: bytes, payload: Buffer) -> Iterator[tuple[bytes, Buffer]]:
        size = _size(payload)
        view = memoryview(payload).cast("B")
        first = min(size, _PIECE_LEN)
        yield _LENGTHS.pack(size, first) + header, view[:first]
        for start in range(first, size, _PIECE_LEN):
            piece = view[start : start + _PIECE_LEN]
            yield _LENGTHS.pack(size, len(piece)), piece

    async def _next(self) -> tuple[bytes, int, bytes]:
        """Header, length of the frame's payload, and this record's piece of it."""
        with self._blamed():
            sealed, payload = await self._stream.receive()
        try:
            head = self._incoming.open_head(bytes(sealed))
            if len(head) < _LENGTHS.size:
                raise InvalidTag
            whole_len, piece_len = _LENGTHS.unpack_from(head)
            piece = self._incoming.open_piece(payload)
        except InvalidTag as error:
            raise Misbehaved(self._peer, "a sealed frame was altered on its way") from error
        if len(piece) != piece_len or piece_len > whole_len:
            raise Misbehaved(self._peer, "a sealed frame was cut on its way")
        self._incoming.advance()
        return head[_LENGTHS.size :], whole_len, piece

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """The stream below names who passes this on; users of this one know the far end."""
        with blamed(self._peer):
            yield


@contextmanager
def blamed(peer: str) -> Iterator[None]:
    """Errors of the stream to a relay come out as errors of `peer` behind it."""
    try:
        yield
    except Unreachable as error:
        raise Unreachable(peer, f"through {error}") from error
    except Busy as error:
        raise Busy(peer, f"through {error}") from error
    except Misbehaved as error:
        raise Misbehaved(peer, f"through {error}") from error


async def call(stream: Stream, peer: str, protocol: str, signer: Signer) -> SealedStream:
    """Seals a stream at whose far end `peer` is expected, and asks it for `protocol`.

    Raises `Misbehaved` if somebody else answers, `Unreachable` if it does not serve the protocol.
    """
    ephemeral = X25519PrivateKey.generate()
    ours = ephemeral.public_key().public_bytes_raw()
    with blamed(peer):
        await stream.send(ours, b"")
        reply, _ = await stream.receive()
    theirs, signature = bytes(reply[:_KEY_LEN]), bytes(reply[_KEY_LEN:])
    transcript = _transcript(signer.peer_id, peer, ours, theirs)
    if not signer.verifies(b"callee" + transcript, signature, peer):
        raise Misbehaved(peer, "somebody else answers in its place")
    there, back = _keys(peer, ephemeral, theirs, transcript)
    sealed = SealedStream(stream, peer, there, back)
    await sealed.send(signer.sign(b"caller" + transcript) + protocol.encode(), b"")
    verdict, _ = await sealed.receive()
    if verdict != _SERVED:
        raise Unreachable(peer, f"does not serve {protocol}")
    return sealed


async def answer(stream: Stream, peer: str, signer: Signer) -> tuple[SealedStream, str]:
    """Seals a stream that `peer` is said to have opened; also gives the protocol that it wants.

    Raises `Misbehaved` if it is somebody else. To be followed by `accept`, or by closing it.
    """
    with blamed(peer):
        theirs, _ = await stream.receive()
    ephemeral = X25519PrivateKey.generate()
    ours = ephemeral.public_key().public_bytes_raw()
    transcript = _transcript(peer, signer.peer_id, bytes(theirs), ours)
    there, back = _keys(peer, ephemeral, bytes(theirs), transcript)
    with blamed(peer):
        await stream.send(ours + signer.sign(b"callee" + transcript), b"")
    sealed = SealedStream(stream, peer, back, there)
    wish, _ = await sealed.receive()
    signature, protocol = wish[:_SIGNATURE_LEN], wish[_SIGNATURE_LEN:]
    if not signer.verifies(b"caller" + transcript, signature, peer):
        raise Misbehaved(peer, "somebody else calls in its name")
    return sealed, protocol.decode(errors="replace")


async def accept(sealed: SealedStream) -> None:
    """Tells the caller that its protocol is served."""
    await sealed.send(_SERVED, b"")


async def refuse(sealed: SealedStream) -> None:
    """Tells the caller that its protocol is not served."""
    await sealed.send(b"not served", b"")


def _transcript(caller: str, callee: str, callers_key: bytes, callees_key: bytes) -> bytes:
    parts = (_LABEL, caller.encode(), callee.encode(), callers_key, callees_key)
    # With lengths: otherwise two different lists of parts could read the same.
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _keys(
    peer: str, ephemeral: X25519PrivateKey, theirs: bytes, transcript: bytes
) -> tuple[_Direction, _Direction]:
    """Caller to callee, and back (HKDF, RFC 5869)."""
    try:
        secret = ephemeral.exchange(X25519PublicKey.from_public_bytes(theirs))
    except ValueError as error:
        raise Misbehaved(peer, "sent no key") from error
    derived = HKDF(hashes.SHA256(), 2 * _KEY_LEN, salt=None, info=transcript).derive(secret)
    return _Direction(derived[:_KEY_LEN]), _Direction(derived[_KEY_LEN:])


def _size(payload: Buffer) -> int:
    return payload.nbytes if isinstance(payload, memoryview) else len(payload)

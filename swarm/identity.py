"""A member's identity: the Ed25519 key that makes its libp2p peer id.

The file is what libp2p reads: a protobuf with the key's type and the 64 bytes of private and public
key. A peer id is the public key itself, in base58.
Source: https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from swarm.errors import ConfigError

from . import state

_PRIVATE_HEADER = bytes([0x08, 0x01, 0x12, 0x40])
"""Protobuf: field 1 (key type) is Ed25519, field 2 (data) has 64 bytes."""

_PEER_ID_HEADER = bytes([0x00, 0x24, 0x08, 0x01, 0x12, 0x20])
"""Multihash "identity" of 36 bytes: a protobuf like the one above, of the public key's 32."""

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_SEED_LEN = 32

KEY_LEN = 32
"""Bytes of a public key."""


@dataclass(frozen=True)
class Identity:
    """A key file and the peer id that it gives; signs as that peer (a `transport.Signer`)."""

    path: Path
    peer_id: str
    key: Ed25519PrivateKey = field(repr=False, compare=False)

    def sign(self, message: bytes) -> bytes:
        """An Ed25519 signature (RFC 8032), 64 bytes."""
        return self.key.sign(message)

    def verifies(self, message: bytes, signature: bytes, peer: str) -> bool:
        """Whether `peer` has signed this message."""
        return verifies(message, signature, peer)

    def derive(self, purpose: bytes) -> bytes:
        """32 secret bytes of our own for one purpose (HKDF, RFC 5869); always the same ones."""
        seed = self.key.private_bytes_raw()
        return HKDF(hashes.SHA256(), _SEED_LEN, salt=None, info=purpose).derive(seed)


def create(path: Path) -> Identity:
    """Makes a new identity and writes it, if no other process has done so meanwhile.

    Raises `ConfigError` if it cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    if state.create(path, _PRIVATE_HEADER + key.private_bytes_raw() + _public(key)):
        return Identity(path, _peer_id(key), key)
    made = load(path)
    if made is None:
        raise ConfigError(f"the identity {path} vanished while it was read")
    return made


def load(path: Path) -> Identity | None:
    """Reads an identity; None if there is no file.

    Raises `ConfigError` on a file that is no such key: it is never replaced, because others know
    this member by it.
    """
    content = state.read(path)
    if content is None:
        return None
    header, body = content[: len(_PRIVATE_HEADER)], content[len(_PRIVATE_HEADER) :]
    if header != _PRIVATE_HEADER or len(body) != 2 * _SEED_LEN:
        raise ConfigError(_damaged(path))
    key = Ed25519PrivateKey.from_private_bytes(body[:_SEED_LEN])
    if _public(key) != body[_SEED_LEN:]:
        raise ConfigError(_damaged(path))
    return Identity(path, _peer_id(key), key)


def load_or_create(path: Path) -> Identity:
    """The identity in this file, a new one if there is no file; errors as in `load`."""
    return load(path) or create(path)


def peer_id(key: bytes) -> str:
    """The id of the peer with this public key."""
    return _encode(_PEER_ID_HEADER + key)


def verifies(message: bytes, signature: bytes, peer: str) -> bool:
    """Whether the key that `peer` is has signed this message."""
    key = public_key(peer)
    if key is None:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def public_key(peer: str) -> bytes | None:
    """The 32 bytes of the Ed25519 key that a peer id is; None where it is none."""
    number = 0
    for letter in peer:
        digit = _ALPHABET.find(letter)
        if digit < 0:
            return None
        number = number * len(_ALPHABET) + digit
    size = len(_PEER_ID_HEADER) + _SEED_LEN
    if len(peer) > 2 * size or number >> (8 * size):
        return None
    raw = number.to_bytes(size, "big")
    key = raw[len(_PEER_ID_HEADER) :]
    # Only the one spelling counts: ids are compared as text.
    return key if _encode(_PEER_ID_HEADER + key) == peer else None


def _damaged(path: Path) -> str:
    return (
        f"the identity {path} is damaged; restore it, or delete it to become a new member"
        " that nobody knows yet"
    )


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _peer_id(key: Ed25519PrivateKey) -> str:
    return peer_id(_public(key))


def _encode(raw: bytes) -> str:
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, len(_ALPHABET))
        text = _ALPHABET[digit] + text
    # Leading zero bytes vanish in the number; each is one "1".
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text

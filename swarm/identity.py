"""A member's identity: the Ed25519 key that makes its libp2p peer id.

The file is what libp2p reads: a protobuf with the key's type and the 64 bytes of private and public
key. A peer id is the public key itself, in base58.
Source: https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from swarm.errors import ConfigError

from . import state

_PRIVATE_HEADER = bytes([0x08, 0x01, 0x12, 0x40])
"""Protobuf: field 1 (key type) is Ed25519, field 2 (data) has 64 bytes."""

_PEER_ID_HEADER = bytes([0x00, 0x24, 0x08, 0x01, 0x12, 0x20])
"""Multihash "identity" of 36 bytes: a protobuf like the one above, of the public key's 32."""

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_SEED_LEN = 32


@dataclass(frozen=True)
class Identity:
    """A key file and the peer id that it gives."""

    path: Path
    peer_id: str


def create(path: Path) -> Identity:
    """Makes a new identity and writes it; raises `ConfigError` if it cannot be written."""
    key = Ed25519PrivateKey.generate()
    state.replace(path, _PRIVATE_HEADER + key.private_bytes_raw() + _public(key))
    return Identity(path, _peer_id(key))


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
    return Identity(path, _peer_id(key))


def load_or_create(path: Path) -> Identity:
    """The identity in this file, a new one if there is no file; errors as in `load`."""
    return load(path) or create(path)


def _damaged(path: Path) -> str:
    return (
        f"the identity {path} is damaged; restore it, or delete it to become a new member"
        " that nobody knows yet"
    )


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _peer_id(key: Ed25519PrivateKey) -> str:
    raw = _PEER_ID_HEADER + _public(key)
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, len(_ALPHABET))
        text = _ALPHABET[digit] + text
    # Leading zero bytes vanish in the number; each is one "1".
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text

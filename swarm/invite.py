"""The invite: one line of text that lets somebody join a group.

`hs1` + base32 (lower case, no padding) of a msgpack struct and a checksum. Base32 survives being
read aloud, and lower case survives chat programs; the checksum tells a damaged invite from a
foreign one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated

import msgspec

from swarm.errors import ConfigError
from swarm.group import SECRET_LEN, Group

PREFIX = "hs1"
_CHECKSUM_LEN = 4
_MAX_LEN = 8192

Address = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Invite(msgspec.Struct, frozen=True, array_like=True):
    """Where a group is met, and what proves that one was invited.

    `addresses` are full multiaddresses of bootstraps (`/ip4/…/tcp/…/p2p/…`). `ticket` is room for
    what a membership authority will ask of a newcomer; this version leaves it empty and ignores it.
    """

    secret: Annotated[bytes, msgspec.Meta(min_length=SECRET_LEN, max_length=SECRET_LEN)]
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(min_length=1, max_length=16)]
    group_name: Annotated[str, msgspec.Meta(max_length=64)] = ""
    ticket: Annotated[bytes, msgspec.Meta(max_length=1024)] = b""

    @property
    def group(self) -> Group:
        """The group that this invite opens."""
        return Group(self.secret, self.group_name)

    def encode(self) -> str:
        """The invite as one line."""
        body = msgspec.msgpack.encode(self)
        return PREFIX + _base32(body + _checksum(body))

    @classmethod
    def decode(cls, line: str) -> Invite:
        """Reads an invite; raises `ConfigError` that says what is wrong with it."""
        text = "".join(line.split())
        if not text:
            raise ConfigError("the invite is empty; give --join INVITE or set HOMESWARM_INVITE")
        if not text.lower().startswith(PREFIX):
            raise ConfigError(f"this is no Homeswarm invite: it must begin with {PREFIX}")
        if len(text) > _MAX_LEN:
            raise ConfigError(f"this is no Homeswarm invite: longer than {_MAX_LEN} characters")
        raw = _unbase32(text[len(PREFIX) :])
        body, checksum = raw[:-_CHECKSUM_LEN], raw[-_CHECKSUM_LEN:]
        if _checksum(body) != checksum:
            raise ConfigError("the invite is damaged: copy the whole line again")
        try:
            return msgspec.msgpack.decode(body, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(
                f"the invite is of a kind that this version cannot read: {error}"
            ) from error


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECKSUM_LEN]


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()


def _unbase32(text: str) -> bytes:
    try:
        return base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError) as error:
        raise ConfigError(
            "the invite is damaged: it contains characters that no invite has"
        ) from error

"""The invite: one line of text that lets somebody join a group.

`hs1` + base32 (lower case, no padding) of a msgpack struct and a checksum. Base32 survives being
read aloud, and lower case survives chat programs; the checksum tells a damaged invite from a
foreign one. In capitals the line is as valid: QR codes hold those in less room.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated

import msgspec

from swarm import identity
from swarm.errors import ConfigError
from swarm.group import Group

from .membership.certificate import Role, Time
from .wire.enrolment import Ticket

PREFIX = "hs1"
_CHECKSUM_LEN = 4
_MAX_LEN = 8192
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
_DAMAGED = "the invite is damaged: copy the whole line again"

Address = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Key = Annotated[bytes, msgspec.Meta(min_length=identity.KEY_LEN, max_length=identity.KEY_LEN)]


class Bootstrap(msgspec.Struct, frozen=True, array_like=True):
    """A bootstrap, by its public key, and where it is reached (multiaddresses without `/p2p/`)."""

    key: Key
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(min_length=1, max_length=16)]

    @property
    def peer(self) -> str:
        """Its peer id."""
        return identity.peer_id(self.key)


class Invite(msgspec.Struct, frozen=True, array_like=True):
    """Where a group is met, and what proves that one was invited.

    `key` is the group's public key. The first of `bootstraps` has written the invite, and takes its
    `ticket`. `role` and `expires` (seconds since 1970) are what that one has noted; here they are
    for people, and changing them changes nothing.
    """

    key: Key
    bootstraps: Annotated[tuple[Bootstrap, ...], msgspec.Meta(min_length=1, max_length=4)]
    ticket: Ticket
    role: Role
    expires: Time
    group_name: Annotated[str, msgspec.Meta(max_length=64)] = ""

    @property
    def group(self) -> Group:
        """The group that this invite opens."""
        return Group(identity.peer_id(self.key), self.group_name)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Multiaddresses of all bootstraps, with their ids."""
        return tuple(
            f"{address}/p2p/{bootstrap.peer}"
            for bootstrap in self.bootstraps
            for address in bootstrap.addresses
        )

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
            raise ConfigError(_DAMAGED)
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
    if not _LETTERS.issuperset(text):
        raise ConfigError("the invite is damaged: it contains characters that no invite has")
    try:
        return base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except binascii.Error as error:
        # Some lengths are of no bytes at all: something is missing, nothing that is there is wrong.
        raise ConfigError(_DAMAGED) from error

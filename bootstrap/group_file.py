"""The file that is the group: its private key. Whoever has it can do anything in the group."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from swarm import identity, state
from swarm.errors import ConfigError
from swarm.group import Group

GROUP_FILE = "group.key"


class _Content(msgspec.Struct, frozen=True):
    """`id` follows from the key, and so tells a damaged key from a sound one."""

    key: str
    id: str
    name: str = ""


@dataclass(frozen=True)
class GroupKey:
    """A group with its private key."""

    group: Group
    key: Ed25519PrivateKey = field(repr=False, compare=False)

    def sign(self, message: bytes) -> bytes:
        """The group's signature (Ed25519, RFC 8032), 64 bytes."""
        return self.key.sign(message)


def create(folder: Path, name: str = "") -> GroupKey:
    """A new group, written down; the caller knows that the folder has none."""
    made = _group_key(Ed25519PrivateKey.generate(), name)
    _write(folder, made)
    return made


def load(folder: Path) -> GroupKey | None:
    """The folder's group; None if there is no file. Raises `ConfigError` on a damaged one."""
    path = folder / GROUP_FILE
    content = state.read(path)
    if content is None:
        return None
    damaged = (
        f"the group's key {path} is damaged; restore it, or take another folder for a new group"
    )
    try:
        parsed = msgspec.json.decode(content, type=_Content)
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(parsed.key))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ConfigError(damaged) from error
    loaded = _group_key(key, parsed.name)
    if loaded.group.id != parsed.id:
        raise ConfigError(damaged)
    return loaded


def rename(folder: Path, group_key: GroupKey, name: str) -> GroupKey:
    """The same group under another name, written down."""
    renamed = _group_key(group_key.key, name)
    _write(folder, renamed)
    return renamed


def _group_key(key: Ed25519PrivateKey, name: str) -> GroupKey:
    public = key.public_key().public_bytes_raw()
    return GroupKey(Group(identity.peer_id(public), name), key)


def _write(folder: Path, group_key: GroupKey) -> None:
    group = group_key.group
    content = _Content(group_key.key.private_bytes_raw().hex(), group.id, group.name)
    state.replace(folder / GROUP_FILE, msgspec.json.encode(content) + b"\n")

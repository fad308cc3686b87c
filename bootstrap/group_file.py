"""The file that is the group: its secret. Whoever loses it loses the group."""

from __future__ import annotations

from pathlib import Path

import msgspec

from swarm import identity, state
from swarm.errors import ConfigError
from swarm.group import Group

GROUP_FILE = "group.key"
IDENTITY_FILE = "identity"


class _Content(msgspec.Struct, frozen=True):
    """`id` follows from the secret, and so tells a damaged secret from a sound one."""

    secret: str
    id: str
    name: str = ""


def load_or_create(folder: Path, name: str | None = None) -> Group:
    """The folder's group; a new one if the folder is new.

    `name` renames it. Raises `ConfigError` on a damaged file, and where the file is missing from a
    folder that had one: a new secret would lock every member out without a word.
    """
    path = folder / GROUP_FILE
    content = state.read(path)
    if content is not None:
        group = _parse(path, content)
        if name is None or name == group.name:
            return group
        group = Group(group.secret, name)
    elif identity.load(folder / IDENTITY_FILE) is not None:
        # The group's file is always written before the identity.
        raise ConfigError(
            f"{path} is missing, though {folder} belongs to a group; restore it, or take another"
            " folder for a new group"
        )
    else:
        group = Group.create(name or "")
    text = msgspec.json.encode(_Content(group.secret.hex(), group.id, group.name))
    state.replace(path, text + b"\n")
    return group


def _parse(path: Path, content: bytes) -> Group:
    damaged = (
        f"the group's secret {path} is damaged; restore it, or take another folder for a new group"
    )
    try:
        parsed = msgspec.json.decode(content, type=_Content)
        group = Group(bytes.fromhex(parsed.secret), parsed.name)
    except (msgspec.DecodeError, ValueError, RecursionError, ConfigError) as error:
        raise ConfigError(damaged) from error
    if group.id != parsed.id:
        raise ConfigError(damaged)
    return group

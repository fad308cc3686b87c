"""Members met before, on disk: a way back into the group while its bootstrap is away."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from swarm.errors import ConfigError

from . import state
from .group import Group
from .wire.fields import Addresses, PeerId

logger = logging.getLogger(__name__)

MAX_KNOWN = 64


class Acquaintance(msgspec.Struct, frozen=True):
    """A member, where it was reached, and when it was last known to live (seconds since 1970)."""

    peer: PeerId
    addresses: Addresses
    seen: float

    @property
    def multiaddresses(self) -> tuple[str, ...]:
        """Its addresses with its id."""
        suffix = f"/p2p/{self.peer}"
        return tuple(
            place if place.endswith(suffix) else place + suffix for place in self.addresses
        )


Known = tuple[Acquaintance, ...]

_decoder = msgspec.json.Decoder(Known)


def remember(known: Known, met: Iterable[Acquaintance], limit: int = MAX_KNOWN) -> Known:
    """The `limit` members that were seen last, newest first; one entry each, the newer one."""
    latest: dict[str, Acquaintance] = {}
    for entry in (*known, *met):
        if not entry.addresses:
            continue
        if entry.peer not in latest or latest[entry.peer].seen <= entry.seen:
            latest[entry.peer] = entry
    newest = sorted(latest.values(), key=lambda entry: (-entry.seen, entry.peer))
    return tuple(newest[:limit])


def path_for(group: Group, folder: Path | None = None) -> Path:
    """Where a group's acquaintances are kept below the state folder."""
    return (folder or state.default_folder()) / "groups" / group.id / "members.json"


def load(path: Path) -> Known:
    """Reads acquaintances. They are only a help: a damaged file counts as empty."""
    try:
        content = state.read(path)
        return remember((), _decoder.decode(content)) if content is not None else ()
    except (ConfigError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        logger.warning("acquaintances ignored path=%s why=%s", path, error)
        return ()


def save(path: Path, known: Known) -> None:
    """Writes acquaintances; raises `ConfigError` if that fails."""
    state.make_folder(path.parent)
    state.replace(path, msgspec.json.encode(known))

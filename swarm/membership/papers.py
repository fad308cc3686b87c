"""A member's papers: what it keeps on disk of its membership in one group."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from swarm import state
from swarm.errors import ConfigError

from ..group import Group
from ..wire.enrolment import Blob, Credential, Station

_FILE = "membership"
_TURN = "joining"


class Papers(msgspec.Struct, frozen=True, array_like=True):
    """A credential, where to have it renewed, and who is known to have been thrown out."""

    credential: Credential
    group_name: Annotated[str, msgspec.Meta(max_length=64)] = ""
    stations: tuple[Station, ...] = ()
    revocations: tuple[Blob, ...] = ()


_decoder = msgspec.msgpack.Decoder(Papers)


@dataclass(frozen=True)
class Cabinet:
    """Where one identity keeps its papers of one group, below `folder`."""

    folder: Path
    group: Group

    @property
    def place(self) -> Path:
        """The group's own folder."""
        return self.folder / "groups" / self.group.id

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Keeps other programs of this machine from joining the group at the same time."""
        state.make_folder(self.place)
        async with state.turn(self.place / _TURN):
            yield

    def load(self) -> Papers | None:
        """The papers, None if there are none; raises `ConfigError` if they cannot be read."""
        path = self.place / _FILE
        content = state.read(path)
        if content is None:
            return None
        try:
            return _decoder.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(
                f"the membership {path} is damaged; restore it, or delete it and join with a new"
                " invite"
            ) from error

    def save(self, papers: Papers) -> None:
        """Keeps these instead; raises `ConfigError` if they cannot be written."""
        state.make_folder(self.place)
        state.replace(self.place / _FILE, msgspec.msgpack.encode(papers))

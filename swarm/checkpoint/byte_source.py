"""The seam between which bytes and where they are: a local file here, a remote one in `mirror`."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from swarm.errors import ConfigError

from .byte_ranges import Range
from .progress import Advance


class ByteSource(Protocol):
    """A weight file, wherever it is. Any thread may call any method."""

    @property
    def name(self) -> str:
        """What an error message calls the file."""

    @property
    def size(self) -> int:
        """Bytes of the whole file."""

    def missing(self, ranges: Iterable[Range]) -> list[Range]:
        """The parts of `ranges` that `read` would have to download first."""

    def fetch(self, ranges: Iterable[Range], advance: Advance) -> None:
        """Make `ranges` local. Raises `ConfigError` that names the file and the reason."""

    def read(self, offset: int, length: int) -> memoryview:
        """`length` bytes at `offset`, as private writable memory (copied only when written)."""


class LocalFile:
    """A weight file on this machine's disk."""

    def __init__(self, path: Path) -> None:
        try:
            self._size = path.stat().st_size
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
        self.path = path

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self.path)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self._size

    def missing(self, ranges: Iterable[Range]) -> list[Range]:
        """Nothing: the file is here."""
        return []

    def fetch(self, ranges: Iterable[Range], advance: Advance) -> None:
        """Nothing to do: the file is here."""

    def read(self, offset: int, length: int) -> memoryview:
        """See `ByteSource.read`."""
        return mapped(self.path, offset, length)


def mapped(path: Path, offset: int, length: int) -> memoryview:
    """Map `length` bytes of `path` at `offset`, copy-on-write; the view keeps the mapping alive.

    Only the wanted window is mapped: a private writable mapping of a whole file that is larger
    than the memory is refused by Linux (overcommit), and those are the files we are for.
    Raises `ConfigError` when the file is too short or cannot be read.
    """
    if length == 0:
        return memoryview(bytearray())
    start = offset - offset % mmap.ALLOCATIONGRANULARITY
    skip = offset - start
    try:
        with path.open("rb") as file:
            window = mmap.mmap(file.fileno(), skip + length, access=mmap.ACCESS_COPY, offset=start)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot read {length} bytes at {offset}: {error}") from error
    return memoryview(window)[skip : skip + length]

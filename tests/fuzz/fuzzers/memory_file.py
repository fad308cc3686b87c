"""A weight file in memory, for readers that take any `ByteSource`."""

from __future__ import annotations

from collections.abc import Iterable

from swarm.checkpoint.byte_ranges import Range
from swarm.checkpoint.progress import Advance


class MemoryFile:
    """A `ByteSource` over some bytes; reading past their end is an error of the reader."""

    name = "model.safetensors"

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self._raw)

    def missing(self, ranges: Iterable[Range]) -> list[Range]:
        """Nothing: the file is here."""
        return []

    def fetch(self, ranges: Iterable[Range], advance: Advance) -> None:
        """Nothing to do."""

    def read(self, offset: int, length: int) -> memoryview:
        """See `ByteSource.read`."""
        assert 0 <= offset <= offset + length <= len(self._raw), "reads outside of the file"
        return memoryview(bytearray(self._raw[offset : offset + length]))

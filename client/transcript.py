"""The tokens of a session as its client knows them, and the names of its beginnings.

Peers keep what they have computed for a text under a name for it, and find it again when a later
session of the same client begins with the same text. The name is a keyed hash of all its tokens.
Only the client has the key, and a peer looks a name up among what the same client has left there.
So nobody learns from it what was said, nor whether two members say the same, and nobody can leave
something for another to find.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from swarm.wire.messages import DIGEST_LEN, MAX_PREFIXES, Prefix


def transcript_key(secret: bytes, model: str, dtype: str) -> bytes:
    """The key for texts of one model, whose embeddings are of type `dtype` on this client.

    `secret` belongs to one client in one group.
    """
    return hashlib.blake2b(f"{model} {dtype}".encode(), key=secret, digest_size=32).digest()


class Transcript:
    """The tokens of one row, from position 0 on; each `unit_len` of them end a prefix."""

    def __init__(self, key: bytes, unit_len: int) -> None:
        self._key = key
        self._unit_len = unit_len
        self._ids: list[int] = []
        self._digests: list[bytes] = []

    def __len__(self) -> int:
        return len(self._ids)

    def write(self, position: int, ids: Sequence[int] | None) -> None:
        """The row goes on with `ids` at `position`; what came after that is forgotten.

        Where they are not known (None), nothing that follows is.
        """
        del self._ids[position:]
        del self._digests[position // self._unit_len :]
        if ids is None or position > len(self._ids):
            return
        self._ids += ids
        while (start := len(self._digests) * self._unit_len) + self._unit_len <= len(self._ids):
            self._digests.append(self._digest(self._ids[start : start + self._unit_len]))

    def prefixes(self, limit: int) -> tuple[Prefix, ...]:
        """The beginnings of at most `limit` positions, the shortest first.

        Of a text with too many, those at multiples of two, four, … units: a text that grows keeps
        half of them.
        """
        count = min(limit // self._unit_len, len(self._digests))
        stride = 1
        while count // stride > MAX_PREFIXES:
            stride *= 2
        return tuple(
            Prefix(number * self._unit_len, self._digests[number - 1])
            for number in range(stride, count + 1, stride)
        )

    def _digest(self, ids: Sequence[int]) -> bytes:
        before = self._digests[-1] if self._digests else bytes(DIGEST_LEN)
        unit = struct.pack(f"<{len(ids)}Q", *ids)
        return hashlib.blake2b(before + unit, key=self._key, digest_size=DIGEST_LEN).digest()

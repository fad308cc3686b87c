"""What one side of a session's edge has seen of a row, as a chain of short digests.

Each position has a mark: a digest over its bytes and the mark before it. So the mark of a position
stands for everything up to it, however it was cut into steps, and two sides that have the same mark
have the same bytes.
"""

from __future__ import annotations

import hashlib

from ..wire.messages import KEY_LEN, MARK_LEN, TAG_LEN, Commitment

_START = bytes(MARK_LEN)


class Trace:
    """The marks of one row's positions, `position_len` bytes each, from position 0 on.

    The digest is SHA-256, which machines of the last years compute in hardware: two microseconds
    for a position of 1 KB.
    """

    def __init__(self, position_len: int) -> None:
        self._position_len = position_len
        self._marks = bytearray()

    def __len__(self) -> int:
        return len(self._marks) // MARK_LEN

    def write(self, position: int, data: memoryview) -> None:
        """The row goes on with `data` at `position`; what came after that is forgotten."""
        assert position <= len(self), "a trace has no gaps"
        del self._marks[position * MARK_LEN :]
        mark = self.mark(position)
        for start in range(0, len(data), self._position_len):
            digest = hashlib.sha256(mark)
            digest.update(data[start : start + self._position_len])
            mark = digest.digest()[:MARK_LEN]
            self._marks += mark

    def mark(self, end: int) -> bytes:
        """The mark of the positions before `end`."""
        return bytes(self._marks[(end - 1) * MARK_LEN : end * MARK_LEN]) if end else _START

    def head(self, length: int) -> Trace:
        """Another trace, of the first `length` positions."""
        other = Trace(self._position_len)
        other._marks = self._marks[: length * MARK_LEN]
        return other


def tag(key: bytes, epoch: int, generation: int, commitments: tuple[Commitment, ...]) -> bytes:
    """Shows whoever gave out `key` who has made these commitments, and in which step.

    Keyed BLAKE2b (RFC 7693) over the marks and what they are of.
    """
    digest = hashlib.blake2b(key=key[:KEY_LEN], digest_size=TAG_LEN)
    digest.update(b"%d %d" % (epoch, generation))
    for each in commitments:
        digest.update(b" %d %d " % (each.row, each.end) + each.received + each.sent)
    return digest.digest()

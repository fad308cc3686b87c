"""What one side of a session has computed, row by row, so that it can be sent again.

Raw bytes only: this module knows positions and how many bytes each takes, no tensors.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..wire.messages import Want


@dataclass(frozen=True)
class Piece:
    """Positions `[position, position + count)` of one row and their bytes."""

    row: int
    position: int
    count: int
    data: memoryview
    want: Want

    @property
    def end(self) -> int:
        """The first position after the piece."""
        return self.position + self.count


class History:
    """The hidden states of every row from position 0 on, `position_len` bytes each.

    Pieces are immutable and shared between rows after `reorder`, so that five beams cost little
    more than one.
    """

    def __init__(self, num_rows: int, position_len: int) -> None:
        self._rows: list[list[Piece]] = [[] for _ in range(num_rows)]
        self._position_len = position_len
        self._dropped = [0] * num_rows
        self._users: Counter[int] = Counter()
        self.num_bytes = 0
        """Memory that is held, in bytes; a piece that rows share counts once."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """How many positions each row has."""
        return tuple(self.length(row) for row in range(len(self._rows)))

    def length(self, row: int) -> int:
        """How many positions one row has."""
        pieces = self._rows[row]
        return pieces[-1].end if pieces else 0

    @property
    def replayable(self) -> bool:
        """Whether everything from position 0 on is still there."""
        return not any(self._dropped)

    def holds(self, row: int, start: int = 0) -> bool:
        """Whether the bytes of one row are still there from position `start` on."""
        return start >= self._dropped[row]

    def append(self, piece: Piece) -> None:
        """Adds a piece; one that begins below the row's length rolls the row back first."""
        assert len(piece.data) == piece.count * self._position_len
        self.truncate(piece.row, piece.position)
        assert piece.position == self.length(piece.row), "a history has no gaps"
        if piece.count:
            self._add(piece)

    def truncate(self, row: int, length: int) -> None:
        """Forgets what a row has from position `length` on; a row cut to nothing starts anew."""
        pieces = self._rows[row]
        while pieces and pieces[-1].end > length:
            last = pieces.pop()
            self._users[id(last.data)] -= 1
            if not self._users[id(last.data)]:
                del self._users[id(last.data)]
                self.num_bytes -= len(last.data)
            if last.position < length:
                # A copy: what is kept must not keep the memory of what is forgotten.
                kept = self._cut(last, last.position, length)
                self._add(replace(kept, data=memoryview(bytes(kept.data))))
        self._dropped[row] = min(self._dropped[row], length)

    def reorder(self, sources: Sequence[int]) -> None:
        """Makes row `i` what row `sources[i]` was."""
        self._rows = [
            [Piece(row, p.position, p.count, p.data, p.want) for p in self._rows[source]]
            for row, source in enumerate(sources)
        ]
        self._dropped = [self._dropped[source] for source in sources]
        self._count()

    def head(self, length: int) -> History:
        """Another history, of the first `length` positions of row 0; it shares the bytes."""
        other = History(1, self._position_len)
        other._rows, other._dropped = [list(self._rows[0])], self._dropped[:1]
        other._count()
        other.truncate(0, length)
        return other

    def snapshot(self) -> History:
        """Another history of the same, which stays as it is now; it shares the bytes."""
        other = History(0, self._position_len)
        other._rows, other._dropped = [list(pieces) for pieces in self._rows], list(self._dropped)
        other._count()
        return other

    def drop(self) -> None:
        """Forgets the bytes but not the lengths: only what is added from now on can be replayed."""
        self._dropped = list(self.lengths)
        self._rows = [
            [Piece(i, 0, row[-1].end, memoryview(b""), Want.NOTHING)] if row else []
            for i, row in enumerate(self._rows)
        ]
        self._count()

    def read(self, row: int, start: int, end: int) -> Iterator[Piece]:
        """The pieces of `[start, end)`, cut at its borders, in order."""
        assert self.holds(row, start)
        pieces = self._rows[row]
        # A long reply is one piece a token, and is read again in many parts.
        for index in range(bisect_right(pieces, start, key=lambda p: p.end), len(pieces)):
            piece = pieces[index]
            if piece.position >= end:
                return
            yield self._cut(piece, max(start, piece.position), min(end, piece.end))

    def _add(self, piece: Piece) -> None:
        self._rows[piece.row].append(piece)
        self._users[id(piece.data)] += 1
        if self._users[id(piece.data)] == 1:
            self.num_bytes += len(piece.data)

    def _count(self) -> None:
        pieces = [piece for row in self._rows for piece in row]
        self._users = Counter(id(piece.data) for piece in pieces)
        self.num_bytes = sum({id(piece.data): len(piece.data) for piece in pieces}.values())

    def _cut(self, piece: Piece, start: int, end: int) -> Piece:
        if (start, end) == (piece.position, piece.end):
            return piece
        size = self._position_len
        data = piece.data[(start - piece.position) * size : (end - piece.position) * size]
        return Piece(piece.row, start, end - start, data, piece.want)

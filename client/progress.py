"""How far the rows of a session have come, and what a hop that lags behind may keep of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakSet

from swarm.wire.messages import Prefix, RowRange

Lengths = tuple[int, ...]


@dataclass(frozen=True)
class Standing:
    """Where a session stands when its chain is (re)built, row by row.

    `lengths` have been sent by the client, `settled` have come out of the last hop. A hop that has
    not seen the newest `generation` may keep `keep`. Room is asked for `positions` per row. What
    lies below `spared` needs not come out, if the last hop has it. A new hop may have kept one of
    `prefixes` from an earlier session.
    """

    generation: int
    lengths: Lengths
    settled: Lengths
    keep: Lengths
    positions: int
    spared: Lengths
    prefixes: tuple[Prefix, ...] = ()


class Mark:
    """What of each row has stayed the same since the mark was made, whatever was rolled back."""

    def __init__(self, lengths: Lengths) -> None:
        self.lengths = lengths

    def lower(self, ranges: Sequence[RowRange], *, reordered: bool) -> None:
        """A step rolls back to where its ranges begin, or makes all rows others."""
        lengths = [0] * len(self.lengths) if reordered else list(self.lengths)
        for span in ranges:
            lengths[span.row] = min(lengths[span.row], span.position)
        self.lengths = tuple(lengths)


class Progress:
    """Counts what has been sent and what has come out; knows nothing of hops."""

    def __init__(self, num_rows: int) -> None:
        self.generation = 0
        self._settled = [0] * num_rows
        self._keep: Lengths = (0,) * num_rows
        self._spared = [0] * num_rows
        # Whether all hops have seen this generation: something of it has come out of the last.
        self._seen = True
        self._marks: WeakSet[Mark] = WeakSet()

    @property
    def settled(self) -> Lengths:
        """Positions of each row that have come out of the last hop."""
        return tuple(self._settled)

    @property
    def common(self) -> Lengths:
        """Positions of each row that every hop has computed, whichever generation it has seen."""
        return self.settled if self._seen else tuple(map(min, self._keep, self.settled))

    def advance(
        self, lengths: Lengths, ranges: Sequence[RowRange], reorder: Sequence[int] | None
    ) -> None:
        """A step is about to be sent to rows of these `lengths`: it may roll back or reorder."""
        if reorder is not None:
            lengths = tuple(lengths[source] for source in reorder)
            self._settled = [self._settled[source] for source in reorder]
            self._spared = [0] * len(self._spared)
        rolls_back = any(span.position < lengths[span.row] for span in ranges)
        for span in ranges:
            self._settled[span.row] = min(self._settled[span.row], span.position)
            self._spared[span.row] = min(self._spared[span.row], span.position)
        if reorder is not None:
            # Rows of a hop that missed the reorder are other rows: nothing of them can be kept.
            self._keep = (0,) * len(self._settled)
        elif rolls_back and self._seen:
            self._keep = tuple(self._settled)
        elif rolls_back:
            self._keep = tuple(map(min, self._keep, self._settled))
        for mark in self._marks:
            mark.lower(ranges, reordered=reorder is not None)
        if rolls_back or reorder is not None:
            self.generation, self._seen = self.generation + 1, False

    def mark(self, lengths: Lengths) -> Mark:
        """Begins to follow what stays of rows that have these `lengths` now.

        That is for a hop which is filled from another that may not have seen the newest generation
        yet, and then misses others.
        """
        mark = Mark(lengths if self._seen else self._keep)
        self._marks.add(mark)
        return mark

    def settle(self, ends: Mapping[int, int]) -> None:
        """Rows have come out of the last hop up to `ends`, in the newest generation."""
        self._seen = True
        for row, end in ends.items():
            self._settled[row] = max(self._settled[row], end)

    def spare(self, row: int, length: int) -> None:
        """Nobody asks what comes out of a row's first positions: only what comes after counts."""
        self._spared[row] = length

    def recall(self, lengths: Lengths) -> None:
        """So many positions of each row need not come out of the last hop, which has them."""
        self._settled = list(map(max, self._settled, lengths))

    def standing(self, lengths: Lengths) -> Standing:
        """All of it, for rows of which `lengths` have been sent."""
        return Standing(
            self.generation,
            lengths,
            self.settled,
            self._keep,
            max(lengths),
            tuple(self._spared),
        )

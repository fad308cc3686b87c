"""One edge of a session: from whoever holds a history to whoever comes next.

The client's feed holds embedded tokens, a hop's feed holds its outputs. `push` records a step and
says what to send of it now; `wire` names a (new) receiver and yields what that one lacks. Neither
does any input or output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..wire.messages import HopTime, Next, Output, RowRange, Step, Want
from .history import History, Piece

REFILL_LEN = 256
"""Positions per step when a receiver is refilled: large enough to be computed efficiently, small
enough that the hops after it can begin meanwhile."""


@dataclass(frozen=True)
class Computed:
    """One step's result on this side: what it covers and its bytes, `[sum of counts, hidden]`."""

    rows: tuple[RowRange, ...]
    payload: memoryview
    want: Want
    generation: int
    reorder: tuple[int, ...] | None = None
    refill: bool = False
    times: tuple[HopTime, ...] = ()


class Feed:
    """Records what one side computes for a session and decides what its successor is sent."""

    def __init__(self, num_rows: int, position_len: int) -> None:
        self.history = History(num_rows, position_len)
        self.generation = 0
        self.next: Next | None = None
        self._position_len = position_len
        self._epoch = 0
        self._seq = 0
        self._sent: list[int] = [0] * num_rows
        # Per row, the first position that is new since the last `hold`: a step may overtake the
        # `wire`, whose `has` knows nothing of its roll-back.
        self._new_from: dict[int, int] = {}
        # What hops have said of such a step, by row and position.
        self._new_times: dict[tuple[int, int], tuple[HopTime, ...]] = {}

    def hold(self, generation: int, keep: Sequence[int]) -> None:
        """Stops sending. A feed that is behind `generation` forgets all but `keep` per row."""
        self.next = None
        self._new_from.clear()
        self._new_times.clear()
        if self.generation < generation:
            for row, length in enumerate(keep):
                self.history.truncate(row, length)
            self.generation = generation

    def wire(self, epoch: int, next: Next) -> Iterator[tuple[Step | Output, memoryview]]:
        """Sends to `next` from now on; yields what it lacks of the history."""
        self.next, self._epoch, self._seq = next, epoch, 0
        self._sent = list(next.has)
        settled = next.settled or next.has
        new_from, self._new_from = self._new_from, {}
        for row, length in enumerate(self.history.lengths):
            start, new = self._sent[row], min(new_from.get(row, length), length)
            # What the history has dropped, the side before us sends again: it then passes through
            # `push`.
            if min(start, new) >= length or not self.history.holds(row, min(start, new)):
                continue
            self._sent[row] = length
            middle = min(max(start, settled[row]), new)
            yield from self._refill(row, start, middle)
            for piece in self.history.read(row, middle, new):
                yield self._message(self._single(piece, piece.want), piece.data)
            for piece in self.history.read(row, new, length):
                computed = self._single(piece, piece.want, refill=False)
                times = self._new_times.pop((row, piece.position), ())
                yield self._message(replace(computed, times=times), piece.data)

    def copy(
        self, epoch: int, next: Next, until: Sequence[int] = ()
    ) -> Iterator[tuple[Step, memoryview]]:
        """What `next` lacks of the history, for one that gets ready to take over or that checks it.

        Of each row up to `until`, or all of it. Where this feed sends stays as it is. What the
        history has dropped cannot be copied. Whoever takes time over it gets what there is now.
        """
        return self._copy(self.history.snapshot(), self.generation, epoch, next, until)

    def _copy(
        self, history: History, generation: int, epoch: int, next: Next, until: Sequence[int]
    ) -> Iterator[tuple[Step, memoryview]]:
        seq = 0
        for row, length in enumerate(map(min, history.lengths, until or history.lengths)):
            if not history.holds(row, min(next.has[row], length)):
                continue
            for piece in self._chunks(history, row, next.has[row], length):
                rows = (RowRange(row, piece.position, piece.count),)
                step = Step(next.session, epoch, seq, generation, rows, Want.NOTHING, refill=True)
                yield step, piece.data
                seq += 1

    def push(self, computed: Computed) -> tuple[Step | Output, memoryview] | None:
        """Records a step; returns what to send of it now: None while unwired or if not needed."""
        if computed.reorder is not None:
            self.history.reorder(computed.reorder)
            self._sent = [self._sent[source] for source in computed.reorder]
            if self.next is None:
                self._new_from = dict.fromkeys(range(len(self._sent)), 0)
        self.generation = max(self.generation, computed.generation)
        offset = 0
        for span in computed.rows:
            data = computed.payload[offset : offset + span.count * self._position_len]
            offset += len(data)
            self.history.append(Piece(span.row, span.position, span.count, data, computed.want))
            if self.next is None and not computed.refill:
                new = self._new_from.get(span.row, span.position)
                self._new_from[span.row] = min(new, span.position)
                self._new_times[span.row, span.position] = computed.times
        return self._forward(computed) if self.next is not None else None

    def _forward(self, computed: Computed) -> tuple[Step | Output, memoryview] | None:
        rows: list[RowRange] = []
        parts: list[memoryview] = []
        offset = 0
        for span in computed.rows:
            end = span.position + span.count
            # A refill repeats what the receiver may hold already; an ordinary step never does.
            start = max(span.position, self._sent[span.row]) if computed.refill else span.position
            if start < end or not computed.refill:
                rows.append(RowRange(span.row, start, end - start))
                skip = (start - span.position) * self._position_len
                size = span.count * self._position_len
                parts.append(computed.payload[offset + skip : offset + size])
                self._sent[span.row] = end
            offset += span.count * self._position_len
        if not rows:
            return None
        whole = tuple(rows) == computed.rows
        payload = computed.payload if whole else memoryview(b"".join(parts))
        return self._message(computed, payload, tuple(rows))

    def _refill(self, row: int, start: int, end: int) -> Iterator[tuple[Step | Output, memoryview]]:
        for piece in self._chunks(self.history, row, start, end):
            yield self._message(self._single(piece, Want.NOTHING), piece.data)

    @staticmethod
    def _chunks(history: History, row: int, start: int, end: int) -> Iterator[Piece]:
        """Positions `[start, end)` in large pieces."""
        for position in range(start, end, REFILL_LEN):
            stop = min(position + REFILL_LEN, end)
            data = b"".join(piece.data for piece in history.read(row, position, stop))
            yield Piece(row, position, stop - position, memoryview(data), Want.NOTHING)

    def _single(self, piece: Piece, want: Want, *, refill: bool = True) -> Computed:
        rows = (RowRange(piece.row, piece.position, piece.count),)
        return Computed(rows, piece.data, want, self.generation, refill=refill)

    def _message(
        self, computed: Computed, payload: memoryview, rows: tuple[RowRange, ...] | None = None
    ) -> tuple[Step | Output, memoryview]:
        assert self.next is not None
        rows = computed.rows if rows is None else rows
        seq, self._seq = self._seq, self._seq + 1
        if self.next.peer is None:
            output = Output(
                self.next.session,
                self._epoch,
                seq,
                computed.generation,
                rows,
                computed.want,
                computed.times,
            )
            return output, self._wanted(rows, payload, computed.want)
        step = Step(
            self.next.session,
            self._epoch,
            seq,
            computed.generation,
            rows,
            computed.want,
            computed.reorder,
            computed.refill,
            computed.times,
        )
        return step, payload

    def _wanted(self, rows: tuple[RowRange, ...], payload: memoryview, want: Want) -> memoryview:
        if want is Want.ALL:
            return payload
        if want is Want.NOTHING:
            return memoryview(b"")
        size, end, last = self._position_len, 0, []
        for span in rows:
            end += span.count * size
            if span.count:
                last.append(payload[end - size : end])
        return last[0] if len(last) == 1 else memoryview(b"".join(last))

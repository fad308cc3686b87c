"""What a session's hops have committed to, beside what the client itself has sent and got."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakSet

from swarm.session.feed import Computed
from swarm.session.trace import Trace, tag
from swarm.transport import Buffer
from swarm.wire.messages import Commitment, Output, Want

from ..hop import OpenHop

_MAX_POINTS = 64
"""Points that are remembered of one row; the first and the newest stay."""


@dataclass(frozen=True, eq=False)
class Point:
    """What every hop of a chain has committed to for the first `end` positions of a row.

    That was in an `epoch` of the chain. `received` has one mark more than there are hops: the last
    is of what nobody but the client can have received. `sent` begins with the client's own mark.
    """

    epoch: int
    row: int
    end: int
    hops: tuple[OpenHop, ...]
    received: tuple[bytes, ...]
    sent: tuple[bytes, ...]

    def joined(self, index: int) -> bool:
        """Whether hop `index` says to have received just what was sent to it."""
        return self.sent[index] == self.received[index]


class Ledger:
    """Follows the rows of one session; `position_len` is the bytes of one position."""

    def __init__(self, num_rows: int, position_len: int) -> None:
        self._position_len = position_len
        self._own = [Trace(position_len) for _ in range(num_rows)]
        self._got: list[dict[int, bytes]] = [{} for _ in range(num_rows)]
        self._points: list[list[Point]] = [[] for _ in range(num_rows)]
        # Those that somebody may still hold, though `_points` has no room for them.
        self._valid: WeakSet[Point] = WeakSet()
        self._epoch = 0

    def send(self, computed: Computed) -> None:
        """The client sends a step; what it rolls back is forgotten."""
        if computed.reorder is not None:
            self._own = [self._own[s].head(len(self._own[s])) for s in computed.reorder]
            self._got = [dict(self._got[source]) for source in computed.reorder]
            self._forget_points()
        offset = 0
        for span in computed.rows:
            size = span.count * self._position_len
            self._own[span.row].write(span.position, computed.payload[offset : offset + size])
            self._forget(span.row, span.position)
            offset += size

    def receive(
        self, output: Output, payload: Buffer, hops: Sequence[OpenHop]
    ) -> tuple[list[Point], int | None]:
        """Takes one output that has been checked.

        Returns the points that all hops now agree to be at, and the first hop whose commitments are
        not there or not its own, if there is one. What is sent again after a loss has none at all.
        """
        if output.epoch != self._epoch:
            # A hop that was mended, or has come, may have computed anew what came out before, and
            # rounded it otherwise.
            self._epoch, self._got = output.epoch, [{} for _ in self._got]
            self._forget_points()
        self._note(output, payload)
        if not output.times:
            return [], None
        made: list[tuple[Commitment, ...]] = []
        for index, hop in enumerate(hops):
            time = output.times[index] if index < len(output.times) else None
            if time is None or (time.start, time.end) != (hop.hop.start, hop.hop.end):
                return [], index
            word = tag(hop.key, output.epoch, output.generation, time.commitments)
            if word != time.tag or not time.commitments:
                return [], index
            made.append(time.commitments)
        points = [self._point(row, end, made, hops) for row, end in self._ends(output)]
        known = [point for point in points if point is not None]
        for point in known:
            self._add(point)
        return known, None

    def valid(self, point: Point) -> bool:
        """Whether the positions of a point are still those that were computed then.

        What was rolled back and then sent again is not: the same inputs, in steps of other lengths,
        may be rounded otherwise.
        """
        return point in self._valid

    def first(self, row: int) -> Point | None:
        """The earliest point of a row."""
        return self._points[row][0] if self._points[row] else None

    def newest(self, row: int, limit: int) -> Point | None:
        """The latest point of a row with at most `limit` positions."""
        return next((p for p in reversed(self._points[row]) if p.end <= limit), None)

    def received_as(self, row: int, position: int, data: memoryview) -> bool:
        """Whether `data` is what came to the client at a position, if anything did."""
        known = self._got[row].get(position)
        return known is None or known == _digest(data)

    def _ends(self, output: Output) -> list[tuple[int, int]]:
        return [(span.row, span.position + span.count) for span in output.rows if span.count]

    def _point(
        self, row: int, end: int, made: Sequence[tuple[Commitment, ...]], hops: Sequence[OpenHop]
    ) -> Point | None:
        """The point where all hops speak of one end; None within a chunk that a hop has cut."""
        of_row = [[each for each in commitments if each.row == row] for commitments in made]
        if any(len(each) != 1 or each[0].end != end for each in of_row):
            return None
        if end > len(self._own[row]):
            return None
        sent = (self._own[row].mark(end), *(each[0].sent for each in of_row))
        received = (*(each[0].received for each in of_row), of_row[-1][0].sent)
        return Point(self._epoch, row, end, tuple(hops), received, sent)

    def _add(self, point: Point) -> None:
        self._valid.add(point)
        points = self._points[point.row]
        points.append(point)
        if len(points) > _MAX_POINTS:
            del points[1]

    def _forget_points(self) -> None:
        self._points = [[] for _ in self._points]
        self._valid.clear()

    def _forget(self, row: int, position: int) -> None:
        points = self._points[row]
        if points and points[-1].end > position:
            for point in [p for p in self._valid if p.row == row and p.end > position]:
                self._valid.discard(point)
        while points and points[-1].end > position:
            points.pop()
        got = self._got[row]
        while got and next(reversed(got)) >= position:
            got.popitem()

    def _note(self, output: Output, payload: Buffer) -> None:
        """Remembers what has come out, by digests: the last hop cannot say otherwise later."""
        view, offset, size = memoryview(payload), 0, self._position_len
        for span in output.rows:
            every = span.count if output.want is Want.ALL else min(1, span.count)
            count = 0 if output.want is Want.NOTHING else every
            end = span.position + span.count
            for position in range(end - count, end):
                self._got[span.row][position] = _digest(view[offset : offset + size])
                offset += size


def _digest(data: memoryview) -> bytes:
    return hashlib.sha256(data).digest()[:8]

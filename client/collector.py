"""Gathers the outputs of one step of a session, in whatever pieces and however often they come."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.errors import RemoteProtocolError
from swarm.transport import Buffer
from swarm.wire.messages import DType, HopTimes, Output, RowRange, Want
from swarm.wire.tensors import all_finite


class Collector:
    """Waits for the positions of `rows`; keeps the bytes of those that `want` names."""

    def __init__(
        self, rows: Sequence[RowRange], want: Want, position_len: int, dtype: DType
    ) -> None:
        self._dtype = dtype
        self._rows = {span.row: span for span in rows if span.count}
        self._order = [span.row for span in rows]
        self._want = want
        self._position_len = position_len
        self._reached = {row: span.position for row, span in self._rows.items()}
        self._data = {row: self._space(span) for row, span in self._rows.items()}
        self.times: HopTimes = ()
        """What the hops took over the newest output."""

    @property
    def done(self) -> bool:
        """Whether every position has come out of the last hop."""
        return all(
            self._reached[row] == span.position + span.count for row, span in self._rows.items()
        )

    def add(self, output: Output, payload: Buffer) -> dict[int, int]:
        """Takes one output; returns how far each of its rows has come.

        Raises `RemoteProtocolError` where the payload is not what the output says.
        """
        counts = [self._num_returned(span, output.want) for span in output.rows]
        if len(payload) != sum(counts) * self._position_len:
            raise RemoteProtocolError(f"{len(payload)} bytes for {sum(counts)} positions")
        if not all_finite(payload, self._dtype, self._position_len):
            raise RemoteProtocolError("hidden states that are not finite numbers")
        view, offset = memoryview(payload), 0
        ends: dict[int, int] = {}
        for span, count in zip(output.rows, counts, strict=True):
            size = count * self._position_len
            end = span.position + span.count
            if span.row in self._rows:
                self._store(span.row, end - count, view[offset : offset + size])
                if span.position <= self._reached[span.row]:
                    self._reached[span.row] = max(end, self._reached[span.row])
            ends[span.row] = end
            offset += size
        self.times = output.times
        return ends

    def result(self) -> list[bytearray]:
        """The wanted bytes of each row, in the order of the rows asked for."""
        return [self._data.get(row, bytearray()) for row in self._order]

    def _space(self, span: RowRange) -> bytearray:
        return bytearray(self._num_returned(span, self._want) * self._position_len)

    def _num_returned(self, span: RowRange, want: Want) -> int:
        if want is Want.ALL:
            return span.count
        return min(1, span.count) if want is Want.LAST else 0

    def _store(self, row: int, position: int, data: memoryview) -> None:
        """Copies the positions that are asked for out of `data`, which begins at `position`."""
        span = self._rows[row]
        end = span.position + span.count
        first = end - self._num_returned(span, self._want)
        count = len(data) // self._position_len
        start, stop = max(first, position), min(end, position + count)
        if start < stop:
            size = self._position_len
            target = memoryview(self._data[row])[(start - first) * size : (stop - first) * size]
            target[:] = data[(start - position) * size : (stop - position) * size]

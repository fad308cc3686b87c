"""A step cut into chunks that travel behind one another, so that all hops work at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from swarm.errors import LocalProtocolError, RequestError
from swarm.session.feed import Computed
from swarm.wire.messages import DType, RowRange, Want
from swarm.wire.tensors import to_buffer


@dataclass(frozen=True)
class RowInput:
    """New positions of one row: `hidden` is `[n, hidden_size]`, from `position` on.

    A position below the row's length rolls the row back first. `ids` are the tokens that were
    embedded, if it was tokens: they never leave the client, but what peers have computed for them
    can then be used again.
    """

    row: int
    position: int
    hidden: torch.Tensor
    ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.ids is not None and len(self.ids) != len(self.hidden):
            raise LocalProtocolError(f"{len(self.ids)} tokens for {len(self.hidden)} positions")

    @property
    def range(self) -> RowRange:
        """Which positions these are."""
        return RowRange(self.row, self.position, len(self.hidden))


@dataclass(frozen=True)
class Cutter:
    """Cuts steps into chunks of `chunk_len` positions; `dtype` is what travels."""

    chunk_len: int
    dtype: DType

    def cut(
        self,
        rows: Sequence[RowInput],
        want: Want,
        reorder: Sequence[int] | None,
        generation: int,
    ) -> Iterator[Computed]:
        """The chunks of one step, in order.

        The first one reorders and rolls back all rows: a hop that has seen a generation has seen
        all of it.
        """
        order = None if reorder is None else tuple(reorder)
        ahead = [RowRange(entry.row, entry.position, 0) for entry in rows]
        for chunk in self._chunks(rows):
            yield self._computed(chunk, ahead, want, order, generation)
            order, ahead = None, []

    def _chunks(self, rows: Sequence[RowInput]) -> Iterator[list[tuple[RowInput, bool]]]:
        """Parts of rows, with whether each is its row's last."""
        chunk: list[tuple[RowInput, bool]] = []
        room = self.chunk_len
        for entry in rows:
            count, start = len(entry.hidden), 0
            while start < count:
                take = min(room, count - start)
                hidden = entry.hidden[start : start + take]
                part = RowInput(entry.row, entry.position + start, hidden)
                chunk.append((part, start + take == count))
                start, room = start + take, room - take
                if room == 0:
                    yield chunk
                    chunk, room = [], self.chunk_len
        if chunk:
            yield chunk

    def _computed(
        self,
        chunk: Sequence[tuple[RowInput, bool]],
        ahead: Sequence[RowRange],
        want: Want,
        reorder: tuple[int, ...] | None,
        generation: int,
    ) -> Computed:
        parts = [part.hidden for part, _ in chunk]
        hidden = torch.cat(parts) if len(parts) > 1 else parts[0]
        payload = to_buffer(hidden, self.dtype)
        if want is Want.LAST and not any(ends for _, ends in chunk):
            want = Want.NOTHING
        spans = tuple(part.range for part, _ in chunk)
        spans += tuple(span for span in ahead if span.row not in {s.row for s in spans})
        return Computed(spans, payload, want, generation, reorder)


def check_step(
    ranges: Sequence[RowRange],
    reorder: Sequence[int] | None,
    row_lens: Sequence[int],
    context_length: int,
) -> None:
    """Raises `LocalProtocolError` for a step that does not follow from rows as long as these.

    `RequestError` if it is beyond the model's context, in positions (0 where unknown).
    """
    lengths = list(row_lens)
    if reorder is not None:
        if not any(span.count for span in ranges):
            raise LocalProtocolError("a reorder travels with new positions")
        lengths = [lengths[source] for source in reorder]
    for span in ranges:
        if span.position > lengths[span.row]:
            raise LocalProtocolError(f"{span} leaves a gap after {lengths[span.row]}")
        if context_length and span.position + span.count > context_length:
            raise RequestError(
                f"{span.position + span.count} positions; the model's context is {context_length}"
            )

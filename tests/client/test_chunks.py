from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from swarm.client.chunks import Cutter, RowInput
from swarm.wire.messages import DType, RowRange, Want
from swarm.wire.tensors import from_buffers

SIZE = 3


def inputs(*rows: tuple[int, int, int]) -> list[RowInput]:
    """Rows of `(row, position, count)`; each position's numbers say where it belongs."""
    return [
        RowInput(
            row,
            position,
            torch.tensor([[row, position + i, 0.0] for i in range(count)]).reshape(count, SIZE),
        )
        for row, position, count in rows
    ]


def test_a_short_step_is_one_chunk() -> None:
    (chunk,) = Cutter(4, DType.FLOAT32).cut(inputs((0, 7, 1), (1, 3, 2)), Want.LAST, None, 5)
    assert chunk.rows == (RowRange(0, 7, 1), RowRange(1, 3, 2))
    assert (chunk.want, chunk.generation, chunk.reorder) == (Want.LAST, 5, None)
    hidden = from_buffers([chunk.payload], DType.FLOAT32, SIZE)
    assert hidden[:, :2].tolist() == [[0, 7], [1, 3], [1, 4]]


def test_only_the_first_chunk_reorders_and_it_rolls_back_all_rows() -> None:
    cutter = Cutter(2, DType.BFLOAT16)
    first, second, third = cutter.cut(inputs((0, 1, 3), (2, 4, 2)), Want.LAST, [1, 0, 2], 3)
    assert first.rows == (RowRange(0, 1, 2), RowRange(2, 4, 0))
    assert second.rows == (RowRange(0, 3, 1), RowRange(2, 4, 1))
    assert third.rows == (RowRange(2, 5, 1),)
    assert [chunk.reorder for chunk in (first, second, third)] == [(1, 0, 2), None, None]
    # Of a chunk that ends no row, nothing is wanted.
    assert [chunk.want for chunk in (first, second, third)] == [
        Want.NOTHING,
        Want.LAST,
        Want.LAST,
    ]


def test_a_row_without_new_positions_is_rolled_back_too() -> None:
    (chunk,) = Cutter(9, DType.FLOAT32).cut(inputs((0, 2, 0), (1, 0, 1)), Want.ALL, None, 1)
    assert set(chunk.rows) == {RowRange(0, 2, 0), RowRange(1, 0, 1)}


rows = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 50), st.integers(0, 40)),
    min_size=1,
    max_size=5,
    unique_by=lambda row: row[0],
).filter(lambda rows: any(count for _, _, count in rows))


@given(rows, st.integers(1, 20), st.sampled_from(Want))
def test_the_chunks_are_the_step(
    rows: list[tuple[int, int, int]], chunk_len: int, want: Want
) -> None:
    chunks = list(Cutter(chunk_len, DType.FLOAT32).cut(inputs(*rows), want, None, 2))
    counts = [sum(span.count for span in chunk.rows) for chunk in chunks]
    assert counts[:-1] == [chunk_len] * (len(chunks) - 1) and 0 < counts[-1] <= chunk_len
    assert {(span.row, span.position) for span in chunks[0].rows} == {row[:2] for row in rows}
    came: list[list[float]] = []
    for chunk in chunks:
        hidden = from_buffers([chunk.payload], DType.FLOAT32, SIZE)[:, :2].tolist()
        places = [[s.row, s.position + i] for s in chunk.rows for i in range(s.count)]
        assert hidden == places
        came += hidden
        ends = any(
            span.count and span.row == row and span.position + span.count == position + count
            for span in chunk.rows
            for row, position, count in rows
        )
        assert chunk.want is (want if ends or want is not Want.LAST else Want.NOTHING)
    assert came == [[row, p + i] for row, p, count in rows for i in range(count)]

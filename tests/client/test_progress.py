from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarm.client.progress import Progress, Standing
from swarm.wire.messages import RowRange

NUM_ROWS = 3


def test_what_came_out_is_settled_and_may_be_kept() -> None:
    progress = Progress(2)
    progress.advance((0, 0), [RowRange(0, 0, 5), RowRange(1, 0, 4)], None)
    progress.settle({0: 3})
    progress.settle({0: 5, 1: 4})
    progress.settle({0: 2})
    assert progress.standing((5, 4)) == Standing(0, (5, 4), (5, 4), (0, 0), 5, (0, 0))


def test_a_roll_back_starts_a_generation_that_keeps_what_comes_before() -> None:
    progress = Progress(1)
    progress.advance((0,), [RowRange(0, 0, 6)], None)
    progress.settle({0: 6})
    progress.advance((6,), [RowRange(0, 4, 1)], None)
    assert progress.standing((5,)) == Standing(1, (5,), (4,), (4,), 5, (0,))


def test_a_roll_back_that_nobody_has_seen_keeps_what_both_share() -> None:
    """The second reaches further back or less far: what was before the first holds for both."""
    for position, keep in ((2, 2), (5, 4)):
        progress = Progress(1)
        progress.settle({0: 6})
        progress.advance((6,), [RowRange(0, 4, 2)], None)
        progress.advance((6,), [RowRange(0, position, 1)], None)
        assert (progress.generation, progress.standing((6,)).keep) == (2, (keep,))


def test_of_reordered_rows_nothing_can_be_kept() -> None:
    progress = Progress(2)
    progress.settle({0: 3, 1: 5})
    progress.advance((3, 5), [RowRange(0, 5, 1), RowRange(1, 5, 1)], (1, 1))
    assert progress.standing((6, 6)) == Standing(1, (6, 6), (5, 5), (0, 0), 6, (0, 0))


def test_going_on_is_no_new_generation() -> None:
    progress = Progress(1)
    progress.settle({0: 4})
    progress.advance((4,), [RowRange(0, 4, 1)], None)
    assert progress.standing((5,)) == Standing(0, (5,), (4,), (0,), 5, (0,))


@given(st.data())
def test_a_hop_that_lags_behind_may_keep_what_it_is_told(data: st.DataObject) -> None:
    """A hop that saw any generation since the last one that came out shares its first positions."""
    progress = Progress(NUM_ROWS)
    texts: list[list[int]] = [[] for _ in range(NUM_ROWS)]
    # What a hop may hold that has seen nothing newer than what has come out of the last hop, and
    # what one holds that has seen any generation since.
    seen = [[list(text) for text in texts]]
    fresh = 0
    for _ in range(data.draw(st.integers(1, 12), "steps")):
        lengths = tuple(map(len, texts))
        reorder = data.draw(
            st.none() | st.tuples(*[st.integers(0, NUM_ROWS - 1)] * NUM_ROWS), "reorder"
        )
        if reorder is not None:
            texts = [list(texts[source]) for source in reorder]
        rows = data.draw(st.lists(st.integers(0, NUM_ROWS - 1), min_size=1, unique=True), "rows")
        ranges = []
        for row in rows:
            position = data.draw(st.integers(0, len(texts[row])), "position")
            count = data.draw(st.integers(1, 4), "count")
            ranges.append(RowRange(row, position, count))
            texts[row][position:] = range(fresh, fresh + count)
            fresh += count
        generation = progress.generation
        progress.advance(lengths, ranges, reorder)
        if data.draw(st.booleans(), "comes out"):
            progress.settle({span.row: span.position + span.count for span in ranges})
            seen = []
        if generation == progress.generation and seen:
            seen.pop()
        seen.append([list(text) for text in texts])
        standing = progress.standing(tuple(map(len, texts)))
        assert all(map(int.__le__, standing.settled, standing.lengths))
        for held in seen[:-1]:
            for row, keep in enumerate(standing.keep):
                assert held[row][:keep] == texts[row][:keep]
                assert keep <= len(held[row])

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from swarm.checkpoint.byte_ranges import merged, num_bytes, pieces, subtracted

ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)


def positions(some: list[tuple[int, int]]) -> set[int]:
    return {at for begin, end in some for at in range(begin, end)}


@given(ranges)
def test_merged_keeps_the_bytes_and_leaves_gaps_between(some: list[tuple[int, int]]) -> None:
    result = merged(some)
    assert positions(result) == positions(some)
    assert all(a[1] < b[0] for a, b in pairwise(result))
    assert num_bytes(result) == len(positions(some))


@given(ranges, ranges)
def test_subtracted_is_the_difference(
    wanted: list[tuple[int, int]], have: list[tuple[int, int]]
) -> None:
    assert positions(subtracted(wanted, have)) == positions(wanted) - positions(have)


@given(ranges, st.integers(1, 20))
def test_pieces_are_small_and_complete(some: list[tuple[int, int]], size: int) -> None:
    whole = merged(some)
    cut = list(pieces(whole, size))
    assert all(0 < end - begin <= size for begin, end in cut)
    assert merged(cut) == whole
    assert num_bytes(cut) == num_bytes(whole)

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.gateway.fallback.parts import Parts, TooLong

TEXT = (
    b"data: one\n\n: hush\n\nevent: x\r\ndata:two\r\ndata: three\r\n\r\nid: 4\n\ndata\n\ndata: cut"
)


@given(st.lists(st.integers(0, len(TEXT)), max_size=8))
def test_however_it_is_cut_it_says_the_same(cuts: list[int]) -> None:
    borders = sorted({0, len(TEXT), *cuts})
    parts = Parts(400)
    found = [data for start, end in pairwise(borders) for data in parts.feed(TEXT[start:end])]
    assert found == [b"one", b"two\nthree"]


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_anything_may_come(received: list[bytes]) -> None:
    parts = Parts(64)
    try:
        for data in received:
            assert all(len(found) <= 64 for found in parts.feed(data))
    except TooLong:
        assert sum(map(len, received)) > 32


@pytest.mark.parametrize("part", [b"x", b"data: x", b"data: x\n", b"data:\n", b"data: x\ndata:"])
def test_what_never_ends_is_given_up(part: bytes) -> None:
    parts = Parts(1000)
    with pytest.raises(TooLong):
        for _ in range(1001):
            parts.feed(part)


def test_a_stream_may_be_longer_than_its_events() -> None:
    parts = Parts(100)
    for _ in range(1000):
        assert parts.feed(b"data: x\n\n: some comment\n\n") == [b"x"]

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.client.collector import Collector
from swarm.errors import RemoteProtocolError
from swarm.wire.messages import DType, HopTime, Output, RowRange, Want

NAME = "n" * 16


def output(want: Want, *rows: tuple[int, int, int], **more) -> Output:
    return Output(NAME, 0, 0, 0, tuple(RowRange(*row) for row in rows), want, **more)


def text(row: int, position: int) -> bytes:
    return bytes([row, position])


def payload(message: Output) -> bytes:
    parts = []
    for row in message.rows:
        count = {Want.ALL: row.count, Want.LAST: min(1, row.count), Want.NOTHING: 0}[message.want]
        end = row.position + row.count
        parts += [text(row.row, position) for position in range(end - count, end)]
    return b"".join(parts)


def collector(want: Want, *rows: tuple[int, int, int]) -> Collector:
    return Collector([RowRange(*row) for row in rows], want, 2, DType.BFLOAT16)


def test_all_positions_in_two_pieces() -> None:
    one = collector(Want.ALL, (0, 3, 4))
    for rows, done in (((0, 3, 1), False), ((0, 4, 3), True)):
        message = output(Want.ALL, rows)
        assert one.add(message, payload(message)) == {0: rows[1] + rows[2]}
        assert one.done is done
    assert one.result() == [b"".join(text(0, position) for position in range(3, 7))]


def test_only_the_last_position_of_each_row() -> None:
    one = collector(Want.LAST, (1, 0, 3), (0, 5, 1), (2, 4, 0))
    message = output(Want.LAST, (1, 0, 3), (0, 5, 1))
    one.add(message, payload(message))
    assert one.done and one.result() == [text(1, 2), text(0, 5), b""]


def test_what_comes_twice_or_from_before_does_no_harm() -> None:
    one = collector(Want.ALL, (0, 5, 3))
    for rows in ((0, 0, 6), (0, 2, 4), (0, 0, 6), (0, 6, 2), (0, 7, 1)):
        message = output(Want.ALL, rows)
        one.add(message, payload(message))
    assert one.done and one.result() == [b"".join(text(0, p) for p in (5, 6, 7))]


def test_a_gap_is_not_done() -> None:
    one = collector(Want.ALL, (0, 0, 4))
    message = output(Want.ALL, (0, 2, 2))
    one.add(message, payload(message))
    assert not one.done
    message = output(Want.ALL, (0, 0, 2))
    one.add(message, payload(message))
    assert not one.done, "the end has to come again: it may have been computed without its start"


def test_other_rows_are_told_but_not_kept() -> None:
    one = collector(Want.ALL, (0, 0, 1))
    message = output(Want.ALL, (1, 0, 2), (0, 0, 1))
    assert one.add(message, payload(message)) == {1: 2, 0: 1}
    assert one.done and one.result() == [text(0, 0)]


@pytest.mark.parametrize("size", [0, 3, 5, 400])
def test_a_payload_of_another_length_is_refused(size: int) -> None:
    one = collector(Want.ALL, (0, 0, 2))
    with pytest.raises(RemoteProtocolError, match=f"{size} bytes for 2 positions"):
        one.add(output(Want.ALL, (0, 0, 2)), bytes(size))
    assert not one.done


def test_the_newest_times_are_kept() -> None:
    one = collector(Want.NOTHING, (0, 0, 2))
    times = (HopTime(0, 1, 2, 3, 4),)
    one.add(output(Want.NOTHING, (0, 0, 2), times=times), b"")
    assert one.done and one.times == times and one.result() == [b""]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=3),
    st.sampled_from(Want),
    st.data(),
)
def test_any_pieces_in_order_give_the_whole(rows, want, data) -> None:
    asked = [(row, position, count) for row, (position, count) in enumerate(rows)]
    one = collector(want, *asked)
    for row, position, count in asked:
        reached = position
        while reached < position + count:
            start = data.draw(st.integers(max(0, reached - 2), reached))
            end = data.draw(st.integers(reached + 1, position + count))
            last = end == position + count
            how = Want.NOTHING if want is Want.LAST and not last else want
            assert not one.done
            message = output(how, (row, start, end - start))
            one.add(message, payload(message))
            reached = end
    assert one.done
    expected = []
    for row, position, count in asked:
        kept = {Want.ALL: count, Want.LAST: min(1, count), Want.NOTHING: 0}[want]
        end = position + count
        expected.append(b"".join(text(row, p) for p in range(end - kept, end)))
    assert one.result() == expected


def test_numbers_that_are_none_are_refused() -> None:
    message = output(Want.ALL, (0, 0, 1))
    for bad in (b"\x80\x7f", b"\x80\xff", b"\xc0\x7f"):  # inf, -inf and NaN in bfloat16
        with pytest.raises(RemoteProtocolError, match="finite"):
            collector(Want.ALL, (0, 0, 1)).add(message, bad)

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarm.session.history import History, Piece
from swarm.wire.messages import Want

SIZE = 2


def piece(row: int, position: int, text: bytes, want: Want = Want.LAST) -> Piece:
    return Piece(row, position, len(text) // SIZE, memoryview(text), want)


def text_of(history: History, row: int) -> bytes:
    return b"".join(p.data for p in history.read(row, 0, history.length(row)))


def test_reads_are_cut_at_their_borders() -> None:
    history = History(1, SIZE)
    history.append(piece(0, 0, b"aabbcc", Want.ALL))
    history.append(piece(0, 3, b"dd"))
    assert [(p.position, p.count, bytes(p.data), p.want) for p in history.read(0, 1, 4)] == [
        (1, 2, b"bbcc", Want.ALL),
        (3, 1, b"dd", Want.LAST),
    ]
    assert list(history.read(0, 4, 4)) == []


def test_an_empty_piece_only_rolls_back() -> None:
    history = History(1, SIZE)
    history.append(piece(0, 0, b"aabbcc"))
    history.append(piece(0, 1, b""))
    assert (history.lengths, history.num_bytes, text_of(history, 0)) == ((1,), 2, b"aa")


def test_what_is_rolled_back_frees_its_memory() -> None:
    """A window of guesses of which one came true must not stay whole for that one."""
    history, window = History(1, SIZE), bytearray(b"aabbcc")
    history.append(Piece(0, 0, 3, memoryview(window), Want.ALL))
    history.truncate(0, 1)
    window.clear()  # Raises BufferError while somebody holds a view of it.
    assert text_of(history, 0) == b"aa"


def test_dropped_rows_keep_their_lengths_and_can_start_anew() -> None:
    history = History(3, SIZE)
    history.append(piece(0, 0, b"aabb"))
    history.append(piece(1, 0, b"cc"))
    history.drop()
    assert (history.lengths, history.num_bytes) == ((2, 1, 0), 0)
    assert not history.replayable
    assert [history.holds(row) for row in range(3)] == [False, False, True]
    history.append(piece(0, 2, b"ee"))
    # What comes after is kept again: whoever holds the rest may still need it.
    assert (history.length(0), history.num_bytes) == (3, 2)
    assert history.holds(0, 2) and not history.holds(0, 1)
    assert [bytes(p.data) for p in history.read(0, 2, 3)] == [b"ee"]
    history.truncate(0, 1)
    assert history.length(0) == 1 and not history.holds(0)
    history.append(piece(0, 0, b"ff"))
    assert history.holds(0) and text_of(history, 0) == b"ff"
    assert not history.replayable
    history.reorder([0, 2, 0])
    assert history.replayable and history.lengths == (1, 0, 1)


def test_rows_that_share_a_piece_count_it_once_whatever_happens_to_one_of_them() -> None:
    history = History(3, SIZE)
    history.append(piece(0, 0, b"aabbccdd"))
    history.reorder([0, 0, 0])
    assert history.num_bytes == 8
    history.truncate(0, 0)
    assert history.num_bytes == 8
    history.truncate(1, 0)
    assert history.num_bytes == 8
    history.truncate(2, 0)
    assert history.num_bytes == 0


ROWS = 3
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("append"), st.integers(0, ROWS - 1), st.integers(0, 9), st.integers(0, 4)
        ),
        st.tuples(st.just("reorder"), st.lists(st.integers(0, ROWS - 1), min_size=3, max_size=3)),
        st.tuples(st.just("truncate"), st.integers(0, ROWS - 1), st.integers(0, 9)),
    ),
    max_size=25,
)


@given(OPERATIONS)
def test_it_is_a_list_of_positions_per_row(operations: list[tuple]) -> None:
    history = History(ROWS, SIZE)
    rows: list[list[bytes]] = [[] for _ in range(ROWS)]
    for number, (kind, *arguments) in enumerate(operations):
        if kind == "append":
            row, back, count = arguments
            position = max(0, len(rows[row]) - back)
            fresh = [bytes([number, i]) for i in range(count)]
            history.append(piece(row, position, b"".join(fresh)))
            rows[row][position:] = fresh
        elif kind == "reorder":
            history.reorder(arguments[0])
            rows = [list(rows[source]) for source in arguments[0]]
        else:
            history.truncate(*arguments)
            del rows[arguments[0]][arguments[1] :]
        assert history.lengths == tuple(map(len, rows))
        assert [text_of(history, row) for row in range(ROWS)] == [b"".join(row) for row in rows]
        distinct = {position for row in rows for position in row}
        longest = max(map(len, rows)) * SIZE
        assert longest <= history.num_bytes <= sum(map(len, rows)) * SIZE
        assert history.num_bytes >= len(distinct) * SIZE


def test_a_head_shares_the_bytes_and_lives_its_own_life() -> None:
    history = History(1, SIZE)
    history.append(piece(0, 0, b"aabb"))
    history.append(piece(0, 2, b"ccdd"))
    head = history.head(3)
    assert (head.lengths, head.num_bytes, text_of(head, 0)) == ((3,), 6, b"aabbcc")
    head.append(piece(0, 1, b"xx"))
    assert (text_of(head, 0), text_of(history, 0)) == (b"aaxx", b"aabbccdd")
    history.drop()
    assert text_of(head, 0) == b"aaxx" and head.replayable
    other = history.head(2)
    assert (other.lengths, other.replayable, other.num_bytes) == ((2,), False, 0)

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import RemoteProtocolError
from swarm.peer.pages import PageTable
from swarm.peer.session import Arrival, Done, HopSession, cut
from swarm.wire.messages import DType, Hold, HopTime, Open, RowRange, Step, Want

NAME = "n" * 16
SIZE = 4
CLIENT: Any = object()


def opened(num_rows: int = 1) -> HopSession:
    request = Open(NAME, 1, "model", 0, 2, num_rows, 8, 1.0, DType.FLOAT32)
    return HopSession(request, CLIENT, 1)


def step(seq: int, *rows: tuple[int, int, int], epoch: int = 1, **options: Any) -> Step:
    ranges = tuple(RowRange(*row) for row in rows)
    return Step(NAME, epoch, seq, 0, ranges, options.pop("want", Want.ALL), **options)


def bytes_for(step: Step) -> bytes:
    return b"data" * sum(row.count for row in step.rows)


def take(session: HopSession, step: Step) -> Arrival | None:
    return session.accept(step, bytes_for(step), 0.0)


def test_old_steps_and_doubles_are_dropped() -> None:
    session = opened()
    assert take(session, step(0, (0, 0, 3))) is not None
    assert take(session, step(0, (0, 0, 3))) is None
    assert take(session, step(1, (0, 3, 1), epoch=0)) is None
    assert take(session, step(1, (0, 3, 1), epoch=2)) is None
    assert take(session, step(1, (0, 3, 1))) is not None


def test_a_missing_step_is_noticed_by_the_next() -> None:
    session = opened()
    with pytest.raises(LookupError, match="step 0 is missing, 1 came"):
        take(session, step(1, (0, 0, 1)))
    assert take(session, step(0, (0, 0, 1))) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        step(0, (2, 0, 1)),
        step(0, (0, 1, 1)),
        step(0, (0, 0, 1), (0, 1, 1)),
        step(0, (0, 0, 1), reorder=(0,)),
        step(0, (0, 0, 1), reorder=(0, 2)),
        step(0, (0, 0, 1), reorder=()),
    ],
    ids=["row", "gap", "row twice", "short reorder", "reorder from nowhere", "empty reorder"],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(wrong: Step) -> None:
    session = opened(2)
    with pytest.raises(RemoteProtocolError):
        take(session, wrong)
    assert take(session, step(0, (0, 0, 1), (1, 0, 2))) is not None


def test_the_payload_must_be_as_long_as_the_step_says() -> None:
    session = opened()
    with pytest.raises(RemoteProtocolError, match="12 bytes for 2 positions of 4"):
        session.accept(step(0, (0, 0, 2)), b"x" * 12, 0.0)


def test_pages_are_counted_for_the_longest_state_on_the_way() -> None:
    """A long step that waits is not forgotten because a roll-back waits behind it."""
    session = opened(2)
    for number, rows in enumerate([((0, 0, 5),), ((0, 5, 20), (1, 0, 1)), ((0, 2, 1),)]):
        session.backlog.append(take(session, step(number, *rows)))
        assert session.pages_needed(4) == (2, 8, 8)[number]
    session.backlog.clear()
    assert session.pages_needed(4) == 0
    session.backlog.append(take(session, step(3, (1, 1, 1), reorder=(0, 0))))
    assert session.pages_needed(4) == 2


def test_a_new_epoch_begins_from_what_has_been_computed() -> None:
    session = opened()
    arrival = take(session, step(0, (0, 0, 6)))
    part = cut(arrival, 0, 4, SIZE)
    session.feed.push(Done(part, memoryview(b"x" * 16), HopTime(0, 2, 0, 0, 1), arrival).computed())
    session.backlog.append(take(session, step(1, (0, 6, 1))))
    session.start_epoch(Hold(NAME, 2, 0, (0,)))
    assert not session.backlog and session.feed.history.lengths == (4,)
    with pytest.raises(RemoteProtocolError, match="goes on at 5 but has 4"):
        take(session, step(0, (0, 5, 1), epoch=2))
    assert take(session, step(0, (0, 4, 3), epoch=2)) is not None
    session.start_epoch(Hold(NAME, 3, 1, (2,)))
    assert session.feed.history.lengths == (2,)


def test_done_adds_its_time_to_those_of_the_hops_before() -> None:
    earlier, ours = HopTime(0, 2, 1, 1, 1), HopTime(2, 4, 5, 6, 7)
    session = opened()
    arrival = take(session, step(0, (0, 0, 2), times=(earlier,), refill=True))
    done = Done(cut(arrival, 0, 2, SIZE), memoryview(b"y" * 8), ours, arrival).computed()
    assert (done.times, done.refill, done.rows) == ((earlier, ours), True, arrival.step.rows)


def test_the_first_part_rolls_back_all_rows() -> None:
    """A hop that had a generation only in part would keep what the other rows were before."""
    session = opened(2)
    take(session, step(0, (0, 0, 6), (1, 0, 6)))
    arrival = take(session, step(1, (0, 2, 3), (1, 2, 3)))
    first, second = cut(arrival, 0, 2, SIZE), cut(arrival, 2, 4, SIZE)
    assert first.rows == (RowRange(0, 2, 2), RowRange(1, 2, 0))
    assert second.rows == (RowRange(0, 4, 1), RowRange(1, 2, 3))


ROWS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6)), min_size=1, max_size=4)


@given(ROWS, st.sampled_from(Want), st.data())
def test_cuts_put_together_are_the_step(rows, want, data) -> None:
    ranges = tuple(RowRange(i, position, count) for i, (position, count) in enumerate(rows))
    total = sum(count for _, count in rows)
    payload = bytes(range(total * SIZE))
    reorder = tuple(range(len(rows)))
    whole = Step(NAME, 1, 0, 0, ranges, want, reorder)
    arrival = Arrival(whole, memoryview(payload), 0.0)
    assert arrival.num_positions == total
    borders = sorted(data.draw(st.sets(st.integers(1, max(1, total)))) | {0, total})
    borders = [border for border in borders if border <= total]
    positions: list[tuple[int, int]] = []
    returned: set[tuple[int, int]] = set()
    joined = b""
    for start, end in pairwise(borders):
        part = cut(arrival, start, end - start, SIZE)
        assert (part.reorder is not None) == (start == 0)
        assert len(part.payload) == (end - start) * SIZE
        joined += part.payload
        for row in part.rows:
            covered = [(row.row, row.position + i) for i in range(row.count)]
            positions += covered
            if part.want is Want.ALL:
                returned |= set(covered)
            elif part.want is Want.LAST and covered:
                returned.add(covered[-1])
    everything = [(r.row, r.position + i) for r in ranges for i in range(r.count)]
    assert (positions, joined) == (everything, payload)
    needed = {
        Want.ALL: set(everything),
        Want.LAST: {(r.row, r.position + r.count - 1) for r in ranges if r.count},
        Want.NOTHING: set(),
    }[want]
    assert needed <= returned


@given(st.integers(1, 3), st.integers(1, 4), st.data())
def test_a_lease_is_enough_for_whatever_is_computed(num_rows, page_len, data) -> None:
    """Pages that rows really take never exceed what was asked for, whatever comes in between."""
    session = opened(num_rows)
    table = PageTable(1000, page_len)
    lease, seq, epoch, generation = 0, 0, 1, 0
    lengths = [0] * num_rows
    for _ in range(data.draw(st.integers(1, 8))):
        reorder = data.draw(
            st.none() | st.lists(st.integers(0, num_rows - 1), min_size=num_rows, max_size=num_rows)
        )
        if reorder is not None:
            lengths = [lengths[source] for source in reorder]
        ranges = []
        for row in data.draw(st.sets(st.integers(0, num_rows - 1), min_size=1)):
            position = max(0, lengths[row] - data.draw(st.integers(0, 6)))
            ranges.append((row, position, data.draw(st.integers(0, 9))))
            lengths[row] = position + ranges[-1][2]
        order = None if reorder is None else tuple(reorder)
        message = step(seq, *ranges, epoch=epoch, reorder=order)
        arrival = take(session, message)
        session.backlog.append(arrival)
        seq += 1
        if data.draw(st.booleans(), "computed at once"):
            lease = max(lease, session.pages_needed(page_len))
            for waiting in session.backlog:
                _compute(session, table, waiting, lease)
            session.backlog.clear()
        if data.draw(st.integers(0, 4), "hold") == 0:
            seq, epoch, generation = 0, epoch + 1, generation + data.draw(st.integers(0, 1))
            keep = tuple(data.draw(st.integers(0, 5)) for _ in range(num_rows))
            session.start_epoch(Hold(NAME, epoch, generation, keep))
            lengths = list(session.feed.history.lengths)


def _compute(session: HopSession, table: PageTable, arrival: Arrival, lease: int) -> None:
    part = cut(arrival, 0, arrival.num_positions, SIZE)
    session.prepare(table, part)
    assert session.rows is not None
    for row in part.rows:
        table.prepare_write(session.rows[row.row], row.position, row.count)
        assert table.num_pages - table.free_pages <= lease
    output = memoryview(bytes(len(part.payload)))
    session.feed.push(Done(part, output, HopTime(0, 2, 0, 0, 1), arrival).computed())

"""X12: which blocks a peer serves."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.directory import Announcement, State
from swarm.peer.placement import Reason, choose, coverage, move


def entry(
    peer: str,
    start: int,
    end: int,
    *,
    capacity: int = 0,
    state: State = State.SERVING,
    total: int = 8,
) -> Announcement:
    return Announcement(peer, peer, "m", "m", total, start, end, state, capacity=capacity)


def test_coverage_counts_those_who_load_but_not_those_who_leave() -> None:
    found = [
        entry("a", 0, 4),
        entry("b", 2, 6, state=State.LOADING),
        entry("c", 0, 8, state=State.LEAVING),
    ]
    assert coverage(8, found) == [1, 1, 2, 2, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("capacity", "others", "expected"),
    [
        (3, [], (0, 3)),
        (20, [], (0, 8)),
        (3, [(0, 3)], (3, 6)),
        (3, [(0, 3), (3, 6)], (5, 8)),
        (2, [(0, 4), (0, 4), (4, 8)], (4, 6)),
        (1, [(0, 5), (6, 8)], (5, 6)),
        (4, [(0, 5), (6, 8)], (2, 6)),
        (8, [(0, 8)], (0, 8)),
    ],
)
def test_a_newcomer_takes_what_is_served_worst(capacity, others, expected) -> None:
    found = [entry(str(i), *span) for i, span in enumerate(others)]
    assert choose(8, capacity, found)[0] == expected


def test_nobody_moves_without_a_gap() -> None:
    found = [entry("a", 0, 4, capacity=4), entry("b", 4, 8), entry("c", 4, 8, capacity=4)]
    assert [move(one.peer, 8, found) for one in found] == [None, None, None]


def test_one_of_those_who_can_moves_and_all_agree_on_whom() -> None:
    found = [entry("a", 0, 4), entry("b", 0, 4, capacity=4), entry("c", 0, 4, capacity=4)]
    assert [move(one.peer, 8, found) for one in found] == [None, (4, 8), None]
    # Whoever closes more of the gap goes first.
    found = [entry("a", 0, 4), entry("b", 0, 2, capacity=2), entry("c", 0, 4, capacity=4)]
    assert [move(one.peer, 8, found) for one in found] == [None, None, (4, 8)]


def test_nobody_opens_a_gap_as_large_as_the_one_that_it_closes() -> None:
    found = [entry("a", 0, 4, capacity=4)]
    assert move("a", 8, found) is None
    found = [entry("a", 0, 4, capacity=4), entry("b", 4, 7)]
    assert move("a", 8, found) is None


def test_who_loads_or_leaves_or_is_fixed_does_not_move() -> None:
    others = [entry("a", 0, 4)]
    for one in (
        entry("b", 0, 4),
        entry("b", 0, 4, capacity=4, state=State.LOADING),
        entry("b", 0, 4, capacity=4, state=State.LEAVING),
    ):
        assert move("b", 8, [*others, one]) is None


@dataclass
class Settled:
    found: list[Announcement]
    num_moves: int


def settle(num_blocks: int, found: list[Announcement]) -> Settled:
    """Lets peers move one after another until nobody wants to; checks what each move does."""
    for number in range(100):
        wishes = {one.peer: move(one.peer, num_blocks, found) for one in found}
        movers = [peer for peer, span in wishes.items() if span is not None]
        if not movers:
            return Settled(found, number)
        assert len(movers) == 1, "two at once would chase one another"
        (mover,) = movers
        before = coverage(num_blocks, found)
        start, end = wishes[mover]
        old = next(one for one in found if one.peer == mover)
        assert end - start == min(old.capacity, num_blocks) and 0 <= start < end <= num_blocks
        rest = [one for one in found if one.peer != mover]
        new = entry(mover, start, end, capacity=old.capacity, total=num_blocks)
        found = sorted([*rest, new], key=lambda one: one.peer)
        after = coverage(num_blocks, found)
        assert after.count(0) < before.count(0) and min(after) >= min(before)
    raise AssertionError("it never settles")


CAPACITIES = st.lists(st.integers(1, 6), min_size=1, max_size=8)


@given(st.integers(1, 12), CAPACITIES)
def test_x12_newcomers_leave_no_gap_where_capacity_allows(num_blocks, capacities) -> None:
    found: list[Announcement] = []
    for number, capacity in enumerate(capacities):
        (start, end), _ = choose(num_blocks, capacity, found)
        found.append(entry(str(number), start, end, capacity=capacity, total=num_blocks))
    gaps = coverage(num_blocks, found).count(0)
    assert gaps == max(0, num_blocks - sum(capacities))
    assert settle(num_blocks, found).num_moves == 0


@given(st.integers(1, 12), CAPACITIES, st.data())
def test_x12_it_settles_and_no_move_makes_the_weakest_block_worse(
    num_blocks, capacities, data
) -> None:
    found: list[Announcement] = []
    for number, capacity in enumerate(capacities):
        length = min(capacity, num_blocks)
        start = data.draw(st.integers(0, num_blocks - length))
        free = data.draw(st.booleans())
        span = start, start + length
        found.append(entry(str(number), *span, capacity=free * capacity, total=num_blocks))
    settle(num_blocks, found)


@pytest.mark.xfail(
    strict=True,
    reason="a gap that only several peers together could close by shifting over stays open",
)
def test_x12_no_gap_stays_where_the_capacity_is_enough() -> None:
    found = [
        entry("a", 1, 3, capacity=2, total=6),
        entry("b", 3, 5, capacity=2, total=6),
        entry("c", 4, 6, capacity=2, total=6),
    ]
    assert 0 not in coverage(6, settle(6, found).found)


def test_paused_peers_serve_nothing():
    found = [entry("a", 0, 4), entry("b", 4, 8, state=State.PAUSED)]
    assert choose(8, 4, found) == ((4, 8), Reason.GAP)
    assert coverage(8, found) == [1] * 4 + [0] * 4
    assert move("a", 8, found) is None


@pytest.mark.parametrize(
    ("last", "chosen"),
    [
        ((2, 4), ((2, 4), Reason.LAST)),
        ((4, 6), ((6, 8), Reason.GAP)),
        ((5, 8), ((6, 8), Reason.GAP)),
        ((8, 10), ((6, 8), Reason.GAP)),
        (None, ((6, 8), Reason.GAP)),
    ],
    ids=str,
)
def test_the_last_blocks_come_again_where_they_are_as_useful(last, chosen):
    gap_in_the_end = [entry("a", 0, 6), entry("b", 0, 6)]
    no_gap = [*gap_in_the_end, entry("c", 6, 8)]
    if last == (2, 4):
        assert choose(8, 2, no_gap, last) == chosen
    else:
        assert choose(8, 2, gap_in_the_end, last) == chosen


def test_who_holds_all_says_so():
    assert choose(8, 9, [], (0, 8)) == ((0, 8), Reason.ALL)

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swarm.client.route import (
    UNKNOWN_ROUND_TRIP,
    Candidate,
    Hop,
    candidates,
    fill,
    missing,
    plan,
)
from swarm.directory import Announcement, State
from swarm.errors import NoRouteError


def peer(name: str, start: int, end: int, *, block: float = 0.01, trip: float = 0.02) -> Candidate:
    return Candidate(name, start, end, block, trip)


def spans(route: tuple[Hop, ...]) -> list[tuple[str, int, int]]:
    return [(hop.peer, hop.start, hop.end) for hop in route]


def test_more_hops_win_only_where_they_are_faster() -> None:
    """A hop costs half a round trip, and what it takes beside computing."""
    two = [peer("a", 0, 2, block=0.001, trip=0.01), peer("b", 2, 4, block=0.001, trip=0.01)]
    # 4 ms of computing and 19 ms on the way.
    for block, hops in ((0.002, 1), (0.0025, 1), (0.003, 2), (1.0, 2)):
        choices = [peer("one", 0, 4, block=block, trip=0.01), *two]
        assert len(plan(choices, 0, 4)) == hops
    even = replace(peer("one", 0, 4, trip=0.01), seconds_per_block=0.011 / 4)
    assert len(plan([*two, even], 0, 4)) == 1


def test_idle_peers_are_worth_a_hop() -> None:
    choices = [
        replace(peer("busy", 0, 4, block=0.001), queue_seconds=0.05),
        peer("a", 0, 2, block=0.001),
        peer("b", 2, 4, block=0.001),
    ]
    assert [hop.peer for hop in plan(choices, 0, 4)] == ["a", "b"]
    assert [hop.peer for hop in plan([replace(choices[0], queue_seconds=0), *choices], 0, 4)] == [
        "busy"
    ]


def test_the_way_back_counts() -> None:
    """Who is near the client stands at an end."""
    choices = [
        *(peer(name, 0, 2, block=0.001, trip=0.02) for name in ("near", "n2")),
        peer("far", 0, 4, block=0.001, trip=0.1),
        peer("near", 2, 4, block=0.001, trip=0.02),
    ]
    assert [hop.peer for hop in plan(choices, 0, 4)] == ["n2", "near"]


def test_what_a_client_has_against_a_peer_multiplies_its_time() -> None:
    choices = [replace(peer("a", 0, 4), weight=1.1), replace(peer("b", 0, 4), weight=1.05)]
    assert [hop.peer for hop in plan(choices, 0, 4)] == ["b"]
    assert [hop.peer for hop in plan([*choices, peer("c", 0, 4, block=0.02)], 0, 4)] == ["b"]


def test_relayed_peers_stand_beside_those_that_can_be_dialled() -> None:
    """Between two that cannot be dialled everything takes the way to the relay twice."""
    choices = [
        replace(peer("a-home", 0, 2, trip=0.02), relayed=True),
        peer("b-open", 0, 2, trip=0.025),
        replace(peer("c-home", 2, 4, trip=0.02), relayed=True),
        peer("d-open", 2, 4, trip=0.05),
    ]
    assert [hop.peer for hop in plan(choices, 0, 4)] == ["b-open", "c-home"]
    alone = [choice for choice in choices if choice.relayed]
    assert [hop.peer for hop in plan(alone, 0, 4)] == ["a-home", "c-home"]


def test_the_fastest_wins() -> None:
    choices = [
        peer("near", 0, 4, trip=0.01),
        peer("far", 0, 4, trip=0.5),
        peer("quick", 0, 4, trip=0.02, block=0.001),
    ]
    assert spans(plan(choices, 0, 4)) == [("quick", 0, 4)]
    assert spans(plan(choices[:2], 0, 4)) == [("near", 0, 4)]


def test_peers_that_hold_the_beginning_come_before_equal_and_slightly_faster_ones() -> None:
    def entry(name: str, decode: float) -> Announcement:
        return announcement(name, decode_seconds=decode, prefill_seconds=0.001)

    entries = [entry("a", 0.010), entry("b", 0.011), entry("c", 0.010)]
    trips = {"a": 0.02, "b": 0.02, "c": 0.02}

    def chosen(held: dict[str, int]) -> str:
        return plan(candidates(entries, trips, held=held), 0, 4)[0].peer

    assert chosen({}) == "a"
    assert chosen({"c": 32}) == "c"
    # 1024 positions that need not be computed save 1.024 s; 100 do not make up for 1 ms a token.
    assert chosen({"b": 1024}) == "b"
    assert chosen({"b": 100}) == "a"


def test_a_peer_may_serve_a_part_of_its_span() -> None:
    choices = [peer("a", 0, 3), peer("b", 1, 4)]
    assert spans(plan(choices, 0, 4)) in (
        [("a", 0, 1), ("b", 1, 4)],
        [("a", 0, 3), ("b", 3, 4)],
    )
    # The quicker one takes as many blocks as it has.
    choices = [peer("a", 0, 3), peer("b", 1, 4, block=0.001)]
    assert spans(plan(choices, 0, 4)) == [("a", 0, 1), ("b", 1, 4)]
    assert spans(plan(choices, 1, 3)) == [("b", 1, 3)]


def test_equal_routes_are_told_apart_by_id() -> None:
    choices = [peer("c", 0, 4), peer("a", 0, 4), peer("b", 0, 4)]
    assert spans(plan(choices, 0, 4)) == [("a", 0, 4)]


def test_nothing_to_route() -> None:
    assert plan([], 3, 3) == ()


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        ([], ((0, 8),)),
        ([(0, 8)], ()),
        ([(2, 4)], ((0, 2), (4, 8))),
        ([(0, 3), (2, 5), (7, 8)], ((5, 7),)),
        ([(0, 6), (1, 2)], ((6, 8),)),
        ([(6, 8), (0, 6)], ()),
    ],
)
def test_missing_blocks_are_named(served, expected) -> None:
    choices = [peer(str(i), *span) for i, span in enumerate(served)]
    assert missing(choices, 0, 8) == expected
    if expected:
        with pytest.raises(NoRouteError) as caught:
            plan(choices, 0, 8)
        assert caught.value.missing == expected


def test_only_a_part_is_looked_at() -> None:
    choices = [peer("a", 0, 3), peer("b", 5, 8)]
    assert missing(choices, 1, 3) == ()
    assert missing(choices, 2, 6) == ((3, 5),)


def test_fill_keeps_hops_and_fills_what_is_between() -> None:
    kept = [Hop("old", 1, 3), Hop("older", 5, 6)]
    choices = [peer("wide", 0, 8), peer("b", 3, 5, trip=0.001)]
    route = fill(kept, 8, choices)
    assert spans(route) == [
        ("wide", 0, 1),
        ("old", 1, 3),
        ("b", 3, 5),
        ("older", 5, 6),
        ("wide", 6, 8),
    ]
    assert route[1] is kept[0] and route[3] is kept[1]
    assert fill([Hop("all", 0, 8)], 8, []) == (Hop("all", 0, 8),)


def test_fill_names_all_that_is_missing_at_once() -> None:
    with pytest.raises(NoRouteError) as caught:
        fill([Hop("old", 2, 4)], 8, [peer("a", 4, 6)])
    assert caught.value.missing == ((0, 2), (6, 8))


def announcement(name: str, state: State = State.SERVING, **changes: float) -> Announcement:
    fields = {"decode_seconds": 0.4, "prefill_seconds": 0.04, **changes}
    return Announcement(name, name, "m", "m", 8, 0, 4, state, addresses=("/x",), **fields)


def test_candidates_are_those_who_serve_and_are_not_avoided() -> None:
    found = [
        announcement("a"),
        announcement("b"),
        announcement("loads", State.LOADING),
        announcement("leaves", State.LEAVING),
    ]
    (only,) = candidates(found, {"a": 0.3}, avoided=["b"])
    assert only == Candidate("a", 0, 4, 0.1, 0.3, ("/x",), 0.01)
    (first, second) = candidates(found, {"a": 0.3})
    assert second.round_trip == UNKNOWN_ROUND_TRIP
    (hop,) = plan([first], 0, 2)
    assert (hop.addresses, hop.prefill_seconds) == (("/x",), 0.02)


PEERS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.integers(1, 6),
        st.sampled_from([1, 2, 5]),
        st.sampled_from([2, 8, 20]),
    ),
    max_size=6,
).map(
    lambda rows: [
        peer(str(i), start, min(6, start + length), block=block / 64, trip=trip / 64)
        for i, (start, length, block, trip) in enumerate(rows)
    ]
)


def every_route(choices: list[Candidate], start: int, end: int):
    """All ways through `[start, end)`, with any borders."""
    if start == end:
        yield ()
        return
    for choice in choices:
        if choice.start <= start < choice.end:
            for target in range(start + 1, min(choice.end, end) + 1):
                for rest in every_route(choices, target, end):
                    yield ((choice, start, target), *rest)


def cost(route) -> tuple[float, int]:
    """Time on the way and at the hops."""
    seconds = sum(choice.seconds(start, end) for choice, start, end in route)
    ends = route and (route[0][0].round_trip + route[-1][0].round_trip) / 4
    return round(seconds + (ends or 0), 7), len(route)


@given(PEERS, st.integers(0, 6), st.integers(0, 6))
# The second peer is slower but near: it is best as the last hop, with no more than it must have.
@example(
    [
        peer("0", 0, 4, block=1 / 64, trip=20 / 64),
        peer("1", 2, 6, block=2 / 64, trip=2 / 64),
    ],
    1,
    4,
)
def test_no_route_is_better(choices, one, other) -> None:
    start, end = min(one, other), max(one, other)
    best = min((cost(route) for route in every_route(choices, start, end)), default=None)
    if best is None:
        with pytest.raises(NoRouteError) as caught:
            plan(choices, start, end)
        served = {b for c in choices for b in range(c.start, c.end)}
        named = {b for first, last in caught.value.missing for b in range(first, last)}
        assert named == set(range(start, end)) - served
        return
    by_name = {choice.peer: choice for choice in choices}
    route = plan(choices, start, end)
    assert cost([(by_name[hop.peer], hop.start, hop.end) for hop in route]) == pytest.approx(best)
    assert plan(choices[::-1], start, end) == route


@given(PEERS, st.lists(st.integers(0, 6), min_size=4, max_size=4, unique=True).map(sorted))
def test_a_filled_route_is_whole(choices, borders) -> None:
    kept = [Hop("x", *borders[:2]), Hop("y", *borders[2:])]
    try:
        route = fill(kept, 6, choices)
    except NoRouteError:
        return
    assert [hop for hop in route if hop.peer in "xy"] == kept
    assert route[0].start == 0 and route[-1].end == 6
    assert all(before.end == after.start for before, after in pairwise(route))


def test_what_a_client_has_against_a_peer_makes_it_no_better() -> None:
    """Where so much is held that the time comes out below nothing."""
    saves = replace(peer("b", 0, 4), seconds_per_block=-1.0)
    choices = [replace(saves, peer="a", weight=1.1), saves, replace(saves, peer="c", weight=1.1)]
    assert plan(choices, 0, 4)[0].peer == "a", "all are equal"
